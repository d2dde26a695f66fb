/* test_precision.c - ranks are lowered by the rules, and no other choice within the budget is done sooner
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * The seed can be given as an argument. */
#include "eplb/precision.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { RANKS_MOST = 9, ROUNDS = 4000 };

static uint64_t seed = 20261126;
static uint64_t state;

/* splitmix64, Steele, Lea and Flood 2014 */
static int between(int low, int high)
{
    uint64_t z = state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return low + (int)((z ^ z >> 31) % (uint64_t)(high - low + 1));
}

static int64_t sum_of(const int64_t *rows, int ranks)
{
    int64_t sum = 0;

    for (int p = 0; p < ranks; p++)
        sum += rows[p];
    return sum;
}

/* Time of the slowest rank, in rows times speed. */
static int64_t makespan(const struct precision_rules *r, const int64_t *rows, int ranks, const bool *lower)
{
    int64_t most = 0;

    for (int p = 0; p < ranks; p++) {
        int64_t time = rows[p] * (lower[p] ? 100 : r->speed);

        most = time > most ? time : most;
    }
    return most;
}

/* The rules as they are written down: all above lam, then out with the least busy, equals together, until
 * the budget is kept. */
static void by_the_rules(const struct precision_rules *r, const int64_t *rows, int ranks, bool *lower)
{
    int64_t all = sum_of(rows, ranks), busiest = 0, chosen = 0;

    for (int p = 0; p < ranks; p++)
        busiest = rows[p] > busiest ? rows[p] : busiest;
    for (int p = 0; p < ranks; p++) {
        lower[p] = all >= r->min_rows && rows[p] * r->speed > busiest * 100;
        chosen += lower[p] ? rows[p] : 0;
    }
    while (chosen * 1000 > all * r->budget) {
        int64_t least = INT64_MAX;

        for (int p = 0; p < ranks; p++)
            least = lower[p] && rows[p] < least ? rows[p] : least;
        for (int p = 0; p < ranks; p++)
            if (lower[p] && rows[p] == least) {
                lower[p] = false;
                chosen -= least;
            }
    }
}

/* The shortest time of all choices within the budget, every subset tried. */
static int64_t shortest(const struct precision_rules *r, const int64_t *rows, int ranks)
{
    int64_t all = sum_of(rows, ranks), best = INT64_MAX;

    for (unsigned set = 0; set < 1u << ranks; set++) {
        bool lower[RANKS_MOST];
        int64_t chosen = 0, time;

        for (int p = 0; p < ranks; p++) {
            lower[p] = (set >> p & 1) != 0;
            chosen += lower[p] ? rows[p] : 0;
        }
        if (chosen * 1000 > all * r->budget)
            continue;
        time = makespan(r, rows, ranks, lower);
        best = time < best ? time : best;
    }
    return best;
}

static void check(const struct precision_rules *r, const int64_t *rows, int ranks)
{
    bool lower[RANKS_MOST], none[RANKS_MOST] = {false}, wanted[RANKS_MOST];
    struct precision_effect e;
    int64_t lowered = 0;

    precision_select(r, rows, ranks, lower, &e);
    by_the_rules(r, rows, ranks, wanted);
    for (int p = 0; p < ranks; p++) {
        lowered += lower[p] ? rows[p] : 0;
        assert_int_equal(lower[p], wanted[p]);
        for (int q = 0; q < ranks; q++)
            assert_true(rows[p] != rows[q] || lower[p] == lower[q]);
    }
    assert_int_equal(e.lowered, lowered);
    assert_true(lowered * 1000 <= sum_of(rows, ranks) * r->budget);
    assert_int_equal(e.before, makespan(r, rows, ranks, none));
    assert_int_equal(e.after, makespan(r, rows, ranks, lower));
    assert_true(e.after <= e.before);
    if (sum_of(rows, ranks) >= r->min_rows)
        assert_int_equal(e.after, shortest(r, rows, ranks));
    else
        assert_int_equal(lowered, 0);
}

static void random_loads_are_lowered_by_the_rules(void **unused)
{
    (void)unused;
    printf("seed %llu\n", (unsigned long long)seed);
    for (int i = 0; i < ROUNDS; i++) {
        struct precision_rules r;
        int64_t rows[RANKS_MOST];
        int ranks, most;

        state = seed + (uint64_t)i * 1000003;
        ranks = between(1, RANKS_MOST);
        most = between(0, 3) == 0 ? 4 : between(1, 3000);
        r.budget = between(0, 4) == 0 ? 1000 * between(0, 1) : between(1, 999);
        r.speed = between(0, 5) == 0 ? 100 : between(100, 300);
        for (int p = 0; p < ranks; p++)
            rows[p] = p > 0 && between(0, 2) == 0 ? rows[p - 1] : between(0, most);
        r.min_rows = sum_of(rows, ranks) + between(-1, 1) * between(0, 3);
        check(&r, rows, ranks);
    }
}

static int64_t lowered(int ranks, const int64_t *rows, bool *lower)
{
    struct precision_rules r = {.min_rows = 2048, .budget = 600, .speed = 160};
    struct precision_effect e;

    precision_select(&r, rows, ranks, lower, &e);
    return e.lowered;
}

/* By hand, with what the options are without being given. */
static void usual_rules_lower_the_busy_one_of_two_and_of_four(void **unused)
{
    bool lower[4];

    (void)unused;
    assert_int_equal(lowered(2, (int64_t[]){1100, 1000}, lower), 1100);
    assert_true(lower[0] && !lower[1]);
    assert_int_equal(lowered(4, (int64_t[]){500, 500, 1000, 500}, lower), 1000);
    assert_true(!lower[0] && !lower[1] && lower[2] && !lower[3]);
    /* Equals: together they are over the budget. Too few rows in all. More than the budget on one. */
    assert_int_equal(lowered(2, (int64_t[]){1050, 1050}, lower), 0);
    assert_int_equal(lowered(2, (int64_t[]){1100, 947}, lower), 0);
    assert_int_equal(lowered(2, (int64_t[]){1300, 800}, lower), 0);
    /* Two equals within the budget. */
    assert_int_equal(lowered(4, (int64_t[]){650, 400, 650, 600}, lower), 1300);
    assert_true(lower[0] && !lower[1] && lower[2] && !lower[3]);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_loads_are_lowered_by_the_rules),
        cmocka_unit_test(usual_rules_lower_the_busy_one_of_two_and_of_four),
    };

    if (argc > 1)
        seed = strtoull(argv[1], NULL, 10);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
