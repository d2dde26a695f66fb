/* options_json.c - options whose value is an object of JSON, as vLLM spells them
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "launch/options_json.h"

#include <string.h>

static enum status check_keys(const struct options_json *o, const struct json_at *root)
{
    const char *key;
    json_t *value;

    json_object_foreach(root->object, key, value)
    {
        int i = 0;

        while (o->known[i] && strcmp(o->known[i], key) != 0)
            i++;
        if (!o->known[i])
            return FAIL(STATUS_USAGE, "%s: '%s' is not known; there are %s", o->option, key, o->names);
    }
    return STATUS_OK;
}

static enum status take_root(const struct options_json *o, const struct json *json, void *owner)
{
    struct json_at root;

    TRY(json_get_root(json, &root));
    TRY(check_keys(o, &root));
    return o->take(owner, &root);
}

enum status options_json_read(const struct options_json *o, const char *text, void *owner)
{
    struct json json = {0};
    enum status status = json_open(&json, o->option, text, strlen(text), 0);

    if (status == STATUS_OK)
        status = take_root(o, &json, owner);
    json_close(&json);
    return status == STATUS_BAD_INPUT ? status_prefix(STATUS_USAGE, "%s", "") : status;
}
