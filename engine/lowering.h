/* lowering.h - ranks that stay overloaded in a batch of prompts run their experts at lower precision
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 *     lowering_check          once the backend is open: has it a lower precision?
 *     lowering_check_weights  once weights are planned: are the experts' of the format it takes?
 *     lowering_open, lowering_introduce
 *     lowering_begin          a step begins
 *     lowering_choose         in each layer, when the rows of all ranks are known
 *     lowering_end            the step is over
 *
 * Which ranks: eplb/precision.h, from what is left after the balancer has shared out rows; all ranks choose
 * alike. What a row becomes then depends on the rows beside it, so answers are outside the law: it is off
 * unless asked for. */
#ifndef LOWERING_H
#define LOWERING_H

#include "engine/base/arena.h"
#include "engine/batch.h"
#include "engine/config.h"
#include "engine/weights.h"
#include "eplb/precision.h"
#include "kernels/kernels.h"

#include <jansson.h>

struct lowering_options {
    bool on;
    double budget; /* share of a layer's rows that may be lowered */
    int min_rows;  /* of a layer, all ranks together */
};

struct lowering {
    bool on;
    struct precision_rules rules;
    bool *lower; /* [P] of the present layer */
    int ranks;
    bool prompts;  /* the present step is one of prompts */
    bool happened; /* and something was lowered in it */

    /* since the start, the same on all ranks: rows are those of experts, one for each choice of a token */
    int64_t batches;       /* steps in which something was lowered */
    int64_t rows;          /* that were lowered */
    int64_t before, after; /* of layers in which something was lowered: struct precision_effect */
};

enum status lowering_check(const struct lowering_options *o, const struct kernels *k);
enum status lowering_check_weights(const struct lowering_options *o, const struct config *c,
                                   const struct weights *w, const struct placement *p, int rank);

enum status lowering_open(struct lowering *l, struct arena *arena, const struct lowering_options *o,
                          const struct kernels *k, int ranks);

/* Before the first step rank 0 says that it is lossy. */
void lowering_introduce(const struct lowering *l);

/* What has been counted so far was no real work. */
void lowering_forget(struct lowering *l);

void lowering_begin(struct lowering *l, const struct batch *b);

/* Does any layer of this step need the rows of all ranks on the host? */
bool lowering_counts(const struct lowering *l);

/* Is `rank` lowered in this layer? rows [P] for the experts of each rank. */
bool lowering_choose(struct lowering *l, const int64_t *rows, int rank);
void lowering_end(struct lowering *l);

/* "7 batches with 3456 of 28800 rows of experts (12.0%) at lower precision, ...; "; "" when it is off. `all`:
 * rows of all ranks and steps. */
void lowering_text(const struct lowering *l, int64_t all, char *text, size_t bytes);

/* NULL when it is off. The caller owns *out. */
enum status lowering_report(const struct lowering *l, int64_t all, json_t **out);

#endif
