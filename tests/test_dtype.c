/* test_dtype.c - number formats are named, sized, read and rounded as their definitions say
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels/dtype.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static uint32_t bits_of(float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static void every_format_is_found_by_its_own_name(void **unused)
{
    enum dtype found;

    (void)unused;
    for (int i = 0; i < DTYPE_COUNT; i++) {
        assert_true(dtype_find(dtype_name((enum dtype)i), &found));
        assert_int_equal(found, i);
    }
    found = DTYPE_I8;
    assert_false(dtype_find("bf16", &found));
    assert_false(dtype_find("", &found));
    assert_false(dtype_find("F8", &found));
    assert_int_equal(found, DTYPE_I8);
}

static void sizes_are_those_of_safetensors(void **unused)
{
    static const struct {
        const char *name;
        int bits;
    } KNOWN[] = {{"BOOL", 8},        {"F4", 4},          {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"U8", 8},
                 {"I8", 8},          {"F8_E5M2", 8},     {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"I16", 16},
                 {"F8_E4M3FNUZ", 8}, {"U16", 16},        {"F16", 16},    {"BF16", 16},   {"I32", 32},
                 {"U32", 32},        {"F8_E5M2FNUZ", 8}, {"F32", 32},    {"C64", 64},    {"F64", 64},
                 {"I64", 64},        {"U64", 64}};
    enum dtype found;

    (void)unused;
    assert_int_equal(sizeof KNOWN / sizeof KNOWN[0], DTYPE_COUNT);
    for (int i = 0; i < DTYPE_COUNT; i++) {
        assert_true(dtype_find(KNOWN[i].name, &found));
        assert_int_equal(dtype_bits(found), KNOWN[i].bits);
    }
}

/* sign, 5 bits of exponent with bias 15, 10 bits of fraction; IEEE 754 binary16 */
static void all_halves_are_read_exactly(void **unused)
{
    (void)unused;
    for (int bits = 0; bits < 65536; bits++) {
        int exponent = bits >> 10 & 31, fraction = bits & 1023;
        double sign = bits & 0x8000 ? -1.0 : 1.0;
        float value = dtype_from_f16((uint16_t)bits);

        assert_int_equal(signbit(value) != 0, bits >> 15);
        if (exponent == 31 && fraction != 0)
            assert_true(isnan(value));
        else if (exponent == 31)
            assert_true(isinf(value));
        else if (exponent == 0)
            assert_true((double)value == sign * ldexp(fraction, -24));
        else
            assert_true((double)value == sign * ldexp(1024 + fraction, exponent - 25));
    }
}

static void all_bf16_numbers_come_back(void **unused)
{
    (void)unused;
    for (int i = 0; i < 65536; i++) {
        float value = dtype_from_bf16((uint16_t)i);
        uint16_t back = dtype_to_bf16(value);

        assert_int_equal(bits_of(value), (uint32_t)i << 16);
        if (isnan(value))
            assert_true(isnan(dtype_from_bf16(back)) && back >> 15 == i >> 15);
        else
            assert_int_equal(back, i);
    }
}

/* Between two neighbours: below the middle the lower, above it the upper, in the middle the even one. */
static void rounding_to_bf16_is_to_nearest_ties_to_even(void **unused)
{
    (void)unused;
    for (uint32_t i = 0; i < 65535; i++) {
        uint16_t even = (uint16_t)(i % 2 == 0 ? i : i + 1);
        float middle, below, above;
        uint32_t bits = i << 16 | 0x8000u;

        if ((i & 0x7fffu) >= 0x7f80u) /* infinities and NaN have no neighbour above */
            continue;
        memcpy(&middle, &bits, sizeof middle);
        bits--;
        memcpy(&below, &bits, sizeof below);
        bits += 2;
        memcpy(&above, &bits, sizeof above);
        assert_int_equal(dtype_to_bf16(middle), even);
        assert_int_equal(dtype_to_bf16(below), i);
        assert_int_equal(dtype_to_bf16(above), i + 1);
    }
}

static void a_nan_stays_a_nan(void **unused)
{
    static const uint32_t NANS[] = {0x7f800001u, 0x7fc00000u, 0x7fffffffu,
                                    0xff800001u, 0xffffffffu, 0x7f80ffffu};

    (void)unused;
    for (size_t i = 0; i < sizeof NANS / sizeof NANS[0]; i++) {
        float value;

        memcpy(&value, &NANS[i], sizeof value);
        assert_true(isnan(dtype_from_bf16(dtype_to_bf16(value))));
    }
}

static void widening_reads_from_any_address(void **unused)
{
    static const float WANT[] = {1.0f, -2.5f, 0.0f};
    static const uint16_t BF16[] = {0x3f80, 0xc020, 0}, F16[] = {0x3c00, 0xc100, 0};
    unsigned char space[16];
    float got[3];

    (void)unused;
    for (int offset = 0; offset < 4; offset++) {
        memcpy(space + offset, BF16, sizeof BF16);
        assert_int_equal(dtype_widen(got, space + offset, DTYPE_BF16, 3), STATUS_OK);
        assert_memory_equal(got, WANT, sizeof got);
        memcpy(space + offset, F16, sizeof F16);
        assert_int_equal(dtype_widen(got, space + offset, DTYPE_F16, 3), STATUS_OK);
        assert_memory_equal(got, WANT, sizeof got);
        memcpy(space + offset, WANT, sizeof WANT);
        assert_int_equal(dtype_widen(got, space + offset, DTYPE_F32, 3), STATUS_OK);
        assert_memory_equal(got, WANT, sizeof got);
    }
    assert_int_equal(dtype_widen(got, space, DTYPE_F8_E4M3, 3), STATUS_BUG);
    assert_int_equal(dtype_widen(got, space, DTYPE_BF16, 0), STATUS_OK);
}

/* sign, four bits of exponent, three of mantissa; no infinity; all ones are NaN. */
static void all_codes_of_e4m3_are_read_exactly(void **unused)
{
    (void)unused;
    for (int code = 0; code < 256; code++) {
        int exponent = code >> 3 & 15, mantissa = code & 7;
        double want = exponent > 0 ? ldexp(8 + mantissa, exponent - 10) : ldexp(mantissa, -9);
        float got = dtype_from_e4m3((uint8_t)code);

        if ((code & 127) == 127)
            assert_true(isnan(got));
        else
            assert_true((double)got == (code & 128 ? -want : want) && (signbit(got) != 0) == (code >= 128));
    }
    assert_true(dtype_from_e4m3(0x7e) == 448.0f);
}

static void a_nan_of_e4m3_is_found_anywhere(void **unused)
{
    unsigned char codes[43];

    (void)unused;
    for (int i = 0; i < 256; i++) {
        memset(codes, i, sizeof codes);
        assert_true(dtype_e4m3_nan(codes, sizeof codes) == ((i & 127) == 127));
    }
    memset(codes, 0xfe, sizeof codes);
    for (size_t i = 0; i < sizeof codes; i++) {
        codes[i] = i % 2 == 0 ? 0x7f : 0xff;
        assert_true(dtype_e4m3_nan(codes, sizeof codes));
        assert_true(dtype_e4m3_nan(codes + i, 1));
        codes[i] = 0x7e;
        assert_false(dtype_e4m3_nan(codes, sizeof codes));
    }
    assert_false(dtype_e4m3_nan(codes, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_format_is_found_by_its_own_name),
        cmocka_unit_test(sizes_are_those_of_safetensors),
        cmocka_unit_test(all_halves_are_read_exactly),
        cmocka_unit_test(all_bf16_numbers_come_back),
        cmocka_unit_test(rounding_to_bf16_is_to_nearest_ties_to_even),
        cmocka_unit_test(a_nan_stays_a_nan),
        cmocka_unit_test(widening_reads_from_any_address),
        cmocka_unit_test(all_codes_of_e4m3_are_read_exactly),
        cmocka_unit_test(a_nan_of_e4m3_is_found_anywhere),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
