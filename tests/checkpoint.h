/* checkpoint.h - altered copies of a golden checkpoint, for tests
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * A copy is gathered tensor by tensor and then written as one model.safetensors. */
#ifndef CHECKPOINT_H
#define CHECKPOINT_H

#include "engine/safetensors.h"

#include <jansson.h>
#include <stdio.h>

struct checkpoint {
    json_t *header;
    FILE *data; /* of all tensors, in order */
    int64_t bytes;
};

void checkpoint_open(struct checkpoint *c);

/* One tensor; data NULL: all zero. */
void checkpoint_add(struct checkpoint *c, const char *name, enum dtype dtype, int dimensions,
                    const int64_t *shape, const void *data);

/* A tensor of another checkpoint as it is, under the same name. */
void checkpoint_copy(struct checkpoint *c, const struct tensor *t);

/* Writes DIR/model.safetensors and forgets the copy. */
void checkpoint_write(struct checkpoint *c, const char *directory);

/* All bytes of a tensor; the caller frees them. */
void *checkpoint_bytes(const struct tensor *t);

#endif
