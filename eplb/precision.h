/* precision.h - which ranks multiply at lower precision, so that the busiest one is done sooner
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * A pure function of whole numbers: every rank has the counts of all ranks and chooses alike. After ReaLB
 * (arXiv 2604.19503), without its test for vision rows: whoever allows lower precision allows it for text. */
#ifndef PRECISION_H
#define PRECISION_H

#include <stdbool.h>
#include <stdint.h>

struct precision_rules {
    int64_t min_rows; /* of all ranks; below, nothing is lowered */
    int budget;       /* thousandths of all rows that may be lowered */
    int speed;        /* of lower precision, in per cent of the usual; at least 100 */
};

/* What a choice does, in rows of the busiest rank times `speed`: as it was, and as it is left, a lowered rank
 * with T rows counting T * 100. */
struct precision_effect {
    int64_t before, after;
    int64_t lowered; /* rows */
};

/* lower[p]: rank p, which has rows[p], works at lower precision. No rank that is done before the busiest
 * could be is lowered: those are with T > lam, lam = the busiest's rows / speed. Where these have more rows
 * than the budget, the least busy of them stay as they are; ranks with as many rows are treated alike.
 * rows[p] < 2^32. */
void precision_select(const struct precision_rules *r, const int64_t *rows, int ranks, bool *lower,
                      struct precision_effect *effect);

#endif
