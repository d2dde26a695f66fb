/* test_logits.c - penalties and biases as vLLM defines them, and logarithms of probabilities
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * The wanted values were computed in double precision by a few lines of Python that spell out vLLM's own
 * (model_executor/layers/utils.py, apply_penalties; v1/sample/logits_processor/builtin.py, LogitBias):
 *
 *     logits[token] += bias
 *     logits[i] *= (1 / repetition if logits[i] > 0 else repetition)    for i in prompt or output
 *     logits[i] -= frequency * output.count(i)
 *     logits[i] -= presence * (i in output)
 *     log_softmax: v - max - log(fsum(exp(v - max)))
 */
#include "engine/logits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { COUNT = 8, PROMPT = 4, TOKENS = 9, MANY = 5000 };

static const float start[COUNT] = {1.5f, -0.25f, 3, 0, -4, 2.75f, 3, -1};
static const int32_t tokens[TOKENS] = {0, 1, 1, 7, /* then the output */ 2, 4, 2, 0, 2};

static void expect(const struct logits_change *change, const double *wanted)
{
    int32_t counts[COUNT] = {0};
    float values[COUNT];

    memcpy(values, start, sizeof values);
    logits_apply(change, values, tokens, PROMPT, TOKENS, counts);
    for (int i = 0; i < COUNT; i++) {
        assert_true(fabs((double)values[i] - wanted[i]) < 1e-6);
        assert_int_equal(counts[i], 0);
    }
}

static void penalties_are_vllms(void **state)
{
    static const struct {
        struct logits_change change;
        double wanted[COUNT];
    } table[] = {
        {{.repetition = 1.25f}, {1.2, -0.3125, 2.4, 0, -5, 2.75, 3, -1.25}},
        {{.repetition = 1, .presence = 0.5f}, {1, -0.25, 2.5, 0, -4.5, 2.75, 3, -1}},
        {{.frequency = 0.75f}, {0.75, -0.25, 0.75, 0, -4.75, 2.75, 3, -1}},
        {{.repetition = 1.25f, .presence = 0.5f, .frequency = 0.75f},
         {-0.05, -0.3125, -0.35, 0, -6.25, 2.75, 3, -1.25}},
        {{.repetition = 0.5f, .presence = -1, .frequency = -0.25f},
         {4.25, -0.125, 7.75, 0, -0.75, 2.75, 3, -0.5}},
    };

    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        assert_true(logits_changed(&table[i].change));
        expect(&table[i].change, table[i].wanted);
    }
    assert_false(logits_changed(&(struct logits_change){.repetition = 1}));
    assert_false(logits_changed(&(struct logits_change){0}));
}

static void biases_come_before_penalties(void **state)
{
    static const struct logits_bias biases[] = {{2, -10}, {5, 1.5f}, {3, -0.5f}};
    const struct logits_change all = {
        .repetition = 1.25f, .presence = 0.5f, .frequency = 0.75f, .biases = biases, .bias_count = 3};
    const struct logits_change alone = {.biases = biases, .bias_count = 3};

    (void)state;
    assert_true(logits_changed(&alone));
    expect(&all, (const double[]){-0.05, -0.3125, -11.5, -0.5, -6.25, 4.25, 3, -1.25});
    expect(&alone, (const double[]){1.5, -0.25, -7, -0.5, -4, 4.25, 3, -1});
}

/* A value that became infinite or not a number could not be compared any more; what was minus infinity is a
 * token that must not come, and stays so. */
static void what_was_finite_stays_finite(void **state)
{
    float values[2] = {-3e38f, -INFINITY};
    int32_t counts[2] = {0};

    (void)state;
    logits_apply(&(struct logits_change){.repetition = 100}, values, (const int32_t[]){0, 1}, 2, 2, counts);
    assert_true(isfinite(values[0]) && values[0] < -3e38f);
    assert_true(values[1] == -INFINITY);
}

static void logprobs_are_of_the_softmax(void **state)
{
    static const double wanted[COUNT] = {-2.6345326065, -4.3845326065, -1.1345326065, -4.1345326065,
                                         -8.1345326065, -1.3845326065, -1.1345326065, -5.1345326065};
    static float many[MANY];
    struct logits_scale scale = logits_measure(start, COUNT);

    (void)state;
    for (int i = 0; i < COUNT; i++)
        assert_true(fabs((double)logits_logprob(&scale, start[i]) - wanted[i]) < 1e-6);
    for (int i = 0; i < MANY; i++)
        many[i] = (float)((i * 7919) % MANY / 250.0 - 10);
    scale = logits_measure(many, MANY);
    assert_true(fabs((double)logits_logprob(&scale, many[0]) + 25.5194602478) < 2e-6);
    assert_true(fabs((double)logits_logprob(&scale, many[4999]) + 17.1954602468) < 2e-6);
    assert_true(fabs((double)logits_logprob(&scale, many[777]) + 13.2674601543) < 2e-6);
    many[5] = NAN; /* and minus infinity: probability 0 */
    many[6] = -INFINITY;
    scale = logits_measure(many, MANY);
    assert_true(fabs((double)logits_logprob(&scale, many[0]) + 25.5194602478) < 1e-2);
}

static void the_best_come_falling_and_by_id(void **state)
{
    static float many[MANY];
    int32_t ids[20];

    (void)state;
    assert_int_equal(logits_best(start, COUNT, 3, ids), 3);
    assert_true(ids[0] == 2 && ids[1] == 6 && ids[2] == 5);
    assert_int_equal(logits_best(start, COUNT, 20, ids), COUNT);
    assert_int_equal(ids[COUNT - 1], 4);
    assert_int_equal(logits_best(start, COUNT, 0, ids), 0);
    assert_int_equal(logits_best((const float[]){NAN, -INFINITY, 1}, 3, 20, ids), 1);
    assert_int_equal(ids[0], 2);
    for (int i = 0; i < MANY; i++)
        many[i] = (float)((i * 7919) % MANY / 250.0 - 10);
    assert_int_equal(logits_best(many, MANY, 3, ids), 3);
    assert_true(ids[0] == 2321 && ids[1] == 4642 && ids[2] == 1963);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(penalties_are_vllms),
        cmocka_unit_test(biases_come_before_penalties),
        cmocka_unit_test(what_was_finite_stays_finite),
        cmocka_unit_test(logprobs_are_of_the_softmax),
        cmocka_unit_test(the_best_come_falling_and_by_id),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
