/* test_plan.c - plans from scratch are legal, near the bound, and the same every time
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "eplb/plan.h"

#include "eplb_gold.h"
#include "eplb_shape.h"

#include <math.h>

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

/* Layers in which every plan that fills all slots is behind DeepSeek's by more than a thousandth
 * (two_layers_need_empty_slots). */
static bool needs_gaps(int id, int layer)
{
    return (id == 25 && layer == 0) || (id == 60 && layer == 22);
}

/* The cases of gold_real.jsonl. The figures to meet are those of gold.jsonl. */
static bool recorded(int id)
{
    return id >= 47 && id <= 54;
}

static void check_gold(const struct eplb_gold *c, enum plan_split split)
{
    struct plan_options options = {
        .split = split, .tolerance = PLAN_GOOD_TOLERANCE, .kicks = PLAN_GOOD_KICKS, .seed = 1};
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
        if (split == PLAN_EVEN && report[i].even > deepseek * 1.001)
            fail_msg("case %d layer %d: even %.5f, DeepSeek's %.5f", id, i, report[i].even, deepseek);
        if (!recorded(id)) {
            tally.even += report[i].even / lb - 1.0;
            tally.flow += report[i].flow / lb - 1.0;
            tally.layers++;
        }
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

enum { NODE_EXPERTS = 8, NODE_RANKS = 4 };

/* Load of a node's busiest rank with the best even split there is, over all ways to give each of its ranks
 * different experts: as many as it has slots, or also fewer with `gaps`. count [NODE_EXPERTS] replicas on the
 * ranks before `rank`, held [NODE_RANKS] their sets. */
struct node_search {
    const int64_t *load;
    int experts, ranks, slots;
    bool gaps;
    unsigned held[NODE_RANKS];
    int count[NODE_EXPERTS];
};

static double node_value(const struct node_search *n)
{
    double most = 0;

    for (int e = 0; e < n->experts; e++)
        if (n->count[e] == 0)
            return HUGE_VAL;
    for (int r = 0; r < n->ranks; r++) {
        double sum = 0;

        for (int e = 0; e < n->experts; e++)
            sum += n->held[r] >> e & 1 ? (double)n->load[e] / n->count[e] : 0;
        most = fmax(most, sum);
    }
    return most;
}

static double node_best(struct node_search *n, int rank)
{
    double best = HUGE_VAL;

    if (rank == n->ranks)
        return node_value(n);
    for (unsigned set = 0; set < 1U << n->experts; set++) {
        int size = __builtin_popcount(set);

        if (size > n->slots || (size < n->slots && !n->gaps))
            continue;
        n->held[rank] = set;
        for (int e = 0; e < n->experts; e++)
            n->count[e] += set >> e & 1;
        best = fmin(best, node_best(n, rank + 1));
        for (int e = 0; e < n->experts; e++)
            n->count[e] -= set >> e & 1;
    }
    return best;
}

/* The best legal plan of a layer, as a multiple of the mean. A node holds one group in whole, and all nodes
 * are alike: whichever group lies where, the busiest rank is that of the worst of the groups, each planned by
 * itself in the best way. */
static double layer_best(const struct plan_shape *shape, int nodes, const int64_t *load, bool gaps)
{
    int experts = shape->experts / nodes, ranks = shape->ranks / nodes;
    double most = 0, total = 0;

    assert_true(shape->groups == nodes && experts <= NODE_EXPERTS && ranks <= NODE_RANKS);
    for (int g = 0; g < nodes; g++) {
        struct node_search n = {.load = load + (ptrdiff_t)g * experts,
                                .experts = experts,
                                .ranks = ranks,
                                .slots = shape->rank_first[1],
                                .gaps = gaps};

        most = fmax(most, node_best(&n, 0));
    }
    for (int e = 0; e < shape->experts; e++)
        total += (double)load[e];
    return most * shape->ranks / total;
}

static void check_gaps(const struct eplb_gold *c)
{
    struct plan_shape shape = eplb_even_shape(&c->shape);
    int id = eplb_gold_int(c->gold, "id");

    for (int i = 0; i < shape.layers; i++) {
        const int64_t *load = c->load + (ptrdiff_t)i * shape.experts;
        double deepseek = column(c, "deepseek", i), full, gaps;

        if (!needs_gaps(id, i))
            continue;
        full = layer_best(&shape, c->shape.nodes, load, false);
        gaps = layer_best(&shape, c->shape.nodes, load, true);
        print_message("case %d layer %d: the best legal plan has %.5f with all slots filled, %.5f with some "
                      "empty, DeepSeek's %.5f\n",
                      id, i, full, gaps, deepseek);
        assert_true(full > deepseek * 1.001);
        assert_true(gaps <= deepseek * 1.000001);
        tally.above++;
    }
}

/* DeepSeek's plan of these layers has two slots of the busiest expert on one rank. That is no legal plan, but
 * an unequal split: the expert's rows are shared by three ranks as 2 to 1 to 1. Legal plans that fill all
 * slots are all behind it, by trying each of them; those with empty slots are not, and check_gold finds one.
 */
static void two_layers_need_empty_slots(void **state)
{
    (void)state;
    tally = (struct tally){0};
    eplb_gold_each(check_gaps);
    assert_int_equal(tally.above, 2);
}

/* With a copy of every expert at home and the others anywhere. */
static void check_spill(const struct eplb_gold *c)
{
    struct plan_options options = {.levels = PLAN_SPILL,
                                   .split = PLAN_EVEN,
                                   .tolerance = PLAN_GOOD_TOLERANCE,
                                   .kicks = PLAN_GOOD_KICKS / 4};
    struct plan_shape shape = eplb_even_shape(&c->shape);
    struct plan_report report[64];
    struct placement p;
    struct plan *plan;

    if (!json_is_array(json_object_get(c->bounds, "spill_even")))
        return;
    assert_int_equal(
        placement_open(&p, &eplb_gold_arena, shape.layers, shape.experts, c->shape.slots, shape.ranks),
        STATUS_OK);
    assert_int_equal(plan_open(&plan, &eplb_gold_arena, &shape), STATUS_OK);
    assert_int_equal(plan_make(plan, &options, c->load, &p, report), STATUS_OK);
    for (int i = 0; i < shape.layers; i++) {
        check_legal(&shape, &p, PLAN_SPILL, i);
        tally.even += report[i].even;
        tally.flow += column(c, "spill_even", i);
        tally.layers++;
    }
}

static void replicas_that_spill_lower_the_busiest_rank(void **state)
{
    (void)state;
    tally = (struct tally){0};
    eplb_gold_each(check_spill);
    print_message("spilling, even split: busiest rank %.4f times the mean over %d layers, known is %.4f\n",
                  tally.even / tally.layers, tally.layers, tally.flow / tally.layers);
    assert_true(tally.even <= tally.flow);
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

enum { SMALL_EXPERTS = 4, SMALL_SLOTS = 6, SMALL_RANKS = 3 };

/* Load of the busiest rank, times 60, of a placement of few slots; with the best split, the most over all
 * sets of ranks. INT64_MAX: not legal. */
static int64_t slow_value(const struct plan_shape *shape, const int32_t *expert, const int64_t *load,
                          enum plan_split split)
{
    int hosts[SMALL_EXPERTS] = {0}, count[SMALL_EXPERTS] = {0};
    int64_t most = 0, rank_load[SMALL_RANKS] = {0};

    for (int r = 0; r < shape->ranks; r++) {
        for (int s = shape->rank_first[r]; s < shape->rank_first[r + 1]; s++) {
            if (hosts[expert[s]] >> r & 1)
                return INT64_MAX;
            hosts[expert[s]] |= 1 << r;
            count[expert[s]]++;
        }
    }
    for (int e = 0; e < shape->experts; e++) {
        if (count[e] == 0)
            return INT64_MAX;
        for (int r = 0; r < shape->ranks; r++)
            rank_load[r] += hosts[e] >> r & 1 ? load[e] * 60 / count[e] : 0;
    }
    for (int r = 0; r < shape->ranks && split == PLAN_EVEN; r++)
        most = rank_load[r] > most ? rank_load[r] : most;
    for (int set = 1; set < 1 << shape->ranks && split == PLAN_FLOW; set++) {
        int64_t inside = 0;

        for (int e = 0; e < shape->experts; e++)
            inside += (hosts[e] & ~set) == 0 ? load[e] * 60 : 0;
        inside /= __builtin_popcount((unsigned)set);
        most = inside > most ? inside : most;
    }
    return most;
}

/* Over all placements without empty slots. A plan that leaves some may be better. */
static int64_t slow_best(const struct plan_shape *shape, int32_t *expert, int slot, const int64_t *load,
                         enum plan_split split)
{
    int64_t best = INT64_MAX;

    if (slot == shape->rank_first[shape->ranks])
        return slow_value(shape, expert, load, split);
    for (int e = 0; e < shape->experts; e++) {
        int64_t here;

        expert[slot] = e;
        here = slow_best(shape, expert, slot + 1, load, split);
        best = here < best ? here : best;
    }
    return best;
}

static void small_plans_are_as_good_as_any(void **state)
{
    int cases = 0, best = 0;

    (void)state;
    print_message("seed %llu\n", (unsigned long long)eplb_seed);
    for (int round = 0; round < 200; round++) {
        struct plan_shape shape = {.layers = 1, .groups = 1, .rank_first = eplb_rank_first};
        struct plan_options o = {.levels = PLAN_GLOBAL, .split = (enum plan_split)(round % 2), .kicks = 50};
        int32_t expert[SMALL_SLOTS];
        int64_t load[SMALL_EXPERTS], total = 0, optimum;
        struct plan_report report;
        struct placement p;
        struct plan *plan;
        int slots = 0;
        double scale;

        shape.ranks = 2 + eplb_below(SMALL_RANKS - 1);
        shape.experts = 2 + eplb_below(SMALL_EXPERTS - 1);
        for (int r = 0; r < shape.ranks; r++) { /* no rank with more slots than experts */
            eplb_rank_first[r] = slots;
            slots += 1 + eplb_below(shape.experts);
        }
        eplb_rank_first[shape.ranks] = slots;
        if (slots > SMALL_SLOTS || slots < shape.experts)
            continue;
        for (int e = 0; e < shape.experts; e++) {
            load[e] = 1 + eplb_below(1000);
            total += load[e];
        }
        optimum = slow_best(&shape, expert, 0, load, o.split);
        assert_int_equal(arena_open(&eplb_gold_arena, "small", 1 << 20), STATUS_OK);
        assert_int_equal(placement_open(&p, &eplb_gold_arena, 1, shape.experts, slots, shape.ranks),
                         STATUS_OK);
        memcpy(p.rank_first, shape.rank_first, sizeof *p.rank_first * (size_t)(shape.ranks + 1));
        assert_int_equal(plan_open(&plan, &eplb_gold_arena, &shape), STATUS_OK);
        assert_int_equal(plan_make(plan, &o, load, &p, &report), STATUS_OK);
        scale = 60.0 * (double)total / shape.ranks; /* 60: shares of up to 3 replicas are whole */
        assert_true(report.bound * scale <= (double)optimum * 1.000001 + 1.0);
        assert_true((o.split == PLAN_FLOW ? report.flow : report.even) * scale >=
                        (double)optimum * 0.999999 - 1.0 ||
                    p.first[shape.experts] < slots);
        best +=
            (o.split == PLAN_FLOW ? report.flow : report.even) * scale <= (double)optimum * 1.000001 + 1.0;
        cases++;
        arena_close(&eplb_gold_arena);
    }
    print_message("%d of %d plans are the best there is\n", best, cases);
    assert_true(cases > 50 && best * 100 >= cases * 97);
}

/* One layer of two is planned as it is alone. */
static void layers_do_not_depend_on_each_other(void **state)
{
    struct plan_shape shape = {
        .layers = 2, .experts = 32, .groups = 1, .ranks = 8, .rank_first = eplb_rank_first};
    struct plan_options o = {.split = PLAN_FLOW, .kicks = 20, .seed = 3};
    int64_t load[64], other[64];
    struct placement a, b;
    struct plan *plan;

    (void)state;
    for (int r = 0; r <= 8; r++)
        eplb_rank_first[r] = 5 * r;
    for (int i = 0; i < 64; i++)
        load[i] = eplb_below(1000) * eplb_below(1000);
    memcpy(other, load + 32, sizeof load / 2);
    memcpy(other + 32, load, sizeof load / 2);
    assert_int_equal(arena_open(&eplb_gold_arena, "layers", 1 << 20), STATUS_OK);
    assert_int_equal(placement_open(&a, &eplb_gold_arena, 2, 32, 40, 8), STATUS_OK);
    assert_int_equal(placement_open(&b, &eplb_gold_arena, 2, 32, 40, 8), STATUS_OK);
    assert_int_equal(plan_open(&plan, &eplb_gold_arena, &shape), STATUS_OK);
    assert_int_equal(plan_make(plan, &o, load, &a, NULL), STATUS_OK);
    assert_int_equal(plan_make(plan, &o, other, &b, NULL), STATUS_OK);
    assert_memory_equal(a.expert, b.expert + 40, 40 * sizeof *a.expert);
    assert_memory_equal(a.expert + 40, b.expert, 40 * sizeof *a.expert);
    arena_close(&eplb_gold_arena);
}

static void refused(const struct plan_shape *shape, enum plan_levels levels, const char *words)
{
    assert_int_equal(plan_shape_check(shape, levels), STATUS_USAGE);
    if (!strstr(status_text(), words))
        fail_msg("\"%s\" does not say \"%s\"", status_text(), words);
}

static void shapes_that_cannot_work_are_explained(void **state)
{
    int32_t first[] = {0, 4, 8, 10}, node[] = {0, 0, 1};
    bool gone[] = {true, false, false};
    struct plan_shape shape = {
        .layers = 1, .experts = 8, .groups = 4, .ranks = 3, .rank_first = first, .rank_node = node};

    (void)state;
    assert_int_equal(plan_shape_check(&shape, PLAN_GLOBAL), STATUS_OK);
    refused(&shape, PLAN_AUTO, "node 1 has 2 live slots for the 4 experts whose home it is: add 2 there");
    shape.groups = 3;
    refused(&shape, PLAN_SPILL, "8 experts do not form 3 equal groups: use 2 or 4 groups");
    shape.groups = 1;
    assert_int_equal(plan_shape_check(&shape, PLAN_HIERARCHICAL), STATUS_OK);
    shape.gone = gone;
    refused(&shape, PLAN_GLOBAL,
            "6 slots on 2 live ranks cannot hold 8 experts: use 8 slots at least, 4 on each");
    shape.gone = NULL;
    node[2] = 2;
    refused(&shape, PLAN_GLOBAL, "rank 2 is on node 2 and the rank before on node 0");
    node[2] = 1;
    first[2] = 3;
    refused(&shape, PLAN_GLOBAL, "rank 1 has -1 slots");
    first[2] = 8;
    shape.experts = 12;
    shape.groups = 3;
    refused(&shape, PLAN_HIERARCHICAL,
            "10 slots on 3 live ranks cannot hold 12 experts: use 12 slots at least");
    shape.experts = 9;
    refused(&shape, PLAN_HIERARCHICAL, "3 groups of experts do not share 2 nodes alike: use 1 or 3 nodes");
    assert_int_equal(plan_shape_check(&shape, PLAN_AUTO), STATUS_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_loads_are_planned_near_the_bound),
        cmocka_unit_test(two_layers_need_empty_slots),
        cmocka_unit_test(replicas_that_spill_lower_the_busiest_rank),
        cmocka_unit_test(small_plans_are_as_good_as_any),
        cmocka_unit_test(layers_do_not_depend_on_each_other),
        cmocka_unit_test(shapes_that_cannot_work_are_explained),
        cmocka_unit_test(the_same_loads_give_the_same_plan),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
