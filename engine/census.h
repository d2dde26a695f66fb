/* census.h - how many numbers a model has, and in which formats its files hold them
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef CENSUS_H
#define CENSUS_H

#include "engine/config.h"
#include "engine/safetensors.h"

#include <stdint.h>

struct census {
    int64_t parameters; /* of the text model */
    int64_t active;     /* of them, those that one token meets: k of E experts */
    int64_t bytes;      /* of all tensors in the files */
    int64_t of_dtype[DTYPE_COUNT];
};

void census_take(struct census *out, const struct config *c, const struct tensor_set *set);

#endif
