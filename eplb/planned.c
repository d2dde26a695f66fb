/* planned.c - a plan by any policy, in one form, and how good it is
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "eplb/planned.h"

#include "engine/base/range.h"
#include "eplb/bound.h"
#include "eplb/flow.h"
#include "eplb/improve.h"
#include "eplb/reference.h"
#include "eplb/relabel.h"
#include "eplb/replicas.h"

#include <string.h>

static enum status open_planned(struct planned *p, struct arena *arena, const struct placement_shape *shape)
{
    *p = (struct planned){.shape = *shape};
    TRY(arena_take_array(arena, (size_t)shape->ranks + 1, sizeof(int32_t), "slots of ranks", &p->rank_first));
    TRY(arena_take_array(arena, (size_t)shape->ranks, sizeof(int32_t), "nodes of ranks", &p->rank_node));
    for (int r = 0; r < shape->ranks; r++) {
        p->rank_first[r] = range_share(shape->slots, shape->ranks, r).first;
        p->rank_node[r] = range_part(shape->ranks, shape->nodes, r);
    }
    p->rank_first[shape->ranks] = shape->slots;
    return STATUS_OK;
}

/* Counts and lists of slots, rising, out of p->expert. */
static enum status list_slots(struct planned *p, struct arena *arena)
{
    const struct placement_shape *s = &p->shape;
    size_t layers = (size_t)s->layers;

    TRY(arena_take_array(arena, layers * (size_t)s->experts, sizeof(int32_t), "replica counts",
                         &p->replicas));
    TRY(arena_take_array(arena, layers * (size_t)(s->experts + 1), sizeof(int32_t), "replica lists",
                         &p->first));
    TRY(arena_take_array(arena, layers * (size_t)s->slots, sizeof(int32_t), "slots of experts", &p->slot));
    for (int i = 0; i < s->layers; i++) {
        const int32_t *expert = p->expert + (ptrdiff_t)i * s->slots;
        int32_t *count = p->replicas + (ptrdiff_t)i * s->experts;
        int32_t *first = p->first + (ptrdiff_t)i * (s->experts + 1);
        int32_t *slot = p->slot + (ptrdiff_t)i * s->slots;

        for (int at = 0; at < s->slots; at++)
            if (expert[at] >= 0)
                first[expert[at] + 1]++;
        for (int e = 0; e < s->experts; e++)
            first[e + 1] += first[e];
        for (int at = 0; at < s->slots; at++)
            if (expert[at] >= 0)
                slot[first[expert[at]] + count[expert[at]]++] = at;
    }
    return STATUS_OK;
}

enum status planned_take(struct planned *out, struct arena *arena, const struct placement_shape *shape,
                         const int32_t *map)
{
    size_t bytes = (size_t)shape->layers * (size_t)shape->slots * sizeof *map;
    struct planned p;

    TRY(open_planned(&p, arena, shape));
    TRY(arena_take(arena, bytes, "experts of slots", &p.expert));
    memcpy(p.expert, map, bytes);
    TRY(list_slots(&p, arena));
    *out = p;
    return STATUS_OK;
}

enum status planned_plain(struct planned *out, struct arena *arena, const struct placement_shape *shape)
{
    struct placement_shape s = *shape;
    struct planned p;

    s.slots = s.experts;
    TRY(open_planned(&p, arena, &s));
    TRY(arena_take_array(arena, (size_t)s.layers * (size_t)s.slots, sizeof(int32_t), "experts of slots",
                         &p.expert));
    for (int64_t i = 0; i < (int64_t)s.layers * s.slots; i++)
        p.expert[i] = (int32_t)(i % s.slots);
    TRY(list_slots(&p, arena));
    *out = p;
    return STATUS_OK;
}

enum status planned_placement(const struct planned *p, struct arena *arena, struct placement *out)
{
    const struct placement_shape *s = &p->shape;
    int32_t *seen;

    TRY(placement_open(out, arena, s->layers, s->experts, s->slots, s->ranks));
    TRY(arena_take_array(arena, (size_t)s->experts, sizeof *seen, "experts seen", &seen));
    memcpy(out->rank_first, p->rank_first, sizeof *p->rank_first * (size_t)(s->ranks + 1));
    for (int i = 0; i < s->layers; i++) {
        memset(seen, 0, sizeof *seen * (size_t)s->experts);
        for (int r = 0; r < s->ranks; r++)
            for (int at = p->rank_first[r]; at < p->rank_first[r + 1]; at++) {
                int32_t e = p->expert[(ptrdiff_t)i * s->slots + at];

                if (e >= 0 && seen[e] == r + 1)
                    e = -1;
                if (e >= 0)
                    seen[e] = r + 1;
                out->expert[(ptrdiff_t)i * s->slots + at] = e;
            }
    }
    return placement_index(out);
}

/* -- policies --- */

static enum status plan_reference(struct planned *p, struct arena *arena, const struct problem *problem)
{
    size_t loads = (size_t)p->shape.layers * (size_t)p->shape.experts;
    struct reference r;
    float *weight;

    TRY(reference_take(&r, arena, &p->shape));
    TRY(arena_take_array(arena, loads, sizeof *weight, "weights", &weight));
    for (size_t i = 0; i < loads; i++)
        weight[i] = (float)problem->load[i];
    TRY(reference_plan(&r, weight));
    p->expert = r.expert;
    p->replicas = r.replicas;
    p->first = r.first;
    p->slot = r.slot;
    return STATUS_OK;
}

static struct plan_shape plan_shape_of(const struct planned *p)
{
    return (struct plan_shape){.layers = p->shape.layers,
                               .experts = p->shape.experts,
                               .groups = p->shape.groups,
                               .ranks = p->shape.ranks,
                               .rank_first = p->rank_first,
                               .rank_node = p->rank_node};
}

/* The placement that a plan may keep to. */
static enum status take_previous(struct placement *present, struct arena *arena,
                                 const struct problem *problem)
{
    struct planned previous;

    TRY(planned_take(&previous, arena, &problem->shape, problem->previous));
    return planned_placement(&previous, arena, present);
}

static enum status plan_incremental(struct planned *p, struct arena *arena, const struct problem *problem,
                                    const struct planned_options *o, struct placement *next)
{
    struct plan_shape shape = plan_shape_of(p);
    struct improve_options options = {
        .most_bytes = INT64_MAX / 2, .most_layer_moves = o->layer_moves, .tolerance = o->tolerance};
    struct placement present;
    struct improve *improve;

    if (!problem->previous)
        return FAIL(STATUS_BAD_INPUT, "an incremental plan needs \"previous\", the placement to start from");
    TRY(take_previous(&present, arena, problem));
    TRY(improve_open(&improve, arena, &shape, 1, o->layer_moves));
    return improve_plan(improve, &present, problem->load, 1, &options, next, NULL);
}

/* Ranks take the parts of the plan that they have most of already. */
static enum status plan_anew(struct planned *p, struct arena *arena, const struct problem *problem,
                             const struct plan_options *options, struct placement *next)
{
    struct plan_shape shape = plan_shape_of(p);
    struct placement present;
    struct plan *plan;

    TRY(plan_open(&plan, arena, &shape));
    TRY(plan_make(plan, options, problem->load, next, NULL));
    if (!problem->previous)
        return STATUS_OK;
    TRY(take_previous(&present, arena, problem));
    return relabel_ranks(&present, next, p->rank_node, arena);
}

enum plan_levels planned_levels(const struct placement_shape *shape, enum planned_policy policy,
                                enum plan_levels levels)
{
    if (policy == PLANNED_INCREMENTAL)
        return PLAN_GLOBAL;
    if (policy == PLANNED_SPILL)
        return shape->groups % shape->nodes ? PLAN_GLOBAL : PLAN_SPILL;
    return levels;
}

enum status planned_make(struct planned *out, struct arena *arena, const struct problem *problem,
                         const struct planned_options *o)
{
    struct plan_options options = {.levels = planned_levels(&problem->shape, o->policy, o->levels),
                                   .split = o->split,
                                   .tolerance = o->tolerance,
                                   .kicks = o->kicks,
                                   .seed = o->seed};
    struct planned p;
    struct placement next;
    struct plan_shape shape;

    TRY(open_planned(&p, arena, &problem->shape));
    shape = plan_shape_of(&p);
    if (o->policy == PLANNED_REFERENCE) {
        TRY(plan_reference(&p, arena, problem));
        *out = p;
        return STATUS_OK;
    }
    TRY(plan_shape_check(&shape, options.levels));
    TRY(placement_open(&next, arena, p.shape.layers, p.shape.experts, p.shape.slots, p.shape.ranks));
    memcpy(next.rank_first, p.rank_first, sizeof *p.rank_first * (size_t)(p.shape.ranks + 1));
    TRY(o->policy == PLANNED_INCREMENTAL ? plan_incremental(&p, arena, problem, o, &next)
                                         : plan_anew(&p, arena, problem, &options, &next));
    p.expert = next.expert;
    TRY(list_slots(&p, arena));
    *out = p;
    return STATUS_OK;
}

/* -- how good --- */

void planned_even(const struct planned *p, const int64_t *load, int layer, double *work)
{
    const struct placement_shape *s = &p->shape;
    const int32_t *expert = p->expert + (ptrdiff_t)layer * s->slots;
    const int32_t *count = p->replicas + (ptrdiff_t)layer * s->experts;

    for (int r = 0; r < s->ranks; r++) {
        work[r] = 0;
        for (int at = p->rank_first[r]; at < p->rank_first[r + 1]; at++)
            if (expert[at] >= 0)
                work[r] += (double)load[(ptrdiff_t)layer * s->experts + expert[at]] / count[expert[at]];
    }
}

/* Workspace of planned_judge. */
struct judge {
    double *work;   /* [ranks] */
    int64_t *quota; /* [slots] */
    int32_t *counts, *share;
    struct flow *flow;
    struct bound *bound;
    struct replicas *replicas;
    struct plan_shape shape;
    struct placement served;
};

static enum status open_judge(struct judge *j, struct arena *arena, const struct planned *p,
                              enum plan_levels levels)
{
    const struct placement_shape *s = &p->shape;
    size_t ranks = (size_t)s->ranks;

    j->shape = plan_shape_of(p);
    TRY(arena_take_array(arena, ranks, sizeof *j->work, "work of ranks", &j->work));
    TRY(arena_take_array(arena, (size_t)s->slots, sizeof *j->quota, "rows of slots", &j->quota));
    TRY(arena_take_array(arena, ranks * (size_t)s->experts, sizeof *j->counts, "rows of experts",
                         &j->counts));
    TRY(arena_take_array(arena, ranks * (size_t)s->slots, sizeof *j->share, "rows of slots", &j->share));
    TRY(planned_placement(p, arena, &j->served));
    TRY(flow_open(&j->flow, arena, s->experts, s->slots, s->ranks));
    TRY(replicas_open(&j->replicas, arena, &j->served, NULL));
    return bound_open(&j->bound, arena, &j->shape, levels);
}

/* The active experts do not depend on how many rows there are. */
static enum status count_active(struct judge *j, const int64_t *load, int layer, int *active)
{
    struct replicas_result result;

    for (int e = 0; e < j->shape.experts; e++)
        j->counts[e] = load[e] > 0;
    TRY(replicas_share(j->replicas, &j->served, layer, j->counts, REPLICAS_FEWEST, NULL, j->share, &result));
    *active = result.active;
    return STATUS_OK;
}

static enum status judge_layer(struct judge *j, const struct planned *p, const int64_t *all, int layer,
                               struct planned_layer *out)
{
    const struct placement_shape *s = &p->shape;
    const int64_t *load = all + (ptrdiff_t)layer * s->experts;
    double sum = 0, bound;
    int64_t most;

    *out = (struct planned_layer){.even = 1, .flow = 1, .bound = 1, .expert = 1};
    for (int e = 0; e < s->experts; e++)
        sum += (double)load[e];
    if (!(sum > 0))
        return STATUS_OK;
    planned_even(p, all, layer, j->work);
    out->even = out->expert = 0;
    for (int r = 0; r < s->ranks; r++)
        if (j->work[r] * s->ranks / sum > out->even)
            out->even = j->work[r] * s->ranks / sum;
    for (int e = 0; e < s->experts; e++) {
        double replica = (double)load[e] / p->replicas[(ptrdiff_t)layer * s->experts + e] / sum * s->experts;

        if (replica > out->expert)
            out->expert = replica;
    }
    TRY(flow_layer(j->flow, &j->served, layer, load, j->quota, &most));
    out->flow = (double)most * s->ranks / sum;
    TRY(bound_layer(j->bound, load, &bound));
    out->bound = bound * s->ranks / sum;
    return count_active(j, load, layer, &out->active);
}

enum status planned_judge(const struct planned *p, struct arena *arena, const int64_t *load,
                          enum plan_levels levels, struct planned_layer *layer)
{
    struct judge j;

    TRY(open_judge(&j, arena, p, levels));
    for (int i = 0; i < p->shape.layers; i++)
        TRY(judge_layer(&j, p, load, i, &layer[i]));
    return STATUS_OK;
}

enum status planned_bound(const struct placement_shape *shape, struct arena *arena, const int64_t *load,
                          enum plan_levels levels, double *bound)
{
    struct planned p;
    struct plan_shape plan;
    struct bound *b;

    TRY(open_planned(&p, arena, shape));
    plan = plan_shape_of(&p);
    TRY(bound_open(&b, arena, &plan, levels));
    for (int i = 0; i < shape->layers; i++) {
        const int64_t *row = load + (ptrdiff_t)i * shape->experts;
        double sum = 0, least;

        for (int e = 0; e < shape->experts; e++)
            sum += (double)row[e];
        TRY(bound_layer(b, row, &least));
        bound[i] = sum > 0 ? least * shape->ranks / sum : 1;
    }
    return STATUS_OK;
}

enum status planned_moves(const struct planned *from, const struct planned *to, struct arena *arena,
                          int *moves)
{
    const struct placement_shape *s = &to->shape;
    int32_t *had;

    TRY(arena_take_array(arena, (size_t)s->experts, sizeof *had, "experts of a rank", &had));
    for (int i = 0; i < s->layers; i++) {
        moves[i] = 0;
        memset(had, 0, sizeof *had * (size_t)s->experts);
        for (int r = 0; r < s->ranks; r++) {
            for (int at = from->rank_first[r]; at < from->rank_first[r + 1]; at++) {
                int32_t e = from->expert[(ptrdiff_t)i * from->shape.slots + at];

                if (e >= 0)
                    had[e] = r + 1;
            }
            for (int at = to->rank_first[r]; at < to->rank_first[r + 1]; at++) {
                int32_t e = to->expert[(ptrdiff_t)i * s->slots + at];

                if (e < 0 || had[e] == r + 1)
                    continue;
                had[e] = r + 1;
                moves[i]++;
            }
        }
    }
    return STATUS_OK;
}
