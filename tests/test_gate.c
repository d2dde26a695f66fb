/* test_gate.c - a plan passes only when it is worth its moves, and the line says why not
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "eplb/gate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

/* A good plan: 10,000 rows fewer on the busiest rank over 10 batches, 1 us each, 100 batches: 100 ms; 10 ms
 * to move. */
static const struct gate_case good = {.moves = 4,
                                      .bytes = 10000000,
                                      .batches = 10,
                                      .rows_now = 60000,
                                      .rows_planned = 50000,
                                      .rows_mean = 48000,
                                      .row_ns = 1000,
                                      .horizon = 100,
                                      .bytes_per_ns = 1,
                                      .since_commit = 50,
                                      .pause = 32};

static enum gate_reason reason(struct gate_case c)
{
    struct gate_decision d;

    gate_decide(&c, &d);
    return d.reason;
}

static void a_plan_that_saves_more_than_it_costs_passes(void **state)
{
    struct gate_decision d;

    (void)state;
    gate_decide(&good, &d);
    assert_int_equal(d.reason, GATE_GO);
    assert_true(d.gain_ms > 99.99 && d.gain_ms < 100.01);
    assert_true(d.cost_ms > 9.99 && d.cost_ms < 10.01);
    assert_true(d.now > 1.2499 && d.now < 1.2501);
}

static void each_reason_against_stops_it(void **state)
{
    struct gate_case c;

    (void)state;
    c = good, c.moves = 0;
    assert_int_equal(reason(c), GATE_NOTHING);
    c = good, c.since_commit = 31;
    assert_int_equal(reason(c), GATE_PAUSE);
    c = good, c.rows_planned = 59000;
    assert_int_equal(reason(c), GATE_SMALL);
    c = good, c.rows_planned = 61000;
    assert_int_equal(reason(c), GATE_SMALL);
    c = good, c.bytes = 80000000;
    assert_int_equal(reason(c), GATE_COST);
    c = good, c.row_ns = 0; /* nothing has been measured yet */
    assert_int_equal(reason(c), GATE_COST);
    c = good, c.rows_now = 300, c.rows_planned = 270, c.rows_mean = 250, c.bytes = 1;
    assert_int_equal(reason(c), GATE_NOISE);
}

static void nothing_seen_moves_nothing(void **state)
{
    struct gate_case c = {.moves = 3, .bytes = 100, .bytes_per_ns = 1, .row_ns = 5, .horizon = 10};

    (void)state;
    assert_int_equal(reason(c), GATE_SMALL);
}

static void the_line_has_both_sides(void **state)
{
    struct gate_decision d;
    char text[320];

    (void)state;
    gate_decide(&good, &d);
    gate_text(&good, &d, text, sizeof text);
    assert_non_null(strstr(text, "moving; 4 experts"));
    assert_non_null(strstr(text, "imbalance 1.250 -> 1.042"));
    assert_non_null(strstr(text, "saves 100.00 ms in 100 batches, costs 10.00 ms"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plan_that_saves_more_than_it_costs_passes),
        cmocka_unit_test(each_reason_against_stops_it),
        cmocka_unit_test(nothing_seen_moves_nothing),
        cmocka_unit_test(the_line_has_both_sides),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
