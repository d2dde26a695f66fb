/* logits.c - what a request does to logits before a token is drawn, and the logarithms of their probabilities
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/logits.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum {
    BLOCK = 256,
    TIMES = 2,
    SEEN = 1 /* a count is how often in the output, times two, plus one if seen */
};

static bool repeats(const struct logits_change *change)
{
    return change->repetition > 0.0f && change->repetition != 1.0f;
}

static bool penalizes(const struct logits_change *change)
{
    return repeats(change) || change->presence != 0.0f || change->frequency != 0.0f;
}

bool logits_changed(const struct logits_change *change)
{
    return penalizes(change) || change->bias_count > 0;
}

static float keep_finite(float value)
{
    return value > FLT_MAX ? FLT_MAX : value < -FLT_MAX ? -FLT_MAX : value;
}

static float penalize(const struct logits_change *change, float value, int times)
{
    bool finite = isfinite(value);

    if (repeats(change))
        value *= value > 0.0f ? 1.0f / change->repetition : change->repetition;
    value -= change->frequency * (float)times;
    if (times > 0)
        value -= change->presence;
    return finite ? keep_finite(value) : value;
}

void logits_apply(const struct logits_change *change, float *values, const int32_t *tokens, int prompt,
                  int count, int32_t *counts)
{
    for (int i = 0; i < change->bias_count; i++)
        values[change->biases[i].token] += change->biases[i].value;
    if (!penalizes(change))
        return;
    for (int i = 0; i < count; i++)
        counts[tokens[i]] = (counts[tokens[i]] | SEEN) + (i < prompt ? 0 : TIMES);
    for (int i = 0; i < count; i++) {
        int32_t token = tokens[i];

        if (counts[token] == 0) /* met before */
            continue;
        values[token] = penalize(change, values[token], counts[token] / TIMES);
        counts[token] = 0;
    }
}

/* e^x for x <= 0, to 13 digits, without branches or a library, so that a loop over it uses vectors and every
 * machine gets the same bits: 2^n times the series of 2^f, |f| <= 1/2. Less than 2^-1000 counts as that. */
static inline double exponential(double x)
{
    static const double ln2 = 0.69314718055994530942;
    double exponent = x * 1.44269504088896340736;
    double t = exponent > -1000.0 ? exponent : -1000.0; /* not a number goes here, too */
    int n = (int)(t - 0.5);
    double y = (t - n) * ln2, power;
    uint64_t bits = (uint64_t)(n + 1023) << 52;
    double series = 1.0 / 39916800;

    series = series * y + 1.0 / 3628800;
    series = series * y + 1.0 / 362880;
    series = series * y + 1.0 / 40320;
    series = series * y + 1.0 / 5040;
    series = series * y + 1.0 / 720;
    series = series * y + 1.0 / 120;
    series = series * y + 1.0 / 24;
    series = series * y + 1.0 / 6;
    series = series * y + 0.5;
    series = series * y + 1.0;
    series = series * y + 1.0;
    memcpy(&power, &bits, sizeof power);
    return series * power;
}

struct logits_scale logits_measure(const float *values, int count)
{
    struct logits_scale scale = {.best = -(double)FLT_MAX};
    double total = 0.0, part[BLOCK];

    for (int i = 0; i < count; i++)
        if ((double)values[i] > scale.best)
            scale.best = (double)values[i];
    for (int first = 0; first < count; first += BLOCK) {
        int some = count - first < BLOCK ? count - first : BLOCK;

        for (int i = 0; i < some; i++)
            part[i] = exponential((double)values[first + i] - scale.best);
        for (int i = 0; i < some; i++)
            total += part[i];
    }
    scale.log_total = log(total);
    return scale;
}

float logits_logprob(const struct logits_scale *scale, float value)
{
    return (float)((double)value - scale->best - scale->log_total);
}

int logits_best(const float *values, int count, int top, int32_t *ids)
{
    int taken = 0;

    for (int id = 0; id < count; id++) {
        int at = taken;

        if (!(values[id] > -INFINITY) || (taken == top && (top == 0 || !(values[id] > values[ids[top - 1]]))))
            continue;
        while (at > 0 && values[id] > values[ids[at - 1]])
            at--;
        taken += taken < top;
        memmove(ids + at + 1, ids + at, (size_t)(taken - 1 - at) * sizeof *ids);
        ids[at] = id;
    }
    return taken;
}
