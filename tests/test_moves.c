/* test_moves.c - the moves between two placements lead from one to the other, from near sources, and are few
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "eplb/moves.h"

#include "eplb/plan.h"
#include "eplb/relabel.h"
#include "eplb_shape.h"

enum { MOVES = 4096, SLOTS = 512 };

struct trial {
    struct plan_shape shape;
    struct placement previous, next;
    int slots;
};

/* Plans for two loads. */
static bool draw(struct trial *t)
{
    struct plan_options o = {.levels = PLAN_GLOBAL, .tolerance = 1000, .kicks = 2};
    int64_t load[2 * 128];
    struct plan *plan;

    t->shape = eplb_random_shape();
    t->shape.gone = NULL;
    t->slots = t->shape.rank_first[t->shape.ranks];
    if (plan_shape_check(&t->shape, PLAN_GLOBAL) != STATUS_OK)
        return false;
    assert_int_equal(arena_open(&eplb_gold_arena, "moves", 16 << 20), STATUS_OK);
    assert_int_equal(plan_open(&plan, &eplb_gold_arena, &t->shape), STATUS_OK);
    for (int i = 0; i < 2; i++) {
        struct placement *p = i ? &t->next : &t->previous;

        assert_int_equal(
            placement_open(p, &eplb_gold_arena, t->shape.layers, t->shape.experts, t->slots, t->shape.ranks),
            STATUS_OK);
        memcpy(p->rank_first, t->shape.rank_first, sizeof *p->rank_first * (size_t)(t->shape.ranks + 1));
        eplb_random_load(load, t->shape.layers * t->shape.experts);
        assert_int_equal(plan_make(plan, &o, load, p, NULL), STATUS_OK);
    }
    return true;
}

static bool on_rank(const struct placement *p, int layer, int rank, int e)
{
    for (int s = p->rank_first[rank]; s < p->rank_first[rank + 1]; s++) {
        if (p->expert[layer * p->slots + s] == e)
            return true;
    }
    return false;
}

static int node_of(const struct trial *t, int rank)
{
    return t->shape.rank_node ? t->shape.rank_node[rank] : 0;
}

static void check_source(const struct trial *t, const struct move *m, const bool *gone)
{
    int to = placement_rank(&t->next, m->slot), nearest = 3, from;

    for (int r = 0; r < t->shape.ranks; r++) {
        int far = r == to ? 0 : node_of(t, r) == node_of(t, to) ? 1 : 2;

        if (on_rank(&t->previous, m->layer, r, m->expert) && !(gone && gone[r]))
            nearest = far < nearest ? far : nearest;
    }
    if (m->source < 0) {
        assert_int_equal(nearest, 3);
        return;
    }
    assert_int_equal(t->previous.expert[m->layer * t->slots + m->source], m->expert);
    from = placement_rank(&t->previous, m->source);
    assert_true(!(gone && gone[from]));
    assert_int_equal(from == to ? 0 : node_of(t, from) == node_of(t, to) ? 1 : 2, nearest);
}

static void moves_lead_from_one_placement_to_the_next(void **state)
{
    static struct trial t;
    static struct move list[MOVES];
    int32_t applied[2 * SLOTS], count;

    (void)state;
    print_message("seed %llu\n", (unsigned long long)eplb_seed);
    for (int round = 0; round < 1000; round++) {
        const bool *gone = eplb_below(2) ? eplb_gone : NULL;

        if (!draw(&t))
            continue;
        assert_true(t.shape.layers * t.slots <= 2 * SLOTS);
        assert_int_equal(moves_list(&t.previous, &t.next, t.shape.rank_node, gone, list, MOVES, &count),
                         STATUS_OK);
        memcpy(applied, t.previous.expert, sizeof *applied * (size_t)(t.shape.layers * t.slots));
        for (int i = 0; i < count; i++) {
            applied[list[i].layer * t.slots + list[i].slot] = list[i].expert;
            if (list[i].expert >= 0)
                check_source(&t, &list[i], gone);
        }
        assert_memory_equal(applied, t.next.expert, sizeof *applied * (size_t)(t.shape.layers * t.slots));
        if (count > 0)
            assert_int_equal(
                moves_list(&t.previous, &t.next, t.shape.rank_node, gone, list, count - 1, &count),
                STATUS_BUG);
        arena_close(&eplb_gold_arena);
    }
}

static void experts_that_stay_on_their_rank_keep_their_slots(void **state)
{
    static struct trial t;
    int32_t before[2 * SLOTS];

    (void)state;
    print_message("seed %llu\n", (unsigned long long)eplb_seed);
    for (int round = 0; round < 1000; round++) {
        if (!draw(&t))
            continue;
        memcpy(before, t.next.expert, sizeof *before * (size_t)(t.shape.layers * t.slots));
        assert_int_equal(moves_keep(&t.previous, &t.next), STATUS_OK);
        for (int i = 0; i < t.shape.layers * t.slots; i++) {
            int layer = i / t.slots, rank = placement_rank(&t.next, i % t.slots);
            int e = t.previous.expert[i];

            assert_true(before[i] < 0 || on_rank(&t.next, layer, rank, before[i]));
            if (e >= 0 && on_rank(&t.next, layer, rank, e))
                assert_int_equal(t.next.expert[i], e);
        }
        arena_close(&eplb_gold_arena);
    }
}

/* -- ranks that take the parts of others -- */

/* Experts that rank `to` would get with what rank `from` has in the plan. */
static int gets(const struct trial *t, const int32_t *plan, int layer, int from, int to)
{
    int count = 0;

    for (int s = t->shape.rank_first[from]; s < t->shape.rank_first[from + 1]; s++) {
        int e = plan[layer * t->slots + s];

        count += e >= 0 && !on_rank(&t->previous, layer, to, e);
    }
    return count;
}

static bool stands_for(const struct trial *t, int a, int b)
{
    const int32_t *first = t->shape.rank_first;

    return first[a + 1] - first[a] == first[b + 1] - first[b] && node_of(t, a) == node_of(t, b);
}

/* The fewest experts that ranks from `to` on get, over all ways to give them what others have. */
static int fewest(const struct trial *t, const int32_t *plan, int layer, int to, bool *given)
{
    int best = INT32_MAX;

    if (to == t->shape.ranks)
        return 0;
    for (int from = 0; from < t->shape.ranks; from++) {
        int rest;

        if (given[from] || !stands_for(t, from, to))
            continue;
        given[from] = true;
        rest = fewest(t, plan, layer, to + 1, given) + gets(t, plan, layer, from, to);
        given[from] = false;
        best = rest < best ? rest : best;
    }
    return best;
}

/* Is what rank `to` has now what rank `from` had in the plan? */
static bool has_part(const struct trial *t, const int32_t *plan, int layer, int from, int to)
{
    int planned = 0, here = 0;

    for (int s = t->shape.rank_first[from]; s < t->shape.rank_first[from + 1]; s++) {
        int e = plan[layer * t->slots + s];

        if (e >= 0 && !on_rank(&t->next, layer, to, e))
            return false;
        planned += e >= 0;
    }
    for (int s = t->shape.rank_first[to]; s < t->shape.rank_first[to + 1]; s++)
        here += t->next.expert[layer * t->slots + s] >= 0;
    return planned == here;
}

static void check_parts(const struct trial *t, const int32_t *plan, int layer)
{
    bool given[16] = {false};
    int all = 0;

    for (int to = 0; to < t->shape.ranks; to++) {
        int from = 0;

        while (from < t->shape.ranks &&
               (given[from] || !stands_for(t, from, to) || !has_part(t, plan, layer, from, to)))
            from++;
        assert_true(from < t->shape.ranks);
        given[from] = true;
        all += gets(t, t->next.expert, layer, to, to);
    }
    memset(given, 0, sizeof given);
    assert_int_equal(all, fewest(t, plan, layer, 0, given));
}

static void ranks_take_the_parts_that_need_the_fewest_experts(void **state)
{
    static struct trial t;
    int32_t plan[2 * SLOTS];
    int rounds = 0, less = 0;

    (void)state;
    print_message("seed %llu\n", (unsigned long long)eplb_seed);
    for (int round = 0; round < 1000; round++) {
        if (!draw(&t))
            continue;
        if (t.shape.ranks > 7) { /* all ways are tried */
            arena_close(&eplb_gold_arena);
            continue;
        }
        memcpy(plan, t.next.expert, sizeof *plan * (size_t)(t.shape.layers * t.slots));
        assert_int_equal(relabel_ranks(&t.previous, &t.next, t.shape.rank_node, &eplb_gold_arena), STATUS_OK);
        for (int layer = 0; layer < t.shape.layers; layer++)
            check_parts(&t, plan, layer);
        less += memcmp(plan, t.next.expert, sizeof *plan * (size_t)(t.shape.layers * t.slots)) != 0;
        rounds++;
        arena_close(&eplb_gold_arena);
    }
    assert_true(rounds > 200 && less > rounds / 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(moves_lead_from_one_placement_to_the_next),
        cmocka_unit_test(experts_that_stay_on_their_rank_keep_their_slots),
        cmocka_unit_test(ranks_take_the_parts_that_need_the_fewest_experts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
