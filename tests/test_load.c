/* test_load.c - the window holds just the last batches, kinds apart, and the average follows them
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "eplb/load.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { LAYERS = 2, EXPERTS = 3, WINDOW = 7, RANKS = 4, BATCHES = 40 };

static struct arena arena;
static int32_t history[BATCHES][LAYERS][EXPERTS]; /* over all ranks */
static enum load_kind kinds[BATCHES];
static uint64_t seed = 4711;

static int below(int n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (int)((seed >> 33) % (uint64_t)n);
}

/* One batch of random rows from all ranks, remembered. */
static void add_batch(struct load *l, int batch)
{
    kinds[batch] = below(2) ? LOAD_DECODE : LOAD_PREFILL;
    load_begin(l, kinds[batch]);
    for (int layer = 0; layer < LAYERS; layer++) {
        int32_t wanted[RANKS][EXPERTS];

        for (int r = 0; r < RANKS; r++) {
            for (int e = 0; e < EXPERTS; e++) {
                wanted[r][e] = below(50);
                history[batch][layer][e] += wanted[r][e];
            }
        }
        load_add(l, layer, wanted[0], RANKS);
    }
}

/* The rule of the header, batch by batch. */
static void check_choice(const struct load *l, int batches, const struct load_choice *choice)
{
    int64_t wanted[LAYERS * EXPERTS] = {0}, found[LAYERS * EXPERTS];
    int count = batches < WINDOW ? batches : WINDOW, chosen = 0, got;

    for (int age = count * choice->part / choice->parts; age < count * (choice->part + 1) / choice->parts;
         age++) {
        int batch = batches - 1 - age;

        if (kinds[batch] != choice->kind || age % 2 != choice->phase)
            continue;
        chosen++;
        for (int i = 0; i < LAYERS * EXPERTS; i++)
            wanted[i] += history[batch][i / EXPERTS][i % EXPERTS];
    }
    load_sum(l, choice, found, &got);
    assert_int_equal(got, chosen);
    assert_memory_equal(found, wanted, sizeof wanted);
}

static void the_window_holds_the_last_batches_of_all_ranks(void **state)
{
    struct load *l;

    (void)state;
    print_message("seed %llu\n", (unsigned long long)seed);
    memset(history, 0, sizeof history);
    assert_int_equal(load_open(&l, &arena, LAYERS, EXPERTS, WINDOW), STATUS_OK);
    for (int batch = 0; batch < BATCHES; batch++) {
        add_batch(l, batch);
        assert_int_equal(load_batches(l), batch + 1 < WINDOW ? batch + 1 : WINDOW);
        for (int i = 0; i < 12; i++) {
            struct load_choice choice = {
                .kind = (enum load_kind)(i % 2), .phase = i / 2 % 2, .part = i / 4, .parts = 3};

            check_choice(l, batch + 1, &choice);
        }
    }
}

static void the_average_of_equal_batches_is_that_batch(void **state)
{
    static const int32_t wanted[EXPERTS] = {5, 0, 100};
    struct load *l;

    (void)state;
    assert_int_equal(load_open(&l, &arena, 1, EXPERTS, WINDOW), STATUS_OK);
    for (int batch = 0; batch < 20; batch++) {
        load_begin(l, LOAD_DECODE);
        load_add(l, 0, wanted, 1);
        for (int e = 0; e < EXPERTS; e++) {
            assert_int_equal(load_average(l, LOAD_DECODE)[e], (int64_t)wanted[e] * LOAD_EWMA_ONE);
            assert_int_equal(load_average(l, LOAD_PREFILL)[e], 0);
        }
    }
}

static void the_average_comes_nearer_to_a_new_level_by_its_share(void **state)
{
    int32_t rows = 0;
    struct load *l;

    (void)state;
    assert_int_equal(load_open(&l, &arena, 1, 1, WINDOW), STATUS_OK);
    load_begin(l, LOAD_PREFILL);
    load_add(l, 0, &rows, 1);
    rows = 1000;
    load_begin(l, LOAD_PREFILL);
    load_add(l, 0, &rows, 1);
    assert_in_range(load_average(l, LOAD_PREFILL)[0], 299 * LOAD_EWMA_ONE, 301 * LOAD_EWMA_ONE);
}

/* Of batches with one row more each, all of them decoding: which batches are in the loads of a phase. */
static void each_way_to_plan_sees_the_batches_of_its_phase(void **state)
{
    static int64_t sums[LOAD_SCENARIOS];
    struct load *l;
    int count, batches;

    (void)state;
    assert_int_equal(load_open(&l, &arena, 1, 1, 20), STATUS_OK);
    load_scenarios(l, LOAD_LAST, 0, sums, &count, &batches);
    assert_int_equal(count, 0);
    for (int32_t rows = 1; rows <= 30; rows++) {
        load_begin(l, LOAD_DECODE);
        load_add(l, 0, &rows, 1);
    }
    for (int phase = 0; phase < 2; phase++) {
        load_scenarios(l, LOAD_LAST, phase, sums, &count, &batches);
        assert_int_equal(count, LOAD_LAST_BATCHES);
        assert_int_equal(batches, LOAD_LAST_BATCHES);
        for (int i = 0; i < count; i++)
            assert_int_equal(sums[i], 30 - phase - 2 * i);
        load_scenarios(l, LOAD_WINDOW, phase, sums, &count, &batches);
        assert_int_equal(count, 2);
        assert_int_equal(batches, 10);
        assert_int_equal(sums[0] + sums[1], 10 * (21 - phase)); /* 30, 28, ... 12, or one less each */
        load_scenarios(l, LOAD_EWMA, phase, sums, &count, &batches);
        assert_int_equal(count, 1);
        assert_int_equal(batches, 10);
        /* behind what rises by 2 a batch by 2 * (1 - 0.3) / 0.3 = 4.67 */
        assert_in_range(sums[0], 10 * (30 - phase) - 48, 10 * (30 - phase) - 45);
    }
}

/* Eight batches of decoding for each of prompts, of which a phase has 6 in the window: rows weigh as they
 * come. */
static void kinds_weigh_by_their_number(void **state)
{
    static int64_t sums[LOAD_SCENARIOS];
    static const int32_t rows[LOAD_KINDS] = {[LOAD_PREFILL] = 8000, [LOAD_DECODE] = 16};
    struct load *l;
    int count, batches;

    (void)state;
    assert_int_equal(load_open(&l, &arena, 1, 1, 108), STATUS_OK);
    for (int i = 0; i < 200; i++) {
        enum load_kind kind = i % 9 == 0 ? LOAD_PREFILL : LOAD_DECODE;

        load_begin(l, kind);
        load_add(l, 0, &rows[kind], 1);
    }
    for (int way = LOAD_LAST; way <= LOAD_EWMA; way++) {
        int64_t all = 0;

        load_scenarios(l, (enum load_way)way, 1, sums, &count, &batches);
        for (int i = 0; i < count; i++)
            all += sums[i];
        assert_int_equal(count, way == LOAD_LAST ? 6 + LOAD_LAST_BATCHES : way == LOAD_WINDOW ? 4 : 2);
        assert_in_range(all / batches, (8000 + 8 * 16) / 9 * 0.85, (8000 + 8 * 16) / 9 * 1.15);
    }
}

static int open_arena(void **state)
{
    (void)state;
    return arena_open(&arena, "load test", 1 << 20) != STATUS_OK;
}

static int close_arena(void **state)
{
    (void)state;
    arena_close(&arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_window_holds_the_last_batches_of_all_ranks),
        cmocka_unit_test(the_average_of_equal_batches_is_that_batch),
        cmocka_unit_test(the_average_comes_nearer_to_a_new_level_by_its_share),
        cmocka_unit_test(each_way_to_plan_sees_the_batches_of_its_phase),
        cmocka_unit_test(kinds_weigh_by_their_number),
    };

    return cmocka_run_group_tests(tests, open_arena, close_arena);
}
