/* replicas.h - which replica serves which rows of a batch
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Rows are counted per source rank and expert, and those counts travel anyway: every rank solves the same
 * problem from them and nothing else is sent. No effect on results, only on who computes them. */
#ifndef REPLICAS_H
#define REPLICAS_H

#include "engine/base/arena.h"
#include "engine/base/status.h"
#include "eplb/placement.h"

#include <stdint.h>

enum replicas_policy {
    REPLICAS_AUTO,   /* flow or fewest, whichever takes less time by the cost */
    REPLICAS_FLOW,   /* the busiest rank has as few rows as can be */
    REPLICAS_FEWEST, /* one replica per active expert; the rank with most active experts has as few as can be
                      */
    REPLICAS_EVEN,   /* by a hash of the row's number, to compare with */
};

/* Times of a rank, the same numbers on all ranks; measured. */
struct replicas_cost {
    int64_t expert_picoseconds; /* to read the weights of one expert once */
    int64_t row_picoseconds;    /* to multiply one row by one expert, weights at hand */
};

struct replicas_result {
    enum replicas_policy policy; /* taken: never auto */
    int64_t rows;                /* of the busiest rank */
    int active;                  /* experts with rows on the rank that has most of them */
    int64_t picoseconds;         /* modelled, of the slowest rank; 0 without a cost */
};

struct replicas; /* workspace */

/* `like` gives the sizes and rank_first that all placements will have. rank_node [ranks] or NULL: one node;
 * copied. */
enum status replicas_open(struct replicas **out, struct arena *arena, const struct placement *like,
                          const int32_t *rank_node);

/* Shares out the rows of a batch in one layer.
 *
 *     counts  [P, E] rows of each source rank for each expert, 0 at least
 *     cost    for auto; NULL: auto is flow
 *     share   [P, slots] rows of each source rank for each slot: sums over the slots of an expert to counts.
 *             Own slots are used first, then those of the same node
 *
 * Every expert with rows has a slot. */
enum status replicas_share(struct replicas *r, const struct placement *p, int layer, const int32_t *counts,
                           enum replicas_policy policy, const struct replicas_cost *cost, int32_t *share,
                           struct replicas_result *result);

/* Which slots would serve the rows `demand` [experts] of a batch with one replica for each active expert:
 * quota [slots] rows. No expert has more than INT32_MAX rows. */
enum status replicas_fewest(struct replicas *r, const struct placement *p, int layer, const int64_t *demand,
                            int64_t *quota, struct replicas_result *result);

/* slot[i] for the choices expert[i] of one rank, in row order: `share` [slots] is that rank's row of the
 * table, and the choices are those that were counted. */
enum status replicas_assign(struct replicas *r, const struct placement *p, int layer, const int32_t *share,
                            const int32_t *expert, int32_t *slot, int count);

#endif
