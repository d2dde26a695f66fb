/* options_speculative.c - --speculative-config: vLLM's JSON for speculation
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "launch/options_speculative.h"

#include "kernels/kernels.h"
#include "launch/options_json.h"

#include <string.h>

enum { LOOKUP_PRESET = 5, LOOKUP_MOST = 1024 };

static const char *const known[] = {"method", "num_speculative_tokens", "prompt_lookup_min",
                                    "prompt_lookup_max", NULL};

static enum status take_config(void *owner, const struct json_at *root)
{
    struct options_speculative *o = owner;
    const char *method = "";

    TRY(json_require(root, "method"));
    TRY(json_require(root, "num_speculative_tokens"));
    TRY(json_get_text(root, "method", &method));
    if (strcmp(method, "ngram") != 0)
        return FAIL(STATUS_USAGE, "--speculative-config: the method '%s' is not known; there is ngram",
                    method);
    TRY(json_get_int(root, "num_speculative_tokens", 1, DRAFT_TOKENS_MOST, &o->tokens));
    TRY(json_get_int(root, "prompt_lookup_min", 1, LOOKUP_MOST, &o->least));
    TRY(json_get_int(root, "prompt_lookup_max", 1, LOOKUP_MOST, &o->most));
    if (o->least == 0)
        o->least = o->most > 0 ? o->most : LOOKUP_PRESET;
    if (o->most == 0)
        o->most = o->least;
    if (o->least > o->most)
        return FAIL(STATUS_USAGE,
                    "--speculative-config: prompt_lookup_min is %d, more than prompt_lookup_max, which is %d",
                    o->least, o->most);
    return STATUS_OK;
}

enum status options_speculative_check(struct options_speculative *o)
{
    static const struct options_json json = {
        .option = "--speculative-config",
        .known = known,
        .names = "method, num_speculative_tokens, prompt_lookup_min and prompt_lookup_max",
        .take = take_config};

    return o->config ? options_json_read(&json, o->config, o) : STATUS_OK;
}
