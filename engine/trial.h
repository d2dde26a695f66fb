/* trial.h - a workload run through the engine, and what it took
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Requests go the way of `generate` - scheduler, batch, model, sampler - but no text is made of their tokens,
 * no token ends them before their length, and no prefix is taken from the cache unless that is asked for. The
 * tokens depend on workload, sampling and seed alone, so equal settings give an equal hash at any speed, rank
 * count and arrival.
 *
 *     trial_open
 *     trial_run       as often as needed, say once to warm up; it forgets what the last one measured
 *     trial_finish    the facts of the closing line
 *     trial_close */
#ifndef TRIAL_H
#define TRIAL_H

#include "engine/engine.h"
#include "engine/scheduler.h"
#include "engine/summary.h"
#include "engine/timeline.h"
#include "engine/workload.h"

#include <signal.h>

struct trial_options {
    const struct workload *workload; /* rank 0 */
    struct sampling sampling;
    bool prefix_caching;
    int rounds;                        /* the most that trial_run will be asked for */
    const volatile sig_atomic_t *stop; /* becomes non-zero when the run shall end; NULL: never */
};

struct trial {
    struct engine *engine;
    struct trial_options options;
    struct summary summary; /* of the last trial_run */

    /* rank 0 */
    struct arena arena;
    struct scheduler scheduler;
    struct timeline timeline; /* of the last trial_run, over all its rounds */
    double *seconds;          /* [rounds] from the first arrival of each to its last token */
    int64_t base;             /* number of the first request of the round in the scheduler */
    int first;                /* of the same in the time line */
    int next;                 /* request of the round to arrive next */
    int64_t start;            /* of the round */
    int64_t shown;            /* when progress was told last */
    int64_t done, wanted;     /* requests, over all rounds */
};

/* Rank 0 takes memory. Not collective. */
enum status trial_open(struct trial *t, struct engine *engine, const struct trial_options *options);

/* `rounds` times, one after the other: the first `requests` of the workload, answers of up to `tokens` tokens
 * (0: the workload's own). `what` is for progress. Collective. */
enum status trial_run(struct trial *t, const char *what, int rounds, int requests, int tokens);

/* Fills the summary and writes the closing line. Collective. */
enum status trial_finish(struct trial *t);

/* Takes a zeroed one. */
void trial_close(struct trial *t);

#endif
