/* simulate.c - recorded steps on a cluster that is only imagined
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "eplb/simulate.h"

#include "eplb/flow.h"
#include "eplb/improve.h"
#include "eplb/planned.h"

#include <string.h>

#define ARENA_BYTES ((size_t)8 << 30) /* of a plan and its workspace; only what is used is touched */

enum { TOLERANCE = 10000 }; /* of plans, in millionths */

/* A plan and what batches need that run under it. */
struct stand {
    struct arena arena;
    struct planned plan;
    struct placement served;
    struct flow *flow;
};

struct run {
    const struct simulate_stream *stream;
    const struct simulate_cluster *cluster;
    const struct simulate_options *options;
    struct placement_shape shape;
    struct arena arena;
    struct stand stand[2];
    int now;         /* of them */
    int64_t *load;   /* [SIMULATE_SCENARIOS, layers, experts] */
    int64_t *demand; /* [experts] */
    int64_t *quota;  /* [slots] */
    int *moves;      /* [layers] */
    int64_t moved;
    int replans;
};

static const int32_t *batch_rows(const struct run *r, int batch, int layer)
{
    return r->stream->rows + ((ptrdiff_t)batch * r->stream->layers + layer) * r->stream->experts;
}

/* -- plans --- */

/* Batches from ... to - 1 together. */
static void sum_batches(const struct run *r, int from, int to, int64_t *load)
{
    ptrdiff_t cells = (ptrdiff_t)r->stream->layers * r->stream->experts;

    memset(load, 0, sizeof *load * (size_t)cells);
    for (int b = from; b < to; b++) {
        const int32_t *rows = batch_rows(r, b, 0);

        for (ptrdiff_t i = 0; i < cells; i++)
            load[i] += rows[i];
    }
}

static enum status plan_few_moves(struct run *r, struct stand *next, int batch)
{
    const struct stand *present = &r->stand[r->now];
    int count = batch < SIMULATE_SCENARIOS ? batch : SIMULATE_SCENARIOS;
    struct improve_options options = {
        .most_bytes = INT64_MAX, .most_layer_moves = SIMULATE_LAYER_MOVES, .tolerance = TOLERANCE};
    struct plan_shape shape = {.layers = r->shape.layers,
                               .experts = r->shape.experts,
                               .groups = 1,
                               .ranks = r->shape.ranks,
                               .rank_first = present->plan.rank_first};
    struct improve *improve;
    struct placement placement;

    for (int i = 0; i < count; i++)
        sum_batches(r, batch - count + i, batch - count + i + 1,
                    r->load + (ptrdiff_t)i * r->shape.layers * r->shape.experts);
    TRY(placement_like(&placement, &next->arena, &present->served));
    TRY(improve_open(&improve, &next->arena, &shape, count, SIMULATE_LAYER_MOVES));
    TRY(improve_plan(improve, &present->served, r->load, count, &options, &placement, NULL));
    return planned_take(&next->plan, &next->arena, &r->shape, placement.expert);
}

static enum status plan_anew(struct run *r, struct stand *next, int batch)
{
    static const enum planned_policy policy[] = {[SIMULATE_REFERENCE] = PLANNED_REFERENCE,
                                                 [SIMULATE_BALANCED] = PLANNED_BALANCED,
                                                 [SIMULATE_SPILL] = PLANNED_SPILL,
                                                 [SIMULATE_INCREMENTAL] = PLANNED_BALANCED};
    const struct simulate_options *o = r->options;
    struct planned_options options = {.policy = policy[o->policy],
                                      .levels = o->policy == SIMULATE_INCREMENTAL ? PLAN_GLOBAL : PLAN_AUTO,
                                      .split = o->policy == SIMULATE_REFERENCE ? PLAN_EVEN : PLAN_FLOW,
                                      .tolerance = TOLERANCE};
    struct problem problem = {.shape = r->shape, .load = r->load};

    sum_batches(r, batch > o->window ? batch - o->window : 0, batch, r->load);
    return planned_make(&next->plan, &next->arena, &problem, &options);
}

/* From the next batch on the ranks stand like this. */
static enum status take_stand(struct run *r, struct stand *next)
{
    const struct placement_shape *s = &next->plan.shape;

    TRY(planned_placement(&next->plan, &next->arena, &next->served));
    TRY(flow_open(&next->flow, &next->arena, s->experts, s->slots, s->ranks));
    arena_close(&r->stand[r->now].arena);
    r->now = (int)(next - r->stand);
    return STATUS_OK;
}

static enum status replan(struct run *r, int batch)
{
    struct stand *next = &r->stand[!r->now];
    bool first = batch == r->options->interval;

    TRY(arena_open(&next->arena, "an imagined plan", ARENA_BYTES));
    if (r->options->policy == SIMULATE_INCREMENTAL && !first)
        TRY(plan_few_moves(r, next, batch));
    else
        TRY(plan_anew(r, next, batch));
    if (!first) {
        TRY(planned_moves(&r->stand[r->now].plan, &next->plan, &next->arena, r->moves));
        for (int i = 0; i < r->shape.layers; i++)
            r->moved += r->moves[i];
        r->replans++;
    }
    return take_stand(r, next);
}

/* -- batches --- */

/* Seconds of a layer, for ranks with this many rows and slots that have some. */
static double layer_time(const struct simulate_cluster *c, double rows, int active)
{
    double multiply = rows * c->expert_bytes / c->rate;
    double read = active * c->expert_bytes / c->memory_bandwidth;
    double far = 1.0 - 1.0 / c->nodes, near = 1.0 / c->nodes - 1.0 / c->ranks;
    double travel = 2 * rows * c->row_bytes * (near / c->node_bandwidth + far / c->network_bandwidth);

    return (multiply > read ? multiply : read) + travel;
}

struct layer_figures {
    double even, flow, even_time, flow_time;
};

/* Copies share alike. */
static void run_even(struct run *r, const struct stand *s, int layer, double mean, struct layer_figures *out)
{
    const struct planned *p = &s->plan;
    const int32_t *expert = p->expert + (ptrdiff_t)layer * p->shape.slots;
    const int32_t *count = p->replicas + (ptrdiff_t)layer * p->shape.experts;

    for (int rank = 0; rank < p->shape.ranks; rank++) {
        double rows = 0, seconds;
        int active = 0;

        for (int at = p->rank_first[rank]; at < p->rank_first[rank + 1]; at++)
            if (expert[at] >= 0 && r->demand[expert[at]] > 0) {
                rows += (double)r->demand[expert[at]] / count[expert[at]];
                active++;
            }
        seconds = layer_time(r->cluster, rows, active);
        out->even = rows / mean > out->even ? rows / mean : out->even;
        out->even_time = seconds > out->even_time ? seconds : out->even_time;
    }
}

static enum status run_flow(struct run *r, const struct stand *s, int layer, double mean,
                            struct layer_figures *out)
{
    const struct planned *p = &s->plan;
    int64_t most;

    TRY(flow_layer(s->flow, &s->served, layer, r->demand, r->quota, &most));
    out->flow = (double)most / mean;
    for (int rank = 0; rank < p->shape.ranks; rank++) {
        double rows = 0, seconds;
        int active = 0;

        for (int at = p->rank_first[rank]; at < p->rank_first[rank + 1]; at++) {
            rows += (double)r->quota[at];
            active += r->quota[at] > 0;
        }
        seconds = layer_time(r->cluster, rows, active);
        out->flow_time = seconds > out->flow_time ? seconds : out->flow_time;
    }
    return STATUS_OK;
}

static enum status run_batch(struct run *r, int batch, struct simulate_result *sum)
{
    const struct stand *s = &r->stand[r->now];

    for (int layer = 0; layer < r->shape.layers; layer++) {
        const int32_t *rows = batch_rows(r, batch, layer);
        struct layer_figures here = {0};
        double all = 0;

        for (int e = 0; e < r->shape.experts; e++) {
            r->demand[e] = rows[e];
            all += rows[e];
        }
        if (all > 0) {
            run_even(r, s, layer, all / r->shape.ranks, &here);
            TRY(run_flow(r, s, layer, all / r->shape.ranks, &here));
        } else {
            here.even = here.flow = 1;
        }
        sum->even += here.even;
        sum->flow += here.flow;
        sum->even_time += here.even_time;
        sum->flow_time += here.flow_time;
    }
    return STATUS_OK;
}

/* -- a run --- */

static enum status open_run(struct run *r)
{
    size_t cells = (size_t)r->shape.layers * (size_t)r->shape.experts;
    struct stand *s = &r->stand[0];

    TRY(arena_open(&r->arena, "an imagined cluster", ARENA_BYTES));
    TRY(arena_take_array(&r->arena, cells, SIMULATE_SCENARIOS * sizeof *r->load, "loads", &r->load));
    TRY(arena_take_array(&r->arena, (size_t)r->shape.experts, sizeof *r->demand, "rows", &r->demand));
    TRY(arena_take_array(&r->arena, (size_t)r->shape.slots, sizeof *r->quota, "rows of slots", &r->quota));
    TRY(arena_take_array(&r->arena, (size_t)r->shape.layers, sizeof *r->moves, "moves", &r->moves));
    TRY(arena_open(&s->arena, "the first placement", ARENA_BYTES));
    TRY(planned_plain(&s->plan, &s->arena, &r->shape));
    TRY(planned_placement(&s->plan, &s->arena, &s->served));
    return flow_open(&s->flow, &s->arena, r->shape.experts, s->plan.shape.slots, r->shape.ranks);
}

static void finish(const struct run *r, int counted, struct simulate_result *sum)
{
    const struct simulate_cluster *c = r->cluster;
    double figures = (double)counted * r->shape.layers;
    double bandwidth = c->nodes > 1 ? c->network_bandwidth : c->node_bandwidth;

    sum->even /= figures;
    sum->flow /= figures;
    sum->moved_bytes = (double)r->moved * c->expert_bytes;
    sum->plans = r->replans;
    if (r->replans > 0)
        sum->moves = (double)r->moved / r->replans / r->shape.layers;
    sum->even_time = (sum->even_time + sum->moved_bytes / c->ranks / bandwidth) / counted;
    sum->flow_time = (sum->flow_time + sum->moved_bytes / c->ranks / bandwidth) / counted;
}

static enum status play(struct run *r, struct simulate_result *sum)
{
    const struct simulate_options *o = r->options;
    int counted = 0;

    TRY(open_run(r));
    for (int b = 0; b < r->stream->batches; b++) {
        if (o->policy != SIMULATE_NONE && b > 0 && b % o->interval == 0)
            TRY(replan(r, b));
        if (b < o->first)
            continue;
        TRY(run_batch(r, b, sum));
        counted++;
    }
    finish(r, counted, sum);
    return STATUS_OK;
}

enum status simulate_run(const struct simulate_stream *stream, const struct simulate_cluster *cluster,
                         const struct simulate_options *options, struct simulate_result *result)
{
    struct run r = {.stream = stream,
                    .cluster = cluster,
                    .options = options,
                    .shape = {.layers = stream->layers,
                              .experts = stream->experts,
                              .slots = stream->experts + options->redundant,
                              .groups = options->groups,
                              .nodes = cluster->nodes,
                              .ranks = cluster->ranks}};
    struct simulate_result sum = {0};
    enum status status;

    if (options->first >= stream->batches || options->first < options->interval)
        return FAIL(STATUS_USAGE, "%d batches are too few: results are counted from batch %d on",
                    stream->batches, options->first);
    status = play(&r, &sum);
    for (int i = 0; i < 2; i++)
        arena_close(&r.stand[i].arena);
    arena_close(&r.arena);
    if (status == STATUS_OK)
        *result = sum;
    return status;
}
