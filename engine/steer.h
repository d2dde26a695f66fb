/* steer.h - rank 0's part of the balancer: it counts, plans, decides, and says what moves
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 *     steer_lead     before a batch is sent: commits what has arrived, begins what was decided
 *     steer_begin    the step begins: its counts will come
 *     steer_learn    the step is over
 *
 * A plan is made on a thread beside the steps, weighed by the gate, and then carried out group by group.
 * Nothing is planned while something moves. */
#ifndef STEER_H
#define STEER_H

#include "engine/batch.h"
#include "engine/experts.h"
#include "engine/migrate.h"
#include "engine/replan.h"
#include "eplb/gate.h"
#include "eplb/moves_group.h"

struct steer_options {
    int window;   /* batches of load that are kept */
    int interval; /* batches from plan to plan; 0: never */
    enum load_way load;
    int staging;
    bool force;               /* move something at every step, for tests */
    const int32_t *rank_node; /* [ranks], rising from 0; NULL: one node */
};

/* What can be told at the end. */
struct steer_figures {
    int64_t plans, accepted; /* plans made, and those worth their moves */
    double promised,
        kept; /* imbalance that the last accepted plan promised, and what came of it; 0: none yet */
    double promised_ms,
        kept_ms; /* gain of all accepted plans in the batches between them and the next plan */
};

struct steer {
    struct steer_options options;
    struct experts *experts;
    struct placement *placement;
    struct migrate *migrate;
    struct load *load;
    struct replan *replan;
    struct steer_figures figures;
    double bytes_per_ns; /* of moving, the best that was measured: waiting for a late rank is not its price */

    /* the accepted plan */
    struct moves_group group;
    struct placement next;
    struct move *list; /* [capacity] */
    bool *done;        /* [capacity] */
    int count, left, capacity;
    uint64_t forced;         /* plans by --eplb-force so far */
    enum gate_reason reason; /* of the last decision: a repeated one is no news */
    bool planning;           /* a plan is under way or waits to be taken */
    int64_t batches;         /* with rows, since the start */
    int64_t planned_at;      /* batches when the last plan began */
    int64_t moved_at;        /* and when experts last moved */

    /* how the present placement does; the meter's sums at these times */
    int64_t busiest_then, rows_then, batches_then;
    double before;   /* imbalance in the batches before the accepted plan was made */
    double expected; /* the part of it that the plan promised to leave */
    bool watches;    /* an accepted plan is in place, and its batches are being counted */
};

enum status steer_open(struct steer *s, struct arena *arena, const struct steer_options *o, struct experts *e,
                       struct placement *p, struct migrate *m);
/* Before the first step: the planner's thread. */
enum status steer_start(struct steer *s);
void steer_close(struct steer *s);

/* Load and figures start again; a plan under way goes on. */
void steer_forget(struct steer *s);

enum status steer_lead(struct steer *s, struct batch *batch);
void steer_begin(struct steer *s, const struct batch *batch);
void steer_learn(struct steer *s);

/* A move has failed: the rest of the plan is dropped. */
void steer_drop(struct steer *s);

/* "waiting", "planning", "moving layer 17" */
void steer_describe(const struct steer *s, char *text, size_t bytes);

#endif
