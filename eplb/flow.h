/* flow.h - the best split of a batch over the replicas: the busiest rank has as little to do as can be
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Whole rows, exact: the largest rank load is the least possible for this placement, and the cut proves it.
 * All ranks that solve the same batch get the same split. */
#ifndef FLOW_H
#define FLOW_H

#include "engine/base/arena.h"
#include "engine/base/status.h"
#include "eplb/placement.h"

#include <stdbool.h>
#include <stdint.h>

#define FLOW_MOST ((int64_t)1 << 41) /* of one expert */

struct flow; /* workspace */
enum status flow_open(struct flow **out, struct arena *arena, int experts, int slots, int ranks);

/* Splits demand[e] rows over the slots of expert e.
 *
 *   - expert [slots] of a slot, -1: empty; two slots of an expert on one rank count as the first of them
 *   - rank_first [ranks + 1] first slot of each rank
 *   - demand [experts] from 0 to FLOW_MOST; an expert without a slot has 0, else STATUS_BUG
 *   - quota [slots] rows that each slot gets
 *   - cut [ranks] or NULL, the certificate: all demand that only the marked ranks can serve is more than
 *     (*most - 1) rows for each of them
 *   - most: rows of the busiest rank */
enum status flow_split(struct flow *f, const int32_t *expert, const int32_t *rank_first,
                       const int64_t *demand, int64_t *quota, bool *cut, int64_t *most);

/* The same for a layer of a placement, whose lists make it faster. On failure quota may hold anything. */
enum status flow_layer(struct flow *f, const struct placement *p, int layer, const int64_t *demand,
                       int64_t *quota, int64_t *most);

#endif
