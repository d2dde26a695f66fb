/* measure_plan.c - how good plans are, and what they cost: the figures that docs quote
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * usage: measure_plan [TOLERANCE KICKS]; run in the root of the project. */
#include "eplb/flow.h"
#include "eplb/plan.h"
#include "eplb/replicas.h"

#include "eplb_gold.h"

#include <math.h>
#include <time.h>

struct sums {
    double even, flow, most_over;
    int layers, above;
};

static struct sums sums;
static struct plan_options options = {.tolerance = 1000, .kicks = 50, .seed = 1};
static int32_t rank_first[1025], rank_node[1024];

static double column(const struct eplb_gold *c, const char *key, int layer)
{
    return json_number_value(json_array_get(json_object_get(c->bounds, key), (size_t)layer));
}

static double milliseconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static void measure_case(const struct eplb_gold *c)
{
    const struct placement_shape *s = &c->shape;
    struct plan_shape shape = {.layers = s->layers,
                               .experts = s->experts,
                               .groups = s->groups,
                               .ranks = s->ranks,
                               .rank_first = rank_first,
                               .rank_node = rank_node};
    struct plan_report report[64];
    struct placement out;
    struct plan *plan;

    for (int r = 0; r <= s->ranks; r++)
        rank_first[r] = s->slots / s->ranks * r;
    for (int r = 0; r < s->ranks; r++)
        rank_node[r] = r / ((s->ranks + s->nodes - 1) / s->nodes);
    if (s->groups % s->nodes)
        shape.groups = 1, shape.rank_node = NULL;
    assert_int_equal(placement_open(&out, &eplb_gold_arena, s->layers, s->experts, s->slots, s->ranks),
                     STATUS_OK);
    assert_int_equal(plan_open(&plan, &eplb_gold_arena, &shape), STATUS_OK);
    if (plan_make(plan, &options, c->load, &out, report) != STATUS_OK)
        fail_msg("case %d: %s", eplb_gold_int(c->gold, "id"), status_text());
    for (int i = 0; i < s->layers; i++) {
        double lb = column(c, "lb", i), over = report[i].even / column(c, "deepseek", i) - 1.0;

        sums.even += report[i].even / lb - 1.0;
        sums.flow += report[i].flow / lb - 1.0;
        sums.most_over = fmax(sums.most_over, over);
        sums.above += over > 1e-6;
        sums.layers++;
    }
}

static void line(const char *what)
{
    printf("%-28s %4d layers: even %.3f %% above the bound, flow %.3f %%; over DeepSeek in %d, at most %.4f "
           "%%\n",
           what, sums.layers, 100 * sums.even / sums.layers, 100 * sums.flow / sums.layers, sums.above,
           100 * sums.most_over);
    sums = (struct sums){0};
}

static uint64_t seed = 7;

static double unit(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return ((double)(seed >> 33) + 0.5) / 2147483648.0;
}

/* Loads like those of a large model: lognormal, the busiest expert at six to eight times the mean. */
static void draw(int64_t *load, int count, double sigma)
{
    for (int i = 0; i < count; i++)
        load[i] = (int64_t)(1000.0 * exp(sigma * sqrt(-2.0 * log(unit())) * cos(6.283185307179586 * unit())));
}

static void time_plan(int nodes, int ranks, int slots, int tolerance, enum plan_split split)
{
    struct plan_shape shape = {.layers = 58,
                               .experts = 256,
                               .groups = 8,
                               .ranks = ranks,
                               .rank_first = rank_first,
                               .rank_node = rank_node};
    struct plan_options o = {.tolerance = tolerance, .split = split, .levels = PLAN_HIERARCHICAL};
    static int64_t load[58 * 256];
    struct plan_report report[58];
    double best = HUGE_VAL, even = 0.0, flow = 0.0;
    struct placement out;
    struct plan *plan;

    for (int r = 0; r <= ranks; r++)
        rank_first[r] = slots / ranks * r;
    for (int r = 0; r < ranks; r++)
        rank_node[r] = r / (ranks / nodes);
    draw(load, 58 * 256, 0.9);
    assert_int_equal(arena_open(&eplb_gold_arena, "case", 64 << 20), STATUS_OK);
    assert_int_equal(placement_open(&out, &eplb_gold_arena, 58, 256, slots, ranks), STATUS_OK);
    assert_int_equal(plan_open(&plan, &eplb_gold_arena, &shape), STATUS_OK);
    for (int round = 0; round < 5; round++) {
        double start = milliseconds();

        assert_int_equal(plan_make(plan, &o, load, &out, report), STATUS_OK);
        best = fmin(best, milliseconds() - start);
    }
    for (int i = 0; i < 58; i++) {
        even += report[i].even / report[i].bound - 1.0;
        flow += report[i].flow / report[i].bound - 1.0;
    }
    printf("58 x 256, %d slots, %d nodes, %d ranks, %s, tolerance %.3f: %.2f ms; even %.2f %%, flow %.2f %% "
           "above the bound\n",
           slots, nodes, ranks, split == PLAN_FLOW ? "flow" : "even", tolerance / 1e6, best, 100 * even / 58,
           100 * flow / 58);
    arena_close(&eplb_gold_arena);
}

/* A batch of `rows` choices over `ranks` sources, drawn from the loads of a layer. */
static void draw_batch(const int64_t *load, int experts, int ranks, int rows, int32_t *counts)
{
    static double up_to[256];
    double sum = 0.0;

    for (int e = 0; e < experts; e++) {
        sum += (double)load[e];
        up_to[e] = sum;
    }
    memset(counts, 0, sizeof *counts * (size_t)ranks * (size_t)experts);
    for (int i = 0; i < rows; i++) {
        double x = unit() * sum;
        int e = 0;

        while (e < experts - 1 && up_to[e] < x)
            e++;
        counts[(ptrdiff_t)(i % ranks) * experts + e]++;
    }
}

enum { TIMED_LAYERS = 58, TIMES = 20 };

static void time_replicas(int experts, int ranks, int slots, int rows)
{
    struct plan_shape shape = {
        .layers = TIMED_LAYERS, .experts = experts, .groups = 1, .ranks = ranks, .rank_first = rank_first};
    struct plan_options o = {.tolerance = 10000, .split = PLAN_FLOW, .levels = PLAN_GLOBAL};
    int64_t *load, *demand, *quota, most;
    int32_t *counts, *share;
    struct replicas_result result;
    struct placement p;
    struct plan *plan;
    struct replicas *replicas;
    struct flow *flow;
    double best[5] = {HUGE_VAL, HUGE_VAL, HUGE_VAL, HUGE_VAL, HUGE_VAL};
    size_t table = (size_t)ranks * (size_t)experts;

    for (int r = 0; r <= ranks; r++)
        rank_first[r] = slots / ranks * r;
    for (int r = 0; r < ranks; r++)
        rank_node[r] = r / 8;
    assert_int_equal(arena_open(&eplb_gold_arena, "case", 256 << 20), STATUS_OK);
    arena_take(&eplb_gold_arena, sizeof *load * TIMED_LAYERS * (size_t)experts, "load", &load);
    arena_take(&eplb_gold_arena, sizeof *demand * TIMED_LAYERS * (size_t)experts, "demand", &demand);
    arena_take(&eplb_gold_arena, sizeof *quota * (size_t)slots, "quota", &quota);
    arena_take(&eplb_gold_arena, sizeof *counts * TIMED_LAYERS * table, "counts", &counts);
    arena_take(&eplb_gold_arena, sizeof *share * (size_t)ranks * (size_t)slots, "share", &share);
    assert_int_equal(placement_open(&p, &eplb_gold_arena, TIMED_LAYERS, experts, slots, ranks), STATUS_OK);
    assert_int_equal(plan_open(&plan, &eplb_gold_arena, &shape), STATUS_OK);
    assert_int_equal(replicas_open(&replicas, &eplb_gold_arena, &p, rank_node), STATUS_OK);
    assert_int_equal(flow_open(&flow, &eplb_gold_arena, experts, slots, ranks), STATUS_OK);
    draw(load, TIMED_LAYERS * experts, 0.9);
    assert_int_equal(plan_make(plan, &o, load, &p, NULL), STATUS_OK);
    for (int i = 0; i < TIMED_LAYERS; i++) {
        draw_batch(load + i * experts, experts, ranks, rows, counts + (size_t)i * table);
        for (size_t at = 0; at < table; at++)
            demand[(size_t)i * (size_t)experts + at % (size_t)experts] += counts[(size_t)i * table + at];
    }
    for (int round = 0; round < TIMES; round++) {
        double start = milliseconds();

        for (int i = 0; i < TIMED_LAYERS; i++)
            assert_int_equal(flow_layer(flow, &p, i, demand + i * experts, quota, &most), STATUS_OK);
        best[0] = fmin(best[0], milliseconds() - start);
        for (int policy = 0; policy < 4; policy++) {
            struct replicas_cost cost = {.expert_picoseconds = 1000, .row_picoseconds = 100};

            start = milliseconds();
            for (int i = 0; i < TIMED_LAYERS; i++)
                assert_int_equal(replicas_share(replicas, &p, i, counts + (size_t)i * table,
                                                (enum replicas_policy)policy, &cost, share, &result),
                                 STATUS_OK);
            best[1 + policy] = fmin(best[1 + policy], milliseconds() - start);
        }
    }
    printf("%d experts, %d slots, %d ranks, %d rows: flow alone %.1f us a layer; with the table of rows: "
           "auto %.1f, "
           "flow %.1f, fewest %.1f, even %.1f\n",
           experts, slots, ranks, rows, 1e3 * best[0] / TIMED_LAYERS, 1e3 * best[1] / TIMED_LAYERS,
           1e3 * best[2] / TIMED_LAYERS, 1e3 * best[3] / TIMED_LAYERS, 1e3 * best[4] / TIMED_LAYERS);
    arena_close(&eplb_gold_arena);
}

int main(int argc, char **argv)
{
    if (argc > 2) {
        options.tolerance = atoi(argv[1]);
        options.kicks = atoi(argv[2]);
    }
    time_replicas(256, 8, 288, 8192);
    time_replicas(64, 8, 80, 1536);
    time_replicas(128, 8, 144, 1024);
    time_replicas(256, 32, 288, 32768);
    time_replicas(256, 64, 320, 65536);
    time_replicas(256, 64, 320, 4096);
    for (int split = 0; split < 2; split++) {
        time_plan(1, 64, 320, 10000, split ? PLAN_FLOW : PLAN_EVEN);
        time_plan(1, 64, 320, 1000, split ? PLAN_FLOW : PLAN_EVEN);
        time_plan(8, 64, 320, 10000, split ? PLAN_FLOW : PLAN_EVEN);
        time_plan(1, 32, 288, 10000, split ? PLAN_FLOW : PLAN_EVEN);
        time_plan(4, 32, 288, 10000, split ? PLAN_FLOW : PLAN_EVEN);
        time_plan(1, 8, 288, 10000, split ? PLAN_FLOW : PLAN_EVEN);
    }
    for (int split = 0; split < 2; split++) {
        double start = milliseconds();
        options.split = split ? PLAN_FLOW : PLAN_EVEN;
        eplb_gold_file("tests/golden/eplb/gold.jsonl", "tests/golden/eplb/bounds.jsonl", measure_case);
        line(split ? "gold, for flow" : "gold, for even");
        eplb_gold_file("../shared/eplb/gold_real.jsonl", "../shared/eplb/bounds_real.jsonl", measure_case);
        line(split ? "real, for flow" : "real, for even");
        printf("%.0f ms with reading\n", milliseconds() - start);
    }
    return 0;
}
