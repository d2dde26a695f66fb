/* plan_batches.h - exchanges that make a plan for one load one for batches that may come
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Plans that are equally good for the sum of some batches differ much in the batches, whose experts are busy
 * together. Wanted is the plan whose busiest rank has least, on average over the batches: rows when replicas
 * share alike, and those that no way to share them takes off it, because no other rank has their experts.
 * A pure function of whole numbers: the same on every rank. */
#ifndef PLAN_BATCHES_H
#define PLAN_BATCHES_H

#include "engine/base/arena.h"
#include "engine/base/status.h"
#include "eplb/placement.h"
#include "eplb/plan_shape.h"

#include <stdint.h>

#define PLAN_BATCHES_LOAD ((int64_t)1 << 55)

enum { PLAN_BATCHES_MOST = 50, PLAN_BATCHES_TRIES = 4000 }; /* for a plan of some milliseconds a layer */

struct plan_batches; /* workspace */

/* For at most `batches` batches, PLAN_BATCHES_MOST or less. */
enum status plan_batches_open(struct plan_batches **out, struct arena *arena, const struct plan_shape *shape,
                              int batches);

/* Tries so many random exchanges in each layer and keeps those that help.
 *
 *   - p: a plan of the shape; on failure it may hold anything
 *   - levels: not those of PLAN_GLOBAL, every node keeps the experts that it has
 *   - batch [count, layers, experts] at least 0 and in all PLAN_BATCHES_LOAD at most in a layer; best in
 * small parts of a row, as shares are rounded
 *
 * Empty slots stay empty. Without batches nothing is changed. */
enum status plan_batches_fit(struct plan_batches *b, enum plan_levels levels, const int64_t *batch, int count,
                             int tries, struct placement *p);

#endif
