/* balance.h - the live balancer: who shares which rows, and which experts move, while tokens flow
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 *     balance_check, balance_place     before weights are read: is it possible, and where experts start
 *     balance_open, balance_measure    memory, staging, the planner's thread; what things cost on these
 * machines balance_lead                     rank 0, before a batch with rows is sent: what shall happen with
 * this step balance_begin                    all ranks, first thing of a step: a commit, a piece of a move
 *     balance_end                      all ranks, last thing of a step
 *     balance_close
 *
 * Rank 0 counts, plans and decides (engine/steer); the batch message says what moves, and all ranks do it
 * between the same two steps. Without the balancer all of this does nothing. */
#ifndef BALANCE_H
#define BALANCE_H

#include "engine/steer.h"
#include "eplb/replicas.h"

struct balance_options {
    bool on;
    int redundant; /* slots per layer over all ranks, beside one for each expert */
    enum replicas_policy policy;
    struct steer_options steer;
};

struct balance {
    struct balance_options options;
    struct grid *grid;
    struct experts *experts;   /* NULL: the balancer is off */
    struct meter *meter;       /* also without the balancer; NULL: no experts */
    struct lowering *lowering; /* likewise */
    const int *model_layer;    /* [expert layers] of them all, counted with the others; NULL: no experts */
    struct placement *placement;
    struct migrate migrate;
    struct replicas *replicas;
    struct replicas_cost cost;
    struct matrix probe;            /* rows on which experts are timed */
    struct steer steer;             /* rank 0 */
    int64_t moves_told, bytes_told; /* to the meter */
};

/* Do the options contradict the layout? STATUS_USAGE says what to do. */
enum status balance_check(const struct balance_options *o, int ranks, int expert_ranks);

/* Where experts start: as without the balancer, or with the redundant ones. */
enum status balance_place(const struct balance_options *o, struct arena *arena, const struct config *c,
                          int ranks, int expert_ranks, struct placement *out);

/* Experts that a rank can take in at a time; 0: none ever moves. */
int balance_staging(const struct balance_options *o);

/* Not collective; the weights need not be there yet. message_bytes: the most that the world's comm delivers
 * to a rank in one call. */
enum status balance_open(struct balance *b, struct arena *arena, const struct balance_options *o,
                         const struct config *c, struct weights *w, struct experts *e,
                         const struct weights_slot *slot, size_t message_bytes);
void balance_close(struct balance *b);

/* Collective, before the first step: times of this machine, equal on all ranks; rank 0 says in a line what is
 * balanced how. */
enum status balance_measure(struct balance *b);

/* What has been seen so far was no real work (a warm-up): figures and load start again. */
void balance_forget(struct balance *b);

enum status balance_lead(struct balance *b, struct batch *batch);
enum status balance_begin(struct balance *b, const struct batch *batch);
void balance_end(struct balance *b);

#endif
