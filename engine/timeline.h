/* timeline.h - when requests arrived and when each of their tokens came, and what follows from it
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * The names are those of vLLM's benchmarks, all in milliseconds. A request arrives at a, its n tokens come at
 * t(1) ... t(n):
 *
 *     TTFT   time to first token       t(1) - a                        one value a request
 *     TPOT   time per output token     (t(n) - t(1)) / (n - 1)         one a request of two tokens or more
 *     ITL    inter-token latency       t(i) - t(i - 1), i = 2 ... n    one a token but the first
 *     E2EL   end-to-end latency        t(n) - a                        one a request
 *
 * A percentile p of m values v(0) <= v(1) <= ... lies at place x = p / 100 * (m - 1), between two values in
 * proportion: v(floor x) + (x - floor x) * (v(floor x + 1) - v(floor x)). That is numpy's default. */
#ifndef TIMELINE_H
#define TIMELINE_H

#include "engine/base/arena.h"
#include "engine/base/status.h"

#include <stdint.h>

enum timeline_kind { TIMELINE_TTFT, TIMELINE_TPOT, TIMELINE_ITL, TIMELINE_E2EL, TIMELINE_KINDS };

/* Of one request; nanoseconds of any clock. */
struct timeline_request {
    int64_t arrived, first, last;
    int tokens;
};

struct timeline {
    struct timeline_request *requests; /* [capacity] */
    int count, capacity;
    double *gaps; /* [gap_capacity] ITL in milliseconds */
    int64_t gap_count, gap_capacity;
    double *sorted; /* [larger of both] room for the values of one kind */
};

struct timeline_figures {
    int64_t count; /* of values; 0: all others are 0 too */
    double mean, median, p90, p99;
};

/* For up to `requests` requests of `tokens` tokens altogether. */
enum status timeline_open(struct timeline *t, struct arena *arena, int requests, int64_t tokens);

/* Address space that timeline_open takes. */
size_t timeline_bytes(int requests, int64_t tokens);

/* Forget everything. */
void timeline_clear(struct timeline *t);

/* The next request, numbered from 0. More than there is room for are STATUS_BUG. */
enum status timeline_arrive(struct timeline *t, int64_t when);

/* The next token of a request. */
enum status timeline_token(struct timeline *t, int request, int64_t when);

void timeline_figures(struct timeline *t, enum timeline_kind kind, struct timeline_figures *out);

/* Of `count` > 0 rising values. */
double timeline_percentile(const double *sorted, int64_t count, double percent);

/* Rising order, in place. No value may be NaN. */
void timeline_sort(double *values, int64_t count);

#endif
