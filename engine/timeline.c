/* timeline.c - when requests arrived and when each of their tokens came, and what follows from it
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/timeline.h"

#include <stdlib.h>

static const double MILLISECOND = 1e6; /* in nanoseconds */

size_t timeline_bytes(int requests, int64_t tokens)
{
    size_t values = (size_t)(tokens > requests ? tokens : requests);

    return (size_t)requests * sizeof(struct timeline_request) + 2 * values * sizeof(double) +
           (size_t)4 * ARENA_ALIGN;
}

enum status timeline_open(struct timeline *t, struct arena *arena, int requests, int64_t tokens)
{
    size_t values = (size_t)(tokens > requests ? tokens : requests);

    *t = (struct timeline){.capacity = requests, .gap_capacity = (int64_t)values};
    TRY(arena_take_array(arena, (size_t)requests, sizeof *t->requests, "times of requests", &t->requests));
    TRY(arena_take_array(arena, values, sizeof *t->gaps, "times of tokens", &t->gaps));
    return arena_take_array(arena, values, sizeof *t->sorted, "times in order", &t->sorted);
}

void timeline_clear(struct timeline *t)
{
    t->count = 0;
    t->gap_count = 0;
}

enum status timeline_arrive(struct timeline *t, int64_t when)
{
    if (t->count == t->capacity)
        return FAIL(STATUS_BUG, "a time line of %d requests gets another one", t->capacity);
    t->requests[t->count++] = (struct timeline_request){.arrived = when};
    return STATUS_OK;
}

enum status timeline_token(struct timeline *t, int request, int64_t when)
{
    struct timeline_request *r;

    if (request < 0 || request >= t->count)
        return FAIL(STATUS_BUG, "a token of request %d of %d", request, t->count);
    r = &t->requests[request];
    if (r->tokens++ == 0) {
        r->first = r->last = when;
        return STATUS_OK;
    }
    if (t->gap_count == t->gap_capacity)
        return FAIL(STATUS_BUG, "a time line of %lld tokens gets another one", (long long)t->gap_capacity);
    t->gaps[t->gap_count++] = (double)(when - r->last) / MILLISECOND;
    r->last = when;
    return STATUS_OK;
}

/* The value of one request; false: it has none. */
static bool value_of(const struct timeline_request *r, enum timeline_kind kind, double *out)
{
    if (r->tokens < (kind == TIMELINE_TPOT ? 2 : 1))
        return false;
    if (kind == TIMELINE_TTFT)
        *out = (double)(r->first - r->arrived) / MILLISECOND;
    else if (kind == TIMELINE_TPOT)
        *out = (double)(r->last - r->first) / MILLISECOND / (r->tokens - 1);
    else
        *out = (double)(r->last - r->arrived) / MILLISECOND;
    return true;
}

static int compare(const void *left, const void *right)
{
    double a = *(const double *)left;
    double b = *(const double *)right;

    return (a > b) - (a < b);
}

void timeline_sort(double *values, int64_t count)
{
    qsort(values, (size_t)count, sizeof *values, compare);
}

double timeline_percentile(const double *sorted, int64_t count, double percent)
{
    double place = percent / 100 * (double)(count - 1);
    int64_t below = (int64_t)place;

    if (below >= count - 1)
        return sorted[count - 1];
    return sorted[below] + (place - (double)below) * (sorted[below + 1] - sorted[below]);
}

void timeline_figures(struct timeline *t, enum timeline_kind kind, struct timeline_figures *out)
{
    double sum = 0;
    int64_t count = 0;

    if (kind == TIMELINE_ITL)
        for (; count < t->gap_count; count++)
            t->sorted[count] = t->gaps[count];
    else
        for (int i = 0; i < t->count; i++)
            count += value_of(&t->requests[i], kind, &t->sorted[count]);
    *out = (struct timeline_figures){.count = count};
    if (count == 0)
        return;
    timeline_sort(t->sorted, count);
    for (int64_t i = 0; i < count; i++)
        sum += t->sorted[i];
    out->mean = sum / (double)count;
    out->median = timeline_percentile(t->sorted, count, 50);
    out->p90 = timeline_percentile(t->sorted, count, 90);
    out->p99 = timeline_percentile(t->sorted, count, 99);
}
