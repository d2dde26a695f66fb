/* cpu_choose.c - the largest of a row: experts of a token, candidates for the next
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cpu/cpu_choose.h"

#include "engine/base/range.h"
#include "kernels/cpu/cpu_vector.h"

#include <math.h>

/* NaN is below everything, so that an order exists whatever the numbers are. */
static bool above(float a, float b)
{
    if (isnan(a))
        return false;
    return isnan(b) || a > b;
}

/* The places of the `keep` largest of `count`, falling; of equal ones the lower first. For few. */
static void largest(const float *values, int count, int keep, int32_t *places)
{
    int kept = 0;

    for (int i = 0; i < count; i++) {
        int to;

        if (kept == keep && !above(values[i], values[places[keep - 1]]))
            continue;
        if (kept < keep)
            kept++;
        for (to = kept - 1; to > 0 && above(values[i], values[places[to - 1]]); to--)
            places[to] = places[to - 1];
        places[to] = i;
    }
}

/* Sum of e^(logit - greatest) over all. */
static float softmax_total(const float *logits, int count, float greatest)
{
    struct lanes sum = lanes_set(0.0f);

    for (int e = 0; e < count; e += LANES) {
        int left = count - e < LANES ? count - e : LANES;
        struct lanes s = lanes_exp(lanes_subtract(lanes_load_part(logits + e, left), lanes_set(greatest)));

        sum = lanes_add(sum, lanes_between(s, 0.0f, 0, left));
    }
    return lanes_sum(sum);
}

static float sigmoid(float logit)
{
    return 1.0f / (1.0f + lanes_exp_one(-logit));
}

/* The two largest of a group together. */
static float group_score(const float *scores, int count)
{
    int32_t best[2];

    largest(scores, count, 2, best);
    return scores[best[0]] + scores[best[1]];
}

/* The experts with the largest score + bias, of the groups that are kept. */
static void choose_by_score(const struct route *r, const float *logits, int32_t *expert)
{
    float scores[ROUTE_EXPERTS_MOST], sums[ROUTE_GROUPS_MOST];
    int32_t order[ROUTE_GROUPS_MOST];
    int experts = r->logits.columns;
    int size = r->groups > 1 ? experts / r->groups : experts;

    for (int e = 0; e < experts; e++)
        scores[e] = sigmoid(logits[e]) + (r->bias ? r->bias[e] : 0.0f);
    if (r->groups > 1) {
        for (int g = 0; g < r->groups; g++)
            sums[g] = group_score(scores + (ptrdiff_t)g * size, size);
        largest(sums, r->groups, r->groups, order);
        for (int g = r->kept_groups; g < r->groups; g++)
            for (int i = 0; i < size; i++)
                scores[order[g] * size + i] = -INFINITY;
    }
    largest(scores, experts, r->choices, expert);
}

static void weigh(const struct route *r, const float *logits, const int32_t *expert, float *weight)
{
    float greatest = logits[expert[0]];
    float all = r->score == SCORE_SOFTMAX_ALL ? softmax_total(logits, r->logits.columns, greatest) : 1.0f;
    float total = 0.0f;

    for (int j = 0; j < r->choices; j++) {
        float logit = logits[expert[j]];

        weight[j] = r->score == SCORE_SIGMOID ? sigmoid(logit) : lanes_exp_one(logit - greatest) / all;
        total += weight[j];
    }
    /* The small number keeps a row of vanishing scores from dividing by zero; it changes no other row. */
    if (r->renormalise || r->score == SCORE_SOFTMAX_CHOSEN)
        for (int j = 0; j < r->choices; j++)
            weight[j] /= total + 1e-20f;
    if (r->scale != 0.0f)
        for (int j = 0; j < r->choices; j++)
            weight[j] *= r->scale;
}

void cpu_choose_route(const void *job, int part, int parts)
{
    const struct route *r = job;
    struct range rows = range_share(r->logits.rows, parts, part);

    for (int t = rows.first; t < rows.first + rows.count; t++) {
        const float *logits = cpu_row(r->logits, t);
        int32_t *expert = r->expert + (ptrdiff_t)t * r->choices;

        if (route_by_score(r))
            choose_by_score(r, logits, expert);
        else
            largest(logits, r->logits.columns, r->choices, expert);
        weigh(r, logits, expert, r->weight + (ptrdiff_t)t * r->choices);
    }
}

/* Candidates stand in a heap whose root is the one to go next: the smallest value, of equal ones the highest
 * column. */
struct heap {
    float *values;
    int32_t *columns;
    int count;
};

static bool goes_first(const struct heap *h, int i, int j)
{
    if (above(h->values[j], h->values[i]))
        return true;
    return !above(h->values[i], h->values[j]) && h->columns[i] > h->columns[j];
}

static void swap(const struct heap *h, int i, int j)
{
    float value = h->values[i];
    int32_t column = h->columns[i];

    h->values[i] = h->values[j];
    h->columns[i] = h->columns[j];
    h->values[j] = value;
    h->columns[j] = column;
}

static void sink(const struct heap *h, int i)
{
    for (;;) {
        int child = 2 * i + 1;

        if (child >= h->count)
            return;
        if (child + 1 < h->count && goes_first(h, child + 1, child))
            child++;
        if (!goes_first(h, child, i))
            return;
        swap(h, i, child);
        i = child;
    }
}

static void pick(const float *logits, int count, struct heap *h)
{
    int keep = h->count;

    for (int i = 0; i < keep; i++) {
        h->values[i] = logits[i];
        h->columns[i] = i;
    }
    for (int i = keep / 2 - 1; i >= 0; i--)
        sink(h, i);
    for (int n = keep; n < count; n += LANES) {
        int end = n + LANES;

        if (end > count)
            end = count;
        else if (!lanes_any_above(lanes_load(logits + n), h->values[0]))
            continue;
        for (int i = n; i < end; i++) {
            if (!above(logits[i], h->values[0]))
                continue;
            h->values[0] = logits[i];
            h->columns[0] = i;
            sink(h, 0);
        }
    }
    /* Taking the root away again and again leaves the rest falling. */
    for (h->count = keep - 1; h->count > 0; h->count--) {
        swap(h, 0, h->count);
        sink(h, 0);
    }
}

void cpu_choose_candidates(const void *job, int part, int parts)
{
    const struct cpu_candidates *c = job;
    struct range rows = range_share(c->logits.rows, parts, part);

    for (int t = rows.first; c->keep > 0 && t < rows.first + rows.count; t++) {
        struct heap heap = {.values = c->values + (ptrdiff_t)t * c->keep,
                            .columns = c->columns + (ptrdiff_t)t * c->keep,
                            .count = c->keep};

        pick(cpu_row(c->logits, t), c->logits.columns, &heap);
    }
}
