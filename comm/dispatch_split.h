/* dispatch_split.h - what was planned for a layer's rows, shared out over its two cohorts
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * A plan says how many rows of each rank go to each slot, over the whole layer, so that ranks have equally
 * much to do. A cohort gets its part of every such number, rounded, rather than the first slots that a list
 * has: so each half is as even as the whole, but for the rounding, and both together are the plan. */
#ifndef DISPATCH_SPLIT_H
#define DISPATCH_SPLIT_H

#include "eplb/placement.h"

/* A pure function, so all ranks find the same.
 *
 *     wanted  [P, E] rows of each rank for each expert, of both cohorts, and ...
 *     first   [P, E] ... of the first one
 *     counts  [P, slots] rows from each rank to each slot, of both; sums over the slots of an expert to
 * wanted one     [P, slots] out: those of the first cohort, summing to `first`; those of the second are the
 * rest
 */
void dispatch_split(const struct placement *p, int layer, const int32_t *wanted, const int32_t *first,
                    const int32_t *counts, int32_t *one);

#endif
