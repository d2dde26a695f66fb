/* options_json.h - options whose value is an object of JSON, as vLLM spells them
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef OPTIONS_JSON_H
#define OPTIONS_JSON_H

#include "engine/base/status.h"
#include "engine/json.h"

struct options_json {
    const char *option;       /* "--eplb-config", for messages */
    const char *const *known; /* keys that may stand in it, up to NULL */
    const char *names;        /* the same in words */
    enum status (*take)(void *owner, const struct json_at *root);
};

/* STATUS_USAGE: it is no JSON, has a key that is not known, or take() refuses it. */
enum status options_json_read(const struct options_json *o, const char *text, void *owner);

#endif
