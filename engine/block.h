/* block.h - a feed-forward block whose columns are shared out in a group: dense layers and shared experts
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCK_H
#define BLOCK_H

#include "engine/config.h"
#include "engine/step.h"
#include "engine/weights.h"

struct block {
    int width;               /* D */
    int inner;               /* F, over all parts */
    struct matrix rows;      /* [rows, D] of the step at hand, all parts' */
    struct matrix gate_up;   /* [max rows, 2 own F] */
    struct matrix activated; /* [max rows, own F] */
    struct matrix joined;    /* [max rows, F]; T > 1 only */
    struct matrix columns;   /* [max rows, own columns of D] */
    struct matrix returned;  /* [own rows, D]; T > 1 only */
};

/* For blocks of F = `inner` in a model of D = `width`. */
enum status block_open(struct block *b, const struct step *s, int width, int inner);

/* *out [own rows, D] = down( silu(gate x) * (up x) ), x [own rows, D] without gaps; *out is memory of the
 * block. Collective over the group. */
enum status block_forward(struct block *b, struct step *s, const struct weights_block *w, struct matrix x,
                          struct matrix *out);

/* The same in three parts, for whoever has more to do between. Where the group has several ranks the first
 * and the last of them exchange rows inside it, the one between never does. */
enum status block_gather(struct block *b, struct step *s, struct matrix x);
enum status block_widen(struct block *b, struct step *s, const struct weights_block *w);
enum status block_narrow(struct block *b, struct step *s, const struct weights_block *w, struct matrix *out);

#endif
