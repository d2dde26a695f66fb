/* options_speculative.c - --speculative-config: vLLM's JSON for speculation
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "launch/options_speculative.h"

#include "engine/json.h"
#include "kernels/kernels.h"

#include <string.h>

enum { LOOKUP_PRESET = 5, LOOKUP_MOST = 1024 };

static const char *const known[] = {"method", "num_speculative_tokens", "prompt_lookup_min",
                                    "prompt_lookup_max", NULL};

static enum status check_keys(const struct json_at *root)
{
    const char *key;
    json_t *value;

    json_object_foreach(root->object, key, value)
    {
        int i = 0;

        while (known[i] && strcmp(known[i], key) != 0)
            i++;
        if (!known[i])
            return FAIL(STATUS_USAGE,
                        "--speculative-config: '%s' is not known; there are method, num_speculative_tokens, "
                        "prompt_lookup_min and prompt_lookup_max",
                        key);
    }
    return STATUS_OK;
}

static enum status take_config(struct options_speculative *o, const struct json *json)
{
    const char *method = "";
    struct json_at root;

    TRY(json_get_root(json, &root));
    TRY(check_keys(&root));
    TRY(json_require(&root, "method"));
    TRY(json_require(&root, "num_speculative_tokens"));
    TRY(json_get_text(&root, "method", &method));
    if (strcmp(method, "ngram") != 0)
        return FAIL(STATUS_USAGE, "--speculative-config: the method '%s' is not known; there is ngram",
                    method);
    TRY(json_get_int(&root, "num_speculative_tokens", 1, DRAFT_TOKENS_MOST, &o->tokens));
    TRY(json_get_int(&root, "prompt_lookup_min", 1, LOOKUP_MOST, &o->least));
    TRY(json_get_int(&root, "prompt_lookup_max", 1, LOOKUP_MOST, &o->most));
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
    struct json json = {0};
    enum status status;

    if (!o->config)
        return STATUS_OK;
    status = json_open(&json, "--speculative-config", o->config, strlen(o->config), 0);
    if (status == STATUS_OK)
        status = take_config(o, &json);
    json_close(&json);
    return status == STATUS_BAD_INPUT ? status_prefix(STATUS_USAGE, "%s", "") : status;
}
