/* test_timeline.c - the figures of a benchmark are those of its formulas, on a time line made up by hand
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/timeline.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

enum { REQUESTS = 4, TOKENS = 12 };

static const int64_t MS = 1000000;

static struct arena arena;
static struct timeline line;

static int start(void **state)
{
    (void)state;
    return arena_open(&arena, "timeline test", 1 << 20) != STATUS_OK ||
           timeline_open(&line, &arena, REQUESTS, TOKENS) != STATUS_OK;
}

static int end(void **state)
{
    (void)state;
    arena_close(&arena);
    return 0;
}

static void request(int64_t arrived, const int64_t *tokens, int count)
{
    int number = line.count;

    assert_int_equal(timeline_arrive(&line, arrived * MS), STATUS_OK);
    for (int i = 0; i < count; i++)
        assert_int_equal(timeline_token(&line, number, tokens[i] * MS), STATUS_OK);
}

static void expect(enum timeline_kind kind, int64_t count, const double *wanted)
{
    struct timeline_figures f;

    timeline_figures(&line, kind, &f);
    assert_int_equal(f.count, count);
    for (int i = 0; i < 4; i++) {
        double found = (const double[]){f.mean, f.median, f.p90, f.p99}[i];

        if (fabs(found - wanted[i]) > 1e-9)
            fail_msg("kind %d, figure %d: %.12g, wanted %.12g", (int)kind, i, found, wanted[i]);
    }
}

/* Wanted values by Python's statistics.mean and quantiles(method="inclusive") of the lists in the comments.
 */
static void figures_follow_their_formulas(void **state)
{
    (void)state;
    request(0, (const int64_t[]){10, 20, 40}, 3);
    request(5, (const int64_t[]){10, 50}, 2);
    request(20, (const int64_t[]){70}, 1);
    request(30, (const int64_t[]){40, 41, 42, 43, 54}, 5);

    expect(TIMELINE_TTFT, 4, (const double[]){18.75, 10, 38, 48.8});      /* 10 5 50 10 */
    expect(TIMELINE_TPOT, 3, (const double[]){58.5 / 3, 15, 35, 39.5});   /* 15 40 3.5 */
    expect(TIMELINE_ITL, 7, (const double[]){12, 10, 28, 38.8});          /* 10 20 40 1 1 1 11 */
    expect(TIMELINE_E2EL, 4, (const double[]){39.75, 42.5, 48.5, 49.85}); /* 40 45 50 24 */
}

/* Requests that take turns do not mix their gaps. */
static void gaps_belong_to_their_request(void **state)
{
    (void)state;
    assert_int_equal(timeline_arrive(&line, 0), STATUS_OK);
    assert_int_equal(timeline_arrive(&line, 0), STATUS_OK);
    for (int i = 1; i <= 3; i++) {
        assert_int_equal(timeline_token(&line, 0, i * 10 * MS), STATUS_OK);
        assert_int_equal(timeline_token(&line, 1, (i * 10 + 5) * MS), STATUS_OK);
    }
    expect(TIMELINE_ITL, 4, (const double[]){10, 10, 10, 10});
}

static void percentiles_lie_between_neighbours(void **state)
{
    const double values[] = {1, 2, 4, 8, 16};

    (void)state;
    assert_true(timeline_percentile(values, 1, 99) == 1);
    assert_true(timeline_percentile(values, 5, 0) == 1);
    assert_true(timeline_percentile(values, 5, 25) == 2);
    assert_true(timeline_percentile(values, 5, 50) == 4);
    assert_true(timeline_percentile(values, 5, 100) == 16);
    assert_true(fabs(timeline_percentile(values, 5, 90) - 12.8) < 1e-12);
    assert_true(fabs(timeline_percentile(values, 4, 50) - 3) < 1e-12);
}

static void an_empty_line_has_no_figures(void **state)
{
    (void)state;
    expect(TIMELINE_TTFT, 0, (const double[]){0, 0, 0, 0});
    request(0, (const int64_t[]){3}, 1);
    expect(TIMELINE_TPOT, 0, (const double[]){0, 0, 0, 0});
    expect(TIMELINE_ITL, 0, (const double[]){0, 0, 0, 0});
    expect(TIMELINE_TTFT, 1, (const double[]){3, 3, 3, 3});
    timeline_clear(&line);
    expect(TIMELINE_TTFT, 0, (const double[]){0, 0, 0, 0});
}

static void more_than_there_is_room_for_is_a_bug(void **state)
{
    (void)state;
    assert_int_equal(timeline_token(&line, 0, 0), STATUS_BUG);
    for (int i = 0; i < REQUESTS; i++)
        assert_int_equal(timeline_arrive(&line, 0), STATUS_OK);
    assert_int_equal(timeline_arrive(&line, 0), STATUS_BUG);
    for (int i = 0; i <= TOKENS; i++)
        assert_int_equal(timeline_token(&line, 0, i), STATUS_OK);
    assert_int_equal(timeline_token(&line, 0, 100), STATUS_BUG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(figures_follow_their_formulas, start, end),
        cmocka_unit_test_setup_teardown(gaps_belong_to_their_request, start, end),
        cmocka_unit_test_setup_teardown(percentiles_lie_between_neighbours, start, end),
        cmocka_unit_test_setup_teardown(an_empty_line_has_no_figures, start, end),
        cmocka_unit_test_setup_teardown(more_than_there_is_room_for_is_a_bug, start, end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
