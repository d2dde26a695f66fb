/* test_plan_batches.c - plans for batches that may come are legal, better for these, and the same every time
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "eplb/plan_batches.h"

#include "eplb/plan.h"

#include "eplb_gold.h"
#include "eplb_shape.h"

enum { EXPERTS = 128, BATCHES = 5, FINE = 1 << 10 };

static void open_all(const struct plan_shape *shape, struct placement *p, struct plan_batches **b)
{
    int slots = shape->rank_first[shape->ranks];

    assert_int_equal(arena_open(&eplb_gold_arena, "plan", 8 << 20), STATUS_OK);
    assert_int_equal(placement_open(p, &eplb_gold_arena, shape->layers, shape->experts, slots, shape->ranks),
                     STATUS_OK);
    memcpy(p->rank_first, shape->rank_first, sizeof *p->rank_first * (size_t)(shape->ranks + 1));
    assert_int_equal(plan_batches_open(b, &eplb_gold_arena, shape, BATCHES), STATUS_OK);
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* What the busiest rank of a layer has in a batch: by an even split, and what no split takes off it. */
static int64_t busiest(const struct placement *p, int layer, const int64_t *rows)
{
    const int32_t *expert = p->expert + (ptrdiff_t)layer * p->slots;
    const int32_t *first = p->first + (ptrdiff_t)layer * (p->experts + 1);
    int64_t even = 0, alone = 0, total = 0;
    int live = 0;

    for (int r = 0; r < p->ranks; r++) {
        int64_t here = 0, only = 0;
        bool some = false;

        for (int s = p->rank_first[r]; s < p->rank_first[r + 1]; s++) {
            int e = expert[s], count = e < 0 ? 0 : first[e + 1] - first[e];

            some |= e >= 0;
            here += e < 0 ? 0 : rows[e] / count;
            only += count == 1 ? rows[e] : 0;
        }
        live += some;
        even = larger(even, here);
        alone = larger(alone, only);
    }
    for (int e = 0; e < p->experts; e++)
        total += rows[e];
    return even + larger(alone, total / live);
}

static int64_t all_busiest(const struct placement *p, const int64_t *batch, int layer)
{
    int64_t sum = 0;

    for (int k = 0; k < BATCHES; k++)
        sum += busiest(p, layer, batch + (ptrdiff_t)(k * p->layers + layer) * p->experts);
    return sum;
}

/* What no change may take away: slots that are used; which node has what, but on global levels. */
static void check_kept(const struct plan_shape *shape, const struct placement *before,
                       const struct placement *after, bool global)
{
    for (int layer = 0; layer < shape->layers; layer++) {
        static uint64_t had[EXPERTS], has[EXPERTS];

        memset(had, 0, sizeof had);
        memset(has, 0, sizeof has);
        for (int s = 0; s < before->slots; s++) {
            int rank = placement_rank(before, s), at = layer * before->slots + s;
            uint64_t node = (uint64_t)1 << (shape->rank_node ? shape->rank_node[rank] : 0);

            assert_int_equal(before->expert[at] < 0, after->expert[at] < 0);
            if (before->expert[at] < 0)
                continue;
            had[before->expert[at]] |= node;
            has[after->expert[at]] |= node;
        }
        assert_true(global || memcmp(had, has, sizeof had) == 0);
    }
}

static void random_plans_stay_legal_and_become_better(void **state)
{
    int changed = 0, cases = 0;

    (void)state;
    print_message("seed %llu\n", (unsigned long long)eplb_seed);
    for (int round = 0; round < 600; round++) {
        struct plan_shape shape = eplb_random_shape();
        struct plan_options o = {.levels = (enum plan_levels)eplb_below(4),
                                 .split = (enum plan_split)eplb_below(2)};
        bool global = !shape.rank_node || plan_shape_levels(&shape, o.levels) == PLAN_GLOBAL;
        size_t bytes = sizeof(int32_t) * (size_t)(shape.layers * shape.rank_first[shape.ranks]);
        static int64_t batch[BATCHES * 2 * EXPERTS], load[2 * EXPERTS];
        int cells = shape.layers * shape.experts;
        struct placement before, after, again;
        struct plan_batches *b;
        struct plan *plan;

        if (plan_shape_check(&shape, o.levels) != STATUS_OK)
            continue;
        memset(load, 0, sizeof load);
        for (int k = 0; k < BATCHES; k++)
            for (int i = 0; i < cells; i++) {
                batch[k * cells + i] = (int64_t)eplb_below(40) * eplb_below(40) * FINE;
                load[i] += batch[k * cells + i];
            }
        open_all(&shape, &before, &b);
        assert_int_equal(placement_like(&after, &eplb_gold_arena, &before), STATUS_OK);
        assert_int_equal(placement_like(&again, &eplb_gold_arena, &before), STATUS_OK);
        assert_int_equal(plan_open(&plan, &eplb_gold_arena, &shape), STATUS_OK);
        assert_int_equal(plan_make(plan, &o, load, &before, NULL), STATUS_OK);
        memcpy(after.expert, before.expert, bytes);
        memcpy(again.expert, before.expert, bytes);
        if (plan_batches_fit(b, o.levels, batch, BATCHES, 300, &after) != STATUS_OK)
            fail_msg("round %d: %s", round, status_text());
        assert_int_equal(plan_batches_fit(b, o.levels, batch, BATCHES, 300, &again), STATUS_OK);
        assert_memory_equal(after.expert, again.expert, bytes);
        check_kept(&shape, &before, &after, global);
        for (int layer = 0; layer < shape.layers; layer++) {
            int64_t is = all_busiest(&after, batch, layer), was = all_busiest(&before, batch, layer);

            if (is > was)
                fail_msg("round %d, layer %d: %lld, was %lld", round, layer, (long long)is, (long long)was);
            changed += is < was;
            cases++;
        }
        arena_close(&eplb_gold_arena);
    }
    print_message("%d of %d layers became better\n", changed, cases);
    assert_true(cases > 300 && changed > cases / 4);
}

/* Experts 0 and 1 are busy in one kind of batch, 2 and 3 in the other: for the sum all plans are alike. */
static void experts_that_are_busy_together_are_parted(void **state)
{
    static const int64_t batch[2][4] = {{9 * FINE, 9 * FINE, FINE, FINE}, {FINE, FINE, 9 * FINE, 9 * FINE}};
    static const int32_t first[] = {0, 2, 4}, together[] = {0, 1, 2, 3};
    struct plan_shape shape = {.layers = 1, .experts = 4, .groups = 1, .ranks = 2, .rank_first = first};
    struct plan_batches *b;
    struct placement p;

    (void)state;
    open_all(&shape, &p, &b);
    memcpy(p.expert, together, sizeof together);
    assert_int_equal(plan_batches_fit(b, PLAN_GLOBAL, batch[0], 2, 100, &p), STATUS_OK);
    assert_true((p.expert[0] < 2) != (p.expert[1] < 2) && (p.expert[2] < 2) != (p.expert[3] < 2));
    arena_close(&eplb_gold_arena);
}

/* Expert 0 is as busy as 1 in all, but in one batch alone: the replica is its. */
static void the_uncertain_expert_gets_the_replica(void **state)
{
    static const int64_t batch[2][3] = {{12 * FINE, 6 * FINE, 6 * FINE}, {0, 6 * FINE, 6 * FINE}};
    static const int32_t first[] = {0, 2, 4}, steady[] = {0, 1, 2, 1};
    struct plan_shape shape = {.layers = 1, .experts = 3, .groups = 1, .ranks = 2, .rank_first = first};
    struct plan_batches *b;
    struct placement p;

    (void)state;
    open_all(&shape, &p, &b);
    memcpy(p.expert, steady, sizeof steady);
    assert_int_equal(plan_batches_fit(b, PLAN_GLOBAL, batch[0], 2, 200, &p), STATUS_OK);
    assert_int_equal(p.first[1] - p.first[0], 2);
    arena_close(&eplb_gold_arena);
}

/* One layer of two is planned as it is alone. */
static void layers_do_not_depend_on_each_other(void **state)
{
    static int64_t batch[BATCHES][2][32], other[BATCHES][2][32];
    struct plan_shape shape = {
        .layers = 2, .experts = 32, .groups = 1, .ranks = 8, .rank_first = eplb_rank_first};
    struct plan_batches *b;
    struct placement p, q;

    (void)state;
    for (int r = 0; r <= 8; r++)
        eplb_rank_first[r] = 5 * r;
    for (int k = 0; k < BATCHES; k++)
        for (int i = 0; i < 64; i++)
            batch[k][i / 32][i % 32] = other[k][1 - i / 32][i % 32] = eplb_below(1000) * FINE;
    open_all(&shape, &p, &b);
    assert_int_equal(placement_like(&q, &eplb_gold_arena, &p), STATUS_OK);
    for (int i = 0; i < 80; i++)
        p.expert[i] = q.expert[i] = i % 40 < 32 ? i % 40 : i % 40 - 32; /* no rank has one twice */
    assert_int_equal(plan_batches_fit(b, PLAN_GLOBAL, batch[0][0], BATCHES, 400, &p), STATUS_OK);
    assert_int_equal(plan_batches_fit(b, PLAN_GLOBAL, other[0][0], BATCHES, 400, &q), STATUS_OK);
    assert_memory_equal(p.expert, q.expert + 40, 40 * sizeof *p.expert);
    assert_memory_equal(p.expert + 40, q.expert, 40 * sizeof *p.expert);
    assert_memory_not_equal(p.expert, p.expert + 40, 40 * sizeof *p.expert);
    arena_close(&eplb_gold_arena);
}

static void loads_that_cannot_be_are_refused(void **state)
{
    static const int32_t first[] = {0, 1, 2}, plan[] = {0, 1};
    int64_t batch[2] = {PLAN_BATCHES_LOAD, 1};
    struct plan_shape shape = {.layers = 1, .experts = 2, .groups = 1, .ranks = 2, .rank_first = first};
    struct plan_batches *b;
    struct placement p;

    (void)state;
    open_all(&shape, &p, &b);
    memcpy(p.expert, plan, sizeof plan);
    assert_int_equal(plan_batches_fit(b, PLAN_GLOBAL, batch, 1, 10, &p), STATUS_BAD_INPUT);
    assert_non_null(strstr(status_text(), "layer 0: batch 0: "));
    batch[0] = -1;
    assert_int_equal(plan_batches_fit(b, PLAN_GLOBAL, batch, 1, 10, &p), STATUS_BAD_INPUT);
    batch[0] = PLAN_BATCHES_LOAD - 1;
    assert_int_equal(plan_batches_fit(b, PLAN_GLOBAL, batch, 1, 10, &p), STATUS_OK);
    arena_close(&eplb_gold_arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_plans_stay_legal_and_become_better),
        cmocka_unit_test(experts_that_are_busy_together_are_parted),
        cmocka_unit_test(the_uncertain_expert_gets_the_replica),
        cmocka_unit_test(layers_do_not_depend_on_each_other),
        cmocka_unit_test(loads_that_cannot_be_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
