/* experts.c - the expert block of a layer: route, dispatch, multiply, combine
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/experts.h"

#include "comm/watch.h"
#include "engine/base/clock.h"

/* Where the router writes, and where the host reads it. */
static enum status take_choices(struct experts *e, struct arena *arena, struct kernels *k, size_t choices)
{
    void *expert, *weight;

    TRY(arena_take_array(arena, choices, sizeof *e->chosen, "chosen experts", &e->chosen));
    TRY(arena_take_array(arena, choices, sizeof *e->factor, "weights of choices", &e->factor));
    e->expert = e->chosen;
    e->weight = e->factor;
    if (!k->apart)
        return STATUS_OK;
    TRY(k->alloc(k, choices * sizeof *e->expert, "chosen experts", &expert));
    TRY(k->alloc(k, choices * sizeof *e->weight, "weights of choices", &weight));
    e->expert = expert;
    e->weight = weight;
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

    *e = (struct experts){.config = c, .weights = w, .placement = p};
    TRY(take_choices(e, arena, s->kernels, choices));
    TRY(kernels_matrix(s->kernels, own, c->experts, "router logits", &e->logits));
    TRY(dispatch_open(&e->dispatch, arena, s->grid, s->kernels, p, c->width, s->max_rows, c->choices));
    TRY(open_nodes(e, arena, ways));
    TRY(meter_open(&e->meter, arena, c->expert_layers, s->grid->ranks));
    if (!e->dispatch.once || ways->dispatch != DISPATCH_NODE_ONCE)
        fixed = dispatch_fixed_most(&e->dispatch, p, ways->fixed);
    TRY(dispatch_fixed_open(&e->fixed, arena, &e->dispatch, p, fixed, ways->beside && s->grid->ranks > 1));
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

enum status experts_begin(struct experts *e, const struct step *s, const struct batch *b)
{
    const struct dispatch *d = &e->dispatch;
    bool counts = d->replicas && (d->policy == REPLICAS_FLOW || d->policy == REPLICAS_FEWEST);
    bool routes = e->trace && e->trace->routes; /* what each row chose comes to the host */
    int most = 0;

    lowering_begin(&e->lowering, b);
    for (int group = 0; group < s->grid->groups; group++) {
        int own = grid_rows(s->grid, batch_group_rows(b, group).count, 0).count;

        most = own > most ? own : most;
    }
    return dispatch_fixed_begin(&e->fixed, e->placement, b->row_count, most, s->own.count,
                                s->first + s->own.first,
                                !counts && !routes && !lowering_counts(&e->lowering));
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
        crossed = dispatch_crossing(&e->dispatch, e->placement);
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

/* The router's choice comes to the host, which plans by it. */
static enum status bring_choices(struct experts *e, struct step *s)
{
    struct kernels *k = s->kernels;
    size_t choices = (size_t)s->own.count * (size_t)e->config->choices;

    if (!k->apart)
        return STATUS_OK;
    TRY(k->download(k, e->chosen, e->expert, choices * sizeof *e->chosen));
    if (!e->config->weight_on_input)
        return STATUS_OK;
    return k->download(k, e->factor, e->weight, choices * sizeof *e->factor);
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

static enum status add_shared(struct experts *e, struct step *s, int layer, struct matrix normed,
                              struct matrix *shared)
{
    *shared = (struct matrix){0};
    if (e->config->shared_width == 0)
        return STATUS_OK;
    watch_enter(WATCH_EXPERTS, layer);
    return block_forward(&e->shared, s, &e->weights->layer[layer].shared, normed, shared);
}

/* The host plans by what the router chose. */
static enum status forward_counted(struct experts *e, struct step *s, int layer, struct matrix x,
                                   struct matrix normed)
{
    const struct config *c = e->config;
    int expert_layer = c->layer[layer].expert_layer;
    struct matrix arrivals;
    struct combine combine = {.x = x, .weight = c->weight_on_input ? NULL : e->weight, .choices = c->choices};
    struct expert_batch batch = {
        .order = e->dispatch.backend_order, .first = e->dispatch.backend_first, .counted = e->dispatch.first};
    int64_t start, spent;

    TRY(add_shared(e, s, layer, normed, &combine.shared));
    watch_enter(WATCH_DISPATCH, layer);
    TRY(bring_choices(e, s));
    TRY(dispatch_plan(&e->dispatch, e->placement, expert_layer, e->chosen, s->own.count, c->choices));
    meter_layer(&e->meter, &e->dispatch, e->placement, expert_layer);
    batch.lower = lowering_choose(&e->lowering, e->meter.loads, s->grid->rank);
    e->own = s->own.count;
    tell_rows(e, expert_layer);
    TRY(dispatch_send(&e->dispatch, normed, c->weight_on_input ? e->factor : NULL, &arrivals));
    meter_crossing(&e->meter, e->dispatch.crossed, e->dispatch.crossed_direct);

    watch_enter(WATCH_EXPERTS, layer);
    start = clock_now();
    batch.x = arrivals;
    batch.out = matrix_top(e->results, arrivals.rows);
    TRY(multiply_arrivals(e, s, layer, batch));
    spent = clock_now() - start;
    e->dispatch.note = spent < INT32_MAX ? (int32_t)spent : INT32_MAX;

    watch_enter(WATCH_COMBINE, layer);
    TRY(dispatch_return(&e->dispatch, matrix_top(e->results, arrivals.rows), &combine.results));
    combine.place = e->dispatch.backend_place;
    return x.rows > 0 ? s->kernels->combine(s->kernels, &combine) : STATUS_OK;
}

/* A cohort's rows are here: their results, which go back. */
static enum status multiply_cohort(struct experts *e, struct step *s, int layer, int cohort)
{
    const struct dispatch_fixed_cohort *part = &e->fixed.cohort[cohort];
    struct expert_batch batch = {.out = matrix_rows(e->results, part->first, part->places),
                                 .order = e->dispatch.backend_order,
                                 .first = e->dispatch.backend_first,
                                 .most = e->fixed.rows < part->places ? e->fixed.rows : part->places};

    watch_enter(WATCH_EXPERTS, layer);
    TRY(dispatch_fixed_arrive(&e->fixed, cohort, &batch.x));
    TRY(multiply_arrivals(e, s, layer, batch));
    watch_enter(WATCH_COMBINE, layer);
    return dispatch_fixed_return(&e->fixed, cohort, batch.out);
}

static enum status combine_cohort(struct experts *e, struct step *s, int cohort, struct matrix x,
                                  struct matrix shared)
{
    const struct dispatch_fixed_cohort *part = &e->fixed.cohort[cohort];
    int choices = e->config->choices;
    const float *weight = e->weight + (ptrdiff_t)part->own.first * choices;
    struct combine combine = {.x = matrix_rows(x, part->own.first, part->own.count),
                              .place = part->place,
                              .weight = e->config->weight_on_input ? NULL : weight,
                              .choices = choices};

    TRY(dispatch_fixed_returned(&e->fixed, cohort, &combine.results));
    if (part->own.count == 0)
        return STATUS_OK;
    if (shared.rows > 0)
        combine.shared = matrix_rows(shared, part->own.first, part->own.count);
    return s->kernels->combine(s->kernels, &combine);
}

/* The same without the host. The first cohort's rows travel while the shared expert multiplies, those of each
 * other one while the experts multiply the one before. */
static enum status forward_fixed(struct experts *e, struct step *s, int layer, struct matrix x,
                                 struct matrix normed)
{
    const struct config *c = e->config;
    const float *scale = c->weight_on_input ? e->weight : NULL;
    bool local = s->grid->tensor == 1; /* else a shared expert has exchanges too, and they take turns */
    struct matrix shared;

    if (!local)
        TRY(add_shared(e, s, layer, normed, &shared));
    watch_enter(WATCH_DISPATCH, layer);
    for (int i = 0; i < e->fixed.cohorts; i++)
        TRY(dispatch_fixed_send(&e->fixed, i, c->layer[layer].expert_layer, normed, e->expert, scale));
    if (local)
        TRY(add_shared(e, s, layer, normed, &shared));
    for (int i = 0; i < e->fixed.cohorts; i++)
        TRY(multiply_cohort(e, s, layer, i));
    for (int i = 0; i < e->fixed.cohorts; i++)
        TRY(combine_cohort(e, s, i, x, shared));
    return STATUS_OK;
}

enum status experts_forward(struct experts *e, struct step *s, int layer, struct matrix x,
                            struct matrix normed)
{
    watch_enter(WATCH_ROUTE, layer);
    TRY(choose(e, s, layer, normed));
    if (e->fixed.room > 0)
        return forward_fixed(e, s, layer, x, normed);
    return forward_counted(e, s, layer, x, normed);
}
