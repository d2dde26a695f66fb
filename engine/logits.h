/* logits.h - what a request does to logits before a token is drawn, and the logarithms of their probabilities
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Logits are [V] floats by token id. Names and meanings are those of vLLM's sampling parameters. */
#ifndef LOGITS_H
#define LOGITS_H

#include <stdbool.h>
#include <stdint.h>

struct logits_bias {
    int32_t token;
    float value; /* added */
};

/* All zero: nothing changes. */
struct logits_change {
    float repetition; /* of tokens in prompt or output: positive logits are divided by it, others multiplied;
                         0 or 1: off */
    float presence;   /* taken off the logits of tokens in the output */
    float frequency;  /* taken off once for each time a token is in the output */
    const struct logits_bias *biases;
    int bias_count;
};

/* Does it change any logit? */
bool logits_changed(const struct logits_change *change);

/* Changes values[V] in vLLM's order: biases, repetition, frequency, presence. tokens[count]: a prompt of
 * `prompt` tokens, then the output. counts[V] must be zero and is zero again afterwards. A value stays
 * finite if it was. */
void logits_apply(const struct logits_change *change, float *values, const int32_t *tokens, int prompt,
                  int count, int32_t *counts);

/* What the logarithm of a probability needs beside the logit. */
struct logits_scale {
    double best;
    double log_total; /* of the sum of e^(value - best) over all ids */
};

/* Summed by id, so the same on any number of ranks. Values that are not numbers count as minus infinity. */
struct logits_scale logits_measure(const float *values, int count);

/* The natural logarithm of the soft-max probability, as a float. */
float logits_logprob(const struct logits_scale *scale, float value);

/* Writes the ids of the `top` largest values, falling, the lower id first on ties; returns how many. */
int logits_best(const float *values, int count, int top, int32_t *ids);

#endif
