/* plan.h - decide from scratch which rank holds which expert
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * A pure function of whole numbers: the same loads give the same plan on every rank, so a plan is never sent.
 * Any number of ranks and of slots on each; never two slots of one expert on a rank. Memory is taken when a
 * planner is opened. */
#ifndef PLAN_H
#define PLAN_H

#include "engine/base/arena.h"
#include "engine/base/status.h"
#include "eplb/placement.h"
#include "eplb/plan_shape.h"

#include <stdint.h>

/* How the rows of an expert will be shared by its replicas. */
enum plan_split {
    PLAN_FLOW, /* in the best way for each batch: ranks get equal numbers of slots of replicated experts */
    PLAN_EVEN, /* alike */
};

/* Tolerance and kicks for a plan of some milliseconds a layer, and for one in a tenth of that. */
enum { PLAN_GOOD_TOLERANCE = 1000, PLAN_GOOD_KICKS = 200, PLAN_FAST_TOLERANCE = 10000, PLAN_FAST_KICKS = 0 };

struct plan_options {
    enum plan_levels levels;
    enum plan_split split;
    int tolerance; /* millionths above the bound with which a layer is content */
    int kicks;     /* random detours from each local best, in layers above the tolerance */
    uint64_t seed;
};

/* What is known about a layer of a plan; loads as multiples of the mean over the live ranks, 1 without load.
 */
struct plan_report {
    double even;  /* load of the busiest rank when replicas share alike */
    double flow;  /* when they share in the best way */
    double bound; /* no placement on these levels and no split can be below */
};

struct plan; /* workspace */

/* A shape that cannot be planned for on any levels is STATUS_USAGE. */
enum status plan_open(struct plan **out, struct arena *arena, const struct plan_shape *shape);

/* load [layers, experts] rows seen, 0 ... PLAN_MOST. `out` was opened for the same sizes and has the same
 * rank_first; it is written and indexed only on success. report [layers] or NULL. Slots stay empty that find
 * no expert, and under an even split those whose replica makes the plan worse than DeepSeek's. */
enum status plan_make(struct plan *plan, const struct plan_options *options, const int64_t *load,
                      struct placement *out, struct plan_report *report);

#endif
