/* test_placement.c - slots, ranks and experts find each other
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "eplb/placement.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

static struct arena arena;

static int start(void **state)
{
    (void)state;
    return arena_open(&arena, "placement test", 1 << 22) != STATUS_OK;
}

static int end(void **state)
{
    (void)state;
    arena_close(&arena);
    return 0;
}

static uint64_t seed = 20240607;

/* Memory as it is at the start: zero. */
static void fresh(void)
{
    memset(arena.base, 0, arena.used);
    arena.used = 0;
}

static int below(int n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (int)((seed >> 33) % (uint64_t)n);
}

static int expert_of(const struct placement *p, int layer, int slot)
{
    return p->expert[(ptrdiff_t)layer * p->slots + slot];
}

static void check_inverse(const struct placement *p)
{
    for (int layer = 0; layer < p->layers; layer++) {
        const int32_t *first = p->first + (ptrdiff_t)layer * (p->experts + 1);
        const int32_t *replica = p->replica + (ptrdiff_t)layer * p->slots;
        int used = 0;

        for (int s = 0; s < p->slots; s++)
            used += expert_of(p, layer, s) >= 0;
        assert_int_equal(first[0], 0);
        assert_int_equal(first[p->experts], used);
        for (int e = 0; e < p->experts; e++) {
            assert_true(first[e] < first[e + 1]);
            for (int i = first[e]; i < first[e + 1]; i++) {
                assert_int_equal(expert_of(p, layer, replica[i]), e);
                assert_true(i == first[e] || replica[i] > replica[i - 1]);
            }
        }
    }
}

static void a_spread_gives_every_block_every_expert_once(void **state)
{
    (void)state;
    for (int ranks = 1; ranks <= 8; ranks++) {
        for (int copies = 1; copies <= ranks; copies++) {
            struct placement p;

            if (ranks % copies)
                continue;
            assert_int_equal(placement_spread(&p, &arena, 2, 5, ranks, copies), STATUS_OK);
            assert_int_equal(p.slots, 5 * copies);
            check_inverse(&p);
            for (int s = 0; s < p.slots; s++) {
                assert_int_equal(expert_of(&p, 1, s), s % 5);
                assert_int_equal(placement_rank(&p, s) / (ranks / copies), s / 5);
            }
            for (int r = 0; r < ranks; r++) {
                int slots = p.rank_first[r + 1] - p.rank_first[r], even = 5 / (ranks / copies);

                assert_in_range(slots, (unsigned)even, (unsigned)even + 1);
            }
        }
    }
}

static void redundant_slots_are_shared_out_and_hold_copies_of_others(void **state)
{
    (void)state;
    for (int ranks = 1; ranks <= 8; ranks++) {
        for (int more = 0; more <= 20; more++) {
            struct placement p;
            int filled = 0, room = 0;

            fresh();
            assert_int_equal(placement_redundant(&p, &arena, 2, 12, more, ranks), STATUS_OK);
            assert_int_equal(p.slots, 12 + more);
            check_inverse(&p); /* every expert has a slot; placement_index saw no rank with one twice */
            for (int s = 0; s < p.slots; s++)
                filled += expert_of(&p, 1, s) >= 0;
            for (int r = 0; r < ranks; r++) {
                int slots = p.rank_first[r + 1] - p.rank_first[r];

                assert_in_range(slots, (unsigned)(p.slots / ranks), (unsigned)(p.slots / ranks) + 1);
                room += slots < 12 ? slots : 12; /* a rank never holds an expert twice */
            }
            assert_int_equal(filled, room);
        }
    }
}

static void a_changed_layer_is_indexed_alone_and_changes_the_hash(void **state)
{
    struct placement p, q;
    uint64_t before;

    (void)state;
    fresh();
    assert_int_equal(placement_redundant(&p, &arena, 3, 6, 4, 4), STATUS_OK);
    assert_int_equal(placement_like(&q, &arena, &p), STATUS_OK);
    before = placement_hash(&p);
    assert_int_equal(expert_of(&p, 1, 3), 2); /* a copy, of which rank 0 has another */
    assert_int_equal(expert_of(&p, 1, 4), 3); /* the only one */
    p.expert[p.slots + 4] = 5;
    assert_int_equal(placement_index_layer(&p, 1), STATUS_BAD_INPUT);
    p.expert[p.slots + 4] = 3;
    assert_int_equal(placement_index_layer(&p, 1), STATUS_OK);
    assert_true(placement_hash(&p) == before);
    p.expert[p.slots + 3] = 5;
    assert_int_equal(placement_index_layer(&p, 1), STATUS_OK);
    assert_true(placement_hash(&p) != before);
    memcpy(q.expert, p.expert, sizeof *p.expert * 3 * (size_t)p.slots);
    assert_int_equal(placement_index(&q), STATUS_OK);
    assert_memory_equal(q.replica, p.replica, sizeof *p.replica * 3 * (size_t)p.slots);
    assert_memory_equal(q.first, p.first, sizeof *p.first * 3 * 7);
}

/* The rule of the header, spelled out slot by slot. */
static int slow_choice(const struct placement *p, int layer, int rank, int expert)
{
    int first = -1, near = -1;

    for (int s = 0; s < p->slots; s++) {
        int holder = placement_rank(p, s);

        if (expert_of(p, layer, s) != expert)
            continue;
        if (holder == rank)
            return s;
        if (near < 0 && holder / p->block_ranks == rank / p->block_ranks)
            near = s;
        if (first < 0)
            first = s;
    }
    return near >= 0 ? near : first;
}

static void check_choices(const struct placement *p)
{
    for (int layer = 0; layer < p->layers; layer++) {
        for (int r = 0; r < p->ranks; r++) {
            for (int32_t e = 0; e < p->experts; e++) {
                int32_t slot;

                placement_choose(p, layer, r, &e, &slot, 1);
                assert_int_equal(slot, slow_choice(p, layer, r, e));
            }
        }
    }
}

/* Uneven ranks, empty slots, replicas anywhere but twice on a rank. */
static void fill_random(struct placement *p)
{
    for (int r = 1; r < p->ranks; r++)
        p->rank_first[r] = p->rank_first[r - 1] + below(p->slots - p->rank_first[r - 1] + 1);
    for (int i = 0; i < p->layers * p->slots; i++)
        p->expert[i] = -1;
    for (int layer = 0; layer < p->layers; layer++) {
        int32_t *expert = p->expert + (ptrdiff_t)layer * p->slots;

        for (int e = 0, s = below(p->slots); e < p->experts; e++, s = (s + 1) % p->slots)
            expert[s] = e;
        for (int s = 0; s < p->slots; s++) {
            int e = below(p->experts + 1) - 1, r = placement_rank(p, s);

            for (int other = p->rank_first[r]; other < p->rank_first[r + 1]; other++)
                e = expert[other] == e ? -1 : e;
            if (expert[s] < 0)
                expert[s] = e;
        }
    }
}

static void a_choice_is_own_then_of_the_block_then_the_first(void **state)
{
    (void)state;
    print_message("seed %llu\n", (unsigned long long)seed);
    for (int round = 0; round < 200; round++) {
        int ranks = 1 + below(9), experts = 1 + below(12);
        struct placement p;

        fresh();
        assert_int_equal(placement_open(&p, &arena, 2, experts, experts + below(2 * experts), ranks),
                         STATUS_OK);
        fill_random(&p);
        assert_int_equal(placement_index(&p), STATUS_OK);
        check_inverse(&p);
        check_choices(&p);
    }
    for (int copies = 1; copies <= 4; copies *= 2) {
        struct placement p;

        fresh();
        assert_int_equal(placement_spread(&p, &arena, 1, 7, 8, copies), STATUS_OK);
        check_choices(&p);
    }
}

static void ranks_without_slots_hold_nothing(void **state)
{
    struct placement p;

    (void)state;
    assert_int_equal(placement_spread(&p, &arena, 1, 3, 5, 1), STATUS_OK);
    for (int s = 0; s < 3; s++)
        assert_int_equal(placement_rank(&p, s), s);
    p.rank_first[1] = 0;
    p.rank_first[2] = 0;
    p.rank_first[3] = 3;
    p.rank_first[4] = 3;
    for (int s = 0; s < 3; s++)
        assert_int_equal(placement_rank(&p, s), 2);
}

static void refused(struct placement *p, const char *words)
{
    int32_t first = p->first[1];

    assert_int_equal(placement_index(p), STATUS_BAD_INPUT);
    if (!strstr(status_text(), words))
        fail_msg("\"%s\" does not say \"%s\"", status_text(), words);
    assert_int_equal(p->first[1], first);
}

static void a_broken_placement_is_refused_in_words(void **state)
{
    struct placement p;

    (void)state;
    assert_int_equal(placement_open(&p, &arena, 1, 3, 6, 2), STATUS_OK);
    memcpy(p.expert, (int32_t[]){0, 1, 2, 0, -1, -1}, 6 * sizeof(int32_t));
    assert_int_equal(placement_index(&p), STATUS_OK);
    p.expert[2] = 1;
    refused(&p, "rank 0 holds expert 1 of layer 0 twice");
    p.expert[2] = -1;
    refused(&p, "expert 2 of layer 0 has no slot");
    p.expert[2] = 3;
    refused(&p, "slot 2 of layer 0 holds expert 3, there are 3");
    p.expert[2] = 2;
    p.rank_first[1] = 7;
    refused(&p, "rank 2 begins at slot 6, the rank before at slot 7");
    p.rank_first[1] = 3;
    p.rank_first[2] = 5;
    refused(&p, "the ranks hold slots 0 to 4, there are slots 0 to 5");
    assert_int_equal(placement_spread(&p, &arena, 1, 3, 6, 4), STATUS_BUG);
    assert_int_equal(placement_open(&p, &arena, 1, 3, 2, 2), STATUS_BUG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(redundant_slots_are_shared_out_and_hold_copies_of_others, start, end),
        cmocka_unit_test_setup_teardown(a_changed_layer_is_indexed_alone_and_changes_the_hash, start, end),
        cmocka_unit_test_setup_teardown(a_spread_gives_every_block_every_expert_once, start, end),
        cmocka_unit_test_setup_teardown(a_choice_is_own_then_of_the_block_then_the_first, start, end),
        cmocka_unit_test_setup_teardown(ranks_without_slots_hold_nothing, start, end),
        cmocka_unit_test_setup_teardown(a_broken_placement_is_refused_in_words, start, end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
