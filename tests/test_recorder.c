/* test_recorder.c - keys of recorded steps are the same on all ranks, cover the step, and seldom change
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/recorder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

enum { GROUPS = 2, POSITIONS = 5000, ROWS = 2 * RECORDING_ROWS_MOST, CHUNK = 1024 };

static struct config_layer layers[] = {{.mask = MASK_FULL}, {.mask = MASK_CHUNK, .mask_size = CHUNK}};
static const struct config all_seen = {.layers = 1, .layer = layers};
static const struct config bounded = {.layers = 2, .layer = layers};
static struct recording told; /* the last one, and ... */
static int32_t told_key[RECORDING_KEY_MOST];
static int asked; /* ... how many there were */

static enum status record(struct kernels *k, const struct recording *r, enum recording_way *way)
{
    (void)k;
    told = *r;
    memcpy(told_key, r->key, (size_t)r->count * sizeof *r->key);
    asked++;
    *way = RECORDING_AGAIN;
    return STATUS_OK;
}

static struct kernels kernels = {.record = record};
static struct comm queued = {.recordable = true}, staged;
static struct grid grid = {
    .groups = GROUPS, .tensor = 1, .ranks = GROUPS, .rows = &queued, .group_rows = &queued};
static struct batch_piece pieces[ROWS];
static struct batch batch = {.pieces = pieces};

/* Sequences at these positions, the last `second` of them of group 1. */
static void fill(const int *positions, int count, int second)
{
    for (int i = 0; i < count; i++)
        pieces[i] = (struct batch_piece){
            .group = i >= count - second, .first_row = i, .rows = 1, .position = positions[i]};
    batch.piece_count = batch.row_count = count;
}

static enum recording_way ask(struct recorder *r, int group, bool waits)
{
    struct step step = {.grid = &grid, .kernels = &kernels};
    struct placement placement = {.version = 7};
    enum recording_way way;

    grid.my_group = group;
    step.rows = batch_group_rows(&batch, group).count;
    assert_int_equal(recorder_begin(r, &step, &batch, &placement, waits, &way), STATUS_OK);
    return way;
}

static void open(struct recorder *r, const struct config *c, bool eager)
{
    struct step step = {.grid = &grid, .kernels = &kernels};

    recorder_open(r, c, &step, POSITIONS, eager);
}

static void keys_are_of_the_batch_and_cover_it(void **state)
{
    struct recorder r;
    uint32_t seed = 1;

    (void)state;
    for (int bound = 0; bound < 2; bound++) {
        open(&r, bound ? &bounded : &all_seen, false);
        for (int round = 0; round < 500; round++) {
            int32_t first[GROUPS + 2];
            int at[3];

            for (int i = 0; i < 3; i++)
                at[i] = (int)((seed = seed * 1664525u + 1013904223u) >> 8) % POSITIONS;
            fill(at, 3, round % 4);
            assert_int_equal(ask(&r, 0, false), RECORDING_AGAIN);
            memcpy(first, told_key, sizeof first);
            assert_int_equal(told.count, GROUPS + 2);
            assert_int_equal(told.weights, 7);
            assert_int_equal(told_key[2] + told_key[3], 3);
            assert_int_equal(told_key[3], round % 4);
            for (int i = 0; i < 3; i++)
                assert_true(told.least <= at[i] && at[i] <= told.most);
            assert_true(told.most < POSITIONS && told.least == (bound ? told_key[0] : 0) &&
                        told.most == told_key[1]);
            assert_int_equal(ask(&r, 1, false), RECORDING_AGAIN);
            assert_memory_equal(first, told_key, sizeof first);
        }
    }
}

/* One sequence from its first to its last position. */
static void a_key_lasts_for_many_steps(void **state)
{
    struct recorder r;
    int keys = 0;
    int32_t last = -1;

    (void)state;
    open(&r, &bounded, false);
    for (int position = 0; position < POSITIONS; position++) {
        fill(&position, 1, 0);
        ask(&r, 0, false);
        keys += told_key[1] != last;
        last = told_key[1];
        assert_true(told.most - position <= 255 || told.most - position <= position / 4);
    }
    assert_true(keys <= 16);
}

static void other_steps_are_not_recorded(void **state)
{
    struct recorder r;
    int at[ROWS] = {0};

    (void)state;
    open(&r, &all_seen, false);
    asked = 0;
    fill(at, 2, 1);
    assert_int_equal(ask(&r, 0, true), RECORDING_NONE); /* the host must know what the router chose */
    pieces[0].rows++;                                   /* a prompt */
    batch.row_count++;
    assert_int_equal(ask(&r, 0, false), RECORDING_NONE);
    fill(at, RECORDING_ROWS_MOST + 2, 1);
    assert_int_equal(ask(&r, 1, false), RECORDING_NONE); /* too many rows, of another group */
    fill(at, 2, 1);
    open(&r, &all_seen, true);
    assert_int_equal(ask(&r, 0, false), RECORDING_NONE);
    assert_int_equal(r.steps[RECORDING_NONE], 1);
    grid.rows = &staged; /* rows that travel through the host */
    open(&r, &all_seen, false);
    assert_int_equal(ask(&r, 0, false), RECORDING_NONE);
    grid.rows = &queued;
    assert_int_equal(asked, 0);
}

/* Rows of drafts count as those of as many sequences. */
static void steps_with_drafts_are_recorded_by_their_rows(void **state)
{
    const int at[] = {4, 252};
    struct recorder r;
    int32_t key[GROUPS + 2];

    (void)state;
    open(&r, &all_seen, false);
    fill(at, 2, 1);
    pieces[1].rows = 3;
    pieces[1].want = BATCH_WANT_EACH;
    batch.row_count = 4;
    assert_int_equal(ask(&r, 0, false), RECORDING_AGAIN);
    assert_int_equal(told_key[1], 255);
    assert_int_equal(told_key[2], 1);
    assert_int_equal(told_key[3], 3);
    memcpy(key, told_key, sizeof key);
    assert_int_equal(ask(&r, 1, false), RECORDING_AGAIN);
    assert_memory_equal(key, told_key, sizeof key);
    pieces[1].rows++; /* the last of them stands at 255, and one more at 256 */
    batch.row_count++;
    assert_int_equal(ask(&r, 1, false), RECORDING_AGAIN);
    assert_int_equal(told_key[1], 255);
    pieces[1].rows++;
    batch.row_count++;
    assert_int_equal(ask(&r, 1, false), RECORDING_AGAIN);
    assert_int_equal(told_key[1], 511);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_are_of_the_batch_and_cover_it),
        cmocka_unit_test(a_key_lasts_for_many_steps),
        cmocka_unit_test(other_steps_are_not_recorded),
        cmocka_unit_test(steps_with_drafts_are_recorded_by_their_rows),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
