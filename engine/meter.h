/* meter.h - how evenly the ranks shared the experts' work, per layer and over time
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Fed from what every dispatch gathers anyway, so the figures are those of all ranks and no message is sent
 * for them. Imbalance is the work of the busiest rank over the mean of all ranks: 1 is ideal, P is the worst
 * that P ranks can do. */
#ifndef METER_H
#define METER_H

#include "comm/dispatch.h"
#include "engine/base/arena.h"

#include <stdint.h>

enum { METER_SAMPLES = 240 }; /* points of time kept; when they are full, neighbours are joined */

struct meter_sample {
    int64_t steps;
    int64_t busiest; /* rows of the busiest rank, summed over steps and layers */
    int64_t rows;    /* of all ranks */
    int64_t moves;   /* of experts, and their bytes */
    int64_t bytes;
};

struct meter {
    int layers, ranks;

    /* since the start, per layer */
    int64_t *busiest;   /* [layers] rows of the busiest rank, summed over steps */
    int64_t *rows;      /* [layers] rows of all ranks */
    int64_t *straggler; /* [layers] nanoseconds by which the slowest rank worked longer than the mean */

    /* since the start, all layers */
    int64_t all_busiest, all_rows;
    int64_t work_rows, work_ns; /* of all ranks' experts, where both are known */
    int64_t crossed;            /* rows that went to another node, and ... */
    int64_t crossed_direct;     /* ... those that would have, one for each choice */

    /* over time */
    struct meter_sample sample[METER_SAMPLES];
    int64_t *rank_rows; /* [METER_SAMPLES, ranks] */
    int samples;        /* the last one may be incomplete */
    int64_t sample_steps;

    int64_t *loads; /* [ranks] rows of the present layer */
    int64_t *last;  /* [ranks] rows of the layer whose times are still to come */
    int last_layer; /* -1: none */
};

enum status meter_open(struct meter *m, struct arena *arena, int layers, int ranks);

/* Everything since the start is forgotten. */
void meter_clear(struct meter *m);

/* After dispatch_plan of a layer. The dispatch's notes are the nanoseconds that each rank's experts took in
 * the layer before. */
void meter_layer(struct meter *m, const struct dispatch *d, const struct placement *p, int layer);

/* The same for a layer whose ranks' times nobody takes. */
void meter_untimed(struct meter *m, const struct dispatch *d, const struct placement *p, int layer);

/* What a layer's dispatch sent between nodes. */
void meter_crossing(struct meter *m, int64_t crossed, int64_t direct);

/* A step with rows is over. moves and bytes: since the step before. */
void meter_step(struct meter *m, int64_t moves, int64_t bytes);

/* Imbalance of one layer, of all layers (-1). 1 without rows. */
double meter_imbalance(const struct meter *m, int layer);

/* Nanoseconds of one row in one expert, over all ranks; 0 while nothing is known. */
double meter_row_ns(const struct meter *m);

#endif
