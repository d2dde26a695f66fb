/* load.h - how many rows each expert was asked for lately
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Two views of the same counts, prefill and decode apart: the last batches one by one (a ring), and a moving
 * average in which the newest batch weighs LOAD_EWMA_SHARE. Rows of all ranks count, as the dispatch has
 * gathered them; nothing else does, so padding and warm-up never enter. */
#ifndef LOAD_H
#define LOAD_H

#include "engine/base/arena.h"
#include "engine/base/status.h"

#include <stdint.h>

enum load_kind { LOAD_PREFILL, LOAD_DECODE, LOAD_KINDS };

#define LOAD_EWMA_SHARE 0.3
enum { LOAD_EWMA_ONE = 65536 }; /* a row in the moving average */

struct load;

/* `window` batches are kept. */
enum status load_open(struct load **out, struct arena *arena, int layers, int experts, int window);

/* A new batch takes the place of the oldest. */
void load_begin(struct load *l, enum load_kind kind);

/* wanted [ranks, experts] rows of one layer of this batch. */
void load_add(struct load *l, int layer, const int32_t *wanted, int ranks);

/* As after load_open. */
void load_clear(struct load *l);

/* Batches of the window, at most `window`. */
int load_batches(const struct load *l);

/* Which batches of the window: of one kind, every second one from the newest on (phase 0) or from the one
 * before it (phase 1), in part `part` of `parts` equal stretches of the window, the newest stretch first. */
struct load_choice {
    enum load_kind kind;
    int phase;
    int part, parts;
};

/* sum [layers, experts] over the chosen batches; *batches of them. */
void load_sum(const struct load *l, const struct load_choice *choice, int64_t *sum, int *batches);

/* What plans are made for. */
enum load_way {
    LOAD_LAST,   /* the last LOAD_LAST_BATCHES batches of each kind, one by one */
    LOAD_WINDOW, /* the window in two stretches, each together */
    LOAD_EWMA,   /* a moving average */
};
enum { LOAD_LAST_BATCHES = 8, LOAD_SCENARIOS = LOAD_LAST_BATCHES * LOAD_KINDS };

/* Loads that a plan is made for, or judged by, from batches of one phase: *count of them, of *batches
 * batches, sums [LOAD_SCENARIOS, layers, experts]. Kinds weigh by how many batches of the window are of them.
 */
void load_scenarios(const struct load *l, enum load_way way, int phase, int64_t *sums, int *count,
                    int *batches);

/* The moving average [layers, experts] in 1 / LOAD_EWMA_ONE rows a batch. */
const int64_t *load_average(const struct load *l, enum load_kind kind);

#endif
