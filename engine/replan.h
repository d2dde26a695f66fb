/* replan.h - plans better placements beside the steps, on a thread of rank 0
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * replan_start copies what it needs and returns at once; replan_take asks now and then whether the plan is
 * there. Steps go on meanwhile; nothing here waits for them, nor they for it. The plan is made from every
 * second batch of the load and judged by the others. */
#ifndef REPLAN_H
#define REPLAN_H

#include "engine/base/arena.h"
#include "eplb/gate.h"
#include "eplb/load.h"
#include "eplb/placement.h"

struct replan;

struct replan_options {
    const int32_t *rank_node; /* [ranks] */
    const int32_t *share;     /* [ranks] as for moves_sent, or NULL */
    enum load_way load;       /* what plans are made for */
    int64_t expert_bytes;     /* of one expert in a layer */
    int layer_moves;          /* most slots of a layer that change in a plan */
    int64_t most_bytes;       /* of all experts that a plan sends */
};

/* Takes its memory. `like` has the sizes of all placements. */
enum status replan_open(struct replan **out, struct arena *arena, const struct placement *like,
                        const struct replan_options *options);

/* Starts the thread. */
enum status replan_begin(struct replan *r);
void replan_close(struct replan *r);

/* A plan from the present placement and the load of the window. Only when none is under way. */
void replan_start(struct replan *r, const struct placement *present, const struct load *load);

/* Is it under way? */
bool replan_works(const struct replan *r);

/* When a plan has just been finished: true, once. *next lives until the next replan_start; rows, moves and
 * batches of *c are filled in. A plan that could not be made is said in a line and has no moves. */
bool replan_take(struct replan *r, const struct placement **next, struct gate_case *c);

#endif
