/* gate.c - is a plan worth its moves?
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "eplb/gate.h"

#include <math.h>
#include <stdio.h>

static double over(int64_t rows, int64_t mean)
{
    return mean > 0 ? (double)rows / (double)mean : 1;
}

void gate_decide(const struct gate_case *c, struct gate_decision *out)
{
    double saved = (double)(c->rows_now - c->rows_planned);
    double each = c->batches > 0 ? saved / c->batches : 0;
    struct gate_decision d = {.now = over(c->rows_now, c->rows_mean),
                              .planned = over(c->rows_planned, c->rows_mean),
                              .gain_ms = each * c->row_ns * c->horizon * 1e-6,
                              .cost_ms = c->bytes_per_ns > 0 ? (double)c->bytes / c->bytes_per_ns * 1e-6 : 0};

    if (c->moves == 0)
        d.reason = GATE_NOTHING;
    else if (c->since_commit < c->pause)
        d.reason = GATE_PAUSE;
    else if (saved < GATE_LEAST_SHARE * (double)c->rows_now || saved <= 0)
        d.reason = GATE_SMALL;
    else if (saved < 2 * sqrt((double)c->rows_now)) /* two deviations of a count of so many rows */
        d.reason = GATE_NOISE;
    else if (d.gain_ms < GATE_MARGIN * d.cost_ms)
        d.reason = GATE_COST;
    else
        d.reason = GATE_GO;
    *out = d;
}

void gate_text(const struct gate_case *c, const struct gate_decision *d, char *text, size_t bytes)
{
    static const char *const why[] = {
        [GATE_GO] = "moving",
        [GATE_NOTHING] = "nothing moves: no better place was found",
        [GATE_PAUSE] = "nothing moves: experts moved a moment ago",
        [GATE_SMALL] = "nothing moves: too little to gain",
        [GATE_NOISE] = "nothing moves: chance alone makes such differences in so few rows",
        [GATE_COST] = "nothing moves: it would cost more than it saves",
    };

    snprintf(
        text, bytes,
        "%s; %d experts (%.2f MiB), imbalance %.3f -> %.3f over %d batches, saves %.2f ms in %.0f batches, "
        "costs %.2f ms",
        why[d->reason], c->moves, (double)c->bytes / 1048576, d->now, d->planned, c->batches, d->gain_ms,
        c->horizon, d->cost_ms);
}
