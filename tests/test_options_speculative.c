/* test_options_speculative.c - --speculative-config is read as vLLM reads it, and what is not known is named
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "launch/options_speculative.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#define THREE "{\"method\": \"ngram\", \"num_speculative_tokens\": 3"

static void takes(const char *config, int tokens, int least, int most)
{
    struct options_speculative o = {.config = config};

    if (options_speculative_check(&o) != STATUS_OK)
        fail_msg("'%s' is refused: %s", config, status_text());
    assert_int_equal(o.tokens, tokens);
    assert_int_equal(o.least, least);
    assert_int_equal(o.most, most);
}

static void refuses(const char *config, const char *words)
{
    struct options_speculative o = {.config = config};

    if (options_speculative_check(&o) != STATUS_USAGE)
        fail_msg("'%s' is taken", config);
    if (!strstr(status_text(), words) || strncmp(status_text(), "--speculative-config: ", 22) != 0)
        fail_msg("'%s' gets \"%s\", not \"%s\"", config, status_text(), words);
}

/* Their defaults are those of vLLM's SpeculativeConfig. */
static void what_is_not_said_of_lengths_follows_from_the_rest(void **state)
{
    struct options_speculative off = {0};

    (void)state;
    assert_int_equal(options_speculative_check(&off), STATUS_OK);
    assert_int_equal(off.tokens, 0);
    takes(THREE "}", 3, 5, 5);
    takes(THREE ", \"prompt_lookup_max\": 4}", 3, 4, 4);
    takes(THREE ", \"prompt_lookup_min\": 2, \"prompt_lookup_max\": null}", 3, 2, 2);
    takes(THREE ", \"prompt_lookup_min\": 2, \"prompt_lookup_max\": 6}", 3, 2, 6);
    takes("{\"num_speculative_tokens\": 16, \"method\": \"ngram\", \"prompt_lookup_min\": 1}", 16, 1, 1);
}

static void what_is_wrong_is_named_with_what_there_is(void **state)
{
    (void)state;
    refuses(THREE ", \"prompt_lookup_min\": 6, \"prompt_lookup_max\": 2}",
            "prompt_lookup_min is 6, more than prompt_lookup_max, which is 2");
    refuses(THREE ", \"model\": \"x\"}",
            "'model' is not known; there are method, num_speculative_tokens, prompt_lookup_min and "
            "prompt_lookup_max");
    refuses("{\"method\": \"eagle\", \"num_speculative_tokens\": 3}",
            "the method 'eagle' is not known; there is ngram");
    refuses("{\"method\": \"ngram\"}", "\"num_speculative_tokens\" is missing");
    refuses("{\"num_speculative_tokens\": 3}", "\"method\" is missing");
    refuses("{\"method\": 3, \"num_speculative_tokens\": 3}", "\"method\"");
    refuses("{\"method\": \"ngram\", \"num_speculative_tokens\": 17}", "is 17, it must be from 1 to 16");
    refuses("{\"method\": \"ngram\", \"num_speculative_tokens\": 0}", "is 0, it must be from 1 to 16");
    refuses("{\"method\": \"ngram\", \"num_speculative_tokens\": 2.5}", "\"num_speculative_tokens\"");
    refuses(THREE ", \"prompt_lookup_min\": 0}", "is 0, it must be from 1 to 1024");
    refuses(THREE ", \"prompt_lookup_max\": 99999999999}", "\"prompt_lookup_max\"");
    refuses(THREE ", \"prompt_lookup_min\": \"2\"}", "\"prompt_lookup_min\"");
    refuses(THREE ", \"method\": \"ngram\"}", "duplicate");
    refuses(THREE, "line 1");
    refuses(THREE "} {}", "line 1");
    refuses("[1]", "an object is needed");
    refuses("ngram", "line 1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_said_of_lengths_follows_from_the_rest),
        cmocka_unit_test(what_is_wrong_is_named_with_what_there_is),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
