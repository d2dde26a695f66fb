/* test_request_line.c - what each field of a request may hold, what it comes to, and who is told what is
 * wrong
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/request_line.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VOCABULARY = 1000, LINE_BYTES = 1 << 16 };

static struct request_line line; /* large */
static const struct request_options defaults = {
    .sampling = {.temperature = 1, .top_p = 1, .seed = 11}, .max_tokens = 128, .change = {.repetition = 1}};

static enum status read_line(const char *text)
{
    request_line_close(&line);
    return request_line_open(&line, &defaults, VOCABULARY, text, strlen(text));
}

/* A request with this beside id and prompt. */
static enum status read_with(const char *more)
{
    static char text[LINE_BYTES];

    assert_true(snprintf(text, sizeof text, "{\"id\": 1, \"prompt\": \"x\"%s%s}", *more ? ", " : "", more) <
                (int)sizeof text);
    return read_line(text);
}

static void takes(const char *more)
{
    if (read_with(more) != STATUS_OK)
        fail_msg("%s: %s", more, status_text());
}

/* Refused, in words that hold `why`; the request is named all the same. */
static void refuses(const char *more, const char *why)
{
    assert_int_equal(read_with(more), STATUS_BAD_INPUT);
    if (!strstr(status_text(), why))
        fail_msg("%s: \"%s\" does not say \"%s\"", more, status_text(), why);
    assert_string_equal(line.id, "1");
}

/* Of each field: legal values, the edges, and what lies beyond or is of another kind. */
static void every_field_takes_what_is_legal_and_refuses_the_rest(void **state)
{
    static const struct {
        const char *field;
        const char *legal[8], *illegal[10];
    } table[] = {
        {"max_tokens",
         {"1", "128", "2147483647", "null"},
         {"0", "-1", "2147483648", "1.0", "\"1\"", "true", "[1]"}},
        {"min_tokens", {"0", "128", "null"}, {"-1", "129", "0.5", "\"1\"", "false", "{}"}},
        {"temperature",
         {"0", "0.0", "1", "0.7", "100", "1e-3", "null"},
         {"-0.1", "100.1", "1e308", "\"1\"", "[]"}},
        {"top_p",
         {"1", "1.0", "0.5", "1e-6", "null"},
         {"0", "0.0", "-1", "1.0001", "1e-300", "\"0.5\"", "true"}},
        {"top_k",
         {"-1", "0", "1", "64", "65", "2147483647", "null"},
         {"-2", "1.5", "2147483648", "\"5\"", "[]"}},
        {"min_p", {"0", "0.05", "1", "null"}, {"-0.1", "1.1", "\"0\"", "true"}},
        {"repetition_penalty",
         {"1", "0.01", "2", "100", "null"},
         {"0", "-1", "1e-300", "100.5", "\"1\"", "[]"}},
        {"presence_penalty", {"-2", "0", "2", "1.5", "null"}, {"-2.1", "2.1", "\"0\"", "true"}},
        {"frequency_penalty", {"-2", "0", "2", "-0.5", "null"}, {"-2.1", "2.1", "\"0\"", "{}"}},
        {"seed",
         {"0", "-1", "9223372036854775807", "-9223372036854775808", "null"},
         {"1.0", "\"1\"", "true", "[]"}},
        {"stop",
         {"\"a\"", "[]", "[\"a\", \"b\"]", "\"\\u00e9\"", "null"},
         {"\"\"", "[\"\"]", "1", "[1]", "{}", "\"a\\u0000\"", "[\"a\", null]"}},
        {"stop_token_ids",
         {"[]", "[0]", "[999]", "[1, 1]", "null"},
         {"5", "[1000]", "[-1]", "[1.0]", "[\"1\"]", "{}"}},
        {"ignore_eos", {"true", "false", "null"}, {"1", "0", "\"true\"", "[]"}},
        {"logprobs", {"0", "1", "20", "null"}, {"-1", "21", "1.0", "true", "\"1\""}},
        {"prompt_logprobs", {"0", "20", "null"}, {"-1", "21", "true", "\"1\""}},
        {"logit_bias",
         {"{}", "{\"0\": 1, \"999\": -100}", "{\"5\": 1e300}", "null"},
         {"[]", "{\"1000\": 1}", "{\"-1\": 1}", "{\"a\": 1}", "{\"\": 1}", "{\"1\": \"x\"}", "{\"01\": 1}",
          "{\"1 \": 1}", "3"}},
        {"n", {"1", "2", "1024", "null"}, {"0", "-1", "1025", "1.0", "\"2\"", "true"}},
        {"chat_template_kwargs",
         {"{}", "null"},
         {"[]", "1", "{\"x\": 1}", "{\"enable_thinking\": 1}", "{\"enable_thinking\": true, \"x\": 1}",
          "{\"enable_thinking\": false}"}}, /* without messages */
        {"priority", {"0", "-2147483648", "2147483647", "null"}, {"2147483648", "0.5", "\"0\"", "true"}},
    };
    char text[256];

    (void)state;
    for (size_t row = 0; row < sizeof table / sizeof table[0]; row++) {
        for (int i = 0; i < 8 && table[row].legal[i]; i++) {
            snprintf(text, sizeof text, "\"%s\": %s", table[row].field, table[row].legal[i]);
            takes(text);
        }
        for (int i = 0; i < 10 && table[row].illegal[i]; i++) {
            snprintf(text, sizeof text, "\"%s\": %s", table[row].field, table[row].illegal[i]);
            refuses(text, table[row].field);
        }
    }
}

static void values_arrive(void **state)
{
    (void)state;
    takes("\"max_tokens\": 7, \"min_tokens\": 3, \"temperature\": 0.5, \"top_p\": 0.25, \"top_k\": 9, "
          "\"min_p\": 0.125, "
          "\"repetition_penalty\": 1.5, \"presence_penalty\": -0.5, \"frequency_penalty\": 2, \"seed\": -1, "
          "\"stop\": "
          "[\"ab\", \"c\"], \"stop_token_ids\": [4, 5], \"ignore_eos\": true, \"logprobs\": 0, "
          "\"prompt_logprobs\": 20, "
          "\"logit_bias\": {\"8\": -1.5, \"9\": 1000}, \"n\": 3, \"priority\": -4");
    assert_int_equal(line.options.max_tokens, 7);
    assert_int_equal(line.options.min_tokens, 3);
    assert_true(line.options.sampling.temperature == 0.5f && line.options.sampling.top_p == 0.25f);
    assert_true(line.options.sampling.top_k == 9 && line.options.sampling.min_p == 0.125f);
    assert_true(line.options.change.repetition == 1.5f && line.options.change.presence == -0.5f);
    assert_true(line.options.change.frequency == 2.0f);
    assert_true(line.options.sampling.seed == UINT64_MAX && line.options.own_stream);
    assert_int_equal(line.options.stop_count, 2);
    assert_string_equal(line.options.stops[0], "ab");
    assert_string_equal(line.options.stops[1], "c");
    assert_int_equal(line.options.stop_id_count, 2);
    assert_int_equal(line.options.stop_ids[1], 5);
    assert_true(line.options.ignore_eos);
    assert_true(line.options.logprobs.wanted && line.options.logprobs.top == 0);
    assert_true(line.options.prompt_logprobs.wanted && line.options.prompt_logprobs.top == 20);
    assert_int_equal(line.options.change.bias_count, 2);
    assert_true(line.options.change.biases[0].token == 8 && line.options.change.biases[0].value == -1.5f);
    assert_true(line.options.change.biases[1].value == 100.0f); /* as vLLM clips it */
    assert_int_equal(line.copies, 3);
    assert_int_equal(line.options.copies, 3);
    assert_int_equal(line.options.priority, -4);
}

static void what_is_not_said_is_the_default(void **state)
{
    (void)state;
    takes("\"temperature\": null, \"stop\": null");
    assert_true(line.options.sampling.temperature == 1 && line.options.sampling.seed == 11);
    assert_int_equal(line.options.max_tokens, 128);
    assert_false(line.options.own_stream || line.options.logprobs.wanted || line.options.ignore_eos);
    assert_int_equal(line.options.stop_count + line.options.stop_id_count + line.options.change.bias_count,
                     0);
    assert_int_equal(line.copies, 1);
    takes("\"temperature\": 0.5"); /* and nothing stays of the line before */
    takes("");
    assert_true(line.options.sampling.temperature == 1);
}

static void the_limits_of_lists_hold(void **state)
{
    static char text[LINE_BYTES];
    char long_text[DETOKENIZER_STOP_BYTES + 1];
    size_t used;

    (void)state;
    for (int more = 0; more < 2; more++) {
        used = (size_t)snprintf(text, sizeof text, "\"stop\": [\"s\"");
        for (int i = 1; i < DETOKENIZER_STOP_LIMIT + more; i++)
            used += (size_t)snprintf(text + used, sizeof text - used, ", \"s\"");
        snprintf(text + used, sizeof text - used, "]");
        more ? refuses(text, "stop") : takes(text);
        used = (size_t)snprintf(text, sizeof text, "\"stop_token_ids\": [1");
        for (int i = 1; i < REQUEST_STOP_IDS + more; i++)
            used += (size_t)snprintf(text + used, sizeof text - used, ", %d", i);
        snprintf(text + used, sizeof text - used, "]");
        more ? refuses(text, "stop_token_ids") : takes(text);
        memset(long_text, 's', sizeof long_text);
        long_text[DETOKENIZER_STOP_BYTES - 1 + more] = '\0';
        snprintf(text, sizeof text, "\"stop\": \"%s\"", long_text);
        more ? refuses(text, "bytes") : takes(text);
    }
}

static void a_request_has_one_prompt(void **state)
{
    struct chat_message messages[4];
    int32_t ids[4];
    struct tokens tokens = {.ids = ids, .capacity = 4};
    int count;

    (void)state;
    assert_int_equal(read_line("{\"id\": 1, \"prompt\": \"a\\u0000\\u00e9\"}"), STATUS_OK);
    assert_int_equal(line.form, REQUEST_LINE_TEXT);
    assert_int_equal(line.bytes, 4);
    assert_memory_equal(line.text, "a\0\xc3\xa9", 4);
    assert_int_equal(read_line("{\"id\": 1, \"prompt_token_ids\": [0, 999, 5]}"), STATUS_OK);
    assert_int_equal(line.form, REQUEST_LINE_IDS);
    assert_int_equal(request_line_ids(&line, VOCABULARY, &tokens), STATUS_OK);
    assert_int_equal(tokens.count, 3);
    assert_int_equal(ids[1], 999);
    assert_int_equal(read_line("{\"id\": 1, \"messages\": [{\"role\": \"user\", \"content\": \"hi\"}]}"),
                     STATUS_OK);
    assert_int_equal(line.form, REQUEST_LINE_MESSAGES);
    assert_int_equal(request_line_messages(&line, messages, &count), STATUS_OK);
    assert_int_equal(count, 1);
    assert_string_equal(messages[0].role, "user");
    assert_int_equal(messages[0].bytes, 2);
    assert_int_equal(read_line("{\"id\": 1, \"prompt\": \"x\", \"prompt_token_ids\": null}"), STATUS_OK);

    assert_int_equal(read_line("{\"id\": 1}"), STATUS_BAD_INPUT);
    assert_int_equal(read_line("{\"id\": 1, \"prompt\": null}"), STATUS_BAD_INPUT);
    assert_int_equal(read_line("{\"id\": 1, \"prompt\": 5}"), STATUS_BAD_INPUT);
    assert_int_equal(read_line("{\"id\": 1, \"messages\": []}"), STATUS_BAD_INPUT);
    assert_int_equal(read_line("{\"id\": 1, \"prompt_token_ids\": \"1 2\"}"), STATUS_BAD_INPUT);
    refuses("\"prompt_token_ids\": [1]", "this has 2");
    refuses("\"n\": 2, \"temperature\": 0", "\"n\" must be 1");
}

static void messages_may_come_with_a_word_on_thinking(void **state)
{
    static const char text[] = "{\"id\": 1, \"messages\": [{\"role\": \"user\", \"content\": \"a\"}]%s}";
    static const char *const more[] = {", \"chat_template_kwargs\": {\"enable_thinking\": false}",
                                       ", \"chat_template_kwargs\": {\"enable_thinking\": true}", ""};
    char whole[LINE_BYTES];

    (void)state;
    for (int i = 0; i < 3; i++) {
        snprintf(whole, sizeof whole, text, more[i]);
        assert_int_equal(read_line(whole), STATUS_OK);
        assert_int_equal(line.no_thinking, i == 0);
    }
}

static void wrong_ids_and_messages_are_refused(void **state)
{
    static const char *const ids[] = {"[1000]", "[-1]",   "[1.5]",           "[\"1\"]",
                                      "[null]", "[true]", "[1, 2, 3, 4, 5]", "[99999999999]"};
    static const char *const messages[] = {"[1]",
                                           "[{}]",
                                           "[{\"role\": \"user\"}]",
                                           "[{\"content\": \"x\"}]",
                                           "[{\"role\": 1, \"content\": \"x\"}]",
                                           "[{\"role\": \"user\", \"content\": [\"x\"]}]",
                                           "[{\"role\": \"us\\u0000er\", \"content\": \"x\"}]",
                                           "[{\"role\": \"user\", \"content\": \"x\", \"tool_calls\": []}]"};
    struct chat_message room[4];
    int32_t tokens_room[4];
    char text[256];
    int count;

    (void)state;
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        struct tokens tokens = {.ids = tokens_room, .capacity = 4};

        snprintf(text, sizeof text, "{\"id\": 1, \"prompt_token_ids\": %s}", ids[i]);
        assert_int_equal(read_line(text), STATUS_OK);
        assert_int_equal(request_line_ids(&line, VOCABULARY, &tokens), STATUS_BAD_INPUT);
    }
    for (size_t i = 0; i < sizeof messages / sizeof messages[0]; i++) {
        snprintf(text, sizeof text, "{\"id\": 1, \"messages\": %s}", messages[i]);
        assert_int_equal(read_line(text), STATUS_OK);
        assert_int_equal(request_line_messages(&line, room, &count), STATUS_BAD_INPUT);
    }
}

static void ids_come_back_as_they_were(void **state)
{
    static const struct {
        const char *id, *wanted;
    } table[] = {{"\"a\"", "\"a\""},
                 {"7", "7"},
                 {"\"7\"", "\"7\""},
                 {"-9223372036854775808", "-9223372036854775808"},
                 {"1.5", "1.5"},
                 {"\"\"", "\"\""},
                 {"\"\\u00e9\\\"\\\\\\n\\u0000\"", "\"\xc3\xa9\\\"\\\\\\n\\u0000\""}};
    static const char *const wrong[] = {"null", "true", "[]", "{}"};
    char text[REQUEST_ID_BYTES + 64];
    char id[REQUEST_ID_BYTES];

    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        snprintf(text, sizeof text, "{\"id\": %s, \"prompt\": \"x\"}", table[i].id);
        assert_int_equal(read_line(text), STATUS_OK);
        assert_string_equal(line.id, table[i].wanted);
    }
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        snprintf(text, sizeof text, "{\"id\": %s, \"prompt\": \"x\"}", wrong[i]);
        assert_int_equal(read_line(text), STATUS_BAD_INPUT);
        assert_string_equal(line.id, "null");
    }
    for (int more = 0; more < 2; more++) {
        memset(id, 'i', sizeof id);
        id[REQUEST_ID_BYTES - 3 + more] = '\0';
        snprintf(text, sizeof text, "{\"id\": \"%s\", \"prompt\": \"x\"}", id);
        assert_int_equal(read_line(text), more ? STATUS_BAD_INPUT : STATUS_OK);
    }
    assert_int_equal(read_line("{\"prompt\": \"x\"}"), STATUS_BAD_INPUT);
}

static void cancels_name_one_request_and_nothing_else(void **state)
{
    (void)state;
    assert_int_equal(read_line("{\"cancel\": \"a\"}"), STATUS_OK);
    assert_int_equal(line.form, REQUEST_LINE_CANCEL);
    assert_string_equal(line.id, "\"a\"");
    assert_int_equal(read_line("{\"cancel\": 5}"), STATUS_OK);
    assert_string_equal(line.id, "5");
    assert_int_equal(read_line("{\"cancel\": null}"), STATUS_BAD_INPUT);
    assert_int_equal(read_line("{\"cancel\": [1]}"), STATUS_BAD_INPUT);
    assert_int_equal(read_line("{\"cancel\": 5, \"id\": 5}"), STATUS_BAD_INPUT);
}

static void what_is_not_a_request_is_refused(void **state)
{
    static const char *const wrong[] = {"",
                                        " ",
                                        "x",
                                        "5",
                                        "[]",
                                        "\"a\"",
                                        "null",
                                        "{",
                                        "{\"id\": 1, \"prompt\": \"x\"",
                                        "{\"id\": 1, \"prompt\": \"x\"} {}",
                                        "{\"id\": 1, \"id\": 1, \"prompt\": \"x\"}",
                                        "{\"id\": 1, \"prompt\": \"\\ud800\"}",
                                        "{\"id\": 1, \"prompt\": \"\xff\"}",
                                        "{\"id\": 1, \"prompt\": \"\t\"}",
                                        "{\"id\": 1, \"temperature\": NaN}",
                                        "{\"id\": 1, \"temperature\": 1e999, \"prompt\": \"x\"}"};
    char deep[8192];

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_int_equal(read_line(wrong[i]), STATUS_BAD_INPUT);
    memset(deep, '[', sizeof deep - 1);
    deep[sizeof deep - 1] = '\0';
    assert_int_equal(read_line(deep), STATUS_BAD_INPUT);
    request_line_close(&line);
    assert_int_equal(request_line_open(&line, &defaults, VOCABULARY, "{\"id\": 1,\0}", 11), STATUS_BAD_INPUT);
    refuses("\"foo\": 1", "there is no field \"foo\"");
    refuses("\"Prompt\": \"x\"", "there is no field");
    refuses("\"best_of\": null", "there is no field");
}

/* A number that no field can hold makes the whole line unreadable to the parser; its owner is told all the
 * same. */
static void huge_numbers_do_not_hide_who_asked(void **state)
{
    (void)state;
    refuses("\"seed\": 99999999999999999999", "too big");
    refuses("\"max_tokens\": -99999999999999999999999", "too big");
    assert_int_equal(read_line("{\"id\": \"me\", \"prompt\": \"x\", \"seed\": 99999999999999999999}"),
                     STATUS_BAD_INPUT);
    assert_string_equal(line.id, "\"me\"");
    assert_int_equal(read_line("{\"id\": 99999999999999999999, \"prompt\": \"x\"}"), STATUS_BAD_INPUT);
    assert_string_equal(line.id, "null");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_field_takes_what_is_legal_and_refuses_the_rest),
        cmocka_unit_test(values_arrive),
        cmocka_unit_test(what_is_not_said_is_the_default),
        cmocka_unit_test(the_limits_of_lists_hold),
        cmocka_unit_test(a_request_has_one_prompt),
        cmocka_unit_test(messages_may_come_with_a_word_on_thinking),
        cmocka_unit_test(wrong_ids_and_messages_are_refused),
        cmocka_unit_test(ids_come_back_as_they_were),
        cmocka_unit_test(cancels_name_one_request_and_nothing_else),
        cmocka_unit_test(what_is_not_a_request_is_refused),
        cmocka_unit_test(huge_numbers_do_not_hide_who_asked),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);

    request_line_close(&line);
    return failed;
}
