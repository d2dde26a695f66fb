/* test_reference.c - the reference backend against small numbers by hand and formulas in double precision
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Temperature factors: those of Llama 4's released configuration (floor 8192, scale 0.1) and of a small one,
 * computed outside this program. */
#include "kernels/host.h"
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

static void equal(const float *got, const float *want, int count)
{
    for (int i = 0; i < count; i++)
        if (got[i] != want[i])
            fail_msg("number %d is %.9g, should be %.9g", i, (double)got[i], (double)want[i]);
}

/* A weight [rows, columns] of F32. */
static struct weight weight_of(const float *values, int rows, int columns)
{
    struct source part = {values, DTYPE_F32, rows, columns, columns, 1, NULL};
    struct weight w;

    assert_int_equal(kernels_weight(k, DTYPE_F32, rows, columns, "test", &w), STATUS_OK);
    assert_int_equal(k->weight_fill(k, &w, 0, &part), STATUS_OK);
    return w;
}

/* The same of BF16 numbers. */
static struct weight bf16_of(const float *values, int rows, int columns)
{
    uint16_t numbers[64];
    struct source part = {numbers, DTYPE_BF16, rows, columns, columns, 1, NULL};
    struct weight w;

    for (int i = 0; i < rows * columns; i++)
        numbers[i] = dtype_to_bf16(values[i]);
    assert_int_equal(kernels_weight(k, DTYPE_BF16, rows, columns, "test", &w), STATUS_OK);
    assert_int_equal(k->weight_fill(k, &w, 0, &part), STATUS_OK);
    return w;
}

/* Numbers between -1 and 1 without a pattern. */
static float noise(int i)
{
    return (float)sin(12.9898 * (i + 1)) * (float)cos(78.233 * (i + 3));
}

/* -- memory and weights
 * ----------------------------------------------------------------------------------------------- */

static void memory_is_zeroed_aligned_and_given_back(void **unused)
{
    static const size_t SIZES[] = {0, 1, 63, 64, 5000, 300000, 3000000};
    void *pieces[7], *again;

    (void)unused;
    for (int i = 0; i < 7; i++) {
        assert_int_equal(k->alloc(k, SIZES[i], "test", &pieces[i]), STATUS_OK);
        assert_int_equal((uintptr_t)pieces[i] % 64, 0);
        for (size_t b = 0; b < SIZES[i]; b++)
            assert_int_equal(((unsigned char *)pieces[i])[b], 0);
        memset(pieces[i], i + 1, SIZES[i]);
    }
    k->release(k, pieces[5]);
    k->release(k, pieces[1]);
    k->release(k, NULL);
    assert_int_equal(k->alloc(k, 300000, "test", &again), STATUS_OK);
    for (size_t b = 0; b < 300000; b++)
        assert_int_equal(((unsigned char *)again)[b], 0);
    for (int i = 2; i < 7; i++)
        for (size_t b = 0; i != 5 && b < SIZES[i]; b++)
            assert_int_equal(((unsigned char *)pieces[i])[b], i + 1);
    assert_true(k->free_bytes(k) > 0);
    assert_int_equal(k->alloc(k, SIZE_MAX - 10, "too much", &again), STATUS_NO_MEMORY);
    assert_int_equal(k->alloc(k, (size_t)1 << 60, "too much", &again), STATUS_NO_MEMORY);
}

static void a_shared_block_lives_as_long_as_its_last_piece(void **unused)
{
    struct host_memory memory = {0};
    void *first, *second, *large;

    (void)unused;
    assert_int_equal(host_alloc(&memory, 100, "first", &first), STATUS_OK);
    assert_int_equal(host_alloc(&memory, 1000000, "large", &large), STATUS_OK);
    assert_int_equal(host_alloc(&memory, 100, "second", &second), STATUS_OK);
    assert_ptr_not_equal(first, second);
    host_release(&memory, first);
    memset(second, 1, 100);
    memset(large, 1, 1000000);
    host_release(&memory, large);
    assert_non_null(memory.blocks);
    host_release(&memory, second);
    assert_null(memory.blocks);
    host_close(&memory);
}

static void weights_keep_bf16_and_widen_f16(void **unused)
{
    struct weight w = {0};
    float number = 1.5f;
    struct source wide = {&number, DTYPE_F32, 1, 1, 1, 1, NULL};

    (void)unused;
    assert_int_equal(k->weight_plan(k, &w, DTYPE_BF16, 3, 5), STATUS_OK);
    assert_true(w.format == DTYPE_BF16 && w.bytes == 30 && w.rows == 3 && w.columns == 5);
    assert_int_equal(k->weight_plan(k, &w, DTYPE_F16, 3, 5), STATUS_OK);
    assert_true(w.format == DTYPE_F32 && w.bytes == 60);
    assert_int_equal(k->weight_plan(k, &w, DTYPE_F8_E5M2, 3, 5), STATUS_BAD_INPUT);
    assert_int_equal(k->weight_plan(k, &w, DTYPE_F32, -1, 5), STATUS_BUG);
    assert_int_equal(kernels_weight(k, DTYPE_BF16, 1, 1, "test", &w), STATUS_OK);
    assert_int_equal(k->weight_fill(k, &w, 0, &wide), STATUS_BUG);
    assert_int_equal(k->weight_fill(k, &w, 1, &wide), STATUS_BUG);
}

static void codes_of_eight_bits_count_their_scale_times(void **unused)
{
    static const float SCALE[] = {0.5f, -2.0f, 3.0f, 0.0f};
    uint8_t codes[2 * 130];
    struct source part = {codes, DTYPE_F8_E4M3, 2, 130, 130, 1, SCALE};
    const float *numbers;
    struct weight w = {0};

    (void)unused;
    memset(codes, 0x38, sizeof codes); /* 1 */
    codes[129] = 0xfe;                 /* -448 */
    codes[130] = 0x01;                 /* 2^-9 */
    assert_int_equal(k->weight_plan(k, &w, DTYPE_F8_E4M3, 2, 130), STATUS_OK);
    assert_true(w.format == DTYPE_F32 && w.bytes == sizeof codes * 4);
    assert_int_equal(kernels_weight(k, DTYPE_F8_E4M3, 2, 130, "test", &w), STATUS_OK);
    assert_int_equal(k->weight_fill(k, &w, 0, &part), STATUS_OK);
    numbers = w.data;
    assert_true(numbers[0] == 0.5f && numbers[127] == 0.5f && numbers[128] == -2.0f &&
                numbers[129] == 896.0f);
    assert_true(numbers[130] == 3.0f * 0x1p-9f && numbers[257] == 3.0f && numbers[258] == 0.0f);
    part.scale = NULL;
    assert_int_equal(k->weight_fill(k, &w, 0, &part), STATUS_BUG);
}

static void matrices_are_padded_and_pages_sized(void **unused)
{
    struct matrix m;

    (void)unused;
    assert_int_equal(kernels_matrix(k, 3, 1024, "test", &m), STATUS_OK);
    assert_true(m.rows == 3 && m.columns == 1024 && m.stride == 1040);
    assert_int_equal(kernels_matrix(k, 2, 17, "test", &m), STATUS_OK);
    assert_int_equal(m.stride, 32);
    assert_int_equal(kernels_matrix(k, -1, 17, "test", &m), STATUS_BUG);
    assert_int_equal(kernels_page_bytes(k, 3, 20), 2 * 3 * 16 * 20 * 4);
}

/* -- rows
 * ---------------------------------------------------------------------------------------------------------------
 */

static void multiply_sums_in_rising_order_and_adds_the_bias_last(void **unused)
{
    struct weight w = weight_of((const float[]){1, 2, 3, 4, 5, 6, 1e8f, 1, -1e8f}, 3, 3);
    float x[] = {1, 1, 1, 0, 2, -1}, bias[] = {0.5f, 0, 1}, out[6];

    (void)unused;
    assert_int_equal(k->multiply(k, view(out, 2, 3), view(x, 2, 3), &w, NULL), STATUS_OK);
    equal(out, (const float[]){6, 15, 0, 1, 4, 100000000.0f}, 6);
    assert_int_equal(k->multiply(k, view(out, 2, 3), view(x, 2, 3), &w, bias), STATUS_OK);
    equal(out, (const float[]){6.5f, 15, 1, 1.5f, 4, 100000000.0f}, 6);
}

static void a_transposed_tensor_gives_the_same_weight(void **unused)
{
    static const float FILE[] = {1, 4, 2, 5, 3, 6}; /* [inputs 3, outputs 2] */
    struct source part = {FILE, DTYPE_F32, 1, 3, 1, 2, NULL};
    struct weight w;
    float x[] = {1, 10, 100}, out[2];

    (void)unused;
    assert_int_equal(kernels_weight(k, DTYPE_F32, 2, 3, "test", &w), STATUS_OK);
    assert_int_equal(k->weight_fill(k, &w, 0, &part), STATUS_OK);
    part.data = FILE + 1;
    assert_int_equal(k->weight_fill(k, &w, 1, &part), STATUS_OK);
    assert_int_equal(k->multiply(k, view(out, 1, 2), view(x, 1, 3), &w, NULL), STATUS_OK);
    equal(out, (const float[]){321, 654}, 2);
}

static void embed_takes_rows_from_its_first_token_on(void **unused)
{
    struct weight w = weight_of((const float[]){1, 2, 3, 4, 5, 6}, 3, 2);
    float out[4];

    (void)unused;
    assert_int_equal(k->embed(k, view(out, 2, 2), &w, (const int32_t[]){102, 100}, 100), STATUS_OK);
    equal(out, (const float[]){5, 6, 1, 2}, 4);
    assert_int_equal(k->embed(k, view(out, 1, 2), &w, (const int32_t[]){103}, 100), STATUS_BUG);
    assert_int_equal(k->embed(k, view(out, 1, 2), &w, (const int32_t[]){99}, 100), STATUS_BUG);
}

static void norm_divides_by_the_root_of_the_mean_square(void **unused)
{
    float x[] = {3, 4}, gain[] = {2, -1}, out[2];

    (void)unused;
    assert_int_equal(k->rms_norm(k, view(out, 1, 2), view(x, 1, 2), NULL, 0.0f), STATUS_OK);
    near_by((double)out[0], 0.848528137, 1e-7);
    near_by((double)out[1], 1.131370850, 2e-7);
    assert_int_equal(k->rms_norm(k, view(x, 1, 2), view(x, 1, 2), gain, 37.5f), STATUS_OK); /* root of 50 */
    near_by((double)x[0], 0.848528137, 2e-7);
    near_by((double)x[1], -0.565685425, 1e-7);
}

static void gather_join_add_and_activate(void **unused)
{
    float x[] = {1, 2, 3, 4, 5, 6}, out[6], gate_up[] = {0, 1, -2, 5, 3, 2};

    (void)unused;
    assert_int_equal(k->gather(k, view(out, 3, 2), view(x, 3, 2), (const int32_t[]){2, 0, 2}, NULL),
                     STATUS_OK);
    equal(out, (const float[]){5, 6, 1, 2, 5, 6}, 6);
    assert_int_equal(
        k->gather(k, view(out, 2, 2), view(x, 3, 2), (const int32_t[]){1, 0}, (const float[]){10, 0.5f}),
        STATUS_OK);
    equal(out, (const float[]){30, 40, 0.5f, 1}, 4);
    assert_int_equal(k->gather(k, view(out, 1, 2), view(x, 3, 2), (const int32_t[]){3}, NULL), STATUS_BUG);

    /* Blocks [2, 1], [2, 0] and [2, 2] behind each other. */
    assert_int_equal(k->join(k, view(out, 2, 3), x, (const int[]){1, 0, 2}, 3), STATUS_OK);
    equal(out, (const float[]){1, 3, 4, 2, 5, 6}, 6);

    assert_int_equal(k->add(k, view(out, 2, 3), view(x, 2, 3)), STATUS_OK);
    equal(out, (const float[]){2, 5, 7, 6, 10, 12}, 6);

    assert_int_equal(k->activate(k, view(out, 1, 3), view(gate_up, 1, 6)), STATUS_OK);
    near_by((double)out[0], 0.0, 0.0);
    near_by((double)out[1], 3 * 0.731058579, 1e-6);
    near_by((double)out[2], 2 * -0.238405844, 1e-6);
}

static void combine_adds_in_choice_order_to_one_sum(void **unused)
{
    float x[] = {0.5f, 10}, shared[] = {1e8f, 2}, results[] = {-1e8f, 100, 1, 1000};
    struct combine c = {.x = view(x, 1, 2), .results = view(results, 2, 2), .choices = 3};

    (void)unused;
    c.place = (const int32_t[]){1, -1, 0};
    c.weight = (const float[]){2, 7, 1};
    c.shared = view(shared, 1, 2);
    /* 1e8 + 2 * 1 is 1e8 in single precision; the residual 0.5 comes last and survives. */
    assert_int_equal(k->combine(k, &c), STATUS_OK);
    equal(x, (const float[]){0.5f, 10 + 2 + 2000 + 100}, 2);
    c.shared.rows = 0;
    c.weight = NULL;
    c.choices = 1;
    assert_int_equal(k->combine(k, &c), STATUS_OK);
    equal(x, (const float[]){1.5f, 3112}, 2);
    c.place = (const int32_t[]){2};
    assert_int_equal(k->combine(k, &c), STATUS_BUG);
}

/* -- rotate
 * -------------------------------------------------------------------------------------------------------------
 */

/* One number of a turned head, in double precision; `exact` angles or products in single precision. */
static double turned(const float *head, const struct rotation *r, int position, int i, bool exact)
{
    int half = r->rotated / 2, pair = r->interleaved ? i / 2 : i % half;
    bool first = r->interleaved ? i % 2 == 0 : i < half;
    int other = r->interleaved ? (first ? i + 1 : i - 1) : (first ? i + half : i - half);
    double angle;

    if (i >= r->rotated)
        return (double)head[i];
    angle = exact ? position * (double)r->frequency[pair] : (double)((float)position * r->frequency[pair]);
    return (double)r->attention_factor *
           ((double)head[i] * cos(angle) + (first ? -1 : 1) * (double)head[other] * sin(angle));
}

static void heads_turn_by_pairs_or_halves(void **unused)
{
    static const float FREQUENCY[] = {1.0f, 0.1f, 0.01f};
    static const int POSITIONS[] = {0, 1, 77, 99999, 100000, 1000003};

    (void)unused;
    for (int variant = 0; variant < 4; variant++) {
        struct rotation r = {.frequency = FREQUENCY,
                             .rotated = 6,
                             .interleaved = variant % 2 == 1,
                             .attention_factor = variant < 2 ? 1.0f : 1.25f};

        for (int p = 0; p < 6; p++) {
            float q[16], key[8], before[16];

            for (int i = 0; i < 16; i++)
                before[i] = q[i] = noise(i);
            memcpy(key, q, sizeof key);
            assert_int_equal(k->rotate(k, view(q, 1, 16), view(key, 1, 8), &r, 8, &POSITIONS[p]), STATUS_OK);
            for (int i = 0; i < 16; i++)
                near_by((double)q[i],
                        turned(before + i / 8 * 8, &r, POSITIONS[p], i % 8, POSITIONS[p] >= 100000), 3e-7);
            equal(key, q, 8);
        }
    }
}

static void a_quarter_turn_by_hand(void **unused)
{
    float frequency[] = {1.57079633f, 3.14159265f};
    struct rotation r = {.frequency = frequency, .rotated = 4, .attention_factor = 1.0f};
    float q[] = {1, 2, 3, 4}, key[] = {1, 2, 3, 4};

    (void)unused;
    assert_int_equal(k->rotate(k, view(q, 1, 4), view(key, 1, 4), &r, 4, (const int32_t[]){1}), STATUS_OK);
    for (int i = 0; i < 4; i++)
        near_by((double)q[i], ((const double[]){-3, -2, 1, -4})[i], 1e-6);
    r.interleaved = true;
    memcpy(q, (const float[]){1, 2, 3, 4}, sizeof q);
    assert_int_equal(k->rotate(k, view(q, 1, 4), view(key, 1, 4), &r, 4, (const int32_t[]){1}), STATUS_OK);
    for (int i = 0; i < 4; i++)
        near_by((double)q[i], ((const double[]){-2, 1, -3, -4})[i], 1e-6);
}

static void heads_are_normed_after_turning_in_rope_layers_only(void **unused)
{
    static const float FREQUENCY[] = {1.0f, 0.1f};
    struct rotation r = {.frequency = FREQUENCY,
                         .rotated = 4,
                         .interleaved = true,
                         .attention_factor = 1.0f,
                         .norm_after = true};
    float q[8], key[4], before[8];

    (void)unused;
    for (int i = 0; i < 8; i++)
        before[i] = q[i] = 5.0f * noise(i);
    memcpy(key, q, sizeof key);
    assert_int_equal(k->rotate(k, view(q, 1, 8), view(key, 1, 4), &r, 4, (const int32_t[]){9}), STATUS_OK);
    for (int head = 0; head < 2; head++) {
        double sum = 0.0;

        for (int i = 0; i < 4; i++)
            sum += (double)before[4 * head + i] * (double)before[4 * head + i];
        for (int i = 0; i < 4; i++)
            near_by((double)q[4 * head + i], turned(before + 4 * head, &r, 9, i, true) / sqrt(sum / 4), 1e-6);
    }
    equal(key, q, 4);

    r.frequency = NULL;
    memcpy(q, before, sizeof q);
    memcpy(key, before, sizeof key);
    assert_int_equal(k->rotate(k, view(q, 1, 8), view(key, 1, 4), &r, 4, (const int32_t[]){9}), STATUS_OK);
    equal(q, before, 8);
    equal(key, before, 4);
}

static void temperature_sharpens_queries_far_behind(void **unused)
{
    static const struct {
        float floor, scale;
        int position;
        double factor;
    } KNOWN[] = {
        {8192, 0.1f, 0, 1.0},           {8192, 0.1f, 8190, 1.0},
        {8192, 0.1f, 8191, 1.069315},   {8192, 0.1f, 16382, 1.069315},
        {8192, 0.1f, 16383, 1.109861},  {8192, 0.1f, 32767, 1.160944},
        {8192, 0.1f, 131071, 1.283321}, {4, 0.5f, 2, 1.0},
        {4, 0.5f, 3, 1.346574},         {4, 0.5f, 12, 1.693147},
        {4, 0.5f, 44, 2.242453},
    };

    (void)unused;
    for (size_t i = 0; i < sizeof KNOWN / sizeof KNOWN[0]; i++) {
        struct rotation r = {.temperature_scale = KNOWN[i].scale, .temperature_floor = KNOWN[i].floor};
        float q[] = {1, -1, 2, 0}, key[] = {3, 4};
        int32_t position = KNOWN[i].position;

        assert_int_equal(k->rotate(k, view(q, 1, 4), view(key, 1, 2), &r, 2, &position), STATUS_OK);
        near_by((double)q[0], KNOWN[i].factor, 6e-7);
        near_by((double)q[1], -KNOWN[i].factor, 6e-7);
        near_by((double)q[2], 2 * KNOWN[i].factor, 1.2e-6);
        equal(key, (const float[]){3, 4}, 2);
    }
}

/* -- experts
 * ----------------------------------------------------------------------------------------------------------
 */

/* One row through one expert of D 2 and F 1. */
static void through(struct weight gate_up, struct weight down, bool lower, float *out)
{
    float x[2] = {1.0f + 0x1p-8f, 1.0f + 0x3p-8f}, scratch[2];
    int32_t order[1] = {0}, first[2] = {0, 1};
    struct expert_batch b = {.out = view(out, 1, 2),
                             .x = view(x, 1, 2),
                             .order = order,
                             .first = first,
                             .counted = first,
                             .slots = 1,
                             .lower = lower,
                             .gate_up = &gate_up,
                             .down = &down,
                             .scratch = view(scratch, 1, 2)};

    assert_int_equal(k->multiply_experts(k, &b), STATUS_OK);
    assert_true(x[0] == 1.0f + 0x1p-8f && x[1] == 1.0f + 0x3p-8f);
}

/* Both inputs lie half way between two numbers of BF16 and go to the even one: 1 and 1 + 2^-6. Then gate is
 * 128, which silu leaves alone, up 1 + 2^-6 + 2^-8, and their product 130.5 goes to 130. */
static void lowered_experts_round_their_inputs_to_the_even_neighbour(void **unused)
{
    static const float gate_up[] = {128.0f, 0.0f, 0x1p-8f, 1.0f}, down[] = {1.0f, -0.5f};
    double gate = 128.0 * (1 + 0x1p-8), up = 0x1p-8 * (1 + 0x1p-8) + 1 + 0x3p-8;
    float out[2], as_ever[2];

    (void)unused;
    through(bf16_of(gate_up, 2, 2), bf16_of(down, 2, 1), true, out);
    equal(out, (float[]){130.0f, -65.0f}, 2);
    through(bf16_of(gate_up, 2, 2), bf16_of(down, 2, 1), false, out);
    near_by((double)out[0], gate * up, 1e-4);
    near_by((double)out[1], gate * up * -0.5, 1e-4);
    /* Weights of another format take inputs as they are. */
    through(weight_of(gate_up, 2, 2), weight_of(down, 2, 1), true, as_ever);
    equal(as_ever, out, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_zeroed_aligned_and_given_back),
        cmocka_unit_test(a_shared_block_lives_as_long_as_its_last_piece),
        cmocka_unit_test(weights_keep_bf16_and_widen_f16),
        cmocka_unit_test(codes_of_eight_bits_count_their_scale_times),
        cmocka_unit_test(matrices_are_padded_and_pages_sized),
        cmocka_unit_test(multiply_sums_in_rising_order_and_adds_the_bias_last),
        cmocka_unit_test(a_transposed_tensor_gives_the_same_weight),
        cmocka_unit_test(embed_takes_rows_from_its_first_token_on),
        cmocka_unit_test(norm_divides_by_the_root_of_the_mean_square),
        cmocka_unit_test(gather_join_add_and_activate),
        cmocka_unit_test(combine_adds_in_choice_order_to_one_sum),
        cmocka_unit_test(heads_turn_by_pairs_or_halves),
        cmocka_unit_test(a_quarter_turn_by_hand),
        cmocka_unit_test(heads_are_normed_after_turning_in_rope_layers_only),
        cmocka_unit_test(temperature_sharpens_queries_far_behind),
        cmocka_unit_test(lowered_experts_round_their_inputs_to_the_even_neighbour),
    };

    return cmocka_run_group_tests(tests, open_backend, close_backend);
}
