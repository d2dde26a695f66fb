/* measure_plan.c - how good plans are, and what they cost: the figures that docs quote
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * usage: measure_plan [TOLERANCE KICKS]; run in the root of the project. */
#include "eplb/plan.h"

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

int main(int argc, char **argv)
{
    if (argc > 2) {
        options.tolerance = atoi(argv[1]);
        options.kicks = atoi(argv[2]);
    }
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
