/* head.h - logits of the rows that want them, from all ranks to rank 0
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * The vocabulary is shared out over all ranks. Each multiplies the wanted rows by its slice and sends its
 * best candidates, or its whole slice where all logits are wanted, to rank 0. */
#ifndef HEAD_H
#define HEAD_H

#include "engine/config.h"
#include "engine/step.h"
#include "engine/wanted.h"
#include "engine/weights.h"

/* What a wanted row brought to rank 0. */
struct head_result {
    int count;           /* candidates; V when all logits are here */
    const float *values; /* [count] falling; or [V] logits by id */
    const int32_t *ids;  /* [count]; NULL for logits */
};

struct head {
    const struct config *config;
    const struct weights *weights;
    int max_wanted;
    int id_limit; /* ids from here on have no token and are no candidates; V unless head_limit was called */
    int32_t *wanted;  /* [max wanted] rows of the batch */
    int32_t *keep;    /* [max wanted] candidates of each; 0: all logits */
    float *found;     /* [max wanted, HEAD_KEEP] candidates of this rank, and ... */
    int32_t *columns; /* ... where they stand in its slice */
    struct wanted gathered;
    struct matrix logits; /* [max wanted, own vocabulary] */
    float *message;       /* what this rank sends in one round */
    size_t message_floats;
    size_t *bytes;               /* [P] */
    const float **cursor;        /* [P] into what arrived, at rank 0 */
    struct head_result *results; /* [max wanted], at rank 0; valid until the next forward */
    int result_count;
    float *values; /* rank 0: [max wanted, V] room for results */
    int32_t *ids;  /* rank 0: [max wanted, HEAD_KEEP] */
};

enum { HEAD_KEEP = 64 }; /* most candidates of a row */

/* The most that rank 0 receives in one call: larger results travel in several rounds. */
size_t head_message_bytes(const struct config *c);

enum status head_open(struct head *h, struct arena *arena, const struct config *c, const struct weights *w,
                      const struct step *s, int max_wanted);

/* Ids from `limit` on are never candidates (a vocabulary padded beyond its tokenizer); equal on all ranks. */
void head_limit(struct head *h, int limit);

/* x[own rows, D] after the last layer; collective over the world. */
enum status head_forward(struct head *h, struct step *s, const struct batch *b, struct matrix x);

#endif
