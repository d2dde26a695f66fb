/* gate.h - is a plan worth its moves?
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * A plan is made from some batches and judged by others that it has not seen, so what is only noise in the
 * first does not count as a gain. Every number of a case is measured. */
#ifndef GATE_H
#define GATE_H

#include <stddef.h>
#include <stdint.h>

struct gate_case {
    int moves;
    int64_t bytes; /* of all moves */

    /* over the judged batches and all layers, each batch split in the best way */
    int batches;
    int64_t rows_now;     /* of the busiest rank as experts lie now */
    int64_t rows_planned; /* and as they would lie */
    int64_t rows_mean;    /* of all ranks together, divided by their number */

    double row_ns;       /* of the experts' work, for one row of the busiest rank */
    double horizon;      /* batches for which the plan shall be worth it */
    double bytes_per_ns; /* of a move, everything included */
    int since_commit;    /* batches since experts were moved last */
    int pause;           /* batches that must lie between */
};

enum gate_reason {
    GATE_GO,
    GATE_NOTHING, /* the planner found no better place for anything */
    GATE_PAUSE,   /* experts moved a moment ago */
    GATE_SMALL,   /* less than GATE_LEAST_SHARE of the busiest rank's work would go */
    GATE_NOISE,   /* no more than chance makes in so few rows */
    GATE_COST,    /* moving would take longer than it saves */
};

#define GATE_LEAST_SHARE 0.02
#define GATE_MARGIN 1.5 /* the gain must be that many times the cost */

struct gate_decision {
    enum gate_reason reason;
    double now, planned; /* imbalance: busiest rank over mean */
    double gain_ms;      /* over the horizon */
    double cost_ms;
};

void gate_decide(const struct gate_case *c, struct gate_decision *out);

/* One line: what was decided, both sides of it, and why. */
void gate_text(const struct gate_case *c, const struct gate_decision *d, char *text, size_t bytes);

#endif
