/* embedding.h - token rows from the ranks that hold them to the ranks that own the rows of the step
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * The embedding is shared out over all ranks by vocabulary rows, like the head, so that tied weights lie
 * once. */
#ifndef EMBEDDING_H
#define EMBEDDING_H

#include "engine/config.h"
#include "engine/step.h"
#include "engine/weights.h"

struct embedding {
    const struct config *config;
    const struct weights *weights;
    struct matrix sent; /* [rows of a batch, D] */
    int32_t *tokens;    /* [rows of a batch] of the rows sent */
    int32_t *place;     /* [own rows] arrival of each own row */
    int32_t *cursor;    /* [P] next arrival of each source */
    size_t *bytes;      /* [P, P] */
};

enum status embedding_open(struct embedding *e, struct arena *arena, const struct config *c,
                           const struct weights *w, const struct step *s);

/* x[own rows, D] = embedding of their tokens; collective over the world. */
enum status embedding_forward(struct embedding *e, struct step *s, const struct batch *b, struct matrix x);

#endif
