/* test_sampler.c - tokens are drawn as the parameters say, and by nothing but logits, parameters, seed and
 * place
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/sampler.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { VOCABULARY = 500 };

static struct arena arena;
static struct sampler *sampler;
static float logits[VOCABULARY];
static float values[VOCABULARY];
static int32_t ids[VOCABULARY];
static uint64_t seed = 77;

static int start(void **state)
{
    (void)state;
    print_message("seed %llu\n", (unsigned long long)seed);
    return arena_open(&arena, "sampler test", 1 << 20) != STATUS_OK ||
           sampler_open(&sampler, &arena, VOCABULARY, VOCABULARY) != STATUS_OK;
}

static int end(void **state)
{
    (void)state;
    arena_close(&arena);
    return 0;
}

/* Memory as it is at the start: zero. */
static void fresh(void)
{
    memset(arena.base, 0, arena.used);
    arena.used = 0;
}

static int below(int n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (int)((seed >> 33) % (uint64_t)n);
}

static struct sampling plain(float temperature)
{
    return (struct sampling){.temperature = temperature, .top_p = 1.0f, .seed = 42};
}

/* Few distinct values, so that ties are common. */
static void random_logits(int count, int distinct)
{
    for (int i = 0; i < count; i++)
        logits[i] = (float)below(distinct) * 0.25f - 3.0f;
}

static int falling(const void *a, const void *b)
{
    const int32_t *left = a, *right = b;

    if (logits[*left] > logits[*right] || logits[*left] < logits[*right])
        return logits[*left] > logits[*right] ? -1 : 1;
    return *left < *right ? -1 : 1;
}

/* The candidates as the kernels would give them. */
static void sort_candidates(int count)
{
    for (int i = 0; i < count; i++)
        ids[i] = i;
    qsort(ids, (size_t)count, sizeof *ids, falling);
    for (int i = 0; i < count; i++)
        values[i] = logits[ids[i]];
}

static int pick(struct sampling how, int count, uint64_t request, uint64_t position)
{
    int32_t token = -1;

    assert_int_equal(sampler_pick(sampler, &how, logits, NULL, count, request, position, &token), STATUS_OK);
    return token;
}

/* Known answers of Philox4x32-10 as published with Random123 (kat_vectors): the first two words of each. */
static void the_generator_is_philox(void **state)
{
    (void)state;
    assert_true(sampler_uniform(0, 0, 0) == (double)(0x6627e8d5e169c58dULL >> 11) * 0x1p-53);
    assert_true(sampler_uniform(UINT64_MAX, UINT64_MAX, UINT64_MAX) ==
                (double)(0x408f276d41c83b0eULL >> 11) * 0x1p-53);
    assert_true(sampler_uniform(0x299f31d0a4093822ULL, 0x85a308d3243f6a88ULL, 0x0370734413198a2eULL) ==
                (double)(0xd16cfe0994fdccebULL >> 11) * 0x1p-53);
}

/* Pearson's statistic of `draws` draws against `chance`; falls below degrees + 5 sqrt(2 degrees) + 10 for all
 * but one in a million honest generators. */
static void check_distribution(const int *drawn, const double *chance, int count, int draws)
{
    double statistic = 0.0;
    int degrees = -1;

    for (int i = 0; i < count; i++) {
        double expected = chance[i] * draws;

        if (chance[i] <= 0.0) {
            assert_int_equal(drawn[i], 0);
            continue;
        }
        statistic += ((double)drawn[i] - expected) * ((double)drawn[i] - expected) / expected;
        degrees++;
    }
    if (statistic > degrees + 5.0 * sqrt(2.0 * degrees) + 10.0)
        fail_msg("chi-square %.1f with %d degrees of freedom", statistic, degrees);
}

/* The parameters' definition, worked out over sorted candidates in the plainest way. */
static void expected_chance(struct sampling how, int count, double *chance)
{
    double total = 0.0, reached = 0.0;
    int kept = 0, wanted = how.top_k > 0 ? how.top_k : count;

    memset(chance, 0, sizeof *chance * (size_t)count);
    sort_candidates(count);
    for (; kept < count && kept < wanted; kept++) {
        double weight = exp((double)(values[kept] - values[0]) / (double)how.temperature);

        if (weight < (double)how.min_p)
            break;
        chance[ids[kept]] = weight;
        total += weight;
    }
    for (int i = 0; i < kept; i++) {
        if (reached >= (double)how.top_p * total)
            chance[ids[i]] = 0.0;
        reached += chance[ids[i]];
    }
    for (int i = 0; i < count; i++)
        chance[i] /= reached;
}

static void draws_follow_the_distribution(void **state)
{
    enum { COUNT = 12, DRAWS = 40000 };
    const struct sampling ways[] = {
        {1.0f, 1.0f, 0.0f, 0, 1}, {0.5f, 1.0f, 0.0f, -1, 2},  {2.0f, 0.7f, 0.0f, 0, 3},
        {1.0f, 1.0f, 0.2f, 0, 4}, {1.0f, 1.0f, 0.0f, 5, 5},   {0.8f, 0.6f, 0.05f, 7, 6},
        {1.5f, 0.9f, 0.1f, 0, 7}, {1.0f, 0.5f, 0.0f, 100, 8},
    };

    (void)state;
    for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
        double chance[COUNT];
        int drawn[COUNT] = {0};

        random_logits(COUNT, 20);
        expected_chance(ways[w], COUNT, chance);
        for (int i = 0; i < DRAWS; i++)
            drawn[pick(ways[w], COUNT, (uint64_t)(i / 200), (uint64_t)(i % 200))]++;
        check_distribution(drawn, chance, COUNT, DRAWS);
    }
}

/* Of two candidates the second is drawn when the random number passes the share of the first: a sharp look at
 * weights. */
static void weights_are_exponentials(void **state)
{
    (void)state;
    for (uint64_t position = 0; position < 50000; position++) {
        struct sampling how = plain(0.1f + (float)below(200) * 0.01f);
        float distance = (float)below(4000) * 0.001f;
        double weight = exp(-(double)distance / (double)how.temperature);
        double u = sampler_uniform(how.seed, 6, position);

        logits[0] = 1.5f - distance;
        logits[1] = 1.5f;
        if (fabs(u * (1.0 + weight) - 1.0) > 2e-6)
            assert_int_equal(pick(how, 2, 6, position), distance > 0.0f ? u * (1.0 + weight) < 1.0 : u > 0.5);
    }
}

/* Values far apart, so that candidates come from all bands; the tail must be drawn as often as it weighs. */
static void far_candidates_are_drawn_as_well(void **state)
{
    enum { DRAWS = 60000 };
    struct sampling how = plain(1.0f);
    double chance[VOCABULARY];
    int drawn[VOCABULARY] = {0};

    (void)state;
    for (int i = 0; i < VOCABULARY; i++)
        logits[i] = i == 0 ? 9.0f : i == 1 ? 4.5f : 0.05f * (float)(i % 40) - 0.5f;
    for (int i = VOCABULARY - 20; i < VOCABULARY; i++)
        logits[i] = -60.0f;
    expected_chance(how, VOCABULARY, chance);
    for (int i = 0; i < DRAWS; i++)
        drawn[pick(how, VOCABULARY, 1, (uint64_t)i)]++;
    for (int i = 1; i < VOCABULARY; i++) {
        /* cells by forty, so that each expects enough */
        if (i % 40 == 1)
            continue;
        chance[i - (i % 40 == 0 ? 39 : i % 40 - 1)] += chance[i];
        drawn[i - (i % 40 == 0 ? 39 : i % 40 - 1)] += drawn[i];
        chance[i] = 0.0;
        drawn[i] = 0;
    }
    check_distribution(drawn, chance, VOCABULARY, DRAWS);
}

/* 16 x 16 cells of (draw here, draw there) must fill evenly. */
static void check_independent(const uint64_t here[3], const uint64_t there[3])
{
    enum { SIDE = 16, DRAWS = 51200 };
    double chance[SIDE * SIDE];
    int drawn[SIDE * SIDE] = {0};

    for (int i = 0; i < SIDE * SIDE; i++)
        chance[i] = 1.0 / (SIDE * SIDE);
    for (uint64_t i = 0; i < DRAWS; i++) {
        double a = sampler_uniform(here[0], here[1], here[2] + 2 * i);
        double b = sampler_uniform(there[0], there[1], there[2] + 2 * i);

        assert_true(a >= 0.0 && a < 1.0);
        drawn[(int)(a * SIDE) * SIDE + (int)(b * SIDE)]++;
    }
    check_distribution(drawn, chance, SIDE * SIDE, DRAWS);
}

static void positions_requests_and_seeds_are_independent(void **state)
{
    const uint64_t base[3] = {9, 4, 0};

    (void)state;
    check_independent(base, (const uint64_t[3]){9, 4, 1});
    check_independent(base, (const uint64_t[3]){9, 5, 0});
    check_independent(base, (const uint64_t[3]){10, 4, 0});
    check_independent(base, (const uint64_t[3]){9 + (1ULL << 32), 4, 0});
    check_independent(base, (const uint64_t[3]){4, 9, 0});
}

static void candidates_and_all_logits_choose_alike(void **state)
{
    (void)state;
    for (int round = 0; round < 4000; round++) {
        int count = 1 + below(VOCABULARY), brought;
        struct sampling how = {.temperature = (float)below(4) * 0.4f,
                               .top_p = below(2) ? 1.0f : 0.05f + (float)below(95) * 0.01f,
                               .min_p = below(2) ? 0.0f : (float)below(100) * 0.01f,
                               .top_k = 1 + below(SAMPLER_CANDIDATES),
                               .seed = (uint64_t)round};
        int32_t some;

        fresh();
        assert_int_equal(sampler_open(&sampler, &arena, count, count), STATUS_OK);
        random_logits(count, 1 + below(30));
        sort_candidates(count);
        brought = sampler_needs(&how) + below(3);
        if (brought > count)
            brought = count;
        assert_int_equal(sampler_pick(sampler, &how, values, ids, brought, 3, 8, &some), STATUS_OK);
        assert_int_equal(pick(how, count, 3, 8), some);
    }
}

static void greedy_takes_the_highest_and_the_lowest_id(void **state)
{
    struct sampling how = plain(0.0f);

    (void)state;
    assert_int_equal(sampler_needs(&how), 1);
    for (int i = 0; i < 10; i++)
        logits[i] = -1.0f;
    logits[7] = logits[4] = 2.0f;
    assert_int_equal(pick(how, 10, 1, 1), 4);
    logits[2] = NAN;
    logits[1] = -INFINITY;
    assert_int_equal(pick(how, 10, 1, 2), 4);
    logits[9] = INFINITY;
    assert_int_equal(pick(how, 10, 1, 3), 9);
    for (uint64_t position = 0; position < 20; position++) {
        struct sampling warm = {.temperature = 1.0f, .top_p = 0.9f, .min_p = 0.5f};

        assert_int_equal(pick(plain(1.0f), 10, 1, position), 9);
        assert_int_equal(pick(warm, 10, 1, position), 9);
        assert_in_set(pick(plain(1e-44f), 9, 1, position), ((LargestIntegralType[]){4, 7}), 2);
    }
}

static void the_edges_of_the_parameters_are_greedy(void **state)
{
    struct sampling narrow = plain(1.0f), first = plain(1.0f), sole = plain(1.0f);

    (void)state;
    narrow.top_p = 1e-6f;
    first.top_k = 1;
    sole.min_p = 1.0f;
    assert_int_equal(sampler_needs(&narrow), 0);
    assert_int_equal(sampler_needs(&first), 1);
    assert_int_equal(sampler_needs(&sole), 0);
    for (int i = 0; i < 40; i++)
        logits[i] = (float)((i * 7) % 40) * 0.05f;
    for (uint64_t position = 0; position < 200; position++) {
        assert_int_equal(pick(narrow, 40, 0, position), 17);
        assert_int_equal(pick(first, 40, 0, position), 17);
        assert_int_equal(pick(sole, 40, 0, position), 17);
    }
}

static void top_p_keeps_the_fewest_that_reach_it(void **state)
{
    struct sampling how = plain(1.0f);
    int seen[4] = {0};

    (void)state;
    /* chances 1/2, 1/4, 1/8, 1/8: 0.5 is reached by the first alone, 0.51 needs the second */
    logits[3] = 2.0f * logf(2.0f), logits[1] = logf(2.0f), logits[0] = logits[2] = 0.0f;
    how.top_p = 0.5f - 1e-6f;
    for (uint64_t position = 0; position < 200; position++)
        assert_int_equal(pick(how, 4, 0, position), 3);
    how.top_p = 0.51f;
    for (uint64_t position = 0; position < 200; position++)
        seen[pick(how, 4, 0, position)]++;
    assert_true(seen[3] > 100 && seen[1] > 30 && seen[0] == 0 && seen[2] == 0);
    how.top_p = 0.8f; /* of two alike the lower id stays */
    memset(seen, 0, sizeof seen);
    for (uint64_t position = 0; position < 400; position++)
        seen[pick(how, 4, 0, position)]++;
    assert_true(seen[0] > 20 && seen[2] == 0);
}

/* Four tokens of exactly equal weight: half of it is reached by two, those with the lower ids. */
static void top_p_that_is_reached_exactly_takes_no_more(void **state)
{
    int drawn[4] = {0};

    (void)state;
    for (int i = 0; i < 4; i++)
        logits[i] = 1.5f;
    for (uint64_t position = 0; position < 200; position++) {
        struct sampling how = plain(0.7f);

        how.top_p = 0.5f;
        how.top_k = position % 2 ? 4 : 0;
        drawn[pick(how, 4, 9, position)]++;
    }
    assert_true(drawn[0] > 0 && drawn[1] > 0);
    assert_int_equal(drawn[0] + drawn[1], 200);
}

static void ids_from_the_limit_on_are_never_chosen(void **state)
{
    struct sampling how = plain(2.0f), greedy = plain(0.0f);
    int32_t token;

    (void)state;
    assert_int_equal(sampler_open(&sampler, &arena, 20, 13), STATUS_OK);
    for (int i = 0; i < 20; i++)
        logits[i] = (float)i;
    assert_int_equal(pick(greedy, 20, 0, 0), 12);
    for (uint64_t position = 0; position < 300; position++)
        assert_in_range(pick(how, 20, 0, position), 0, 12);
    how.top_k = 5;
    sort_candidates(20);
    for (uint64_t position = 0; position < 300; position++) {
        assert_int_equal(sampler_pick(sampler, &how, values, ids, 20, 0, position, &token), STATUS_OK);
        assert_in_range(token, 8, 12);
        assert_int_equal(token, pick(how, 20, 0, position));
    }
}

static void refused(enum status status, enum status wanted, const char *words)
{
    assert_int_equal(status, wanted);
    if (!strstr(status_text(), words))
        fail_msg("\"%s\" does not say \"%s\"", status_text(), words);
}

static void logits_that_are_not_numbers_are_a_bug(void **state)
{
    struct sampling how = plain(1.0f), greedy = plain(0.0f);
    int32_t token = -7;

    (void)state;
    for (int i = 0; i < 30; i++)
        logits[i] = NAN;
    refused(sampler_pick(sampler, &how, logits, NULL, 30, 0, 0, &token), STATUS_BUG,
            "logits are not numbers");
    refused(sampler_pick(sampler, &greedy, logits, NULL, 30, 0, 0, &token), STATUS_BUG,
            "logits are not numbers");
    assert_int_equal(token, -7);
    logits[11] = -5.0f;
    for (uint64_t position = 0; position < 20; position++)
        assert_int_equal(pick(how, 30, 0, position), 11);
}

static void wrong_candidates_are_a_bug(void **state)
{
    struct sampling how = plain(1.0f);
    int32_t token;

    (void)state;
    random_logits(10, 8);
    sort_candidates(10);
    refused(sampler_pick(sampler, &how, values, ids, 10, 0, 0, &token), STATUS_BUG, "all logits");
    how.top_k = 11;
    refused(sampler_pick(sampler, &how, values, ids, 10, 0, 0, &token), STATUS_BUG, "needs 11");
    how.top_k = 4;
    values[2] = values[1] + 1.0f;
    refused(sampler_pick(sampler, &how, values, ids, 10, 0, 0, &token), STATUS_BUG, "wrong order");
    ids[3] = VOCABULARY;
    values[2] = values[1];
    refused(sampler_pick(sampler, &how, values, ids, 10, 0, 0, &token), STATUS_BUG, "is token 500 of 500");
}

static void parameters_out_of_range_are_named(void **state)
{
    struct sampling how;

    (void)state;
    how = plain(-0.5f), refused(sampler_check(&how), STATUS_BAD_INPUT, "temperature is -0.5");
    how = plain(NAN), refused(sampler_check(&how), STATUS_BAD_INPUT, "temperature");
    how = plain(INFINITY), refused(sampler_check(&how), STATUS_BAD_INPUT, "temperature");
    how = plain(1.0f), how.top_p = 0.0f, refused(sampler_check(&how), STATUS_BAD_INPUT, "top_p is 0:");
    how = plain(1.0f), how.top_p = 1.01f, refused(sampler_check(&how), STATUS_BAD_INPUT, "top_p is 1.01");
    how = plain(1.0f), how.min_p = -0.1f, refused(sampler_check(&how), STATUS_BAD_INPUT, "min_p is -0.1");
    how = plain(1.0f), how.min_p = NAN, refused(sampler_check(&how), STATUS_BAD_INPUT, "min_p");
    how = plain(1.0f), how.top_k = -2, refused(sampler_check(&how), STATUS_BAD_INPUT, "top_k is -2");
    how = plain(1.0f), assert_int_equal(sampler_check(&how), STATUS_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_generator_is_philox, start, end),
        cmocka_unit_test_setup_teardown(draws_follow_the_distribution, start, end),
        cmocka_unit_test_setup_teardown(weights_are_exponentials, start, end),
        cmocka_unit_test_setup_teardown(far_candidates_are_drawn_as_well, start, end),
        cmocka_unit_test_setup_teardown(positions_requests_and_seeds_are_independent, start, end),
        cmocka_unit_test_setup_teardown(candidates_and_all_logits_choose_alike, start, end),
        cmocka_unit_test_setup_teardown(greedy_takes_the_highest_and_the_lowest_id, start, end),
        cmocka_unit_test_setup_teardown(the_edges_of_the_parameters_are_greedy, start, end),
        cmocka_unit_test_setup_teardown(top_p_keeps_the_fewest_that_reach_it, start, end),
        cmocka_unit_test_setup_teardown(top_p_that_is_reached_exactly_takes_no_more, start, end),
        cmocka_unit_test_setup_teardown(ids_from_the_limit_on_are_never_chosen, start, end),
        cmocka_unit_test_setup_teardown(logits_that_are_not_numbers_are_a_bug, start, end),
        cmocka_unit_test_setup_teardown(wrong_candidates_are_a_bug, start, end),
        cmocka_unit_test_setup_teardown(parameters_out_of_range_are_named, start, end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
