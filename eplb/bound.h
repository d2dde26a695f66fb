/* bound.h - what no placement can do better than
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Holds for any placement of the shape and any split of an expert's load over its replicas, even or not.
 * Loads are whole numbers from 0 to BOUND_MOST; the result is in units of load. */
#ifndef BOUND_H
#define BOUND_H

#include "engine/base/arena.h"
#include "engine/base/status.h"
#include "eplb/plan_shape.h"

#include <stdint.h>

#define BOUND_MOST ((int64_t)1 << 40) /* of one expert */

struct bound; /* workspace */

/* The shape is the caller's and outlives the bound; ranks may go between two calls. PLAN_SPILL is bounded
 * like PLAN_GLOBAL. A shape that cannot be planned for is STATUS_USAGE. */
enum status bound_open(struct bound **out, struct arena *arena, const struct plan_shape *shape,
                       enum plan_levels levels);

/* t*: the least that the busiest replica of `experts` experts carries when they have `slots` slots in all,
 * each at least one: every spare slot goes to the expert whose replicas carry most. Exact but for the last
 * division. */
enum status bound_share(struct bound *b, const int64_t *load, int experts, int slots, double *share);

/* The least load of the busiest rank, for one layer: load [experts].
 *
 *   - the mean over the live ranks, and t*(all experts, all slots);
 *   - with more than one node, where all replicas of a group stay on its node: the least that the busiest
 * node can have, shared by its ranks; the load of each group, shared likewise; t* of each group with all
 * spare slots of a node;
 *   - without spare slots: the largest load with the smallest ones beside it on its rank. */
enum status bound_layer(struct bound *b, const int64_t *load, double *bound);

#endif
