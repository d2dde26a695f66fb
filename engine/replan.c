/* replan.c - plans better placements beside the steps, on a thread of rank 0
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/replan.h"

#include "engine/base/log.h"
#include "eplb/flow.h"
#include "eplb/improve.h"
#include "eplb/moves.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
    NICE = 10,         /* steps come first where processors are scarce */
    TOLERANCE = 10000, /* a layer within 1 % of the mean is left alone */
};

enum replan_state { REPLAN_IDLE, REPLAN_WORKS, REPLAN_DONE, REPLAN_ENDS };

struct scenarios {
    int64_t *rows; /* [LOAD_SCENARIOS, layers, experts] */
    int count;
    int batches;
};

struct replan {
    struct replan_options options;
    struct improve *improve;
    struct flow *flow;
    struct placement present, next;
    int64_t *quota;        /* [slots] */
    int64_t *expert_bytes; /* [layers] */
    struct scenarios made, judged;
    struct gate_case outcome;

    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    _Atomic int state;
    bool running;
};

/* -- the thread -- */

static enum status busiest_rows(struct replan *r, const struct placement *p, int64_t *sum)
{
    *sum = 0;
    for (int i = 0; i < r->judged.count; i++) {
        for (int layer = 0; layer < p->layers; layer++) {
            const int64_t *rows = r->judged.rows + ((ptrdiff_t)i * p->layers + layer) * p->experts;
            int64_t most;

            TRY(flow_split(r->flow, p->expert + (ptrdiff_t)layer * p->slots, p->rank_first, rows, r->quota,
                           NULL, &most));
            *sum += most;
        }
    }
    return STATUS_OK;
}

static enum status judge(struct replan *r, struct gate_case *c)
{
    const struct placement *p = &r->present;
    ptrdiff_t cells = (ptrdiff_t)r->judged.count * p->layers * p->experts;
    int64_t all = 0;

    TRY(busiest_rows(r, &r->present, &c->rows_now));
    TRY(busiest_rows(r, &r->next, &c->rows_planned));
    for (ptrdiff_t i = 0; i < cells; i++)
        all += r->judged.rows[i];
    c->rows_mean = all / p->ranks;
    c->batches = r->judged.batches;
    return STATUS_OK;
}

static enum status plan(struct replan *r, struct gate_case *c)
{
    const struct placement *p = &r->present;
    struct improve_options options = {.most_bytes = r->options.most_bytes,
                                      .expert_bytes = r->expert_bytes,
                                      .share = r->options.share,
                                      .most_layer_moves = r->options.layer_moves,
                                      .tolerance = TOLERANCE};

    *c = (struct gate_case){0};
    if (r->made.count == 0 || r->judged.count == 0)
        return STATUS_OK;
    TRY(improve_plan(r->improve, p, r->made.rows, r->made.count, &options, &r->next, NULL));
    TRY(judge(r, c));
    for (int i = 0; i < p->layers * p->slots; i++)
        c->moves += r->next.expert[i] != p->expert[i];
    c->bytes = moves_sent(p, &r->next, r->options.share) * r->options.expert_bytes;
    return STATUS_OK;
}

static void *work(void *context)
{
    struct replan *r = context;

    /* Of this thread alone on Linux. Without the right to it, the plan merely competes with the steps. */
    if (setpriority(PRIO_PROCESS, (id_t)gettid(), NICE) != 0)
        log_line(LOG_DEBUG, "the planner runs at the priority of the steps");
    pthread_mutex_lock(&r->lock);
    while (r->state != REPLAN_ENDS) {
        if (r->state != REPLAN_WORKS) {
            pthread_cond_wait(&r->changed, &r->lock);
            continue;
        }
        pthread_mutex_unlock(&r->lock);
        if (plan(r, &r->outcome) != STATUS_OK) {
            log_line(LOG_WARN, "the balancer: no plan could be made: %s", status_text());
            r->outcome = (struct gate_case){0};
        }
        pthread_mutex_lock(&r->lock);
        if (r->state == REPLAN_WORKS)
            r->state = REPLAN_DONE;
    }
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

/* -- the life of it -- */

static enum status take_scenarios(struct scenarios *s, struct arena *arena, const struct placement *like)
{
    size_t cells = (size_t)like->layers * (size_t)like->experts;

    return arena_take_array(arena, LOAD_SCENARIOS * cells, sizeof *s->rows, "loads to plan from", &s->rows);
}

static enum status take_memory(struct replan *r, struct arena *arena, const struct placement *like)
{
    struct plan_shape shape = {.layers = like->layers,
                               .experts = like->experts,
                               .groups = 1,
                               .ranks = like->ranks,
                               .rank_first = like->rank_first,
                               .rank_node = r->options.rank_node};

    TRY(improve_open(&r->improve, arena, &shape, LOAD_SCENARIOS, r->options.layer_moves));
    TRY(flow_open(&r->flow, arena, like->experts, like->slots, like->ranks));
    TRY(placement_like(&r->present, arena, like));
    TRY(placement_like(&r->next, arena, like));
    TRY(arena_take_array(arena, (size_t)like->slots, sizeof *r->quota, "rows of slots", &r->quota));
    TRY(arena_take_array(arena, (size_t)like->layers, sizeof *r->expert_bytes, "sizes of experts",
                         &r->expert_bytes));
    for (int layer = 0; layer < like->layers; layer++)
        r->expert_bytes[layer] = r->options.expert_bytes;
    TRY(take_scenarios(&r->made, arena, like));
    return take_scenarios(&r->judged, arena, like);
}

enum status replan_open(struct replan **out, struct arena *arena, const struct placement *like,
                        const struct replan_options *options)
{
    struct replan *r;

    TRY(arena_take(arena, sizeof *r, "the planner", &r));
    *r = (struct replan){.options = *options};
    TRY(take_memory(r, arena, like));
    *out = r;
    return STATUS_OK;
}

enum status replan_begin(struct replan *r)
{
    sigset_t all, before;
    int failed;

    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->changed, NULL);
    sigfillset(&all); /* signals are for the main thread */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    failed = pthread_create(&r->thread, NULL, work, r);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed)
        return FAIL(STATUS_NO_MEMORY, "no thread for the planner: %s", strerror(failed));
    r->running = true;
    return STATUS_OK;
}

static void tell(struct replan *r, enum replan_state state)
{
    pthread_mutex_lock(&r->lock);
    r->state = (int)state;
    pthread_cond_signal(&r->changed);
    pthread_mutex_unlock(&r->lock);
}

void replan_close(struct replan *r)
{
    if (!r || !r->running)
        return;
    tell(r, REPLAN_ENDS);
    pthread_join(r->thread, NULL);
    r->running = false;
}

void replan_start(struct replan *r, const struct placement *present, const struct load *load)
{
    memcpy(r->present.expert, present->expert,
           (size_t)present->layers * (size_t)present->slots * sizeof *present->expert);
    if (placement_index(&r->present) != STATUS_OK)
        return; /* it serves, so it is legal */
    load_scenarios(load, r->options.load, 1, r->made.rows, &r->made.count, &r->made.batches);
    load_scenarios(load, r->options.load == LOAD_LAST ? LOAD_LAST : LOAD_WINDOW, 0, r->judged.rows,
                   &r->judged.count, &r->judged.batches);
    tell(r, REPLAN_WORKS);
}

bool replan_works(const struct replan *r)
{
    return atomic_load(&r->state) == REPLAN_WORKS;
}

bool replan_take(struct replan *r, const struct placement **next, struct gate_case *c)
{
    if (atomic_load(&r->state) != REPLAN_DONE)
        return false;
    tell(r, REPLAN_IDLE);
    c->moves = r->outcome.moves;
    c->bytes = r->outcome.bytes;
    c->batches = r->outcome.batches;
    c->rows_now = r->outcome.rows_now;
    c->rows_planned = r->outcome.rows_planned;
    c->rows_mean = r->outcome.rows_mean;
    *next = &r->next;
    return true;
}
