/* reference_choose.c - the largest of a row: experts of a token, candidates for the next
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels/reference/reference_choose.h"

#include "kernels/reference/reference_rows.h"

#include <math.h>

/* NaN is below everything, so that an order exists whatever the numbers are. */
static bool above(float a, float b)
{
    if (isnan(a))
        return false;
    return isnan(b) || a > b;
}

/* The places of the `keep` largest of `count` values, falling; of equal ones the lower place first. keep <=
 * count. */
static void largest(const float *values, int count, int keep, int32_t *places)
{
    int kept = 0;

    for (int i = 0; i < count && keep > 0; i++) {
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

/* What the softmax over all experts divides by, in expert order. */
static float softmax_total(const float *logits, int experts, float greatest)
{
    float total = 0.0f;

    for (int e = 0; e < experts; e++)
        total += expf(logits[e] - greatest);
    return total;
}

static float sigmoid(float logit)
{
    return 1.0f / (1.0f + expf(-logit));
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
    float total = 0.0f;

    for (int j = 0; j < r->choices; j++) {
        float logit = logits[expert[j]];

        weight[j] = r->score == SCORE_SIGMOID ? sigmoid(logit) : expf(logit - greatest);
        total += weight[j];
    }
    if (r->score == SCORE_SOFTMAX_ALL) {
        float all = softmax_total(logits, r->logits.columns, greatest);

        total = 0.0f;
        for (int j = 0; j < r->choices; j++) {
            weight[j] /= all;
            total += weight[j];
        }
    }
    /* The small number keeps a row of vanishing scores from dividing by zero; it changes no other row. */
    if (r->renormalise || r->score == SCORE_SOFTMAX_CHOSEN)
        for (int j = 0; j < r->choices; j++)
            weight[j] /= total + 1e-20f;
    if (r->scale != 0.0f)
        for (int j = 0; j < r->choices; j++)
            weight[j] *= r->scale;
}

enum status reference_choose_route(struct kernels *k, const struct route *r)
{
    (void)k;
    TRY(route_check(r));
    for (int t = 0; t < r->logits.rows; t++) {
        const float *logits = reference_rows_at(r->logits, t);
        int32_t *expert = r->expert + (ptrdiff_t)t * r->choices;

        if (route_by_score(r))
            choose_by_score(r, logits, expert);
        else
            largest(logits, r->logits.columns, r->choices, expert);
        weigh(r, logits, expert, r->weight + (ptrdiff_t)t * r->choices);
    }
    return STATUS_OK;
}

enum status reference_choose_candidates(struct kernels *k, struct matrix logits, int keep, float *values,
                                        int32_t *columns)
{
    (void)k;
    if (keep < 0 || keep > logits.columns)
        return FAIL(STATUS_BUG, "%d candidates of %d logits", keep, logits.columns);
    for (int t = 0; t < logits.rows; t++) {
        int32_t *places = columns + (ptrdiff_t)t * keep;

        largest(reference_rows_at(logits, t), logits.columns, keep, places);
        for (int j = 0; j < keep; j++)
            values[(ptrdiff_t)t * keep + j] = reference_rows_at(logits, t)[places[j]];
    }
    return STATUS_OK;
}
