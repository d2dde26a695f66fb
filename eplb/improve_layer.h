/* improve_layer.h - moves for one layer, one after the other
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef IMPROVE_LAYER_H
#define IMPROVE_LAYER_H

#include "engine/base/arena.h"
#include "engine/base/status.h"
#include "eplb/capped.h"
#include "eplb/flow.h"
#include "eplb/improve_price.h"
#include "eplb/plan_shape.h"

#include <stdbool.h>
#include <stdint.h>

/* One move, or two that exchange experts. */
struct improve_step {
    int count;
    int32_t slot[2];
    int32_t expert[2];
    int64_t after; /* rows of the busiest rank then, summed over the batches */
    int moves;     /* slots that differ from the present placement then */
    int sent;      /* experts that must be sent for it */
    int price;     /* those that this step adds */
};

/* How far a walk goes. */
struct improve_limits {
    int tolerance; /* millionths above the mean with which the layer is content */
    int moves;     /* slots that differ at most */
    bool paid;     /* may experts be sent? */
};

struct improve_layer {
    const struct plan_shape *shape;
    struct capped capped;
    struct improve_price price;
    struct flow *flow;
    int batches;     /* of this plan */
    int live;        /* ranks */
    bool *usable;    /* [slots] on live ranks */
    int64_t *demand; /* [batches, E] in finer units */
    int64_t *mean;   /* [batches] of a live rank, rounded up */
    int64_t *quota;  /* [slots] */
    int64_t now;     /* rows of the busiest rank, summed over the batches */
    int shift;       /* demand = rows << shift */

    /* of one step */
    bool free;                  /* only steps for which nothing is sent; else only others */
    int64_t *weight;            /* [max(E, slots, P)] by which candidates are ranked */
    int32_t *expert, *rank;     /* [E], [P] candidates, best first */
    int32_t *hot;               /* [slots] likewise */
    struct improve_step *trial; /* steps worth an exact answer, best estimate first */
    int64_t *estimate;
    uint64_t *scratch; /* [words] ranks reached while a step is tried */
};

enum status improve_layer_open(struct improve_layer *l, struct arena *arena, const struct plan_shape *shape,
                               int batches);

/* Takes a layer: expert [slots] now, batch[b * stride + e] rows. `before`: rows of the busiest rank, summed.
 */
enum status improve_layer_start(struct improve_layer *l, const int32_t *expert, const int64_t *batch,
                                ptrdiff_t stride, int batches, int64_t *before);

/* Experts without a slot on a live rank get one: those moves come first, whatever they cost. */
enum status improve_layer_rescue(struct improve_layer *l, struct improve_step *steps, int capacity,
                                 int *count);

/* Moves, those that cost nothing first, then best first, up to the limits; appends to steps. */
enum status improve_layer_walk(struct improve_layer *l, const struct improve_limits *limits,
                               struct improve_step *steps, int capacity, int *count);

#endif
