/* wanted.h - rows that want logits: after the final norm, on every rank
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef WANTED_H
#define WANTED_H

#include "engine/config.h"
#include "engine/step.h"
#include "engine/weights.h"

struct wanted {
    const struct config *config;
    const struct weights *weights;
    int32_t *mine;        /* [own rows] those of this rank, counted from its first own row */
    struct matrix normed; /* [own rows, D] */
    size_t *bytes;        /* [P] */
};

/* For up to `most` rows at a time. */
enum status wanted_open(struct wanted *w, struct arena *arena, const struct config *c,
                        const struct weights *weights, const struct step *s, int most);

/* *all [count, D]: the final norm of the rows `rows` [count] of the batch, rising, in memory of the world's
 * comm. x [own rows, D] is the residual stream after the last layer. Collective over the world. */
enum status wanted_gather(struct wanted *w, struct step *s, const struct batch *b, struct matrix x,
                          const int32_t *rows, int count, struct matrix *all);

#endif
