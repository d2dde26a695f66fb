/* test_speculate.c - drafts are what stands behind the first of the longest n-grams, whoever asks and when
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/speculate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels/cpu/cpu.h"
#include "kernels/reference/reference.h"

enum { SLOTS = 5, POSITIONS = 700, STEPS = 400 };

struct desk {
    struct arena arena;
    struct kernels *kernels;
    struct speculate speculate;
};

static void open_desk(struct desk *d, int backend, struct speculate_options options)
{
    memset(d, 0, sizeof *d);
    assert_int_equal(arena_open(&d->arena, "test", 1 << 20), STATUS_OK);
    assert_int_equal(backend == 0 ? reference_open(&d->kernels)
                                  : cpu_open(cpu_best_path(), backend, NULL, &d->kernels),
                     STATUS_OK);
    assert_int_equal(speculate_open(&d->speculate, &d->arena, d->kernels, &options, SLOTS, POSITIONS),
                     STATUS_OK);
}

static void close_desk(struct desk *d)
{
    d->kernels->close(d->kernels);
    arena_close(&d->arena);
}

/* As the words say it: by length, then from the front. Returns where the drafts begin; `count`: there are
 * none. */
static int plain(const int32_t *tokens, int count, const struct speculate_options *o)
{
    for (int n = o->longest; n >= o->shortest; n--) {
        for (int first = 0; first + n < count; first++) {
            int alike = 0;

            while (alike < n && tokens[first + alike] == tokens[count - n + alike])
                alike++;
            if (alike == n)
                return first + n;
        }
    }
    return count;
}

static void check(const struct desk *d, int index, const int32_t *tokens, int count, int most)
{
    int begin = plain(tokens, count, &d->speculate.options), found;
    const int32_t *drafts = speculate_drafts(&d->speculate, index, &found);

    assert_int_equal(found, count - begin < most ? count - begin : most);
    assert_memory_equal(drafts, tokens + begin, (size_t)found * sizeof *tokens);
}

/* Answers that grow by several tokens at a time, beside others; slots that others take over; requests that do
 * not ask for a while, and more tokens at once than travel with the others. */
static void drafts_are_those_of_a_plain_search(void **state)
{
    static int32_t text[SLOTS][POSITIONS];
    unsigned seed = (unsigned)time(NULL);
    int count[SLOTS] = {0}, drafts = 0;
    int64_t number[SLOTS] = {0, 1, 2, 3, 4}, next = SLOTS;

    (void)state;
    print_message("seed %u\n", seed);
    srand(seed);
    for (int backend = 0; backend < 3; backend++) {
        struct desk d;

        open_desk(
            &d, backend,
            (struct speculate_options){.drafts = 4, .shortest = 1 + backend, .longest = 2 + 2 * backend});
        for (int step = 0; step < STEPS; step++) {
            int asked[SLOTS], most[SLOTS], all = 0;

            for (int slot = 0; slot < SLOTS; slot++) {
                int more = 1 + (rand() % 20 == 0 ? rand() % 300 : rand() % 5);

                if (count[slot] + more > POSITIONS) {
                    number[slot] = next++;
                    count[slot] = 0;
                }
                for (; more > 0; more--)
                    text[slot][count[slot]++] = rand() % (1 + (int)(number[slot] % 7));
                if (rand() % 3 == 0)
                    continue;
                most[all] = 1 + rand() % 4;
                assert_int_equal(
                    speculate_ask(&d.speculate, slot, number[slot], text[slot], count[slot], most[all]),
                    STATUS_OK);
                asked[all++] = slot;
            }
            if (all == 0)
                continue;
            assert_int_equal(speculate_look(&d.speculate), STATUS_OK);
            for (int i = 0; i < all; i++) {
                int found;

                check(&d, i, text[asked[i]], count[asked[i]], most[i]);
                speculate_drafts(&d.speculate, i, &found);
                drafts += found;
            }
        }
        close_desk(&d);
    }
    assert_true(drafts > STEPS);
}

/* The first is the example in the documentation of vLLM's proposer. */
static void examples(void **state)
{
    const struct {
        struct speculate_options options;
        int32_t tokens[12];
        int count;
        int32_t drafts[4];
        int found;
    } cases[] = {
        {{4, 2, 3}, {1, 2, 3, 4, 2, 3}, 6, {4, 2, 3}, 3},
        {{2, 2, 2}, {1, 2, 3, 1, 2, 4, 1, 2}, 8, {3, 1}, 2}, /* the first of two */
        {{2, 1, 3}, {2, 7, 1, 2, 8, 1, 2}, 7, {8, 1}, 2},    /* a longer one before an earlier one */
        {{3, 1, 2}, {5, 5, 5}, 3, {5}, 1},                   /* it may reach into the end itself */
        {{3, 3, 5}, {1, 2, 1, 2}, 4, {0}, 0},                /* too short */
        {{3, 2, 2}, {1, 2, 3, 4}, 4, {0}, 0},                /* never before */
        {{3, 1, 1}, {9}, 1, {0}, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (int backend = 0; backend < 2; backend++) {
            struct desk d;
            const int32_t *drafts;
            int found;

            open_desk(&d, backend, cases[i].options);
            assert_int_equal(
                speculate_ask(&d.speculate, 1, 7, cases[i].tokens, cases[i].count, cases[i].options.drafts),
                STATUS_OK);
            assert_int_equal(speculate_look(&d.speculate), STATUS_OK);
            drafts = speculate_drafts(&d.speculate, 0, &found);
            assert_int_equal(found, cases[i].found);
            assert_memory_equal(drafts, cases[i].drafts, (size_t)found * sizeof *drafts);
            close_desk(&d);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(examples),
        cmocka_unit_test(drafts_are_those_of_a_plain_search),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
