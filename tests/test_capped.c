/* test_capped.c - rows under a ceiling: what is routed, what is left, and what a rank has room for add up
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "eplb/capped.h"

#include "eplb_shape.h"

enum { EXPERTS = 12, RANKS = 5, MOST = 4, ROUNDS = 300, CHANGES = 12 };

/* The rest is the sum of what is left; every row is in a slot or left; every rank has its rows and its room.
 */
static void check_sums(const struct capped *c, int b)
{
    const struct capped_batch *batch = &c->batch[b];
    int64_t placed[EXPERTS] = {0}, used[RANKS] = {0}, left = 0;

    for (int s = 0; s < c->slots; s++) {
        assert_true(batch->flow[s] >= 0);
        if (batch->flow[s] == 0)
            continue;
        assert_true(c->item[s] >= 0);
        placed[c->item[s]] += batch->flow[s];
        used[c->rank[s]] += batch->flow[s];
    }
    for (int e = 0; e < c->experts; e++) {
        assert_true(batch->left[e] >= 0);
        assert_int_equal(placed[e] + batch->left[e], batch->demand[e]);
        left += batch->left[e];
    }
    for (int r = 0; r < c->ranks; r++) {
        assert_true(batch->room[r] >= 0);
        assert_int_equal(used[r] + batch->room[r], batch->ceiling);
    }
    assert_int_equal(batch->rest, left);
}

/* An expert that the rank of a slot does not hold, -1: the slot is emptied. */
static int other_expert(const struct capped *c, int slot)
{
    int expert = eplb_below(EXPERTS + 1) - 1;

    while (expert >= 0 && capped_holds(c, expert, c->rank[slot]))
        expert--;
    return expert;
}

/* A slot changes as the search changes it: first its rows are released, in every batch. The rest of a fresh
 * start must be the same, for as many rows as can be are routed either way. */
static void change(struct capped *c, int batches)
{
    int slot = eplb_below(c->slots), expert = other_expert(c, slot);

    for (int b = 0; b < batches; b++) {
        capped_keep(c, b);
        capped_release(c, b, slot);
        check_sums(c, b);
        assert_int_equal(c->batch[b].flow[slot], 0);
        capped_restore(c, b);
        check_sums(c, b);
        capped_release(c, b, slot);
    }
    capped_set(c, slot, expert);
    for (int b = 0; b < batches; b++) {
        struct capped_batch *batch = &c->batch[b];
        int64_t rest;

        capped_route(c, b);
        check_sums(c, b);
        rest = batch->rest;
        capped_keep(c, b);
        capped_start(c, b, batch->demand, batch->ceiling);
        check_sums(c, b);
        assert_int_equal(batch->rest, rest);
        capped_restore(c, b);
    }
}

static void sums_hold_while_replicas_come_and_go(void **state)
{
    int64_t demand[2][EXPERTS];
    int released = 0;

    (void)state;
    print_message("seed %llu\n", (unsigned long long)eplb_seed);
    for (int round = 0; round < ROUNDS; round++) {
        struct capped c;

        for (int r = 0; r < RANKS; r++)
            eplb_rank_first[r + 1] = eplb_rank_first[r] + 1 + eplb_below(MOST);
        assert_int_equal(arena_open(&eplb_gold_arena, "capped", 1 << 20), STATUS_OK);
        assert_int_equal(capped_open(&c, &eplb_gold_arena, EXPERTS, eplb_rank_first, RANKS, 2), STATUS_OK);
        for (int s = 0; s < c.slots; s++)
            capped_set(&c, s, other_expert(&c, s));
        for (int b = 0; b < 2; b++) {
            for (int e = 0; e < EXPERTS; e++)
                demand[b][e] = eplb_below(4) ? eplb_below(100) : 0;
            capped_start(&c, b, demand[b], eplb_below(300));
            check_sums(&c, b);
        }
        for (int i = 0; i < CHANGES; i++) {
            change(&c, 2);
            released += c.batch[0].rest > 0;
        }
        arena_close(&eplb_gold_arena);
    }
    assert_true(released > ROUNDS); /* ceilings that bind */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(sums_hold_while_replicas_come_and_go)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
