/* test_reference_choices.c - the reference's attention, experts and choices against hand and double precision
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels/reference/reference.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static struct kernels *k;

static int open_backend(void **unused)
{
    (void)unused;
    return reference_open(&k) == STATUS_OK ? 0 : -1;
}

static int close_backend(void **unused)
{
    (void)unused;
    k->close(k);
    return 0;
}

static struct matrix view(float *data, int rows, int columns)
{
    return (struct matrix){.data = data, .rows = rows, .columns = columns, .stride = columns};
}

static void near_by(double got, double want, double bound)
{
    if (!(fabs(got - want) <= bound))
        fail_msg("%.9g, should be %.9g", got, want);
}

/* Numbers between -1 and 1 without a pattern. */
static float noise(int i)
{
    return (float)sin(12.9898 * (i + 1)) * (float)cos(78.233 * (i + 3));
}

/* -- attention
 * ----------------------------------------------------------------------------------------------------------
 */

enum { POSITIONS = 50, WIDTH = 6, HEADS = 3, KV_HEADS = 2, POOL = 6 };

static const int32_t KV_OF[HEADS] = {0, 1, 1};
static const int32_t PAGES[] = {4, 0, 5, 2};

struct tale {
    float queries[POSITIONS][HEADS * WIDTH], out[POSITIONS][HEADS * WIDTH];
    float keys[POSITIONS][KV_HEADS * WIDTH], values[POSITIONS][KV_HEADS * WIDTH];
    struct attention attention;
    struct span span;
};

static void fill_tale(struct tale *tale, enum mask_kind mask, int size)
{
    *tale = (struct tale){.span = {.rows = POSITIONS, .pages = PAGES}};
    for (int p = 0; p < POSITIONS; p++) {
        for (int i = 0; i < HEADS * WIDTH; i++)
            tale->queries[p][i] = 3.0f * noise(p * 100 + i);
        for (int i = 0; i < KV_HEADS * WIDTH; i++) {
            tale->keys[p][i] = noise(p * 100 + 40 + i);
            tale->values[p][i] = noise(p * 100 + 70 + i);
        }
    }
    tale->attention = (struct attention){.out = view(tale->out[0], POSITIONS, HEADS * WIDTH),
                                         .queries = view(tale->queries[0], POSITIONS, HEADS * WIDTH),
                                         .cache = {.pages = POOL, .kv_heads = KV_HEADS, .head_width = WIDTH},
                                         .spans = &tale->span,
                                         .span_count = 1,
                                         .heads = HEADS,
                                         .kv_of = KV_OF,
                                         .scale = 0.4f,
                                         .mask = mask,
                                         .mask_size = size};
    assert_int_equal(
        k->alloc(k, POOL * kernels_page_bytes(k, KV_HEADS, WIDTH), "cache", &tale->attention.cache.data),
        STATUS_OK);
    assert_int_equal(k->append(k, tale->attention.cache, view(tale->keys[0], POSITIONS, KV_HEADS * WIDTH),
                               view(tale->values[0], POSITIONS, KV_HEADS * WIDTH), &tale->span, 1),
                     STATUS_OK);
}

/* Attention of one head over the positions first ... position, in double precision. */
static void formula(const struct tale *tale, int first, int position, int head, double *out)
{
    double total = 0.0;

    for (int i = 0; i < WIDTH; i++)
        out[i] = 0.0;
    for (int j = first; j <= position; j++) {
        double score = 0.0;

        for (int i = 0; i < WIDTH; i++)
            score += (double)tale->queries[position][head * WIDTH + i] *
                     (double)tale->keys[j][KV_OF[head] * WIDTH + i];
        total += exp(0.4 * score);
        for (int i = 0; i < WIDTH; i++)
            out[i] += exp(0.4 * score) * (double)tale->values[j][KV_OF[head] * WIDTH + i];
    }
    for (int i = 0; i < WIDTH; i++)
        out[i] /= total;
}

static void check_tale(enum mask_kind mask, int size, int (*first_seen)(int position))
{
    struct tale tale;

    fill_tale(&tale, mask, size);
    assert_int_equal(k->attend(k, &tale.attention), STATUS_OK);
    for (int p = 0; p < POSITIONS; p++) {
        for (int head = 0; head < HEADS; head++) {
            double want[WIDTH];

            formula(&tale, first_seen(p), p, head, want);
            for (int i = 0; i < WIDTH; i++)
                near_by((double)tale.out[p][head * WIDTH + i], want[i], 2e-6);
        }
    }
}

static int from_start(int position)
{
    (void)position;
    return 0;
}

static int from_chunk_of_8(int position)
{
    return position & ~7;
}

static int from_7_before(int position)
{
    return position < 7 ? 0 : position - 6;
}

static void attention_sees_what_its_mask_allows(void **unused)
{
    (void)unused;
    check_tale(MASK_FULL, 0, from_start);
    check_tale(MASK_CHUNK, 8, from_chunk_of_8);
    check_tale(MASK_WINDOW, 7, from_7_before);
}

static void the_first_row_of_a_chunk_sees_only_itself(void **unused)
{
    struct tale tale;

    (void)unused;
    fill_tale(&tale, MASK_CHUNK, 16);
    assert_int_equal(k->attend(k, &tale.attention), STATUS_OK);
    for (int p = 0; p < POSITIONS; p += 16)
        for (int i = 0; i < HEADS * WIDTH; i++)
            near_by((double)tale.out[p][i], (double)tale.values[p][KV_OF[i / WIDTH] * WIDTH + i % WIDTH],
                    0.0);
}

static void pages_that_nobody_sees_may_be_gone(void **unused)
{
    int32_t pages[] = {-1, -1, 5, 2};
    struct tale tale;

    (void)unused;
    fill_tale(&tale, MASK_CHUNK, 32);
    tale.span = (struct span){.first_row = 40, .rows = 10, .first_position = 40, .pages = pages};
    assert_int_equal(k->attend(k, &tale.attention), STATUS_OK);
    tale.attention.mask = MASK_FULL;
    assert_int_equal(k->attend(k, &tale.attention), STATUS_BUG);
}

static void great_scores_do_not_overflow(void **unused)
{
    struct tale tale;

    (void)unused;
    fill_tale(&tale, MASK_FULL, 0);
    tale.attention.scale = 1000.0f;
    assert_int_equal(k->attend(k, &tale.attention), STATUS_OK);
    for (int p = 0; p < POSITIONS; p++)
        for (int i = 0; i < HEADS * WIDTH; i++)
            assert_true(isfinite(tale.out[p][i]));
}

static void keep(struct tale *tale)
{
    assert_int_equal(k->append(k, tale->attention.cache, view(tale->keys[0], POSITIONS, KV_HEADS * WIDTH),
                               view(tale->values[0], POSITIONS, KV_HEADS * WIDTH), &tale->span, 1),
                     STATUS_OK);
    assert_int_equal(k->attend(k, &tale->attention), STATUS_OK);
}

/* As if all keys and values had been rounded before they came. */
static void a_rounded_cache_holds_rounded_numbers(void **unused)
{
    struct kernels whole = *k;
    struct tale tale, other;

    (void)unused;
    fill_tale(&tale, MASK_FULL, 0);
    fill_tale(&other, MASK_FULL, 0);
    for (int p = 0; p < POSITIONS; p++)
        for (int i = 0; i < KV_HEADS * WIDTH; i++) {
            other.keys[p][i] = dtype_from_bf16(dtype_to_bf16(tale.keys[p][i]));
            other.values[p][i] = dtype_from_bf16(dtype_to_bf16(tale.values[p][i]));
        }
    keep(&other);
    keep(&tale);
    assert_memory_not_equal(tale.out, other.out, sizeof tale.out);
    reference_round_cache(k);
    keep(&tale);
    *k = whole;
    assert_memory_equal(tale.out, other.out, sizeof tale.out);
}

static void attention_refuses_places_outside_its_memory(void **unused)
{
    int32_t pages[] = {4, 0, POOL, 2}, heads[HEADS] = {0, 1, 2};
    struct tale tale;

    (void)unused;
    fill_tale(&tale, MASK_FULL, 0);
    tale.span.pages = pages;
    assert_int_equal(k->attend(k, &tale.attention), STATUS_BUG);
    assert_int_equal(k->append(k, tale.attention.cache, view(tale.keys[0], POSITIONS, KV_HEADS * WIDTH),
                               view(tale.values[0], POSITIONS, KV_HEADS * WIDTH), &tale.span, 1),
                     STATUS_BUG);
    tale.span.pages = PAGES;
    tale.span.first_row = 1;
    assert_int_equal(k->attend(k, &tale.attention), STATUS_BUG);
    tale.span.first_row = 0;
    tale.attention.kv_of = heads;
    assert_int_equal(k->attend(k, &tale.attention), STATUS_BUG);
    tale.attention.kv_of = KV_OF;
    tale.attention.mask = MASK_WINDOW;
    assert_int_equal(k->attend(k, &tale.attention), STATUS_BUG);
}

/* -- experts
 * -------------------------------------------------------------------------------------------------------------
 */

/* A weight of BF16 numbers; values gets them. */
static struct weight random_weight(int salt, int rows, int columns, float *values)
{
    uint16_t bits[64];
    struct source part = {bits, DTYPE_BF16, rows, columns, columns, 1, NULL};
    struct weight w;

    for (int i = 0; i < rows * columns; i++) {
        bits[i] = dtype_to_bf16(noise(salt + i));
        values[i] = dtype_from_bf16(bits[i]);
    }
    assert_int_equal(kernels_weight(k, DTYPE_BF16, rows, columns, "test", &w), STATUS_OK);
    assert_int_equal(k->weight_fill(k, &w, 0, &part), STATUS_OK);
    return w;
}

static void experts_put_results_where_the_rows_came_from(void **unused)
{
    enum { D = 4, F = 3, N = 4, SLOTS = 3 };
    static const int32_t ORDER[N] = {3, 1, 0, 2}, FIRST[SLOTS + 1] = {0, 2, 2, 4}, SLOT_OF[N] = {2, 0, 2, 0};
    float gate_up[SLOTS][2 * F * D], down[SLOTS][D * F], x[N * D], out[N * D], scratch[N * 2 * F];
    struct weight gate_up_weight[SLOTS], down_weight[SLOTS];
    struct expert_batch batch = {.out = view(out, N, D),
                                 .x = view(x, N, D),
                                 .order = ORDER,
                                 .first = FIRST,
                                 .slots = SLOTS,
                                 .gate_up = gate_up_weight,
                                 .down = down_weight,
                                 .scratch = view(scratch, N, 2 * F)};

    (void)unused;
    for (int i = 0; i < N * D; i++)
        x[i] = 2.0f * noise(i + 7);
    for (int s = 0; s < SLOTS; s++) {
        gate_up_weight[s] = random_weight(1000 * s, 2 * F, D, gate_up[s]);
        down_weight[s] = random_weight(1000 * s + 500, D, F, down[s]);
    }
    assert_int_equal(k->multiply_experts(k, &batch), STATUS_OK);
    for (int n = 0; n < N; n++) {
        int slot = SLOT_OF[n];
        double inner[F];

        for (int f = 0; f < F; f++) {
            double gate = 0.0, up = 0.0;

            for (int d = 0; d < D; d++) {
                gate += (double)x[n * D + d] * (double)gate_up[slot][f * D + d];
                up += (double)x[n * D + d] * (double)gate_up[slot][(F + f) * D + d];
            }
            inner[f] = gate / (1.0 + exp(-gate)) * up;
        }
        for (int d = 0; d < D; d++) {
            double sum = 0.0;

            for (int f = 0; f < F; f++)
                sum += inner[f] * (double)down[slot][d * F + f];
            near_by((double)out[n * D + d], sum, 1e-6);
        }
    }
    batch.order = (const int32_t[]){3, 1, 0, 4};
    assert_int_equal(k->multiply_experts(k, &batch), STATUS_BUG);
}

/* -- choices
 * -------------------------------------------------------------------------------------------------------------
 */

enum { E = 5, CHOICES = 3 };

static void choose(const float *logits, enum score_kind score, bool renormalise, int32_t *expert,
                   float *weight)
{
    float copy[E];
    struct route r = {.logits = view(copy, 1, E),
                      .choices = CHOICES,
                      .score = score,
                      .renormalise = renormalise,
                      .expert = expert,
                      .weight = weight};

    memcpy(copy, logits, sizeof copy);
    assert_int_equal(k->route(k, &r), STATUS_OK);
}

static void route_picks_by_logit_and_weighs_by_score(void **unused)
{
    static const float LOGITS[E] = {0.0f, 2.0f, -1.0f, 2.0f, 1.0f};
    /* exp(2), exp(2), exp(1) over all five: 1 + 2 exp(2) + exp(-1) + exp(1) */
    static const double ALL[] = {0.391695769, 0.391695769, 0.144096821},
                        CHOSEN[] = {0.422318798, 0.422318798, 0.155362403};
    static const double SIGMOID[] = {0.880797078, 0.880797078, 0.731058579};
    int32_t expert[CHOICES];
    float weight[CHOICES];

    (void)unused;
    for (int renormalise = 0; renormalise < 2; renormalise++) {
        double sum = SIGMOID[0] + SIGMOID[1] + SIGMOID[2];

        choose(LOGITS, SCORE_SIGMOID, renormalise, expert, weight);
        assert_true(expert[0] == 1 && expert[1] == 3 && expert[2] == 4);
        for (int j = 0; j < CHOICES; j++)
            near_by((double)weight[j], renormalise ? SIGMOID[j] / sum : SIGMOID[j], 2e-7);
        choose(LOGITS, SCORE_SOFTMAX_ALL, renormalise, expert, weight);
        for (int j = 0; j < CHOICES; j++)
            near_by((double)weight[j], renormalise ? CHOSEN[j] : ALL[j], 2e-7);
        choose(LOGITS, SCORE_SOFTMAX_CHOSEN, renormalise, expert, weight);
        for (int j = 0; j < CHOICES; j++)
            near_by((double)weight[j], CHOSEN[j], 2e-7);
    }
}

static void the_lower_expert_wins_ties_and_nan_comes_last(void **unused)
{
    static const struct {
        float logits[E];
        int32_t want[CHOICES];
    } KNOWN[] = {
        {{1, 1, 1, 1, 1}, {0, 1, 2}},
        {{0, 3, 3, 0, 3}, {1, 2, 4}},
        {{NAN, 3, NAN, -INFINITY, 4}, {4, 1, 3}},
        {{NAN, NAN, NAN, NAN, NAN}, {0, 1, 2}},
        {{NAN, NAN, -INFINITY, NAN, NAN}, {2, 0, 1}},
        {{-0.0f, 0.0f, INFINITY, -1, -1}, {2, 0, 1}},
    };
    int32_t expert[CHOICES];
    float weight[CHOICES];

    (void)unused;
    for (size_t i = 0; i < sizeof KNOWN / sizeof KNOWN[0]; i++) {
        float copy[E], values[CHOICES];
        int32_t columns[CHOICES];

        choose(KNOWN[i].logits, SCORE_SIGMOID, false, expert, weight);
        assert_memory_equal(expert, KNOWN[i].want, sizeof expert);
        memcpy(copy, KNOWN[i].logits, sizeof copy);
        assert_int_equal(k->candidates(k, view(copy, 1, E), CHOICES, values, columns), STATUS_OK);
        assert_memory_equal(columns, KNOWN[i].want, sizeof columns);
        for (int j = 0; j < CHOICES; j++)
            assert_memory_equal(&values[j], &copy[columns[j]], sizeof values[j]);
    }
}

static void vanishing_scores_do_not_divide_by_zero(void **unused)
{
    static const float LOGITS[E] = {-200, -200, -200, -200, -200};
    int32_t expert[CHOICES];
    float weight[CHOICES];

    (void)unused;
    choose(LOGITS, SCORE_SIGMOID, true, expert, weight);
    for (int j = 0; j < CHOICES; j++)
        assert_true(isfinite(weight[j]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attention_sees_what_its_mask_allows),
        cmocka_unit_test(the_first_row_of_a_chunk_sees_only_itself),
        cmocka_unit_test(pages_that_nobody_sees_may_be_gone),
        cmocka_unit_test(great_scores_do_not_overflow),
        cmocka_unit_test(a_rounded_cache_holds_rounded_numbers),
        cmocka_unit_test(attention_refuses_places_outside_its_memory),
        cmocka_unit_test(experts_put_results_where_the_rows_came_from),
        cmocka_unit_test(route_picks_by_logit_and_weighs_by_score),
        cmocka_unit_test(the_lower_expert_wins_ties_and_nan_comes_last),
        cmocka_unit_test(vanishing_scores_do_not_divide_by_zero),
    };

    return cmocka_run_group_tests(tests, open_backend, close_backend);
}
