/* score.h - how unlikely the model finds given tokens, without moving a logit
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * -log softmax(logits)[target] needs of a row's V logits only the logarithm of the sum of their exponentials
 * and one of them. So every rank adds up its slice of the vocabulary and sends the nodes of engine/logsum,
 * some twenty numbers a row, instead of V / P logits. That is a module of its own beside engine/head because
 * nothing is chosen here, and every row of a step is wanted, not one of each sequence. The head's way
 * (BATCH_WANT_ALL) would move V numbers a row: for a vocabulary of 200,000 more than the row's experts do.
 *
 * All V logits count, also those of ids that have no token, as in Hugging Face transformers. */
#ifndef SCORE_H
#define SCORE_H

#include "engine/config.h"
#include "engine/step.h"
#include "engine/wanted.h"
#include "engine/weights.h"

struct score {
    const struct config *config;
    const struct weights *weights;
    int tile; /* rows whose logits are there at a time */
    struct wanted gathered;
    struct matrix logits;        /* [tile, own vocabulary] */
    struct softmax_chunk *chunk; /* [tile, chunks of the own vocabulary] */
    int32_t *column;             /* [tile] where in the own vocabulary a target lies, -1: elsewhere */
    float *logit;                /* [tile] of it */
    int32_t *targets;            /* [max_rows] of the batch */
    int32_t *rows;               /* [max_rows] that have a target */
    unsigned char *message;      /* [tile, row_bytes of this rank] */
    size_t *row_bytes;           /* [P] what a row brings from each rank */
    size_t *bytes;               /* [P] */
};

enum { SCORE_NONE = -1 }; /* the row has no target */

enum status score_open(struct score *s, struct arena *arena, const struct config *c, const struct weights *w,
                       const struct step *step);

/* nats[row] = -log softmax(logits of row)[targets[row]] for the rows of the batch that have a target, both
 * [row_count of b], at rank 0; elsewhere NULL. x [own rows, D] is the residual stream after the last layer.
 * Collective over the world. A logit that is no number is STATUS_BAD_INPUT. */
enum status score_forward(struct score *s, struct step *step, const struct batch *b, struct matrix x,
                          const int32_t *targets, double *nats);

#endif
