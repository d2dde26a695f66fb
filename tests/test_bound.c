/* test_bound.c - the lower bound equals the known ones and is a bound
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "eplb/bound.h"
#include "eplb/groups.h"
#include "eplb/plan.h"

#include "eplb_gold.h"
#include "eplb_shape.h"

#include <math.h>

static double column(const struct eplb_gold *c, const char *key, int layer)
{
    return json_number_value(json_array_get(json_object_get(c->bounds, key), (size_t)layer));
}

static void check_case(const struct eplb_gold *c)
{
    struct plan_shape shape = eplb_even_shape(&c->shape);
    struct bound *b;

    assert_int_equal(bound_open(&b, &eplb_gold_arena, &shape, PLAN_AUTO), STATUS_OK);
    for (int layer = 0; layer < c->shape.layers; layer++) {
        const int64_t *load = c->load + (ptrdiff_t)layer * c->shape.experts;
        int64_t total = 0;
        double bound, relative;

        for (int e = 0; e < c->shape.experts; e++)
            total += load[e];
        assert_int_equal(bound_layer(b, load, &bound), STATUS_OK);
        relative = total > 0 ? bound * c->shape.ranks / (double)total : 1.0;
        if (fabs(relative - column(c, "lb", layer)) > 1e-6)
            fail_msg("case %d layer %d: %.7f, known is %.6f", eplb_gold_int(c->gold, "id"), layer, relative,
                     column(c, "lb", layer));
        assert_true(relative <= column(c, "deepseek", layer) + 1e-6);
    }
}

static void every_known_bound_is_met(void **state)
{
    (void)state;
    eplb_gold_each(check_case);
}

static uint64_t seed = 31;

static int below(int n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (int)((seed >> 33) % (uint64_t)n);
}

/* The least max over all ways to give out the slots, by trying every number of replicas. */
static double slow_share(const int64_t *load, int experts, int slots)
{
    double best = HUGE_VAL;

    if (experts == 1)
        return (double)load[0] / slots;
    for (int c = 1; c <= slots - experts + 1; c++) {
        double here = (double)load[0] / c, rest = slow_share(load + 1, experts - 1, slots - c);

        best = fmin(best, fmax(here, rest));
    }
    return best;
}

static void the_share_is_the_least_of_all_ways_to_give_out_slots(void **state)
{
    int32_t rank_first[] = {0, 6};
    struct plan_shape shape = {.layers = 1, .experts = 6, .groups = 1, .ranks = 1, .rank_first = rank_first};
    struct bound *b;

    (void)state;
    print_message("seed %llu\n", (unsigned long long)seed);
    assert_int_equal(arena_open(&eplb_gold_arena, "share", 1 << 20), STATUS_OK);
    assert_int_equal(bound_open(&b, &eplb_gold_arena, &shape, PLAN_GLOBAL), STATUS_OK);
    for (int round = 0; round < 500; round++) {
        int experts = 1 + below(6);
        int64_t load[6], total = 0;
        double before = HUGE_VAL;

        for (int e = 0; e < experts; e++) {
            load[e] = below(4) == 0 ? 0 : (int64_t)below(1000) << below(28);
            total += load[e];
        }
        for (int slots = experts; slots < experts + 6; slots++) {
            double share;

            assert_int_equal(bound_share(b, load, experts, slots, &share), STATUS_OK);
            assert_true(share <= before && share >= slow_share(load, experts, slots) &&
                        share <= slow_share(load, experts, slots));
            assert_true(share * slots >= (double)total * (1.0 - 1e-12));
            before = share;
        }
    }
    arena_close(&eplb_gold_arena);
}

/* 128 loads of a Zipf law, the largest 341 of 10,000: published as 4.36 and 1.20 times the mean of an expert.
 */
static void the_published_experiment_comes_out(void **state)
{
    const int spare[] = {28, 29, 32, 47, 64, 128};
    const double known[] = {95.0, 93.0, 89.0, 78.0, 70.0, 53.0};
    int32_t rank_first[] = {0, 128};
    struct plan_shape shape = {
        .layers = 1, .experts = 128, .groups = 1, .ranks = 1, .rank_first = rank_first};
    struct bound *b;
    int64_t load[128], total = 0;
    double exact[128], sum = 0.0;
    int order[128];

    (void)state;
    for (int i = 0; i < 128; i++)
        sum += pow(i + 1, -0.4024);
    for (int i = 0; i < 128; i++) {
        exact[i] = 10000.0 * pow(i + 1, -0.4024) / sum;
        load[i] = (int64_t)exact[i];
        total += load[i];
        order[i] = i;
    }
    /* largest remainder */
    for (; total < 10000; total++) {
        int most = 0;

        for (int i = 1; i < 128; i++) {
            if (exact[i] - (double)load[i] > exact[most] - (double)load[most])
                most = i;
        }
        load[order[most]]++;
    }
    assert_int_equal(load[0], 341);
    assert_int_equal(arena_open(&eplb_gold_arena, "experiment", 1 << 20), STATUS_OK);
    assert_int_equal(bound_open(&b, &eplb_gold_arena, &shape, PLAN_GLOBAL), STATUS_OK);
    for (size_t i = 0; i < sizeof spare / sizeof *spare; i++) {
        double share;

        assert_int_equal(bound_share(b, load, 128, 128 + spare[i], &share), STATUS_OK);
        assert_true(fabs(share - known[i]) < 1e-9);
    }
    arena_close(&eplb_gold_arena);
}

/* The least load of a rank of the busiest node over all ways to give groups to nodes, by trying all. */
static double slow_spread(const struct groups *g, int at, double busiest)
{
    double best = HUGE_VAL;

    if (at == g->groups)
        return busiest;
    for (int v = 0; v < g->nodes; v++) {
        double here;

        if (g->used[v] == g->room[v])
            continue;
        g->used[v]++;
        g->node_load[v] += g->load[at];
        here = (double)(g->node_load[v] / g->live[v]);
        best = fmin(best, slow_spread(g, at + 1, fmax(busiest, here)));
        g->used[v]--;
        g->node_load[v] -= g->load[at];
    }
    return best;
}

/* Nodes are tried once where they are alike: those that only look alike by load, with other room or ranks,
 * are not. Equal loads and zeros make many nodes look alike. */
static void groups_go_to_nodes_in_the_best_way(void **state)
{
    (void)state;
    print_message("seed %llu\n", (unsigned long long)seed);
    for (int round = 0; round < 3000; round++) {
        int64_t load[9], node_load[4] = {0}, sum[4] = {0}, most;
        int32_t room[4] = {0}, live[4], used[4] = {0}, trial[9], node[9];
        struct groups g = {.groups = 1 + below(7),
                           .nodes = 1 + below(4),
                           .load = load,
                           .room = room,
                           .live = live,
                           .node_load = node_load,
                           .used = used,
                           .trial = trial};
        int kinds = 1 + below(4);
        double slow, reached = 0.0;

        for (int i = 0; i < g.groups; i++) {
            load[i] = below(kinds) * (1 + below(2) * 99);
            room[below(g.nodes)]++;
        }
        for (int i = 1; i < g.groups; i++) { /* falling */
            for (int j = i; j > 0 && load[j] > load[j - 1]; j--) {
                int64_t kept = load[j];

                load[j] = load[j - 1];
                load[j - 1] = kept;
            }
        }
        for (int v = 0; v < g.nodes; v++)
            live[v] = 1 + below(3);
        slow = slow_spread(&g, 0, 0.0);
        most = groups_spread(&g, node);
        for (int i = 0; i < g.groups; i++)
            sum[node[i]] += load[i];
        for (int v = 0; v < g.nodes; v++) {
            reached = fmax(reached, (double)(sum[v] / live[v]));
            for (int i = 0; i < g.groups; i++)
                room[v] -= node[i] == v;
            assert_int_equal(room[v], 0);
        }
        assert_true((double)most >= slow && (double)most <= slow && reached >= slow && reached <= slow);
    }
}

/* Uneven slots, ranks that are gone, nodes of other sizes: no plan is below the bound, and some meet it. */
static void no_plan_of_an_uneven_shape_is_below_the_bound(void **state)
{
    int met = 0, rounds = 0;

    (void)state;
    print_message("seed %llu\n", (unsigned long long)eplb_seed);
    for (int round = 0; round < 1000; round++) {
        struct plan_shape shape = eplb_random_shape();
        struct plan_options o = {.levels = (enum plan_levels)eplb_below(4), .split = PLAN_FLOW, .kicks = 3};
        int slots = shape.rank_first[shape.ranks];
        int64_t load[2 * 128];
        struct plan_report report[2];
        struct placement p;
        struct plan *plan;
        struct bound *b;

        if (plan_shape_check(&shape, o.levels) != STATUS_OK)
            continue;
        eplb_random_load(load, shape.layers * shape.experts);
        assert_int_equal(arena_open(&eplb_gold_arena, "uneven", 8 << 20), STATUS_OK);
        assert_int_equal(
            placement_open(&p, &eplb_gold_arena, shape.layers, shape.experts, slots, shape.ranks), STATUS_OK);
        memcpy(p.rank_first, shape.rank_first, sizeof *p.rank_first * (size_t)(shape.ranks + 1));
        assert_int_equal(plan_open(&plan, &eplb_gold_arena, &shape), STATUS_OK);
        assert_int_equal(bound_open(&b, &eplb_gold_arena, &shape, o.levels), STATUS_OK);
        assert_int_equal(plan_make(plan, &o, load, &p, report), STATUS_OK);
        for (int i = 0; i < shape.layers; i++) {
            double bound, total = 0.0;

            for (int e = 0; e < shape.experts; e++)
                total += (double)load[i * shape.experts + e];
            assert_int_equal(bound_layer(b, load + i * shape.experts, &bound), STATUS_OK);
            bound = total > 0.0 ? bound * plan_shape_live(&shape) / total : 1.0;
            if (bound < 1.0 - 1e-9 || report[i].flow < bound * (1.0 - 1e-6))
                fail_msg("round %d: bound %.9f, flow %.9f", round, bound, report[i].flow);
            met += report[i].flow <= bound * 1.001;
            rounds++;
        }
        arena_close(&eplb_gold_arena);
    }
    print_message("%d of %d plans meet the bound\n", met, rounds);
    assert_true(rounds > 500 && 2 * met > rounds);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_known_bound_is_met),
        cmocka_unit_test(the_share_is_the_least_of_all_ways_to_give_out_slots),
        cmocka_unit_test(groups_go_to_nodes_in_the_best_way),
        cmocka_unit_test(no_plan_of_an_uneven_shape_is_below_the_bound),
        cmocka_unit_test(the_published_experiment_comes_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
