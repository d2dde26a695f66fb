/* plan.c - decide from scratch which rank holds which expert
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "eplb/plan.h"

#include "eplb/flow.h"
#include "eplb/plan_pack.h"
#include "eplb/plan_search.h"
#include "eplb/plan_state.h"
#include "eplb/reference.h"

#include <string.h>

enum {
    MILLION = 1000000,
    MOST_EXPERTS = 1 << 20,
    AS_GOOD = 1000, /* millionths above DeepSeek's plan */
    GAP_KICKS = 20, /* times as many are tried where slots may stay empty */
};

struct plan {
    struct plan_shape shape;
    struct plan_layer layer;
    struct flow *flow;
    int64_t *demand; /* [E] for the flow, in units of load */
    int64_t *quota;  /* [slots] */
    int32_t *trial;  /* [layers, slots] the plan until it is known to be whole */
    int32_t *other;  /* [slots] a second start */

    bool comparable; /* reference can plan one layer of this shape */
    struct reference reference;
    float *weight; /* [E] */
};

/* What a layer is judged by: lower is better. */
struct merit {
    int64_t even, flow; /* load of the busiest rank */
    int64_t bound;      /* of the levels */
};

/* The even shape that the reference can plan for; false when there is none. */
static bool even_shape(const struct plan_shape *shape, struct placement_shape *even)
{
    int nodes = plan_shape_nodes(shape), slots = shape->rank_first[shape->ranks];

    *even = (struct placement_shape){.layers = 1,
                                     .experts = shape->experts,
                                     .slots = slots,
                                     .groups = shape->groups,
                                     .nodes = nodes,
                                     .ranks = shape->ranks};
    for (int r = 0; r < shape->ranks; r++) {
        if (shape->rank_first[r + 1] - shape->rank_first[r] != slots / shape->ranks)
            return false;
        if (shape->rank_node && shape->rank_node[r] != r / ((shape->ranks + nodes - 1) / nodes))
            return false;
    }
    return slots % shape->ranks == 0 && shape->ranks % nodes == 0 &&
           (shape->groups % nodes || shape->experts % shape->groups == 0);
}

enum status plan_open(struct plan **out, struct arena *arena, const struct plan_shape *shape)
{
    struct plan *p;
    struct placement_shape even;
    size_t experts, slots;

    TRY(plan_shape_check(shape, PLAN_GLOBAL));
    if (shape->experts >= MOST_EXPERTS)
        return FAIL(STATUS_USAGE, "%d experts in a layer, less than %d can be planned", shape->experts,
                    MOST_EXPERTS);
    experts = (size_t)shape->experts;
    slots = (size_t)shape->rank_first[shape->ranks];
    TRY(arena_take(arena, sizeof *p, "planner", &p));
    p->shape = *shape;
    TRY(plan_state_open(&p->layer, arena, &p->shape));
    TRY(flow_open(&p->flow, arena, shape->experts, shape->rank_first[shape->ranks], shape->ranks));
    TRY(arena_take_array(arena, experts, sizeof *p->demand, "demand", &p->demand));
    TRY(arena_take_array(arena, slots, sizeof *p->quota, "quotas", &p->quota));
    TRY(arena_take_array(arena, (size_t)shape->layers * slots, sizeof *p->trial, "plan", &p->trial));
    TRY(arena_take_array(arena, slots, sizeof *p->other, "second start", &p->other));
    TRY(arena_take_array(arena, experts, sizeof *p->weight, "weights", &p->weight));
    p->comparable = even_shape(shape, &even);
    if (p->comparable)
        TRY(reference_take(&p->reference, arena, &even));
    *out = p;
    return STATUS_OK;
}

static int64_t loosen(int64_t bound, int tolerance)
{
    return bound + bound / MILLION * tolerance;
}

/* Each site by itself, that with the highest bound first: what the busiest rank has there is good enough for
 * the others. */
static int64_t plan_sites(struct plan_layer *l, const struct plan_options *o, bool nodes)
{
    int64_t target = 0, most = 0, bound = 0;
    int hottest = -1, sites = nodes ? l->nodes : 1;

    for (int v = 0; v < sites; v++) {
        int64_t here;

        plan_pack_site(l, nodes ? v : -1);
        if (l->experts == 0)
            continue;
        here = plan_pack_replicas(l);
        if (hottest < 0 || here > bound) {
            hottest = v;
            bound = here;
        }
    }
    for (int turn = -1; turn < sites; turn++) {
        int v = turn < 0 ? hottest : turn;

        if (turn == hottest)
            continue;
        plan_pack_site(l, nodes ? v : -1);
        if (l->experts == 0)
            continue;
        plan_pack_replicas(l);
        plan_pack_ranks(l);
        target = turn < 0 ? loosen(bound, o->tolerance) : most > target ? most : target;
        plan_search_kick(l, target, o->kicks);
        if (plan_state_most(l) > most)
            most = plan_state_most(l);
    }
    return bound;
}

/* Load of the busiest rank of the layer as it stands, under the best split. */
static enum status flow_most(struct plan *p, int64_t *most)
{
    struct plan_layer *l = &p->layer;
    int64_t heaviest = 0;
    int down = 0;

    for (int e = 0; e < p->shape.experts; e++)
        heaviest = l->load[e] > heaviest ? l->load[e] : heaviest;
    while (heaviest >> down > FLOW_MOST)
        down++;
    for (int e = 0; e < p->shape.experts; e++)
        p->demand[e] = l->load[e] >> down;
    TRY(flow_split(p->flow, l->now.item, p->shape.rank_first, p->demand, p->quota, NULL, most));
    *most <<= down;
    return STATUS_OK;
}

static enum status judge(struct plan *p, struct merit *m)
{
    plan_pack_site(&p->layer, -1);
    m->even = plan_state_most(&p->layer);
    return flow_most(p, &m->flow);
}

static bool better(const struct merit *a, const struct merit *b, enum plan_split split)
{
    int64_t first = split == PLAN_FLOW ? a->flow - b->flow : a->even - b->even;

    if (first != 0)
        return first < 0;
    return split == PLAN_FLOW ? a->even < b->even : a->flow < b->flow;
}

/* DeepSeek's plan without doubles on a rank, as a start; false when it does not exist or breaks the levels.
 */
static enum status start_reference(struct plan *p, bool nodes, bool *started)
{
    struct plan_layer *l = &p->layer;
    const struct placement_shape *even = &p->reference.shape;

    *started = p->comparable && !p->shape.gone &&
               (even->groups % even->nodes != 0 || even->nodes == 1) != nodes && l->levels != PLAN_SPILL;
    if (!*started)
        return STATUS_OK;
    for (int e = 0; e < p->shape.experts; e++)
        p->weight[e] = (float)(l->load[e] >> l->shift);
    TRY(reference_plan(&p->reference, p->weight));
    if (nodes) {
        for (int s = 0; s < even->slots; s++)
            l->home[p->reference.expert[s]] = l->node[s / (even->slots / even->ranks)];
    }
    memcpy(l->now.item, p->reference.expert, sizeof *l->now.item * (size_t)even->slots);
    for (int r = 0; r < even->ranks; r++) {
        int32_t *item = l->now.item + p->shape.rank_first[r];

        for (int i = 0; i < l->slots[r]; i++) {
            for (int j = 0; j < i && item[i] >= 0; j++)
                item[i] = item[j] == item[i] ? -1 : item[i];
        }
    }
    plan_pack_site(l, -1);
    plan_state_rebuild(l);
    return STATUS_OK;
}

static void search_sites(struct plan_layer *l, const struct plan_options *o, bool nodes, int64_t target)
{
    for (int v = 0; v < (nodes ? l->nodes : 1); v++) {
        plan_pack_site(l, nodes ? v : -1);
        if (l->experts > 0)
            plan_search_kick(l, target, o->kicks);
    }
}

/* The better one of what lies in the state and in p->other goes to p->other. */
static enum status keep_better(struct plan *p, const struct plan_options *o, struct merit *best)
{
    struct plan_layer *l = &p->layer;
    struct merit m = *best;

    TRY(judge(p, &m));
    if (better(&m, best, o->split)) {
        *best = m;
        memcpy(p->other, l->now.item, sizeof *p->other * (size_t)p->shape.rank_first[p->shape.ranks]);
    }
    return STATUS_OK;
}

static bool content(const struct merit *m, const struct plan_options *o)
{
    return (o->split == PLAN_FLOW ? m->flow : m->even) <= loosen(m->bound, o->tolerance);
}

/* What lies in the state, and what a search makes of it. */
static enum status search_on(struct plan *p, const struct plan_options *o, bool nodes, struct merit *m)
{
    TRY(keep_better(p, o, m));
    search_sites(&p->layer, o, nodes, loosen(m->bound, o->tolerance));
    return keep_better(p, o, m);
}

/* A plan inside nodes is legal where replicas may spill, and at times better. */
static enum status start_inside(struct plan *p, const struct plan_options *o, struct merit *m)
{
    p->layer.levels = PLAN_HIERARCHICAL;
    plan_sites(&p->layer, o, true);
    p->layer.levels = PLAN_SPILL;
    return search_on(p, o, false, m);
}

/* Load of DeepSeek's busiest rank, where two slots of an expert on a rank are an unequal split. */
static int64_t reference_most(const struct plan *p)
{
    const struct placement_shape *even = &p->reference.shape;
    int64_t most = 0;

    for (int r = 0; r < even->ranks; r++) {
        int64_t here = 0;

        for (int s = p->shape.rank_first[r]; s < p->shape.rank_first[r + 1]; s++)
            here += p->layer.load[p->reference.expert[s]] / p->reference.replicas[p->reference.expert[s]];
        most = here > most ? here : most;
    }
    return most;
}

/* DeepSeek's plan may be better because two slots of an expert on a rank let it share unevenly. Then replicas
 * may go, and their slots stay empty: with fewer of them shares come in other sizes. */
static enum status leave_gaps(struct plan *p, const struct plan_options *o, bool nodes, struct merit *m)
{
    struct plan_layer *l = &p->layer;
    int64_t enough = loosen(reference_most(p), AS_GOOD);
    struct plan_options more = *o;

    if (m->even <= enough)
        return STATUS_OK;
    more.kicks = o->kicks * GAP_KICKS; /* the search ends as soon as the plan is as good */
    l->gaps = true;
    memcpy(l->now.item, p->other, sizeof *p->other * (size_t)p->shape.rank_first[p->shape.ranks]);
    plan_pack_site(l, -1);
    plan_state_rebuild(l);
    search_sites(l, &more, nodes, enough);
    l->gaps = false;
    return keep_better(p, o, m);
}

static enum status plan_one(struct plan *p, const struct plan_options *o, int layer, const int64_t *load,
                            struct merit *m)
{
    struct plan_layer *l = &p->layer;
    size_t slots = (size_t)p->shape.rank_first[p->shape.ranks];
    bool nodes = l->levels == PLAN_HIERARCHICAL && l->nodes > 1, started;

    TRY(plan_state_load(l, load));
    l->random = o->seed; /* alike for all layers, so that a plan does not depend on the others */
    plan_pack_homes(l);
    l->alike = o->split == PLAN_FLOW;
    *m = (struct merit){.even = INT64_MAX, .flow = INT64_MAX};
    m->bound = plan_sites(l, o, nodes);
    TRY(keep_better(p, o, m));
    if (o->split == PLAN_FLOW && !content(m, o)) {
        l->alike = false;
        plan_sites(l, o, nodes);
        TRY(keep_better(p, o, m));
    }
    if (l->levels == PLAN_SPILL && l->nodes > 1 && !content(m, o))
        TRY(start_inside(p, o, m));
    if (!content(m, o)) {
        TRY(start_reference(p, nodes, &started));
        if (started)
            TRY(search_on(p, o, nodes, m));
        if (started && o->split == PLAN_EVEN)
            TRY(leave_gaps(p, o, nodes, m));
    }
    memcpy(p->trial + (size_t)layer * slots, p->other, slots * sizeof *p->other);
    return STATUS_OK;
}

static void report_layer(const struct plan *p, const int64_t *load, const struct merit *m,
                         struct plan_report *report)
{
    double total = 0.0, mean;

    for (int e = 0; e < p->shape.experts; e++)
        total += (double)load[e];
    mean = total * (double)((int64_t)1 << p->layer.shift) / plan_shape_live(&p->shape);
    *report = (struct plan_report){.even = 1.0, .flow = 1.0, .bound = 1.0};
    if (total > 0.0)
        *report = (struct plan_report){
            .even = (double)m->even / mean, .flow = (double)m->flow / mean, .bound = (double)m->bound / mean};
}

enum status plan_make(struct plan *plan, const struct plan_options *options, const int64_t *load,
                      struct placement *out, struct plan_report *report)
{
    const struct plan_shape *shape = &plan->shape;
    size_t slots = (size_t)shape->rank_first[shape->ranks];

    if (out->layers != shape->layers || out->experts != shape->experts || out->ranks != shape->ranks ||
        memcmp(out->rank_first, shape->rank_first, sizeof *out->rank_first * ((size_t)shape->ranks + 1)) != 0)
        return FAIL(STATUS_BUG, "a plan for other sizes than those of the placement that takes it");
    TRY(plan_shape_check(shape, options->levels));
    plan->layer.levels = plan_shape_levels(shape, options->levels);
    for (int layer = 0; layer < shape->layers; layer++) {
        struct merit m;

        if (plan_one(plan, options, layer, load + (ptrdiff_t)layer * shape->experts, &m) != STATUS_OK)
            return status_prefix(STATUS_BAD_INPUT, "layer %d: ", layer);
        if (report)
            report_layer(plan, load + (ptrdiff_t)layer * shape->experts, &m, &report[layer]);
    }
    memcpy(out->expert, plan->trial, sizeof *out->expert * slots * (size_t)shape->layers);
    return placement_index(out);
}
