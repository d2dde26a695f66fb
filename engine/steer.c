/* steer.c - rank 0's part of the balancer: it counts, plans, decides, and says what moves
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/steer.h"

#include "engine/base/log.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
    LAYER_MOVES = 8,   /* of one plan */
    SHARED_MOVES = 16, /* likewise, where some of them carry no bytes */
    HORIZON = 20,      /* a plan shall pay within so many windows, or intervals where those are longer */
    FORCED_LAYERS = 2, /* in which --eplb-force moves something at a time */
    FORCED_TRIES = 32,
};

enum status steer_open(struct steer *s, struct arena *arena, const struct steer_options *o, struct experts *e,
                       struct placement *p, struct migrate *m)
{
    int64_t expert_bytes = (int64_t)(m->slot.gate_up + m->slot.down);
    const int32_t *share = m->grid->share ? m->grid->share->node : NULL;
    struct replan_options replan = {.rank_node = o->rank_node,
                                    .share = share,
                                    .load = o->load,
                                    .expert_bytes = expert_bytes,
                                    .layer_moves = share ? SHARED_MOVES : LAYER_MOVES,
                                    .most_bytes = expert_bytes * LAYER_MOVES * p->layers};

    *s = (struct steer){.options = *o, .experts = e, .placement = p, .migrate = m};
    s->capacity = p->layers * replan.layer_moves;
    TRY(load_open(&s->load, arena, p->layers, p->experts, o->window));
    TRY(placement_like(&s->next, arena, p));
    TRY(arena_take_array(arena, (size_t)s->capacity, sizeof *s->list, "moves of a plan", &s->list));
    TRY(arena_take_array(arena, (size_t)s->capacity, sizeof *s->done, "moves of a plan", &s->done));
    TRY(moves_group_open(&s->group, arena, p, o->staging, BATCH_MOVES, s->capacity));
    s->group.rank_node = o->rank_node;
    s->group.share = share;
    if (o->interval > 0 && !o->force)
        TRY(replan_open(&s->replan, arena, p, &replan));
    e->load = s->load;
    return STATUS_OK;
}

enum status steer_start(struct steer *s)
{
    return s->replan ? replan_begin(s->replan) : STATUS_OK;
}

void steer_close(struct steer *s)
{
    replan_close(s->replan);
    memset(s, 0, sizeof *s);
}

/* -- the accepted plan -- */

/* `next` becomes what is moved to. */
static enum status accept(struct steer *s)
{
    TRY(moves_list(s->placement, &s->next, s->options.rank_node, NULL, s->list, s->capacity, &s->count));
    memset(s->done, 0, (size_t)s->count * sizeof *s->done);
    s->left = s->count;
    return STATUS_OK;
}

void steer_drop(struct steer *s)
{
    s->count = 0;
    s->left = 0;
}

static void begin_group(struct steer *s, struct batch *batch)
{
    struct move group[BATCH_MOVES];
    int picked, given_up;

    moves_group_next(&s->group, s->placement, s->list, s->done, s->count, group, &picked, &given_up);
    if (given_up > 0)
        log_line(LOG_WARN,
                 "the balancer: %d moves need more than --eplb-staging %d experts on a rank and are left out",
                 given_up, s->options.staging);
    for (int i = 0; i < picked; i++)
        batch->moves[i] = (struct batch_move){.layer = group[i].layer,
                                              .slot = group[i].slot,
                                              .expert = group[i].expert,
                                              .source = group[i].source};
    batch->move_count = picked;
    s->left = picked > 0 ? s->left - picked - given_up : 0;
}

/* -- deciding -- */

/* Imbalance of the steps since the meter was last looked at. */
static double imbalance_since(const struct steer *s)
{
    const struct meter *m = &s->experts->meter;
    int64_t rows = m->all_rows - s->rows_then;

    return rows > 0 ? (double)(m->all_busiest - s->busiest_then) * m->ranks / (double)rows : 1;
}

static void look_again(struct steer *s)
{
    s->busiest_then = s->experts->meter.all_busiest;
    s->rows_then = s->experts->meter.all_rows;
    s->batches_then = s->batches;
}

/* What the last accepted plan has brought, in the steps from its last move to now. */
static void settle_accounts(struct steer *s)
{
    const struct meter *m = &s->experts->meter;
    double mean = (double)(m->all_rows - s->rows_then) / m->ranks; /* rows of a rank in those steps */
    double ms = mean * meter_row_ns(m) * 1e-6;

    if (!s->watches || s->batches == s->batches_then)
        return;
    s->watches = false;
    s->figures.kept = imbalance_since(s);
    s->figures.promised_ms += (s->before - s->figures.promised) * ms;
    s->figures.kept_ms += (s->before - s->figures.kept) * ms;
    log_line(LOG_INFO,
             "balancer: the last plan promised imbalance %.3f; it was %.3f before and %.3f in %lld batches "
             "since",
             s->figures.promised, s->before, s->figures.kept, (long long)(s->batches - s->batches_then));
}

static enum status decide(struct steer *s, const struct placement *next, struct gate_case *c)
{
    int longer = s->options.window > s->options.interval ? s->options.window : s->options.interval;
    struct gate_decision d;
    char text[320];

    c->row_ns = meter_row_ns(&s->experts->meter);
    c->horizon = (double)longer * HORIZON;
    c->bytes_per_ns = s->bytes_per_ns;
    c->since_commit = (int)(s->batches - s->moved_at);
    c->pause = s->moved_at > 0 ? s->options.interval : 0;
    gate_decide(c, &d);
    gate_text(c, &d, text, sizeof text);
    log_line(d.reason == GATE_GO || d.reason != s->reason ? LOG_INFO : LOG_DEBUG, "balancer, batch %lld: %s",
             (long long)s->batches, text);
    s->reason = d.reason;
    s->figures.plans++;
    if (d.reason != GATE_GO)
        return STATUS_OK;
    s->figures.accepted++;
    /* The plan speaks of batches added up; single ones are less even, before as after. 1 is the best there
     * is. */
    s->figures.promised = fmax(1, s->before * d.planned / d.now);
    memcpy(s->next.expert, next->expert, (size_t)next->layers * (size_t)next->slots * sizeof *next->expert);
    TRY(placement_index(&s->next));
    return accept(s);
}

/* -- moving for the sake of moving -- */

static uint64_t draw(struct steer *s)
{
    uint64_t x = ++s->forced * 0x9e3779b97f4a7c15u;

    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    return x ^ (x >> 27);
}

static bool holds(const struct placement *p, int layer, int rank, int expert)
{
    for (int s = p->rank_first[rank]; s < p->rank_first[rank + 1]; s++)
        if (p->expert[(ptrdiff_t)layer * p->slots + s] == expert)
            return true;
    return false;
}

/* Two slots change places, or one of a replicated expert gets the other's; false: not with these slots. */
static bool force_slots(struct placement *p, int layer, int a, int b, bool copy)
{
    int32_t *expert = p->expert + (ptrdiff_t)layer * p->slots;
    const int32_t *first = p->first + (ptrdiff_t)layer * (p->experts + 1);
    int rank_a = placement_rank(p, a), rank_b = placement_rank(p, b);
    int had = expert[a];

    if (rank_a == rank_b || expert[b] < 0 || had == expert[b] || holds(p, layer, rank_a, expert[b]))
        return false;
    if (had < 0 || (copy && first[had + 1] - first[had] > 1)) {
        expert[a] = expert[b];
        return true;
    }
    if (holds(p, layer, rank_b, had))
        return false;
    expert[a] = expert[b];
    expert[b] = had;
    return true;
}

static enum status force(struct steer *s)
{
    struct placement *p = &s->next;

    memcpy(p->expert, s->placement->expert, (size_t)p->layers * (size_t)p->slots * sizeof *p->expert);
    TRY(placement_index(p));
    for (int i = 0; i < FORCED_LAYERS; i++) {
        int layer = (int)(draw(s) % (uint64_t)p->layers);
        bool changed = false;

        for (int tries = 0; !changed && tries < FORCED_TRIES; tries++)
            changed = force_slots(p, layer, (int)(draw(s) % (uint64_t)p->slots),
                                  (int)(draw(s) % (uint64_t)p->slots), draw(s) % 2 == 0);
        TRY(placement_index(p));
    }
    return accept(s);
}

void steer_forget(struct steer *s)
{
    load_clear(s->load);
    look_again(s);
    s->watches = false;
    s->planned_at = s->batches;
}

/* -- steps -- */

enum status steer_lead(struct steer *s, struct batch *batch)
{
    const struct placement *next;
    struct gate_case c;

    if (s->migrate->state == MIGRATE_READY) {
        TRY(migrate_commit(s->migrate));
        s->moved_at = s->batches;
        if (s->left == 0 && !s->options.force) {
            look_again(s);
            s->watches = true;
        }
    }
    if (s->migrate->state == MIGRATE_IDLE) {
        if (s->planning && replan_take(s->replan, &next, &c)) {
            s->planning = false;
            TRY(decide(s, next, &c));
        }
        if (s->options.force && s->left == 0)
            TRY(force(s));
        if (s->left > 0)
            begin_group(s, batch);
    }
    batch->placement_version = s->placement->version;
    return STATUS_OK;
}

void steer_begin(struct steer *s, const struct batch *batch)
{
    load_begin(s->load, batch_prompts(batch) ? LOAD_PREFILL : LOAD_DECODE);
}

void steer_learn(struct steer *s)
{
    s->batches++;
    if (s->migrate->rate > s->bytes_per_ns)
        s->bytes_per_ns = s->migrate->rate;
    if (!s->replan || s->planning || s->left > 0 || s->migrate->state != MIGRATE_IDLE ||
        s->batches - s->planned_at < s->options.interval)
        return;
    settle_accounts(s);
    s->before = imbalance_since(s);
    look_again(s);
    s->planned_at = s->batches;
    s->planning = true;
    replan_start(s->replan, s->placement, s->load);
}

void steer_describe(const struct steer *s, char *text, size_t bytes)
{
    if (s->migrate->state != MIGRATE_IDLE)
        snprintf(text, bytes, "moving layer %d", s->migrate->model_layer[s->migrate->moves[0].layer]);
    else if (s->planning)
        snprintf(text, bytes, "planning");
    else
        snprintf(text, bytes, "%s", s->left > 0 ? "moving" : s->replan ? "waiting" : "idle");
}
