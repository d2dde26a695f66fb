/* measure_replan.c - plans that follow a stream: the figures of docs/balancer.md
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * usage: measure_replan; run in the root of the project. */
#include "eplb/flow.h"
#include "eplb/improve.h"
#include "eplb/moves.h"
#include "eplb/plan.h"
#include "eplb/reference.h"

#include "eplb_shape.h"
#include "eplb_traces.h"

#include <math.h>
#include <time.h>

enum { RANKS = 8, FINE = 1 << 16 };

static double milliseconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

/* DeepSeek's plan, all experts over all ranks, as a placement without doubles on a rank. */
static void plan_reference(struct placement *p, const int64_t *load)
{
    struct placement_shape shape = {.layers = p->layers,
                                    .experts = p->experts,
                                    .slots = p->slots,
                                    .groups = 1,
                                    .nodes = 1,
                                    .ranks = p->ranks};
    struct reference r;
    float *weight;
    int doubles = 0;

    assert_int_equal(reference_take(&r, &eplb_gold_arena, &shape), STATUS_OK);
    assert_int_equal(arena_take_array(&eplb_gold_arena, (size_t)(p->layers * p->experts), sizeof *weight,
                                      "weights", &weight),
                     STATUS_OK);
    for (int i = 0; i < p->layers * p->experts; i++)
        weight[i] = (float)load[i];
    assert_int_equal(reference_plan(&r, weight), STATUS_OK);
    for (int i = 0; i < p->layers; i++) {
        for (int s = 0; s < p->slots; s++) {
            int e = r.expert[i * p->slots + s], first = p->rank_first[placement_rank(p, s)];

            p->expert[i * p->slots + s] = e;
            for (int other = first; other < s; other++) {
                if (p->expert[i * p->slots + other] == e) {
                    p->expert[i * p->slots + s] = -1;
                    doubles++;
                }
            }
        }
    }
    (void)doubles;
    assert_int_equal(placement_index(p), STATUS_OK);
}

/* Mean over the layers of what the busiest rank has, as a multiple of the mean, under the best split. */
static double mean_flow(struct flow *f, const struct placement *p, const int64_t *load)
{
    double sum = 0.0;

    for (int i = 0; i < p->layers; i++) {
        int64_t demand[256], quota[512], most, total = 0;

        for (int e = 0; e < p->experts; e++) {
            demand[e] = load[i * p->experts + e] * FINE;
            total += demand[e];
        }
        assert_int_equal(flow_layer(f, p, i, demand, quota, &most), STATUS_OK);
        sum += total > 0 ? (double)most * p->ranks / (double)total : 1.0;
    }
    return sum / p->layers;
}

static double mean_even(const struct placement *p, const int64_t *load)
{
    double sum = 0.0;

    for (int i = 0; i < p->layers; i++) {
        const int32_t *first = p->first + i * (p->experts + 1);
        double total = 0.0, most = 0.0;

        for (int e = 0; e < p->experts; e++)
            total += (double)load[i * p->experts + e];
        for (int r = 0; r < p->ranks; r++) {
            double here = 0.0;

            for (int s = p->rank_first[r]; s < p->rank_first[r + 1]; s++) {
                int e = p->expert[i * p->slots + s];

                if (e >= 0)
                    here += (double)load[i * p->experts + e] / (first[e + 1] - first[e]);
            }
            most = fmax(most, here);
        }
        sum += total > 0.0 ? most * p->ranks / total : 1.0;
    }
    return sum / p->layers;
}

/* Planned for one task, served another: imbalance against slots moved. */
static void measure_shift(int slots, const char *from, const char *to)
{
    static const double percent[] = {0, 1, 2, 3, 4, 5, 6, 8};
    struct plan_shape shape = {.layers = EPLB_ESFT_LAYERS,
                               .experts = EPLB_ESFT_EXPERTS,
                               .groups = 1,
                               .ranks = RANKS,
                               .rank_first = eplb_rank_first};
    static int64_t before[EPLB_ESFT_LAYERS * EPLB_ESFT_EXPERTS], after[EPLB_ESFT_LAYERS * EPLB_ESFT_EXPERTS];
    struct placement start, next;
    struct improve *improve;
    struct flow *flow;

    memset(before, 0, sizeof before);
    memset(after, 0, sizeof after);
    if (!eplb_traces_routes(from, 0, 1 << 20, before) || !eplb_traces_routes(to, 0, 1 << 20, after))
        return;
    for (int r = 0; r <= RANKS; r++)
        eplb_rank_first[r] = slots / RANKS * r;
    assert_int_equal(arena_open(&eplb_gold_arena, "shift", 64 << 20), STATUS_OK);
    assert_int_equal(placement_open(&start, &eplb_gold_arena, shape.layers, shape.experts, slots, RANKS),
                     STATUS_OK);
    assert_int_equal(placement_open(&next, &eplb_gold_arena, shape.layers, shape.experts, slots, RANKS),
                     STATUS_OK);
    assert_int_equal(improve_open(&improve, &eplb_gold_arena, &shape, 1, 16), STATUS_OK);
    assert_int_equal(flow_open(&flow, &eplb_gold_arena, shape.experts, slots, RANKS), STATUS_OK);
    plan_reference(&start, before);
    printf("%d slots, %s -> %s: stale even %.3f; flow after moving", slots, from, to,
           mean_even(&start, after));
    for (size_t i = 0; i < sizeof percent / sizeof *percent; i++) {
        struct improve_report report[EPLB_ESFT_LAYERS];
        struct improve_options o = {.most_bytes = (int64_t)(percent[i] * slots * shape.layers / 100.0),
                                    .most_layer_moves = 16,
                                    .tolerance = 0};
        int moves = 0;

        if (improve_plan(improve, &start, after, 1, &o, &next, report) != STATUS_OK)
            fail_msg("%s", status_text());
        for (int layer = 0; layer < shape.layers; layer++)
            moves += report[layer].moves;
        printf("  %.1f %%: %.4f", 100.0 * moves / slots / shape.layers, mean_flow(flow, &next, after));
    }
    {
        struct improve_options o = {.most_bytes = INT64_MAX, .most_layer_moves = 16};
        double best = HUGE_VAL;

        for (int round = 0; round < 5; round++) {
            double begin = milliseconds();

            assert_int_equal(improve_plan(improve, &start, after, 1, &o, &next, NULL), STATUS_OK);
            best = fmin(best, milliseconds() - begin);
        }
        printf("; %.2f ms\n", best);
    }
    arena_close(&eplb_gold_arena);
}

static double unit(void)
{
    return ((double)eplb_below(1 << 30) + 0.5) / (1 << 30);
}

static double normal(void)
{
    return sqrt(-2.0 * log(unit())) * cos(6.283185307179586 * unit());
}

enum { LARGE_LAYERS = 58, LARGE_EXPERTS = 256, BATCHES = 8 };

/* A large model: loads drift, and the last batches say so. With nodes, their ranks share. */
static void time_large(int ranks, int slots, int moves, int batches, int nodes)
{
    static int64_t load[LARGE_LAYERS * LARGE_EXPERTS], batch[BATCHES][LARGE_LAYERS * LARGE_EXPERTS];
    struct plan_shape shape = {.layers = LARGE_LAYERS,
                               .experts = LARGE_EXPERTS,
                               .groups = 1,
                               .ranks = ranks,
                               .rank_first = eplb_rank_first};
    struct plan_options plan_options = {.split = PLAN_FLOW, .tolerance = 10000};
    struct improve_options o = {.most_bytes = INT64_MAX, .most_layer_moves = moves, .tolerance = 10000};
    struct improve_report report[LARGE_LAYERS];
    int32_t share[EPLB_RANKS];
    struct placement start, next;
    struct improve *improve;
    struct plan *plan;
    double best = HUGE_VAL, before = 0.0, after = 0.0, moved = 0.0;

    for (int r = 0; r <= ranks; r++) {
        eplb_rank_first[r] = slots / ranks * r;
        share[r] = r * nodes / ranks;
    }
    o.share = nodes > 0 ? share : NULL;
    for (int i = 0; i < LARGE_LAYERS * LARGE_EXPERTS; i++) {
        double drifted;

        load[i] = (int64_t)(1000.0 * exp(0.9 * normal()));
        drifted = (double)load[i] * exp(0.35 * normal());
        for (int b = 0; b < batches; b++)
            batch[b][i] = (int64_t)fmax(0.0, drifted + sqrt(drifted) * normal());
    }
    assert_int_equal(arena_open(&eplb_gold_arena, "large", 256 << 20), STATUS_OK);
    assert_int_equal(placement_open(&start, &eplb_gold_arena, shape.layers, shape.experts, slots, ranks),
                     STATUS_OK);
    assert_int_equal(placement_open(&next, &eplb_gold_arena, shape.layers, shape.experts, slots, ranks),
                     STATUS_OK);
    assert_int_equal(plan_open(&plan, &eplb_gold_arena, &shape), STATUS_OK);
    assert_int_equal(improve_open(&improve, &eplb_gold_arena, &shape, batches, 64), STATUS_OK);
    assert_int_equal(plan_make(plan, &plan_options, load, &start, NULL), STATUS_OK);
    for (int round = 0; round < 3; round++) {
        double begin = milliseconds();

        assert_int_equal(improve_plan(improve, &start, batch[0], batches, &o, &next, report), STATUS_OK);
        best = fmin(best, milliseconds() - begin);
    }
    for (int i = 0; i < LARGE_LAYERS; i++) {
        before += (double)report[i].before / (double)report[i].mean;
        after += (double)report[i].after / (double)report[i].mean;
        moved += report[i].moves;
    }
    if (nodes > 0)
        printf("%d nodes share, %d sent in a layer: ", nodes,
               moves_sent(&start, &next, share) / LARGE_LAYERS);
    printf("58 x 256, %d slots, %d ranks, %d batches, at most %d moves in a layer: imbalance %.3f -> %.3f "
           "with %.1f "
           "moves in a layer; "
           "%.1f ms\n",
           slots, ranks, batches, moves, before / LARGE_LAYERS, after / LARGE_LAYERS, moved / LARGE_LAYERS,
           best);
    arena_close(&eplb_gold_arena);
}

int main(void)
{
    time_large(8, 288, 4, 4, 0);
    time_large(32, 288, 4, 4, 0);
    time_large(32, 288, 8, 4, 0);
    time_large(64, 320, 4, 4, 0);
    time_large(64, 320, 8, 4, 0);
    time_large(64, 320, 16, 4, 0);
    time_large(8, 288, 8, BATCHES, 0); /* as the engine plans */
    time_large(32, 288, 8, BATCHES, 0);
    time_large(64, 320, 8, BATCHES, 0);
    time_large(32, 288, 16, BATCHES, 4); /* and where ranks share */
    time_large(64, 320, 16, BATCHES, 8);
    measure_shift(72, "law", "intent");
    measure_shift(80, "law", "intent");
    measure_shift(80, "intent", "law");
    measure_shift(96, "law", "intent");
    return 0;
}
