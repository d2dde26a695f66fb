/* precision.c - which ranks multiply at lower precision, so that the busiest one is done sooner
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "eplb/precision.h"

/* Rows of all ranks that have more than `least`. */
static int64_t rows_above(const int64_t *rows, int ranks, int64_t least)
{
    int64_t sum = 0;

    for (int p = 0; p < ranks; p++)
        sum += rows[p] > least ? rows[p] : 0;
    return sum;
}

/* The least number >= `low` such that ranks with more rows are within the budget. `high` is one. */
static int64_t threshold(const struct precision_rules *r, const int64_t *rows, int ranks, int64_t low,
                         int64_t high, int64_t all)
{
    while (low < high) {
        int64_t middle = low + (high - low) / 2;

        if (rows_above(rows, ranks, middle) * 1000 <= all * r->budget)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

void precision_select(const struct precision_rules *r, const int64_t *rows, int ranks, bool *lower,
                      struct precision_effect *effect)
{
    struct precision_effect e = {0};
    int64_t busiest = 0, all = rows_above(rows, ranks, 0), least;

    for (int p = 0; p < ranks; p++)
        busiest = rows[p] > busiest ? rows[p] : busiest;
    e.before = busiest * r->speed;
    least = busiest;
    if (all >= r->min_rows && busiest > 0)
        least = threshold(r, rows, ranks, busiest * 100 / r->speed, busiest, all);
    for (int p = 0; p < ranks; p++) {
        int64_t left;

        lower[p] = rows[p] > least;
        left = rows[p] * (lower[p] ? 100 : r->speed);
        e.after = left > e.after ? left : e.after;
        e.lowered += lower[p] ? rows[p] : 0;
    }
    *effect = e;
}
