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
 *   - for each layer: dispatch_fixed_send, the experts multiply, dispatch_fixed_return
 *   - dispatch_fixed_collect  what every rank sent to every slot, of all layers, in one exchange
 *
 * An expert with several slots shares its rows among them by a hash of their numbers: shares as even as those
 * of flow would need all counts first. Results are the same bytes as by dispatch.h. */
#ifndef DISPATCH_FIXED_H
#define DISPATCH_FIXED_H

#include "comm/dispatch.h"

struct dispatch_fixed {
    struct dispatch *dispatch; /* whose grid, sizes and arrays are used */
    bool possible;             /* at all, with this backend and these sizes */
    int layers, slots, max_local;
    int most; /* places that arrive at a rank, at most */

    /* of this step */
    int room;   /* places from each rank to each; 0: the step goes the other way */
    int rows;   /* of the whole batch */
    int number; /* in the batch of this rank's first row */

    uint64_t version;    /* of the placement that the tables hold; 0: none, else version + 1 */
    int32_t *tables;     /* [layers, E + 1 + slots] backend: first, slot */
    int32_t *rank_first; /* [P + 1] backend */
    int32_t *built;      /* one of them on its way */
    struct matrix send;  /* [most, deal_width(D)] */
    int32_t *counts;     /* [layers, slots] backend: rows of this rank for each slot */
    int32_t *mine;       /* the same on the host */
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
                                const struct placement *p, int most);

/* most_own: rows of the rank that has most; rows: of the batch. The same on all ranks but for `number`, that
 * of this rank's first row. `may` false: this step goes the other way whatever its size. */
enum status dispatch_fixed_begin(struct dispatch_fixed *f, const struct placement *p, int rows, int most_own,
                                 int number, bool may);

/* expert, scale [rows, k] backend memory, scale NULL: 1. *arrivals [places, D] is memory of the comm; those
 * that are not empty are in dispatch's backend_order and backend_first. */
enum status dispatch_fixed_send(struct dispatch_fixed *f, int layer, struct matrix x, const int32_t *expert,
                                const float *scale, struct matrix *arrivals);

/* results [places, D] without gaps; *returned in which dispatch's backend_place counts is memory of the comm.
 */
enum status dispatch_fixed_return(struct dispatch_fixed *f, struct matrix results, struct matrix *returned);

/* What was sent in all layers of the step comes to the host of all ranks. Then, for each layer, the counts as
 * dispatch has them after dispatch_plan: counts and wanted. */
enum status dispatch_fixed_collect(struct dispatch_fixed *f);
void dispatch_fixed_layer(struct dispatch_fixed *f, const struct placement *p, int layer);

#endif
