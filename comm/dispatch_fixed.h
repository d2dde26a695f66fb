/* dispatch_fixed.h - rows to experts in places whose number is known before, so that the host waits for
 * nothing
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * The other way of dispatch, for small batches on backends whose memory is apart: every rank sends as many
 * places to every rank, some of them empty. How many follows from the batch, so all ranks take the same way
 * and no count need be known before rows travel. One life per step:
 *
 *   - dispatch_fixed_begin    does the step go this way? Where experts lie goes to the device when it changed
 *   - for each layer and cohort: dispatch_fixed_send, dispatch_fixed_arrive, the experts multiply,
 *     dispatch_fixed_return, dispatch_fixed_returned
 *   - dispatch_fixed_collect  what every rank sent to every slot, of all layers, in one exchange
 *
 * A step's rows are one cohort, or two halves of each rank's rows, in the order of calls that comm/dispatch.h
 * has. What a send brings is read before the second next exchange is begun, and what a return brings before
 * the next layer's send, so a comm that keeps arrivals until the second next call keeps all.
 *
 * An expert with several slots shares its rows among them by a hash of their numbers: shares as even as those
 * of flow would need all counts first. Results are the same bytes as by dispatch.h. */
#ifndef DISPATCH_FIXED_H
#define DISPATCH_FIXED_H

#include "comm/dispatch.h"

/* Rows of a step that travel together. */
struct dispatch_fixed_cohort {
    struct range own;      /* of this rank's rows */
    int room;              /* places from each rank to each */
    int first, places;     /* of those that arrive here, among the step's */
    int32_t *place;        /* [own rows, k] backend: place of each choice among `places` */
    int32_t *counts;       /* [layers, slots] backend: rows of this rank for each slot */
    struct beside travels; /* what was begun last */
};

struct dispatch_fixed {
    struct dispatch *dispatch; /* whose grid, sizes and arrays are used */
    bool possible;             /* at all, with this backend and these sizes */
    int layers, slots, max_local;
    int most;    /* places that arrive at a rank, at most */
    bool halves; /* steps with rows enough are two cohorts */

    /* of this step */
    int room;   /* places from each rank to each; 0: the step goes the other way */
    int rows;   /* of the whole batch */
    int number; /* in the batch of this rank's first row */
    int cohorts;
    struct dispatch_fixed_cohort cohort[DISPATCH_COHORTS];

    uint64_t version;    /* of the placement that the tables hold; 0: none, else version + 1 */
    int32_t *tables;     /* [layers, E + 1 + slots] backend: first, slot */
    int32_t *rank_first; /* [P + 1] backend */
    int32_t *built;      /* one of them on its way */
    struct matrix send;  /* [most, deal_width(D)] */
    int32_t *mine;       /* [layers, slots] rows of this rank for each slot */
    int32_t *other;      /* the same of the second cohort, on its way to `mine` */
    const int32_t *all;  /* [P, layers, slots] after dispatch_fixed_collect, memory of the comm */
    size_t *bytes;       /* [P, P] */
};

/* Bytes that a rank sends in a layer's dispatch, at most: more, and waiting for the host is cheaper than the
 * empty places. A message of any comm has room for as much. */
enum { DISPATCH_FIXED_BYTES = 4 << 20 };

/* Places that may arrive at this rank in a step that goes this way; 0: none ever does. `always`: on any
 * backend, for tests. */
int dispatch_fixed_most(const struct dispatch *d, const struct placement *p, bool always);

enum status dispatch_fixed_open(struct dispatch_fixed *f, struct arena *arena, struct dispatch *d,
                                const struct placement *p, int most, bool halves);

/* most_own: rows of the rank that has most; rows: of the batch. The same on all ranks but for `own`, this
 * rank's rows, and `number`, that of the first. `may` false: this step goes the other way whatever its size.
 */
enum status dispatch_fixed_begin(struct dispatch_fixed *f, const struct placement *p, int rows, int most_own,
                                 int own, int number, bool may);

/* All own rows x [T, D], and expert, scale [T, k] backend memory, scale NULL: 1; those of the cohort travel.
 */
enum status dispatch_fixed_send(struct dispatch_fixed *f, int cohort, int layer, struct matrix x,
                                const int32_t *expert, const float *scale);

/* *arrivals [places, D] is memory of the comm; those that are not empty are in dispatch's backend_order and
 * backend_first, until the next cohort's arrive. */
enum status dispatch_fixed_arrive(struct dispatch_fixed *f, int cohort, struct matrix *arrivals);

/* results [places, D] without gaps, which stay until the cohort's have returned; *returned, in which its
 * `place` counts, is memory of the comm. */
enum status dispatch_fixed_return(struct dispatch_fixed *f, int cohort, struct matrix results);
enum status dispatch_fixed_returned(struct dispatch_fixed *f, int cohort, struct matrix *returned);

/* What was sent in all layers of the step comes to the host of all ranks. Then, for each layer, the counts as
 * dispatch has them after dispatch_plan: counts and wanted. */
enum status dispatch_fixed_collect(struct dispatch_fixed *f);
void dispatch_fixed_layer(struct dispatch_fixed *f, const struct placement *p, int layer);

#endif
