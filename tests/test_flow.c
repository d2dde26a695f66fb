/* test_flow.c - the split is legal, its busiest rank is the least possible, and the cut proves it
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "eplb/flow.h"

#include "eplb_gold.h"
#include "eplb/reference.h"

#include <math.h>

enum { EXPERTS = 12, SLOTS = 30, RANKS = 10 };

struct split {
    int experts, slots, ranks;
    const int32_t *expert;
    const int32_t *rank_first;
    const int64_t *demand;
    int64_t *quota;
    bool *cut;
    int64_t most;
};

static uint64_t seed = 99;

static int below(int n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (int)((seed >> 33) % (uint64_t)n);
}

/* Demand that only the ranks of `set` can serve. */
static int64_t inside(const struct split *s, const bool *set)
{
    int64_t sum = 0;

    for (int e = 0; e < s->experts; e++) {
        bool all = true;

        for (int r = 0; r < s->ranks; r++) {
            for (int slot = s->rank_first[r]; slot < s->rank_first[r + 1]; slot++)
                all &= s->expert[slot] != e || set[r];
        }
        sum += all ? s->demand[e] : 0;
    }
    return sum;
}

static void check_legal(const struct split *s)
{
    int64_t placed[256] = {0}, busiest = 0, marked = 0;

    for (int r = 0; r < s->ranks; r++) {
        int64_t load = 0;

        for (int slot = s->rank_first[r]; slot < s->rank_first[r + 1]; slot++) {
            assert_true(s->quota[slot] >= 0);
            assert_true(s->quota[slot] == 0 || s->expert[slot] >= 0);
            load += s->quota[slot];
            if (s->expert[slot] >= 0)
                placed[s->expert[slot]] += s->quota[slot];
        }
        busiest = load > busiest ? load : busiest;
        marked += s->cut[r];
    }
    for (int e = 0; e < s->experts; e++)
        assert_int_equal(placed[e], s->demand[e]);
    assert_int_equal(busiest, s->most);
    if (s->most > 0) {
        assert_true(marked > 0);
        assert_true(inside(s, s->cut) > (s->most - 1) * marked);
    }
}

/* The most of ceil(demand inside / ranks) over all sets of ranks. */
static int64_t slow_most(const struct split *s)
{
    int64_t most = 0;

    for (int bits = 1; bits < 1 << s->ranks; bits++) {
        bool set[RANKS];
        int64_t count = 0, rows;

        for (int r = 0; r < s->ranks; r++) {
            set[r] = bits >> r & 1;
            count += set[r];
        }
        rows = (inside(s, set) + count - 1) / count;
        most = rows > most ? rows : most;
    }
    return most;
}

/* Uneven ranks, empty slots, doubles on a rank, experts without rows. */
static void small_cases_are_least_over_all_sets_of_ranks(void **state)
{
    struct flow *f;
    int32_t expert[SLOTS], rank_first[RANKS + 1];
    int64_t demand[EXPERTS], quota[SLOTS];
    bool cut[RANKS];

    (void)state;
    print_message("seed %llu\n", (unsigned long long)seed);
    for (int round = 0; round < 600; round++) {
        struct split s = {
            .expert = expert, .rank_first = rank_first, .demand = demand, .quota = quota, .cut = cut};
        int shift = round % 3 == 0 ? 30 : 0;

        s.experts = 1 + below(EXPERTS);
        s.slots = s.experts + below(SLOTS - s.experts + 1);
        s.ranks = 1 + below(round % 10 == 0 ? RANKS : 6);
        rank_first[0] = 0;
        for (int r = 1; r < s.ranks; r++)
            rank_first[r] = rank_first[r - 1] + below((s.slots - rank_first[r - 1]) / 2 + 1);
        rank_first[s.ranks] = s.slots;
        for (int slot = 0; slot < s.slots; slot++)
            expert[slot] = slot < s.experts ? slot : below(s.experts + 1) - 1;
        for (int slot = s.slots - 1; slot > 0; slot--) {
            int other = below(slot + 1);
            int32_t swap = expert[slot];

            expert[slot] = expert[other];
            expert[other] = swap;
        }
        for (int e = 0; e < s.experts; e++)
            demand[e] = below(4) == 0 ? 0 : (int64_t)below(100) * below(8) << shift;
        assert_int_equal(arena_open(&eplb_gold_arena, "flow", 1 << 20), STATUS_OK);
        assert_int_equal(flow_open(&f, &eplb_gold_arena, s.experts, s.slots, s.ranks), STATUS_OK);
        assert_int_equal(flow_split(f, expert, rank_first, demand, quota, cut, &s.most), STATUS_OK);
        check_legal(&s);
        assert_int_equal(s.most, slow_most(&s));
        arena_close(&eplb_gold_arena);
    }
}

/* DeepSeek's placements under the best split: a column of the bounds, which was not made by this program. */
static void check_case(const struct eplb_gold *c)
{
    const struct placement_shape *shape = &c->shape;
    int64_t demand[256], quota[512];
    int32_t rank_first[129];
    bool cut[128];
    struct reference r;
    struct flow *f;

    assert_int_equal(reference_take(&r, &eplb_gold_arena, shape), STATUS_OK);
    assert_int_equal(reference_plan(&r, c->weight), STATUS_OK);
    assert_int_equal(flow_open(&f, &eplb_gold_arena, shape->experts, shape->slots, shape->ranks), STATUS_OK);
    for (int rank = 0; rank <= shape->ranks; rank++)
        rank_first[rank] = shape->slots / shape->ranks * rank;
    for (int layer = 0; layer < shape->layers; layer++) {
        struct split s = {.experts = shape->experts,
                          .slots = shape->slots,
                          .ranks = shape->ranks,
                          .expert = r.expert + layer * shape->slots,
                          .rank_first = rank_first,
                          .demand = demand,
                          .quota = quota,
                          .cut = cut};
        json_t *known = json_array_get(json_object_get(c->bounds, "deepseek_flow"), (size_t)layer);
        double total = 0.0, relative;

        for (int e = 0; e < shape->experts; e++) {
            demand[e] = c->load[layer * shape->experts + e] * 1000000;
            total += (double)demand[e];
        }
        assert_int_equal(flow_split(f, s.expert, rank_first, demand, quota, cut, &s.most), STATUS_OK);
        check_legal(&s);
        relative = total > 0.0 ? (double)s.most * shape->ranks / total : 1.0;
        if (fabs(relative - json_number_value(known)) > 1.5e-6)
            fail_msg("case %d layer %d: %.7f, known is %.6f", eplb_gold_int(c->gold, "id"), layer, relative,
                     json_number_value(known));
    }
}

static void every_known_split_is_met(void **state)
{
    (void)state;
    eplb_gold_each(check_case);
}

static void refused(enum status status, const char *words)
{
    assert_int_equal(status, STATUS_BUG);
    if (!strstr(status_text(), words))
        fail_msg("\"%s\" does not say \"%s\"", status_text(), words);
}

static void cases_that_cannot_be_are_refused_in_words(void **state)
{
    int32_t expert[] = {0, 1, -1}, rank_first[] = {0, 2, 3};
    int64_t demand[] = {5, 6, 0}, quota[] = {-1, -1, -1}, most = -1;
    struct flow *f;

    (void)state;
    assert_int_equal(arena_open(&eplb_gold_arena, "flow", 1 << 20), STATUS_OK);
    assert_int_equal(flow_open(&f, &eplb_gold_arena, 3, 3, 2), STATUS_OK);
    demand[2] = 7;
    refused(flow_split(f, expert, rank_first, demand, quota, NULL, &most), "expert 2 has 7 rows and no slot");
    demand[2] = -7;
    refused(flow_split(f, expert, rank_first, demand, quota, NULL, &most), "demand of expert 2 is -7");
    demand[2] = 0;
    expert[2] = 3;
    refused(flow_split(f, expert, rank_first, demand, quota, NULL, &most), "slot 2 holds expert 3 of 3");
    expert[2] = -1;
    rank_first[1] = 4;
    refused(flow_split(f, expert, rank_first, demand, quota, NULL, &most), "rank 2 begins at slot 3");
    assert_int_equal(quota[0], -1);
    assert_int_equal(most, -1);
    rank_first[1] = 2;
    assert_int_equal(flow_split(f, expert, rank_first, demand, quota, NULL, &most), STATUS_OK);
    assert_int_equal(most, 11);
    arena_close(&eplb_gold_arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_cases_are_least_over_all_sets_of_ranks),
        cmocka_unit_test(every_known_split_is_met),
        cmocka_unit_test(cases_that_cannot_be_are_refused_in_words),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
