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

enum status experts_open(struct experts *e, struct arena *arena, const struct config *c,
                         const struct weights *w, struct placement *p, const struct step *s)
{
    int own = grid_rows(s->grid, s->max_rows, 0).count;
    size_t choices = (size_t)own * (size_t)c->choices;
    int arrivals;

    *e = (struct experts){.config = c, .weights = w, .placement = p};
    TRY(take_choices(e, arena, s->kernels, choices));
    TRY(kernels_matrix(s->kernels, own, c->experts, "router logits", &e->logits));
    TRY(dispatch_open(&e->dispatch, arena, s->grid, s->kernels, p, c->width, s->max_rows, c->choices));
    TRY(meter_open(&e->meter, arena, c->expert_layers, s->grid->ranks));
    arrivals = e->dispatch.max_arrivals;
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

/* All ranks' counts are here, for the dispatch's sake. */
static void count_rows(struct experts *e, const struct grid *g, int layer)
{
    meter_layer(&e->meter, &e->dispatch, e->placement, layer);
    if (e->load)
        load_add(e->load, layer, e->dispatch.wanted, g->ranks);
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

/* The results of the rows that arrived here, in the order they arrived. */
static enum status multiply_arrivals(struct experts *e, struct step *s, int layer, struct matrix arrivals)
{
    const struct weights_layer *w = &e->weights->layer[layer];
    const struct placement *p = e->placement;
    struct expert_batch batch = {.out = matrix_top(e->results, arrivals.rows),
                                 .x = arrivals,
                                 .order = e->dispatch.backend_order,
                                 .first = e->dispatch.backend_first,
                                 .counted = e->dispatch.first,
                                 .slots = p->rank_first[s->grid->rank + 1] - p->rank_first[s->grid->rank],
                                 .gate_up = w->gate_up,
                                 .down = w->down,
                                 .scratch = matrix_top(e->scratch, arrivals.rows)};

    if (arrivals.rows == 0)
        return STATUS_OK;
    return s->kernels->multiply_experts(s->kernels, &batch);
}

enum status experts_forward(struct experts *e, struct step *s, int layer, struct matrix x,
                            struct matrix normed)
{
    const struct config *c = e->config;
    bool on_input = c->weight_on_input;
    struct matrix shared = {0};
    struct matrix arrivals, returned;
    struct combine combine;
    int64_t start, spent;

    watch_enter(WATCH_ROUTE, layer);
    TRY(choose(e, s, layer, normed));
    if (c->shared_width > 0) {
        watch_enter(WATCH_EXPERTS, layer);
        TRY(block_forward(&e->shared, s, &e->weights->layer[layer].shared, normed, &shared));
    }

    watch_enter(WATCH_DISPATCH, layer);
    TRY(bring_choices(e, s));
    TRY(dispatch_plan(&e->dispatch, e->placement, c->layer[layer].expert_layer, e->chosen, s->own.count,
                      c->choices));
    count_rows(e, s->grid, c->layer[layer].expert_layer);
    trace_layer(e->trace, c->layer[layer].expert_layer, e->dispatch.wanted, e->chosen, s->own.count);
    TRY(dispatch_send(&e->dispatch, normed, on_input ? e->factor : NULL, &arrivals));

    watch_enter(WATCH_EXPERTS, layer);
    start = clock_now();
    TRY(multiply_arrivals(e, s, layer, arrivals));
    spent = clock_now() - start;
    e->dispatch.note = spent < INT32_MAX ? (int32_t)spent : INT32_MAX;

    watch_enter(WATCH_COMBINE, layer);
    TRY(dispatch_return(&e->dispatch, matrix_top(e->results, arrivals.rows), &returned));
    combine = (struct combine){.x = x,
                               .shared = shared,
                               .results = returned,
                               .place = e->dispatch.backend_place,
                               .weight = on_input ? NULL : e->weight,
                               .choices = c->choices};
    if (s->own.count == 0)
        return STATUS_OK;
    return s->kernels->combine(s->kernels, &combine);
}
