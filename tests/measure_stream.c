/* measure_stream.c - how well plans from the past serve the next batches: the table of docs/balancer.md
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * usage: measure_stream; run in the root of the project. Two recorded streams of 129 batches, on one the task
 * changes. 8 ranks; the first plan comes before batch 8, then one before every 8th batch. For each way to
 * predict: the busiest rank as a multiple of the mean, over batches 8 to 128 and six layers, with replicas
 * that share alike and with the best split of each batch, both under the same placement. Beside it the figure
 * that is known for it; the exit status is 1 when one of ours is above, rounded to the digits that are shown.
 * Then the same ranks as two nodes whose ranks share one copy of each expert: what a plan gains that may send
 * so many experts, when the search knows that and when it does not.
 */
#include "eplb/flow.h"
#include "eplb/forecast.h"
#include "eplb/gate.h"
#include "eplb/improve.h"
#include "eplb/load.h"
#include "eplb/moves.h"
#include "eplb/plan.h"
#include "eplb/plan_batches.h"

#include "eplb_shape.h"
#include "eplb_traces.h"

#include <math.h>

enum {
    RANKS = 8,
    SLOTS = 80,
    LAYERS = EPLB_STREAM_LAYERS,
    EXPERTS = EPLB_ESFT_EXPERTS,
    LOADS = LAYERS * EXPERTS,
    FIRST = 8,
    SCENARIOS = 4,
    ENGINE_WINDOW = 50,
    FINE = 1 << 10
};

enum way { BLOCKS, FIRST_TWICE, WINDOW, EWMA, ORACLE, INCREMENTAL, ENGINE };

enum { MIXED, PHASED, STREAMS };

/* What is known: even split, best split, moves of a layer and plan. */
struct known {
    double even, flow, moves;
};

struct predictor {
    const char *name;
    enum way way;
    int window;   /* batches; thousandths of an EWMA, or above the mean with which a layer is content */
    int interval; /* batches between plans */
    struct known known[STREAMS];
};

/* Known are the figures of an earlier planner, for what is expected alone; 0: there is none. */
static const struct predictor predictors[] = {
    {"no balancer (64 slots)", BLOCKS, 0, 0, {{1.344, 0, 0}, {1.449, 0, 0}}},
    {"experts 0 to 15 twice", FIRST_TWICE, 0, 0, {{1.475, 0, 0}, {1.571, 0, 0}}},
    {"window 4", WINDOW, 4, 8, {{1.145, 1.014, 0}, {1.168, 1.030, 0}}},
    {"window 16", WINDOW, 16, 8, {{1.145, 1.010, 0}, {1.178, 1.031, 0}}},
    {"window 50", WINDOW, 50, 8, {{1.148, 1.013, 0}, {1.256, 1.075, 0}}},
    {"EWMA 0.05", EWMA, 50, 8, {{1.151, 1.018, 0}, {1.217, 1.044, 0}}},
    {"EWMA 0.1", EWMA, 100, 8, {{1.146, 1.015, 0}, {1.183, 1.029, 0}}},
    {"EWMA 0.3", EWMA, 300, 8, {{1.144, 1.012, 0}, {1.159, 1.020, 0}}},
    {"last batch, every batch", WINDOW, 1, 1, {{1.152, 1.012, 0}, {1.153, 1.015, 0}}},
    {"the batch itself (oracle)", ORACLE, 1, 1, {{1.009, 1.000, 0}, {1.008, 1.000, 0}}},
    {"incremental, content at 1.01", INCREMENTAL, 10, 8, {{0, 0, 0}, {0, 0, 0}}},
    {"incremental, content at 1.02", INCREMENTAL, 20, 8, {{0, 0, 0}, {0, 0, 0}}},
    {"incremental, content at 1.03", INCREMENTAL, 30, 8, {{0, 0, 0}, {0, 0, 0}}},
    {"incremental, content at 1.04", INCREMENTAL, 40, 8, {{1.178, 1.012, 0.33}, {1.248, 1.038, 0.80}}},
    {"incremental, content at 1.05", INCREMENTAL, 50, 8, {{0, 0, 0}, {0, 0, 0}}},
    {"engine, last batches", ENGINE, LOAD_LAST, 8, {{0, 0, 0}, {0, 0, 0}}},
    {"engine, window 50", ENGINE, LOAD_WINDOW, 8, {{0, 0, 0}, {0, 0, 0}}},
    {"engine, EWMA 0.3", ENGINE, LOAD_EWMA, 8, {{0, 0, 0}, {0, 0, 0}}},
};

static int64_t batch[EPLB_STREAM_BATCHES][LOADS];

struct replay {
    struct placement now, next;
    struct plan *plan;
    struct plan_batches *batches;
    struct improve *improve;
    struct flow *flow;
    struct load *load; /* as the engine keeps it */
    struct forecast *forecast;
    double even, flow_sum;
    int samples, plans, moves, sets; /* slots that changed; experts new to a rank, or sent to a node */
};

static void open_replay(struct replay *r, const struct predictor *how, int slots)
{
    static struct plan_shape shape;
    struct forecast_way way = {.window = how->way == WINDOW ? how->window : 0,
                               .share = how->way == EWMA ? how->window * (FORECAST_MILLION / 1000) : 0};

    *r = (struct replay){0};
    shape = (struct plan_shape){
        .layers = LAYERS, .experts = EXPERTS, .groups = 1, .ranks = RANKS, .rank_first = eplb_rank_first};
    for (int rank = 0; rank <= RANKS; rank++)
        eplb_rank_first[rank] = slots / RANKS * rank;
    assert_int_equal(arena_open(&eplb_gold_arena, "replay", 64 << 20), STATUS_OK);
    assert_int_equal(placement_open(&r->now, &eplb_gold_arena, LAYERS, EXPERTS, slots, RANKS), STATUS_OK);
    assert_int_equal(placement_open(&r->next, &eplb_gold_arena, LAYERS, EXPERTS, slots, RANKS), STATUS_OK);
    assert_int_equal(plan_open(&r->plan, &eplb_gold_arena, &shape), STATUS_OK);
    assert_int_equal(improve_open(&r->improve, &eplb_gold_arena, &shape, LOAD_SCENARIOS, 16), STATUS_OK);
    assert_int_equal(flow_open(&r->flow, &eplb_gold_arena, EXPERTS, slots, RANKS), STATUS_OK);
    assert_int_equal(plan_batches_open(&r->batches, &eplb_gold_arena, &shape, PLAN_BATCHES_MOST), STATUS_OK);
    assert_int_equal(forecast_open(&r->forecast, &eplb_gold_arena, &way, LOADS, PLAN_BATCHES_MOST),
                     STATUS_OK);
    if (how->way == ENGINE)
        assert_int_equal(load_open(&r->load, &eplb_gold_arena, LAYERS, EXPERTS, ENGINE_WINDOW), STATUS_OK);
    for (int i = 0; i < LAYERS * slots; i++)
        r->now.expert[i] = i % slots % EXPERTS;
    assert_int_equal(placement_index(&r->now), STATUS_OK);
}

/* The busiest rank of a layer as a multiple of the mean, both ways. */
static void serve(struct replay *r, const int64_t *rows)
{
    const struct placement *p = &r->now;

    for (int layer = 0; layer < LAYERS; layer++) {
        const int32_t *first = p->first + layer * (EXPERTS + 1);
        int64_t demand[EXPERTS], quota[SLOTS], most, total = 0;
        double even = 0.0;

        for (int e = 0; e < EXPERTS; e++) {
            demand[e] = rows[layer * EXPERTS + e] * FINE;
            total += demand[e];
        }
        assert_int_equal(flow_layer(r->flow, p, layer, demand, quota, &most), STATUS_OK);
        for (int rank = 0; rank < RANKS; rank++) {
            double here = 0.0;

            for (int s = p->rank_first[rank]; s < p->rank_first[rank + 1]; s++) {
                int e = p->expert[layer * p->slots + s];

                here += e < 0 ? 0.0 : (double)demand[e] / (first[e + 1] - first[e]);
            }
            even = fmax(even, here);
        }
        r->even += even * RANKS / (double)total;
        r->flow_sum += (double)most * RANKS / (double)total;
        r->samples++;
    }
}

static void predict(const struct replay *r, const struct predictor *how, int at, int64_t *load)
{
    int from = at - (how->way == INCREMENTAL ? SCENARIOS : FIRST), to = at;

    memset(load, 0, sizeof *load * LOADS);
    if (how->way == WINDOW || how->way == EWMA) {
        memcpy(load, forecast_expected(r->forecast), sizeof *load * LOADS);
        return;
    }
    if (how->way == ORACLE) {
        from = at;
        to = at + 1;
    }
    for (int b = from; b < to; b++) {
        for (int i = 0; i < LOADS; i++)
            load[i] += batch[b][i];
    }
}

/* Experts that a rank did not have before. */
static int new_sets(const struct placement *before, const struct placement *after)
{
    int count = 0;

    for (int i = 0; i < LAYERS * after->slots; i++) {
        int layer = i / after->slots, rank = placement_rank(after, i % after->slots);
        bool there = after->expert[i] < 0;

        for (int s = before->rank_first[rank]; s < before->rank_first[rank + 1]; s++)
            there |= before->expert[layer * after->slots + s] == after->expert[i];
        count += !there;
    }
    return count;
}

/* Rows of the busiest rank over scenarios and layers. */
static int64_t busiest(struct replay *r, const struct placement *p, const int64_t *sums, int count)
{
    int64_t quota[SLOTS], all = 0, most;

    for (int i = 0; i < count * LAYERS; i++) {
        assert_int_equal(flow_layer(r->flow, p, i % LAYERS, sums + (ptrdiff_t)i * EXPERTS, quota, &most),
                         STATUS_OK);
        all += most;
    }
    return all;
}

/* As engine/replan and engine/steer do it, but that moves cost nothing: false, the plan is refused. */
static bool plan_in_engine(struct replay *r, enum load_way way)
{
    static int64_t made[LOAD_SCENARIOS * LOADS], judged[LOAD_SCENARIOS * LOADS];
    struct improve_options options = {
        .most_bytes = INT64_MAX, .most_layer_moves = 8, .tolerance = PLAN_FAST_TOLERANCE};
    struct gate_case c = {.row_ns = 1, .horizon = 1000};
    struct gate_decision d;
    int count, batches;

    load_scenarios(r->load, way, 1, made, &count, &batches);
    assert_int_equal(improve_plan(r->improve, &r->now, made, count, &options, &r->next, NULL), STATUS_OK);
    c.moves = new_sets(&r->now, &r->next);
    load_scenarios(r->load, way == LOAD_LAST ? LOAD_LAST : LOAD_WINDOW, 0, judged, &count, &c.batches);
    c.rows_now = busiest(r, &r->now, judged, count);
    c.rows_planned = busiest(r, &r->next, judged, count);
    gate_decide(&c, &d);
    return d.reason == GATE_GO;
}

/* The plan is made for what may come. */
static void fit(struct replay *r)
{
    static int64_t may[PLAN_BATCHES_MOST * LOADS];
    int count = forecast_batches(r->forecast, may);

    assert_int_equal(plan_batches_fit(r->batches, PLAN_GLOBAL, may, count, PLAN_BATCHES_TRIES, &r->next),
                     STATUS_OK);
}

static void replan(struct replay *r, const struct predictor *how, int at)
{
    struct plan_options o = {.split = how->way == INCREMENTAL ? PLAN_FLOW : PLAN_EVEN,
                             .tolerance = PLAN_GOOD_TOLERANCE,
                             .kicks = 20};
    struct improve_options io = {
        .most_bytes = INT64_MAX, .most_layer_moves = 8, .tolerance = how->window * 1000};
    int64_t load[LOADS];

    if (how->way == ENGINE && at > FIRST) {
        r->plans++;
        if (!plan_in_engine(r, (enum load_way)how->window))
            return;
        r->plans--;
    } else if (how->way == INCREMENTAL && at > FIRST) {
        assert_int_equal(
            improve_plan(r->improve, &r->now, batch[at - SCENARIOS], SCENARIOS, &io, &r->next, NULL),
            STATUS_OK);
    } else {
        predict(r, how, at, load);
        assert_int_equal(plan_make(r->plan, &o, load, &r->next, NULL), STATUS_OK);
        if (how->way == WINDOW || how->way == EWMA)
            fit(r);
        assert_int_equal(moves_keep(&r->now, &r->next), STATUS_OK);
    }
    if (at > FIRST) {
        r->plans++;
        r->sets += new_sets(&r->now, &r->next);
    }
    memcpy(r->now.expert, r->next.expert, sizeof *r->now.expert * (size_t)(LAYERS * r->now.slots));
    assert_int_equal(placement_index(&r->now), STATUS_OK);
}

/* The batch is over. */
static void learn(struct replay *r, const int64_t *rows)
{
    int32_t short_rows[LOADS];

    for (int i = 0; i < LOADS; i++)
        short_rows[i] = (int32_t)rows[i];
    forecast_add(r->forecast, short_rows);
    if (!r->load)
        return;
    load_begin(r->load, LOAD_DECODE);
    for (int layer = 0; layer < LAYERS; layer++)
        load_add(r->load, layer, short_rows + layer * EXPERTS, 1);
}

struct verdict {
    int met, beaten, behind;
};

/* "1.120 (1.148) beaten": ours, what is known if anything is, and how they compare by the digits shown. */
static void print_figure(double ours, double known, int digits, struct verdict *v)
{
    double steps = round(ours * pow(10, digits)) - round(known * pow(10, digits));

    printf("  %5.*f", digits, ours);
    if (!(known > 0)) {
        printf("%*s", digits + 11, "");
        return;
    }
    printf(" (%.*f) %-6s", digits, known, steps < 0 ? "beaten" : steps > 0 ? "BEHIND" : "met");
    v->beaten += steps < 0;
    v->behind += steps > 0;
    v->met += steps >= 0 && steps <= 0;
}

static void replay(const struct predictor *how, const struct known *known, struct verdict *v)
{
    static struct replay r;

    open_replay(&r, how, how->way == BLOCKS ? EXPERTS : SLOTS);
    for (int b = 0; b < EPLB_STREAM_BATCHES; b++) {
        if (b >= FIRST && how->interval > 0 && b % how->interval == 0)
            replan(&r, how, b);
        if (b >= FIRST)
            serve(&r, batch[b]);
        learn(&r, batch[b]);
    }
    printf("  %-28s", how->name);
    print_figure(r.even / r.samples, known->even, 3, v);
    print_figure(r.flow_sum / r.samples, known->flow, 3, v);
    if (r.plans > 0)
        print_figure((double)r.sets / LAYERS / r.plans, known->moves, 2, v);
    printf("\n");
    arena_close(&eplb_gold_arena);
}

/* Plans from the last LOAD_LAST_BATCHES batches that send `budget` experts at most; share [RANKS]. */
static void replay_shared(int budget, const int32_t *share, bool knows)
{
    static const struct predictor how = {.way = WINDOW, .window = FIRST};
    static struct replay r;
    struct improve_options options = {.most_bytes = budget,
                                      .share = knows ? share : NULL,
                                      .most_layer_moves = 16,
                                      .tolerance = PLAN_FAST_TOLERANCE};

    open_replay(&r, &how, SLOTS);
    for (int b = 0; b < EPLB_STREAM_BATCHES; b++) {
        if (b == FIRST) {
            replan(&r, &how, b);
        } else if (b > FIRST && b % FIRST == 0) {
            assert_int_equal(improve_plan(r.improve, &r.now, batch[b - LOAD_LAST_BATCHES], LOAD_LAST_BATCHES,
                                          &options, &r.next, NULL),
                             STATUS_OK);
            r.plans++;
            r.sets += moves_sent(&r.now, &r.next, share);
            memcpy(r.now.expert, r.next.expert, sizeof *r.now.expert * (size_t)(LAYERS * r.now.slots));
            assert_int_equal(placement_index(&r.now), STATUS_OK);
        }
        if (b >= FIRST)
            serve(&r, batch[b]);
        learn(&r, batch[b]);
    }
    printf("  %5.3f, %4.2f sent", r.flow_sum / r.samples, (double)r.sets / LAYERS / r.plans);
    arena_close(&eplb_gold_arena);
}

static void print_shared(void)
{
    static const int32_t share[RANKS] = {0, 0, 0, 0, 1, 1, 1, 1};
    static const int budgets[] = {0, LAYERS / 2, LAYERS, 2 * LAYERS, 8 * LAYERS};

    printf("  two nodes that share; sent in a layer and plan\n");
    printf("  %-28s  %-16s  %s\n", "at most", "the search counts all moves", "the search knows");
    for (size_t i = 0; i < sizeof budgets / sizeof *budgets; i++) {
        printf("  %-28.2f", (double)budgets[i] / LAYERS);
        replay_shared(budgets[i], share, false);
        printf("           ");
        replay_shared(budgets[i], share, true);
        printf("\n");
    }
}

int main(void)
{
    const char *streams[] = {
        [MIXED] = "esft_stream_mixed_B256.csv", [PHASED] = "esft_stream_phased_B256.csv"};
    struct verdict v = {0};

    for (int i = 0; i < STREAMS; i++) {
        if (!eplb_traces_stream(streams[i], batch[0]))
            continue;
        printf("%s: busiest rank / mean; in brackets what is known\n", streams[i]);
        printf("  %-28s  %-20s  %-20s  %s\n", "plans from", "even split", "best split",
               "moves in a layer and plan");
        for (size_t j = 0; j < sizeof predictors / sizeof *predictors; j++)
            replay(&predictors[j], &predictors[j].known[i], &v);
        print_shared();
    }
    printf("%d of %d figures beaten, %d met, %d behind\n", v.beaten, v.beaten + v.met + v.behind, v.met,
           v.behind);
    return v.behind > 0;
}
