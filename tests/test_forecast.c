/* test_forecast.c - what is expected of the next batch, and batches that may come
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "eplb/forecast.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { CELLS = 2, ERRORS = 3, PARTS = FORECAST_PARTS };

static struct arena arena;

static struct forecast *open_forecast(struct forecast_way way)
{
    struct forecast *f;

    assert_int_equal(arena_open(&arena, "forecast", 1 << 20), STATUS_OK);
    assert_int_equal(forecast_open(&f, &arena, &way, CELLS, ERRORS), STATUS_OK);
    return f;
}

static void expect(const struct forecast *f, int64_t first, int64_t second)
{
    assert_int_equal(forecast_expected(f)[0], first);
    assert_int_equal(forecast_expected(f)[1], second);
}

static void a_batch_may_come_as_far_from_what_is_expected_as_one_has_been(void **state)
{
    static const int32_t batch[][CELLS] = {{10, 0}, {20, 4}, {30, 2}, {0, 3}, {4, 4}};
    struct forecast *f = open_forecast((struct forecast_way){.window = 2});
    int64_t may[ERRORS * CELLS];

    (void)state;
    expect(f, 0, 0);
    assert_int_equal(forecast_batches(f, may), 0);
    forecast_add(f, batch[0]);
    expect(f, 10 * PARTS, 0);
    assert_int_equal(forecast_batches(f, may), 0);
    forecast_add(f, batch[1]); /* 10 and 4 more */
    expect(f, 15 * PARTS, 2 * PARTS);
    assert_int_equal(forecast_batches(f, may), 1);
    assert_int_equal(may[0], 25 * PARTS);
    assert_int_equal(may[1], 6 * PARTS);
    forecast_add(f, batch[2]); /* 15 and 0 more */
    forecast_add(f, batch[3]); /* 25 and 0 less */
    expect(f, 15 * PARTS, 5 * PARTS / 2);
    assert_int_equal(forecast_batches(f, may), 3);
    assert_int_equal(may[2], 30 * PARTS);
    assert_int_equal(may[3], 5 * PARTS / 2);
    assert_int_equal(may[4], 0); /* not -10 */
    assert_int_equal(may[5], 5 * PARTS / 2);
    forecast_add(f, batch[4]); /* 11 less and 1.5 more, where the oldest error was */
    expect(f, 2 * PARTS, 7 * PARTS / 2);
    assert_int_equal(forecast_batches(f, may), 3);
    assert_int_equal(may[0], 0);
    assert_int_equal(may[1], 5 * PARTS);
    assert_int_equal(may[2], 17 * PARTS);
    arena_close(&arena);
}

static void the_newest_batch_has_its_share_in_the_average(void **state)
{
    static const int32_t batch[][CELLS] = {{8, 0}, {16, 4}, {0, 2}};
    struct forecast *f = open_forecast((struct forecast_way){.share = FORECAST_MILLION / 4});
    int64_t may[ERRORS * CELLS];

    (void)state;
    forecast_add(f, batch[0]);
    expect(f, 8 * PARTS, 0); /* the first is the average */
    forecast_add(f, batch[1]);
    expect(f, 10 * PARTS, PARTS);
    forecast_add(f, batch[2]);
    expect(f, 15 * PARTS / 2, 5 * PARTS / 4);
    assert_int_equal(forecast_batches(f, may), 2);
    assert_int_equal(may[0], 31 * PARTS / 2);
    assert_int_equal(may[1], 21 * PARTS / 4);
    assert_int_equal(may[2], 0); /* 7.5 - 10 */
    assert_int_equal(may[3], 9 * PARTS / 4);
    arena_close(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_batch_may_come_as_far_from_what_is_expected_as_one_has_been),
        cmocka_unit_test(the_newest_batch_has_its_share_in_the_average),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
