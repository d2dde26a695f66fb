/* trial.c - a workload run through the engine, and what it took
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/trial.h"

#include "comm/watch.h"
#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "engine/drive.h"

#include <string.h>

static const int64_t PROGRESS_NANOSECONDS = 10000000000; /* between two lines where no terminal is */
static const int64_t LONGEST_SLEEP = 1000000000;         /* then the other ranks get a sign of life */

static size_t arena_bytes(const struct trial *t)
{
    const struct workload *w = t->options.workload;
    int rounds = t->options.rounds;

    return drive_bytes(t->engine, 0) + timeline_bytes(rounds * w->count, rounds * w->output_tokens) +
           (size_t)rounds * sizeof(double);
}

static enum status open_front(struct trial *t)
{
    struct engine *e = t->engine;
    const struct workload *w = t->options.workload;
    int rounds = t->options.rounds;
    struct scheduler_limits limits = drive_limits(e, t->options.prefix_caching);

    TRY(arena_open(&t->arena, "requests", arena_bytes(t)));
    TRY(scheduler_open(&t->scheduler, &t->arena, &limits, NULL, NULL, 0));
    TRY(timeline_open(&t->timeline, &t->arena, rounds * w->count, rounds * w->output_tokens));
    TRY(arena_take_array(&t->arena, (size_t)rounds, sizeof *t->seconds, "times of rounds", &t->seconds));
    arena_seal(&t->arena);
    return STATUS_OK;
}

enum status trial_open(struct trial *t, struct engine *engine, const struct trial_options *options)
{
    *t = (struct trial){.engine = engine, .options = *options};
    if (engine->grid.rank == 0)
        TRY(open_front(t));
    arena_seal(&engine->arena);
    return STATUS_OK;
}

void trial_close(struct trial *t)
{
    arena_close(&t->arena);
    memset(t, 0, sizeof *t);
}

/* -- one round at rank 0 --- */

/* Requests that have arrived by now join while there is room; a request's time runs from its arrival. */
static enum status take_arrivals(struct trial *t, int requests, int tokens)
{
    const struct workload *w = t->options.workload;
    struct scheduler *s = &t->scheduler;

    while (t->next < requests && scheduler_has_room(s)) {
        const struct workload_prompt *p = &w->prompts[t->next];
        struct request_options options = {.sampling = t->options.sampling,
                                          .max_tokens = tokens > 0 && tokens < p->output ? tokens : p->output,
                                          .ignore_eos = true,
                                          .own_stream = true, /* rounds before draw none of its numbers */
                                          .stream = (uint64_t)t->next};
        int64_t arrived = t->start + w->arrivals[t->next];

        if (arrived > clock_now())
            return STATUS_OK;
        memcpy(scheduler_prompt(s).ids, w->ids + p->first, (size_t)p->input * sizeof *w->ids);
        TRY(scheduler_add(s, p->input, &options));
        TRY(timeline_arrive(&t->timeline, arrived));
        t->next++;
    }
    return STATUS_OK;
}

/* Puts the tokens that the step brought on the time line, and forgets requests that have finished, in order.
 */
static enum status take_tokens(void *context)
{
    struct trial *t = context;
    struct scheduler *s = &t->scheduler;
    int64_t now = clock_now();
    struct request *r;

    for (r = scheduler_oldest(s); r; r = r->newer) {
        int request = t->first + (int)(r->number - t->base);

        while (r->count - r->prompt > t->timeline.requests[request].tokens)
            TRY(timeline_token(&t->timeline, request, now));
    }
    while ((r = scheduler_oldest(s)) && r->state == REQUEST_FINISHED) {
        for (int i = r->prompt; i < r->count; i++)
            summary_hash(&t->summary, r->tokens[i]);
        scheduler_drop(s, r);
        t->done++;
    }
    return STATUS_OK;
}

/* Nothing runs: sleep until the next request arrives, or until the other ranks want a sign of life. */
static enum status idle(struct trial *t)
{
    const struct workload *w = t->options.workload;
    int64_t left = t->next < w->count ? t->start + w->arrivals[t->next] - clock_now() : 0;

    watch_enter(WATCH_IDLE, -1);
    if (left > 0)
        clock_sleep(left < LONGEST_SLEEP ? left : LONGEST_SLEEP);
    return drive_tell(t->engine, BATCH_IDLE);
}

static void show_progress(struct trial *t, const char *what)
{
    int64_t now = clock_now();

    log_progress(0, "%s: %lld of %lld requests", what, (long long)t->done, (long long)t->wanted);
    if (now - t->shown < PROGRESS_NANOSECONDS)
        return;
    t->shown = now;
    log_line(LOG_INFO, "%s: %lld of %lld requests, %.1f generated token/s so far", what, (long long)t->done,
             (long long)t->wanted,
             t->summary.seconds > 0 ? (double)t->scheduler.generated_tokens / t->summary.seconds : 0);
}

static enum status lead_round(struct trial *t, const char *what, int requests, int tokens)
{
    struct scheduler *s = &t->scheduler;
    struct batch *batch = &t->engine->batch;

    t->base = s->added;
    t->first = t->timeline.count;
    t->next = 0;
    t->start = clock_now();
    while (t->next < requests || !scheduler_idle(s)) {
        if (t->options.stop && *t->options.stop)
            return FAIL(STATUS_UNAVAILABLE, "asked to stop by a signal; %lld of %lld requests were finished",
                        (long long)t->done, (long long)t->wanted);
        watch_enter(WATCH_BATCH, -1);
        TRY(take_arrivals(t, requests, tokens));
        batch_clear(batch);
        TRY(scheduler_fill(s, batch));
        TRY(batch->row_count > 0 ? drive_step(t->engine, s, &t->summary, take_tokens, t) : idle(t));
        show_progress(t, what);
    }
    return STATUS_OK;
}

/* -- the run --- */

static enum status lead(struct trial *t, const char *what, int rounds, int requests, int tokens)
{
    struct scheduler *s = &t->scheduler;

    timeline_clear(&t->timeline);
    s->prompt_tokens = s->generated_tokens = s->cached_tokens = s->recomputed_tokens = s->preemptions = 0;
    s->drafts = s->draft_tokens = s->accepted_tokens = 0;
    t->shown = clock_now();
    t->done = 0;
    t->wanted = (int64_t)rounds * requests;
    for (int round = 0; round < rounds; round++) {
        TRY(lead_round(t, what, requests, tokens));
        t->seconds[round] = (double)(clock_now() - t->start) * 1e-9;
    }
    log_progress(1, "%s: %lld requests", what, (long long)t->done);
    return drive_tell(t->engine, BATCH_STOP);
}

enum status trial_run(struct trial *t, const char *what, int rounds, int requests, int tokens)
{
    if (rounds < 1 || rounds > t->options.rounds)
        return FAIL(STATUS_BUG, "%d rounds, there is room for %d", rounds, t->options.rounds);
    t->summary = (struct summary){.requests = (int64_t)rounds * requests};
    balance_forget(&t->engine->balance); /* a warm-up is no load */
    watch_clear_times();
    TRY(t->engine->grid.rank == 0 ? lead(t, what, rounds, requests, tokens) : drive_follow(t->engine));
    watch_enter(WATCH_END, -1);
    return STATUS_OK;
}

enum status trial_finish(struct trial *t)
{
    return drive_finish(t->engine, &t->scheduler, &t->summary);
}
