/* test_logsum.c - a sum of exponentials has the same bits wherever its vocabulary is cut
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/logsum.h"

#include "kernels/reference/reference_softmax.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

enum { MOST = 5000, PARTS = 40 };

static float logits[MOST];
static uint64_t seed = 4711;

static int below(int n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (int)((seed >> 33) % (uint64_t)n);
}

static void fill(int count)
{
    for (int i = 0; i < count; i++)
        logits[i] = (float)below(200000) * 2e-4F - 20.0F;
}

static void push_logits(struct logsum *s, const float *values, int count)
{
    for (int i = 0; i < count; i += SOFTMAX_CHUNK) {
        struct softmax_chunk c =
            reference_softmax_chunk(values + i, count - i < SOFTMAX_CHUNK ? count - i : SOFTMAX_CHUNK);

        logsum_push(s, 0, (struct logsum_node){.most = c.most, .sum = c.sum});
    }
}

/* The sum over chunks first ... end - 1 of `count` ids, handed over node by node as between ranks. */
static void hand_over(struct logsum *whole, int first, int end, int count)
{
    struct logsum part;
    int ids = (end * SOFTMAX_CHUNK < count ? end * SOFTMAX_CHUNK : count) - first * SOFTMAX_CHUNK;
    int at = first;

    logsum_start(&part, first);
    push_logits(&part, logits + (ptrdiff_t)first * SOFTMAX_CHUNK, ids);
    assert_int_equal(part.next, end);
    assert_int_equal(part.count, logsum_nodes(first, end));
    for (int i = 0; i < part.count; i++) {
        assert_int_equal(part.level[i], logsum_level(at, end));
        at += 1 << part.level[i];
        logsum_push(whole, part.level[i], part.node[i]);
    }
    assert_int_equal(at, end);
}

static double in_one(int count)
{
    struct logsum s;

    logsum_start(&s, 0);
    push_logits(&s, logits, count);
    return logsum_value(&s);
}

/* Cut into up to PARTS ranges at random places, empty ones among them. */
static double in_parts(int count)
{
    int chunks = softmax_chunk_count(count);
    struct logsum whole;
    int first = 0;

    logsum_start(&whole, 0);
    for (int left = below(PARTS); left > 0; left--) {
        int end = first + below(chunks - first + 1);

        hand_over(&whole, first, end, count);
        first = end;
    }
    hand_over(&whole, first, chunks, count);
    return logsum_value(&whole);
}

static void cuts_change_no_bit(void **state)
{
    (void)state;
    print_message("seed %llu\n", (unsigned long long)seed);
    for (int round = 0; round < 400; round++) {
        int count = 1 + below(MOST);
        double one, parts;

        fill(count);
        one = in_one(count);
        parts = in_parts(count);
        assert_memory_equal(&one, &parts, sizeof one);
    }
}

static void the_sum_is_right(void **state)
{
    (void)state;
    for (int round = 0; round < 50; round++) {
        int count = 1 + below(MOST);
        long double sum = 0;

        fill(count);
        for (int i = 0; i < count; i++)
            sum += expl((long double)logits[i]);
        assert_true(fabs(in_one(count) - (double)logl(sum)) < 1e-13);
    }
}

/* Far from zero nothing overflows or vanishes. */
static void large_logits_are_summed_alike(void **state)
{
    double near;

    (void)state;
    fill(1000);
    for (int i = 0; i < 1000; i++)
        logits[i] = (float)below(64) * 0.25F;
    near = in_one(1000);
    for (int i = 0; i < 1000; i++)
        logits[i] += 30000.0F;
    assert_true(fabs(in_one(1000) - 30000.0 - near) < 1e-10);
    for (int i = 0; i < 1000; i++)
        logits[i] -= 60000.0F;
    assert_true(fabs(in_one(1000) + 30000.0 - near) < 1e-10);
}

static void what_is_no_number_is_seen(void **state)
{
    (void)state;
    fill(100);
    logits[70] = -INFINITY; /* an id that cannot be */
    assert_true(isfinite(in_one(100)));
    logits[70] = NAN;
    assert_true(isnan(in_one(100)));
    logits[70] = INFINITY;
    assert_true(isnan(in_one(100)));
    for (int i = 0; i < 100; i++)
        logits[i] = -INFINITY;
    assert_false(isfinite(in_one(100)));
    logits[3] = NAN;
    assert_false(isfinite(in_one(100)));
}

/* A rank sends few nodes: at most two of each level. */
static void nodes_are_few(void **state)
{
    (void)state;
    for (int round = 0; round < 2000; round++) {
        int first = below(10000);
        int chunks = below(10000);
        int levels = 0;

        while (chunks >> levels)
            levels++;
        assert_true(logsum_nodes(first, first + chunks) <= 2 * levels);
        assert_true(logsum_nodes(first, first + chunks) <= LOGSUM_NODES);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cuts_change_no_bit),
        cmocka_unit_test(the_sum_is_right),
        cmocka_unit_test(large_logits_are_summed_alike),
        cmocka_unit_test(what_is_no_number_is_seen),
        cmocka_unit_test(nodes_are_few),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
