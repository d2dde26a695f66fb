/* simulate.c - recorded steps on a cluster that is only imagined
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "eplb/simulate.h"

#include "eplb/flow.h"
#include "eplb/forecast.h"
#include "eplb/improve.h"
#include "eplb/plan_batches.h"
#include "eplb/planned.h"
#include "eplb/replicas.h"

#include <string.h>

#define ARENA_BYTES ((size_t)8 << 30) /* of a plan and its workspace; only what is used is touched */

enum { TOLERANCE = 10000 }; /* of plans, in millionths */

/* A plan and what batches need that run under it. */
struct stand {
    struct arena arena;
    struct planned plan;
    struct placement served;
    struct flow *flow;
    struct replicas *replicas;
};

struct run {
    const struct simulate_stream *stream;
    const struct simulate_cluster *cluster;
    const struct simulate_options *options;
    struct placement_shape shape;
    struct arena arena;
    struct stand stand[2];
    int now; /* of them */
    struct forecast *forecast;
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

static enum status open_dispatches(struct stand *s)
{
    const struct placement *p = &s->served;

    TRY(flow_open(&s->flow, &s->arena, p->experts, p->slots, p->ranks));
    return replicas_open(&s->replicas, &s->arena, p, s->plan.rank_node);
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

/* What is before this batch, as the options ask for it. */
static void sum_load(const struct run *r, int batch)
{
    int from = batch > r->options->window ? batch - r->options->window : 0;

    if (r->options->load == SIMULATE_EWMA)
        memcpy(r->load, forecast_expected(r->forecast),
               sizeof *r->load * (size_t)r->shape.layers * (size_t)r->shape.experts);
    else
        sum_batches(r, from, batch, r->load);
}

static enum status plan_few_moves(struct run *r, struct stand *next, int batch)
{
    const struct stand *present = &r->stand[r->now];
    bool last = r->options->load == SIMULATE_LAST;
    int most = last ? SIMULATE_SCENARIOS : 1, count = batch < most ? batch : most;
    struct improve_options options = {
        .most_bytes = INT64_MAX, .most_layer_moves = SIMULATE_LAYER_MOVES, .tolerance = TOLERANCE};
    struct plan_shape shape = {.layers = r->shape.layers,
                               .experts = r->shape.experts,
                               .groups = 1,
                               .ranks = r->shape.ranks,
                               .rank_first = present->plan.rank_first};
    struct improve *improve;
    struct placement placement;

    for (int i = 0; i < count && last; i++)
        sum_batches(r, batch - count + i, batch - count + i + 1,
                    r->load + (ptrdiff_t)i * r->shape.layers * r->shape.experts);
    if (!last)
        sum_load(r, batch);
    TRY(placement_like(&placement, &next->arena, &present->served));
    TRY(improve_open(&improve, &next->arena, &shape, count, SIMULATE_LAYER_MOVES));
    TRY(improve_plan(improve, &present->served, r->load, count, &options, &placement, NULL));
    return planned_take(&next->plan, &next->arena, &r->shape, placement.expert);
}

/* The plan is made for what may come. */
static enum status fit_plan(struct run *r, struct stand *next, const struct plan_shape *shape,
                            enum plan_levels levels)
{
    size_t cells = (size_t)r->shape.layers * (size_t)r->shape.experts;
    struct plan_batches *batches;
    struct placement placement;
    int64_t *may;

    TRY(arena_take_array(&next->arena, cells * PLAN_BATCHES_MOST, sizeof *may, "batches that may come",
                         &may));
    TRY(planned_placement(&next->plan, &next->arena, &placement));
    TRY(plan_batches_open(&batches, &next->arena, shape, PLAN_BATCHES_MOST));
    TRY(plan_batches_fit(batches, levels, may, forecast_batches(r->forecast, may), PLAN_BATCHES_TRIES,
                         &placement));
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
    struct plan_shape shape;

    sum_load(r, batch);
    TRY(planned_make(&next->plan, &next->arena, &problem, &options));
    if (o->policy != SIMULATE_BALANCED && o->policy != SIMULATE_SPILL)
        return STATUS_OK;
    shape = (struct plan_shape){.layers = r->shape.layers,
                                .experts = r->shape.experts,
                                .groups = r->shape.groups,
                                .ranks = r->shape.ranks,
                                .rank_first = next->plan.rank_first,
                                .rank_node = next->plan.rank_node};
    return fit_plan(r, next, &shape, planned_levels(&r->shape, options.policy, options.levels));
}

/* From the next batch on the ranks stand like this. */
static enum status take_stand(struct run *r, struct stand *next)
{
    TRY(planned_placement(&next->plan, &next->arena, &next->served));
    TRY(open_dispatches(next));
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

/* Of one layer. */
struct layer_figures {
    double imbalance[SIMULATE_DISPATCHES], time[SIMULATE_DISPATCHES];
};

/* A rank with so many rows: the busiest and the slowest count. */
static void add_rank(const struct run *r, struct layer_figures *out, enum simulate_dispatch way, double rows,
                     int active, double mean)
{
    double seconds = layer_time(r->cluster, rows, active);

    out->imbalance[way] = rows / mean > out->imbalance[way] ? rows / mean : out->imbalance[way];
    out->time[way] = seconds > out->time[way] ? seconds : out->time[way];
}

/* Copies share alike. */
static void run_even(const struct run *r, const struct stand *s, int layer, double mean,
                     struct layer_figures *out)
{
    const struct planned *p = &s->plan;
    const int32_t *expert = p->expert + (ptrdiff_t)layer * p->shape.slots;
    const int32_t *count = p->replicas + (ptrdiff_t)layer * p->shape.experts;

    for (int rank = 0; rank < p->shape.ranks; rank++) {
        double rows = 0;
        int active = 0;

        for (int at = p->rank_first[rank]; at < p->rank_first[rank + 1]; at++)
            if (expert[at] >= 0 && r->demand[expert[at]] > 0) {
                rows += (double)r->demand[expert[at]] / count[expert[at]];
                active++;
            }
        add_rank(r, out, SIMULATE_EVEN, rows, active, mean);
    }
}

/* Rows of the slots are in quota. */
static void run_quota(const struct run *r, const struct stand *s, enum simulate_dispatch way, double mean,
                      struct layer_figures *out)
{
    const struct planned *p = &s->plan;

    for (int rank = 0; rank < p->shape.ranks; rank++) {
        double rows = 0;
        int active = 0;

        for (int at = p->rank_first[rank]; at < p->rank_first[rank + 1]; at++) {
            rows += (double)r->quota[at];
            active += r->quota[at] > 0;
        }
        add_rank(r, out, way, rows, active, mean);
    }
}

static enum status run_layer(struct run *r, const struct stand *s, int layer, double mean,
                             struct layer_figures *out)
{
    struct replicas_result result;
    int64_t most;
    int faster;

    run_even(r, s, layer, mean, out);
    TRY(flow_layer(s->flow, &s->served, layer, r->demand, r->quota, &most));
    run_quota(r, s, SIMULATE_FLOW, mean, out);
    TRY(replicas_fewest(s->replicas, &s->served, layer, r->demand, r->quota, &result));
    run_quota(r, s, SIMULATE_FEWEST, mean, out);
    faster = out->time[SIMULATE_FEWEST] < out->time[SIMULATE_FLOW] ? SIMULATE_FEWEST : SIMULATE_FLOW;
    out->imbalance[SIMULATE_AUTO] = out->imbalance[faster];
    out->time[SIMULATE_AUTO] = out->time[faster];
    return STATUS_OK;
}

static enum status run_batch(struct run *r, int batch, struct simulate_result *sum)
{
    const struct stand *s = &r->stand[r->now];

    for (int layer = 0; layer < r->shape.layers; layer++) {
        const int32_t *rows = batch_rows(r, batch, layer);
        struct layer_figures here = {.imbalance = {0}};
        double all = 0;

        for (int e = 0; e < r->shape.experts; e++) {
            r->demand[e] = rows[e];
            all += rows[e];
        }
        if (all > 0)
            TRY(run_layer(r, s, layer, all / r->shape.ranks, &here));
        for (int way = 0; way < SIMULATE_DISPATCHES; way++) {
            sum->imbalance[way] += all > 0 ? here.imbalance[way] : 1;
            sum->time[way] += here.time[way];
        }
    }
    return STATUS_OK;
}

/* -- a run --- */

static enum status open_run(struct run *r)
{
    size_t cells = (size_t)r->shape.layers * (size_t)r->shape.experts;
    struct stand *s = &r->stand[0];
    bool average = r->options->load == SIMULATE_EWMA;
    int batches = r->stream->batches, window = r->options->window;
    int errors = batches < PLAN_BATCHES_MOST ? batches : PLAN_BATCHES_MOST;
    struct forecast_way way = {.window = average            ? 0
                                         : window < batches ? window
                                                            : batches,
                               .share = average ? (int)(r->options->share * FORECAST_MILLION) : 0};

    TRY(arena_open(&r->arena, "an imagined cluster", ARENA_BYTES));
    TRY(arena_take_array(&r->arena, cells, SIMULATE_SCENARIOS * sizeof *r->load, "loads", &r->load));
    TRY(forecast_open(&r->forecast, &r->arena, &way, (int)cells, errors));
    TRY(arena_take_array(&r->arena, (size_t)r->shape.experts, sizeof *r->demand, "rows", &r->demand));
    TRY(arena_take_array(&r->arena, (size_t)r->shape.slots, sizeof *r->quota, "rows of slots", &r->quota));
    TRY(arena_take_array(&r->arena, (size_t)r->shape.layers, sizeof *r->moves, "moves", &r->moves));
    TRY(arena_open(&s->arena, "the first placement", ARENA_BYTES));
    TRY(planned_plain(&s->plan, &s->arena, &r->shape));
    TRY(planned_placement(&s->plan, &s->arena, &s->served));
    return open_dispatches(s);
}

static void finish(const struct run *r, int counted, struct simulate_result *sum)
{
    const struct simulate_cluster *c = r->cluster;
    double figures = (double)counted * r->shape.layers;
    double bandwidth = c->nodes > 1 ? c->network_bandwidth : c->node_bandwidth;

    sum->moved_bytes = (double)r->moved * c->expert_bytes;
    sum->plans = r->replans;
    if (r->replans > 0)
        sum->moves = (double)r->moved / r->replans / r->shape.layers;
    for (int way = 0; way < SIMULATE_DISPATCHES; way++) {
        sum->imbalance[way] /= figures;
        sum->time[way] = (sum->time[way] + sum->moved_bytes / c->ranks / bandwidth) / counted;
    }
}

static enum status play(struct run *r, struct simulate_result *sum)
{
    const struct simulate_options *o = r->options;
    int counted = 0;

    TRY(open_run(r));
    for (int b = 0; b < r->stream->batches; b++) {
        if (o->policy != SIMULATE_NONE && b > 0 && b % o->interval == 0)
            TRY(replan(r, b));
        forecast_add(r->forecast, batch_rows(r, b, 0));
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
