/* test_bound.c - the lower bound equals the known ones and is a bound
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "eplb/bound.h"

#include "eplb_gold.h"

#include <math.h>

static double column(const struct eplb_gold *c, const char *key, int layer)
{
    return json_number_value(json_array_get(json_object_get(c->bounds, key), (size_t)layer));
}

static void check_case(const struct eplb_gold *c)
{
    struct bound *b;

    assert_int_equal(bound_open(&b, &eplb_gold_arena, &c->shape), STATUS_OK);
    for (int layer = 0; layer < c->shape.layers; layer++) {
        const int64_t *load = c->load + (ptrdiff_t)layer * c->shape.experts;
        int64_t total = 0;
        double bound, relative;

        for (int e = 0; e < c->shape.experts; e++)
            total += load[e];
        assert_int_equal(bound_layer(b, load, &bound), STATUS_OK);
        relative = total > 0 ? bound * c->shape.ranks / (double)total : 1.0;
        if (fabs(relative - column(c, "lb", layer)) > 1e-6)
            fail_msg("case %d layer %d: %.7f, known is %.6f", eplb_gold_int(c->gold, "id"), layer, relative,
                     column(c, "lb", layer));
        assert_true(relative <= column(c, "deepseek", layer) + 1e-6);
    }
}

static void every_known_bound_is_met(void **state)
{
    (void)state;
    eplb_gold_each(check_case);
}

static uint64_t seed = 31;

static int below(int n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (int)((seed >> 33) % (uint64_t)n);
}

/* The least max over all ways to give out the slots, by trying every number of replicas. */
static double slow_share(const int64_t *load, int experts, int slots)
{
    double best = HUGE_VAL;

    if (experts == 1)
        return (double)load[0] / slots;
    for (int c = 1; c <= slots - experts + 1; c++) {
        double here = (double)load[0] / c, rest = slow_share(load + 1, experts - 1, slots - c);

        best = fmin(best, fmax(here, rest));
    }
    return best;
}

static void the_share_is_the_least_of_all_ways_to_give_out_slots(void **state)
{
    struct placement_shape shape = {1, 6, 6, 1, 1, 1};
    struct bound *b;

    (void)state;
    print_message("seed %llu\n", (unsigned long long)seed);
    assert_int_equal(arena_open(&eplb_gold_arena, "share", 1 << 20), STATUS_OK);
    assert_int_equal(bound_open(&b, &eplb_gold_arena, &shape), STATUS_OK);
    for (int round = 0; round < 500; round++) {
        int experts = 1 + below(6);
        int64_t load[6], total = 0;
        double before = HUGE_VAL;

        for (int e = 0; e < experts; e++) {
            load[e] = below(4) == 0 ? 0 : (int64_t)below(1000) << below(28);
            total += load[e];
        }
        for (int slots = experts; slots < experts + 6; slots++) {
            double share;

            assert_int_equal(bound_share(b, load, experts, slots, &share), STATUS_OK);
            assert_true(share <= before && share >= slow_share(load, experts, slots) &&
                        share <= slow_share(load, experts, slots));
            assert_true(share * slots >= (double)total * (1.0 - 1e-12));
            before = share;
        }
    }
    arena_close(&eplb_gold_arena);
}

/* 128 loads of a Zipf law, the largest 341 of 10,000: published as 4.36 and 1.20 times the mean of an expert.
 */
static void the_published_experiment_comes_out(void **state)
{
    const int spare[] = {28, 29, 32, 47, 64, 128};
    const double known[] = {95.0, 93.0, 89.0, 78.0, 70.0, 53.0};
    struct placement_shape shape = {1, 128, 128, 1, 1, 1};
    struct bound *b;
    int64_t load[128], total = 0;
    double exact[128], sum = 0.0;
    int order[128];

    (void)state;
    for (int i = 0; i < 128; i++)
        sum += pow(i + 1, -0.4024);
    for (int i = 0; i < 128; i++) {
        exact[i] = 10000.0 * pow(i + 1, -0.4024) / sum;
        load[i] = (int64_t)exact[i];
        total += load[i];
        order[i] = i;
    }
    /* largest remainder */
    for (; total < 10000; total++) {
        int most = 0;

        for (int i = 1; i < 128; i++) {
            if (exact[i] - (double)load[i] > exact[most] - (double)load[most])
                most = i;
        }
        load[order[most]]++;
    }
    assert_int_equal(load[0], 341);
    assert_int_equal(arena_open(&eplb_gold_arena, "experiment", 1 << 20), STATUS_OK);
    assert_int_equal(bound_open(&b, &eplb_gold_arena, &shape), STATUS_OK);
    for (size_t i = 0; i < sizeof spare / sizeof *spare; i++) {
        double share;

        assert_int_equal(bound_share(b, load, 128, 128 + spare[i], &share), STATUS_OK);
        assert_true(fabs(share - known[i]) < 1e-9);
    }
    arena_close(&eplb_gold_arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_known_bound_is_met),
        cmocka_unit_test(the_share_is_the_least_of_all_ways_to_give_out_slots),
        cmocka_unit_test(the_published_experiment_comes_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
