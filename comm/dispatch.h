/* dispatch.h - rows to the ranks that hold their experts, results back
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * One life per step and layer, all collective over the world:
 *
 *   - dispatch_plan      gathers how many rows of every rank want each expert; all ranks share them out over
 *                        the replicas alike, so where every row goes and comes from is now known to all
 *   - dispatch_send      rows begin to travel
 *   - dispatch_arrive    they are here, grouped by source; order and first group them by local slot
 *   - (the experts multiply arrivals into results, under the same row numbers)
 *   - dispatch_return    results begin to travel back
 *   - dispatch_returned  place says which returned row belongs to a choice of a row
 *
 * A step's rows are one cohort, or two halves of each rank's rows, planned together: their counts are one
 * message, and what the replicas take of the whole layer is shared out over the halves, to each its part of
 * every slot's rows. Of two, rows of the one travel while experts multiply the other's: send 0, send 1,
 * arrive 0, return 0, arrive 1, return 1, returned 0, returned 1; send 1 may come after arrive 0. No more
 * than two calls of the comm then lie between arrivals and what reads them.
 *
 * Rows go straight to the ranks that want them, or, after dispatch_by_nodes, by comm/node_once in every layer
 * in which rows leave their node. Only rows that the router sent travel. What was gathered stays readable for
 * the balancer: collecting load costs no message. */
#ifndef DISPATCH_H
#define DISPATCH_H

#include "comm/beside.h"
#include "comm/node_once.h"
#include "engine/base/arena.h"
#include "eplb/placement.h"
#include "eplb/replicas.h"
#include "kernels/kernels.h"

/* auto: once to each node where ranks stand on several nodes and a row has several experts; by stores:
 * direct, and what goes in fixed places (comm/dispatch_fixed) is stored straight into the memory of other
 * devices */
enum dispatch_way { DISPATCH_AUTO, DISPATCH_DIRECT, DISPATCH_NODE_ONCE, DISPATCH_LSA };

enum { DISPATCH_COHORTS = 2 };

/* Rows of a step that travel together. */
struct dispatch_cohort {
    struct range own;              /* of this rank's rows */
    const int32_t *counts;         /* [P, slots] rows from each rank to each slot */
    int sent, arriving;            /* rows this rank sends, that come to it */
    int first_sent, first_arrival; /* their places among those of the step, where it keeps them */
    int32_t *place;                /* [own rows, k] backend memory: row of the returned matrix */
    struct beside travels;         /* what was begun last */
    struct matrix arrivals;        /* of rows that went once to each node, where those are kept */
};

struct dispatch {
    struct grid *grid;
    struct kernels *kernels;
    int width;        /* D */
    int max_rows;     /* of a batch, over all ranks */
    int max_own;      /* of them, rows that one rank can own */
    int choices;      /* most k */
    int max_arrivals; /* rows that can arrive at this rank in a step */
    int experts;      /* E */
    int local_slots;  /* of this rank */

    /* How rows are shared by replicas, set once all is open; replicas NULL: each rank takes its own, or the
     * nearest */
    struct replicas *replicas;
    enum replicas_policy policy;
    const struct replicas_cost *cost;

    const int32_t *rank_node; /* [P] node of each rank; NULL: all on one */
    struct node_once *once;   /* NULL: rows go straight */

    /* for the next dispatch_plan */
    int32_t note; /* of this rank: travels with the counts */
    int cohorts;  /* 1 or 2, the same on all ranks */
    bool beside;  /* rows travel beside what the backend does meanwhile, where the comm can; ... */
    bool ahead;   /* ... dispatch_send too, beside what was queued since the choices were fetched */

    /* after dispatch_plan, until the next one */
    int32_t *wanted; /* [P, E] rows of each rank for each expert */
    int32_t *notes;  /* [P] */
    int32_t *counts; /* [P, slots] rows from each rank to each slot */
    int32_t *place;  /* [T, k] row of its cohort's returned matrix for (row, choice) */
    struct dispatch_cohort cohort[DISPATCH_COHORTS];

    /* of all ranks: rows that would go to another node straight, and, after dispatch_send, of those sent so
     * far, those that went */
    int64_t crossed_direct, crossed;

    /* after dispatch_arrive, until the next one */
    int32_t *order; /* [arriving] arrival rows grouped by local slot */
    int32_t *first; /* [local slots + 1] */

    /* the same in the backend's memory, for the experts and for combine; one memory where that is the host's
     */
    int32_t *backend_place, *backend_order, *backend_first;

    struct dispatch_memory *memory; /* private buffers */
};

/* max_rows is that of a whole batch. `placement` gives the slots per layer and rank that later placements do
 * not exceed. Each choice of a row is another slot, so at most min(choices, slots of a rank) rows of the wire
 * belong to one row of the batch at any rank. */
enum status dispatch_open(struct dispatch *d, struct arena *arena, struct grid *grid, struct kernels *kernels,
                          const struct placement *placement, int width, int max_rows, int choices);

/* Room in backend_order for `arrivals` rows, where that is more than max_arrivals; before the first step. */
enum status dispatch_widen(struct dispatch *d, struct arena *arena, int arrivals);
void dispatch_close(struct dispatch *d);

/* Does a way of these words mean node_once where ranks stand so? */
bool dispatch_wants_nodes(enum dispatch_way way, const int32_t *rank_node, int choices);

/* From now on rows go once to each node; rank_node was set before. `placement` as for dispatch_open. */
enum status dispatch_by_nodes(struct dispatch *d, struct arena *arena, const struct placement *placement);

/* Rows of `counts` [P, slots] whose slot is on another node than they are. */
int64_t dispatch_crossing(const struct dispatch *d, const struct placement *placement, const int32_t *counts);

/* expert [rows, k], those of a row all different. */
enum status dispatch_plan(struct dispatch *d, const struct placement *placement, int layer,
                          const int32_t *expert, int rows, int choices);

/* All rows x [T, D] of this rank, of which those of the cohort travel; scale [T, k] multiplies the row that
 * travels for a choice (NULL: 1). */
enum status dispatch_send(struct dispatch *d, int cohort, struct matrix x, const float *scale);

/* *arrivals [arriving, D] is memory of the comm, or stays until the next call. */
enum status dispatch_arrive(struct dispatch *d, int cohort, struct matrix *arrivals);

/* results [arriving, D] without gaps between rows, in the order of the arrivals, stay until they have
 * returned; *returned [sent, D] is memory of the comm. */
enum status dispatch_return(struct dispatch *d, int cohort, struct matrix results);
enum status dispatch_returned(struct dispatch *d, int cohort, struct matrix *returned);

#endif
