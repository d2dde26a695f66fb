/* experts.c - the expert block of a layer: route, dispatch, multiply, combine
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/experts.h"

#include "comm/watch.h"
#include "engine/base/clock.h"

enum { CHOICE_BYTES = sizeof(int32_t) + sizeof(float) };

/* Where the router writes, and where the host reads it: weights right behind the experts, so that both come
 * in one copy. */
static enum status take_choices(struct experts *e, struct arena *arena, struct kernels *k, size_t choices)
{
    void *room;

    TRY(arena_take(arena, choices * CHOICE_BYTES, "choices", &room));
    e->chosen = room;
    e->factor = (float *)room + choices;
    if (k->apart)
        TRY(k->alloc(k, choices * CHOICE_BYTES, "choices", &room));
    e->expert = room;
    e->weight = (float *)room + choices;
    return STATUS_OK;
}

static enum status open_nodes(struct experts *e, struct arena *arena, const struct experts_ways *ways)
{
    e->dispatch.rank_node = ways->rank_node;
    if (!dispatch_wants_nodes(ways->dispatch, ways->rank_node, e->config->choices))
        return STATUS_OK;
    return dispatch_by_nodes(&e->dispatch, arena, e->placement);
}

enum status experts_open(struct experts *e, struct arena *arena, const struct config *c,
                         const struct weights *w, struct placement *p, const struct step *s,
                         const struct experts_ways *ways)
{
    int own = grid_rows(s->grid, s->max_rows, 0).count;
    size_t choices = (size_t)own * (size_t)c->choices;
    int arrivals, fixed = 0;

    *e = (struct experts){
        .config = c, .weights = w, .placement = p, .halves = ways->halves && s->grid->ranks > 1};
    TRY(take_choices(e, arena, s->kernels, choices));
    TRY(kernels_matrix(s->kernels, own, c->experts, "router logits", &e->logits));
    TRY(dispatch_open(&e->dispatch, arena, s->grid, s->kernels, p, c->width, s->max_rows, c->choices));
    e->dispatch.beside = s->grid->ranks > 1 && (e->halves || c->shared_width > 0);
    TRY(open_nodes(e, arena, ways));
    TRY(meter_open(&e->meter, arena, c->expert_layers, s->grid->ranks));
    if (!e->dispatch.once || ways->dispatch != DISPATCH_NODE_ONCE)
        fixed = dispatch_fixed_most(&e->dispatch, p, ways->fixed);
    TRY(dispatch_fixed_open(&e->fixed, arena, &e->dispatch, p, fixed, e->halves));
    TRY(dispatch_widen(&e->dispatch, arena, fixed));
    arrivals = fixed > e->dispatch.max_arrivals ? fixed : e->dispatch.max_arrivals;
    TRY(step_matrix(s->kernels, arrivals, c->width, "results of experts", &e->results));
    TRY(kernels_matrix(s->kernels, arrivals, 2 * c->expert_width, "gate and up of experts", &e->scratch));
    if (c->shared_width > 0)
        TRY(block_open(&e->shared, s, c->width, c->shared_width));
    return STATUS_OK;
}

void experts_close(struct experts *e)
{
    dispatch_close(&e->dispatch);
}

/* Of this step. */
static int cohorts_of(const struct experts *e)
{
    return e->fixed.room > 0 ? e->fixed.cohorts : e->dispatch.cohorts;
}

enum status experts_begin(struct experts *e, const struct step *s, const struct batch *b)
{
    const struct dispatch *d = &e->dispatch;
    bool counts = d->replicas && (d->policy == REPLICAS_FLOW || d->policy == REPLICAS_FEWEST);
    bool routes = e->trace && e->trace->routes; /* what each row chose comes to the host */
    int most = 0, cohorts;

    lowering_begin(&e->lowering, b);
    for (int group = 0; group < s->grid->groups; group++) {
        int own = grid_rows(s->grid, batch_group_rows(b, group).count, 0).count;

        most = own > most ? own : most;
    }
    TRY(dispatch_fixed_begin(&e->fixed, e->placement, b->row_count, most, s->own.count,
                             s->first + s->own.first, !counts && !routes && !lowering_counts(&e->lowering)));
    e->dispatch.cohorts = e->halves && most >= DISPATCH_COHORTS ? DISPATCH_COHORTS : 1;
    cohorts = cohorts_of(e);
    e->halved += cohorts > 1;
    e->halved_planned += cohorts > 1 && e->fixed.room == 0;
    return STATUS_OK;
}

/* All ranks' counts of the layer are here. */
static void tell_rows(struct experts *e, int layer)
{
    if (e->load)
        load_add(e->load, layer, e->dispatch.wanted, e->placement->ranks);
    trace_layer(e->trace, layer, e->dispatch.wanted, e->chosen, e->own);
}

enum status experts_end(struct experts *e)
{
    lowering_end(&e->lowering);
    if (e->fixed.room == 0)
        return STATUS_OK;
    TRY(dispatch_fixed_collect(&e->fixed));
    for (int layer = 0; layer < e->placement->layers; layer++) {
        int64_t crossed;

        dispatch_fixed_layer(&e->fixed, e->placement, layer);
        crossed = dispatch_crossing(&e->dispatch, e->placement, e->dispatch.counts);
        meter_crossing(&e->meter, crossed, crossed);
        meter_untimed(&e->meter, &e->dispatch, e->placement, layer);
        tell_rows(e, layer);
    }
    return STATUS_OK;
}

static enum status choose(struct experts *e, struct step *s, int layer, struct matrix normed)
{
    const struct config *c = e->config;
    const struct weights_layer *w = &e->weights->layer[layer];
    struct matrix logits = matrix_top(e->logits, s->own.count);
    struct route route = {.logits = logits,
                          .choices = c->choices,
                          .score = c->score,
                          .renormalise = c->renormalise,
                          .expert = e->expert,
                          .weight = e->weight,
                          .bias = w->route_bias,
                          .groups = c->groups,
                          .kept_groups = c->kept_groups,
                          .scale = c->route_scale};

    TRY(s->kernels->multiply(s->kernels, logits, normed, &w->router, NULL));
    return s->kernels->route(s->kernels, &route);
}

/* What the host plans by: the router's choices. */
static size_t choice_bytes(const struct experts *e, const struct step *s)
{
    size_t bytes = (size_t)s->own.count * (size_t)e->config->choices * sizeof *e->chosen;

    return e->config->weight_on_input ? bytes + (size_t)((char *)e->factor - (char *)e->chosen) : bytes;
}

/* They leave for the host, which will not wait for what is queued meanwhile. */
static enum status fetch_choices(struct experts *e, struct step *s)
{
    struct kernels *k = s->kernels;
    struct comm *rows = s->grid->rows;
    struct beside way;

    TRY(beside_enter(&way, rows, BESIDE_NEXT));
    return beside_leave(&way, rows, NULL, k->fetch(k, e->chosen, e->expert, choice_bytes(e, s)));
}

static enum status bring_choices(struct experts *e, struct step *s)
{
    struct kernels *k = s->kernels;

    if (e->dispatch.ahead)
        return k->fetched(k);
    return k->apart ? k->download(k, e->chosen, e->expert, choice_bytes(e, s)) : STATUS_OK;
}

/* The results of the rows that arrived here, in the order they arrived. `batch` says which they are, what is
 * known of them and where results go. */
static enum status multiply_arrivals(struct experts *e, struct step *s, int layer, struct expert_batch batch)
{
    const struct weights_layer *w = &e->weights->layer[layer];

    if (batch.x.rows == 0)
        return STATUS_OK;
    batch.slots = e->dispatch.local_slots;
    batch.gate_up = w->gate_up;
    batch.down = w->down;
    batch.scratch = matrix_top(e->scratch, batch.x.rows);
    return s->kernels->multiply_experts(s->kernels, &batch);
}

/* -- the shared expert --- */

static enum status gather_shared(struct experts *e, struct step *s, int layer, struct matrix normed)
{
    if (e->config->shared_width == 0)
        return STATUS_OK;
    watch_enter(WATCH_EXPERTS, layer);
    return block_gather(&e->shared, s, normed);
}

static enum status widen_shared(struct experts *e, struct step *s, int layer)
{
    if (e->config->shared_width == 0)
        return STATUS_OK;
    watch_enter(WATCH_EXPERTS, layer);
    return block_widen(&e->shared, s, &e->weights->layer[layer].shared);
}

static enum status narrow_shared(struct experts *e, struct step *s, int layer, struct matrix *shared)
{
    if (e->config->shared_width == 0)
        return STATUS_OK;
    watch_enter(WATCH_EXPERTS, layer);
    return block_narrow(&e->shared, s, &e->weights->layer[layer].shared, shared);
}

/* -- a cohort's way --- */

/* The host plans by what the router chose. */
static enum status plan_layer(struct experts *e, struct step *s, int layer)
{
    int expert_layer = e->config->layer[layer].expert_layer;

    e->lower = false;
    e->spent = 0;
    watch_enter(WATCH_DISPATCH, layer);
    if (e->fixed.room > 0)
        return STATUS_OK;
    TRY(bring_choices(e, s));
    TRY(dispatch_plan(&e->dispatch, e->placement, expert_layer, e->chosen, s->own.count, e->config->choices));
    meter_layer(&e->meter, &e->dispatch, e->placement, expert_layer);
    e->lower = lowering_choose(&e->lowering, e->meter.loads, s->grid->rank);
    e->own = s->own.count;
    tell_rows(e, expert_layer);
    return STATUS_OK;
}

static enum status send_cohort(struct experts *e, int layer, int cohort, struct matrix normed)
{
    bool scaled = e->config->weight_on_input;

    watch_enter(WATCH_DISPATCH, layer);
    if (e->fixed.room > 0)
        return dispatch_fixed_send(&e->fixed, cohort, e->config->layer[layer].expert_layer, normed, e->expert,
                                   scaled ? e->weight : NULL);
    return dispatch_send(&e->dispatch, cohort, normed, scaled ? e->factor : NULL);
}

/* Its rows are here; where they lie and results go. */
static enum status receive_cohort(struct experts *e, int layer, int cohort, struct expert_batch *batch)
{
    const struct dispatch_fixed_cohort *fixed = &e->fixed.cohort[cohort];
    const struct dispatch_cohort *counted = &e->dispatch.cohort[cohort];

    watch_enter(WATCH_EXPERTS, layer);
    *batch = (struct expert_batch){.order = e->dispatch.backend_order, .first = e->dispatch.backend_first};
    if (e->fixed.room > 0) {
        batch->out = matrix_rows(e->results, fixed->first, fixed->places);
        batch->most = e->fixed.rows < fixed->places ? e->fixed.rows : fixed->places;
        return dispatch_fixed_arrive(&e->fixed, cohort, &batch->x);
    }
    batch->out = matrix_rows(e->results, counted->first_arrival, counted->arriving);
    batch->counted = e->dispatch.first;
    batch->lower = e->lower;
    return dispatch_arrive(&e->dispatch, cohort, &batch->x);
}

static enum status multiply_cohort(struct experts *e, struct step *s, int layer, int cohort,
                                   struct expert_batch batch)
{
    int64_t start = clock_now();

    TRY(multiply_arrivals(e, s, layer, batch));
    e->spent += clock_now() - start;
    watch_enter(WATCH_COMBINE, layer);
    if (e->fixed.room > 0)
        return dispatch_fixed_return(&e->fixed, cohort, batch.out);
    return dispatch_return(&e->dispatch, cohort, batch.out);
}

static enum status combine_cohort(struct experts *e, struct step *s, int cohort, struct matrix x,
                                  struct matrix shared)
{
    bool fixed = e->fixed.room > 0;
    struct range own = fixed ? e->fixed.cohort[cohort].own : e->dispatch.cohort[cohort].own;
    int choices = e->config->choices;
    const float *weight = e->weight + (ptrdiff_t)own.first * choices;
    struct combine combine = {.x = matrix_rows(x, own.first, own.count),
                              .place =
                                  fixed ? e->fixed.cohort[cohort].place : e->dispatch.cohort[cohort].place,
                              .weight = e->config->weight_on_input ? NULL : weight,
                              .choices = choices};

    if (fixed)
        TRY(dispatch_fixed_returned(&e->fixed, cohort, &combine.results));
    else
        TRY(dispatch_returned(&e->dispatch, cohort, &combine.results));
    if (own.count == 0)
        return STATUS_OK;
    if (shared.rows > 0)
        combine.shared = matrix_rows(shared, own.first, own.count);
    return s->kernels->combine(s->kernels, &combine);
}

/* -- a layer --- */

/* What all ranks did in it, where the host knows. */
static void note_layer(struct experts *e)
{
    if (e->fixed.room > 0)
        return;
    e->dispatch.note = e->spent < INT32_MAX ? (int32_t)e->spent : INT32_MAX;
    meter_crossing(&e->meter, e->dispatch.crossed, e->dispatch.crossed_direct);
}

static enum status send_cohorts(struct experts *e, int layer, int first, int end, struct matrix normed)
{
    for (int i = first; i < end; i++)
        TRY(send_cohort(e, layer, i, normed));
    return STATUS_OK;
}

/* All of the shared expert, or what it does before its next exchange. */
static enum status queue_shared(struct experts *e, struct step *s, int layer, bool all, struct matrix *shared)
{
    TRY(widen_shared(e, s, layer));
    return all ? narrow_shared(e, s, layer, shared) : STATUS_OK;
}

/* All before the first cohort's rows are multiplied, which are here at the end, and the shared expert, while
 * which they travel where the comm can; where the host plans, it does so meanwhile too. Exchanges inside the
 * group never go beside those of all ranks, as no rank could tell in which order another one's device takes
 * them: so where the shared expert has such exchanges, what it does between them goes beside the first
 * cohort's rows, and the second's leave behind. */
static enum status begin_layer(struct experts *e, struct step *s, int layer, struct matrix normed,
                               struct matrix *shared, struct expert_batch *first)
{
    bool beside = e->dispatch.beside && s->grid->rows->exchange_begin;
    bool turns = s->grid->tensor > 1 && e->config->shared_width > 0;
    int cohorts = cohorts_of(e), early = beside && turns ? 1 : cohorts;

    e->dispatch.ahead = beside && e->fixed.room == 0 && s->kernels->fetch;
    TRY(gather_shared(e, s, layer, normed));
    if (e->dispatch.ahead)
        TRY(fetch_choices(e, s));
    if (e->dispatch.ahead || !beside)
        TRY(queue_shared(e, s, layer, !beside || !turns, shared));
    TRY(plan_layer(e, s, layer));
    TRY(send_cohorts(e, layer, 0, early, normed));
    if (beside && !e->dispatch.ahead)
        TRY(queue_shared(e, s, layer, !turns, shared));
    e->dispatch.ahead = false;
    TRY(receive_cohort(e, layer, 0, first));
    if (beside && turns)
        TRY(narrow_shared(e, s, layer, shared));
    return send_cohorts(e, layer, early, cohorts, normed);
}

enum status experts_forward(struct experts *e, struct step *s, int layer, struct matrix x,
                            struct matrix normed)
{
    struct matrix shared = {0};
    struct expert_batch batch;

    watch_enter(WATCH_ROUTE, layer);
    TRY(choose(e, s, layer, normed));
    TRY(begin_layer(e, s, layer, normed, &shared, &batch));
    TRY(multiply_cohort(e, s, layer, 0, batch));
    for (int i = 1; i < cohorts_of(e); i++) {
        TRY(receive_cohort(e, layer, i, &batch));
        TRY(multiply_cohort(e, s, layer, i, batch));
    }
    note_layer(e);
    for (int i = 0; i < cohorts_of(e); i++)
        TRY(combine_cohort(e, s, i, x, shared));
    return STATUS_OK;
}
