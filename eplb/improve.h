/* improve.h - a better placement with few moves, from the one at hand
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Each move gives a slot another expert. Moves are taken one by one where the busiest rank gains most, over
 * the last batches really seen, each under its best split; then layer against layer by gain per byte. A pure
 * function of whole numbers: the same on every rank. Memory is taken when it is opened. */
#ifndef IMPROVE_H
#define IMPROVE_H

#include "engine/base/arena.h"
#include "engine/base/status.h"
#include "eplb/placement.h"
#include "eplb/plan.h"

#include <stdbool.h>
#include <stdint.h>

struct improve_options {
    int64_t most_bytes;          /* of all experts that a plan sends */
    const int64_t *expert_bytes; /* [layers] of one expert; NULL: 1 each, so that most_bytes counts moves */
    const int32_t *share; /* [ranks] as for moves_sent: what they have need not be sent; NULL: none do */
    int most_layer_moves; /* slots of a layer that get another expert, sent or not */
    int tolerance;        /* millionths above the mean with which a layer is content */
    const bool *skip;     /* [layers] layers to leave as they are; NULL: none */
};

enum { IMPROVE_PARTS = 1024 }; /* of a row */

/* Rows of the busiest rank of a layer under the best split, summed over the batches, in parts of a row. */
struct improve_report {
    int64_t before;
    int64_t after;
    int64_t mean; /* of the live ranks: no placement is below */
    int moves;    /* slots that get another expert */
};

struct improve; /* workspace */

/* At most `batches` batches and `layer_moves` moves in a layer at once. */
enum status improve_open(struct improve **out, struct arena *arena, const struct plan_shape *shape,
                         int batches, int layer_moves);

/* batch [count, layers, experts] rows of each of the last batches. `next` was opened for the sizes of
 * `present`; it is written and indexed only on success: slots that are not moved keep their expert. Experts
 * whose last slot was on a rank that is gone get one first, over any budget. report [layers] or NULL. */
enum status improve_plan(struct improve *improve, const struct placement *present, const int64_t *batch,
                         int count, const struct improve_options *options, struct placement *next,
                         struct improve_report *report);

#endif
