/* experts.h - the expert block of a layer: route, dispatch, multiply, combine
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EXPERTS_H
#define EXPERTS_H

#include "comm/dispatch_fixed.h"
#include "engine/batch.h"
#include "engine/block.h"
#include "engine/config.h"
#include "engine/lowering.h"
#include "engine/meter.h"
#include "engine/step.h"
#include "engine/trace.h"
#include "engine/weights.h"
#include "eplb/load.h"
#include "eplb/placement.h"

/* How rows may go to experts. */
struct experts_ways {
    enum dispatch_way dispatch;
    const int32_t *rank_node; /* [P] node of each rank, equal for ranks of one node; NULL: all on one */
    bool halves;              /* steps with rows enough go to experts in two halves, the rows of one beside
                                 the work for the other */
    bool fixed;               /* tests: small batches go in fixed places on any backend */
};

struct experts {
    const struct config *config;
    const struct weights *weights;
    struct placement *placement;
    struct dispatch dispatch;
    struct dispatch_fixed fixed; /* the way of small batches where the host shall not wait */
    struct block shared;         /* the shared expert; unused without one */
    struct matrix logits;        /* [own rows, E] */
    int32_t *expert;             /* [own rows, k] backend memory, and behind all it has room for ... */
    float *weight;               /* [own rows, k] */
    int32_t *chosen;             /* expert, and ... */
    float *factor;               /* ... weight in host memory, as far as the host needs them */
    int own;                     /* rows of `chosen` */
    struct matrix results;       /* [arrivals, D] */
    struct matrix scratch;       /* [arrivals, 2F] */
    bool halves;                 /* steps with rows enough are two cohorts */
    bool lower;                  /* of this layer: batches go at lower precision */
    int64_t spent;               /* nanoseconds of this rank's experts in it */
    int64_t halved;              /* steps so far in halves, and ... */
    int64_t halved_planned;      /* ... those of them that the host planned */
    struct meter meter;
    struct lowering lowering; /* opened apart; zero: off */
    struct load *load;        /* where counts go as well; NULL: nowhere */
    struct trace *trace;      /* likewise */
};

enum status experts_open(struct experts *e, struct arena *arena, const struct config *c,
                         const struct weights *w, struct placement *p, const struct step *s,
                         const struct experts_ways *ways);
void experts_close(struct experts *e);

/* First and last thing of a step; collective over the world. */
enum status experts_begin(struct experts *e, const struct step *s, const struct batch *b);
enum status experts_end(struct experts *e);

/* x[own rows, D] += experts(normed[own rows, D]); collective over the world. */
enum status experts_forward(struct experts *e, struct step *s, int layer, struct matrix x,
                            struct matrix normed);

#endif
