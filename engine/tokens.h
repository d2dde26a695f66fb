/* tokens.h - a list of token ids with an end that is known beforehand
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef TOKENS_H
#define TOKENS_H

#include "engine/base/status.h"

#include <stdint.h>

struct tokens {
    int32_t *ids;
    int count;
    int capacity; /* more are STATUS_BAD_INPUT: "text of more than N tokens" */
};

static inline enum status tokens_append(struct tokens *tokens, int32_t id)
{
    if (tokens->count >= tokens->capacity)
        return FAIL(STATUS_BAD_INPUT, "text of more than %d tokens: shorten it, or allow more",
                    tokens->capacity);
    tokens->ids[tokens->count++] = id;
    return STATUS_OK;
}

#endif
