/* dtype.c - the number formats that weights come in, and how one number of each is read
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels/dtype.h"

struct format {
    const char *name;
    int bits;
};

static const struct format FORMATS[DTYPE_COUNT] = {
    [DTYPE_BOOL] = {"BOOL", 8},
    [DTYPE_F4] = {"F4", 4},
    [DTYPE_F6_E2M3] = {"F6_E2M3", 6},
    [DTYPE_F6_E3M2] = {"F6_E3M2", 6},
    [DTYPE_U8] = {"U8", 8},
    [DTYPE_I8] = {"I8", 8},
    [DTYPE_F8_E5M2] = {"F8_E5M2", 8},
    [DTYPE_F8_E4M3] = {"F8_E4M3", 8},
    [DTYPE_F8_E8M0] = {"F8_E8M0", 8},
    [DTYPE_F8_E4M3FNUZ] = {"F8_E4M3FNUZ", 8},
    [DTYPE_F8_E5M2FNUZ] = {"F8_E5M2FNUZ", 8},
    [DTYPE_I16] = {"I16", 16},
    [DTYPE_U16] = {"U16", 16},
    [DTYPE_F16] = {"F16", 16},
    [DTYPE_BF16] = {"BF16", 16},
    [DTYPE_I32] = {"I32", 32},
    [DTYPE_U32] = {"U32", 32},
    [DTYPE_F32] = {"F32", 32},
    [DTYPE_C64] = {"C64", 64},
    [DTYPE_F64] = {"F64", 64},
    [DTYPE_I64] = {"I64", 64},
    [DTYPE_U64] = {"U64", 64},
};

const char *dtype_name(enum dtype dtype)
{
    return FORMATS[dtype].name;
}

int dtype_bits(enum dtype dtype)
{
    return FORMATS[dtype].bits;
}

bool dtype_find(const char *name, enum dtype *out)
{
    for (int i = 0; i < DTYPE_COUNT; i++) {
        if (strcmp(name, FORMATS[i].name) == 0) {
            *out = (enum dtype)i;
            return true;
        }
    }
    return false;
}

float dtype_from_f16(uint16_t bits)
{
    uint32_t sign = (uint32_t)(bits & 0x8000u) << 16;
    uint32_t exponent = (bits >> 10) & 0x1fu;
    uint32_t mantissa = bits & 0x3ffu;
    uint32_t wide;
    float value;

    if (exponent == 0) {
        /* Zero or a subnormal: mantissa * 2^-24, which is a normal float, so the product is exact. */
        value = (float)mantissa * 0x1p-24f;
        return sign ? -value : value;
    }
    if (exponent == 0x1f)
        wide = sign | 0x7f800000u | mantissa << 13;
    else
        wide = sign | (exponent + 127 - 15) << 23 | mantissa << 13;
    memcpy(&value, &wide, sizeof value);
    return value;
}

float dtype_from_e4m3(uint8_t code)
{
    uint32_t sign = (uint32_t)(code & 0x80u) << 24;
    uint32_t exponent = (code >> 3) & 0xfu;
    uint32_t mantissa = code & 7u;
    uint32_t wide = sign | (exponent + 127 - 7) << 23 | mantissa << 20;
    float value;

    if (exponent == 0) {
        value = (float)mantissa * 0x1p-9f;
        return sign ? -value : value;
    }
    if ((code & 0x7fu) == 0x7fu)
        wide = sign | 0x7fc00000u;
    memcpy(&value, &wide, sizeof value);
    return value;
}

bool dtype_e4m3_nan(const void *codes, size_t count)
{
    const unsigned char *bytes = codes;
    uint64_t found = 0;
    size_t i = 0;

    /* Eight at once: 0x7f + 1 is the only sum that reaches the sign's place. */
    for (; i + sizeof found <= count; i += sizeof found) {
        uint64_t eight;

        memcpy(&eight, bytes + i, sizeof eight);
        found |= (eight & 0x7f7f7f7f7f7f7f7fu) + 0x0101010101010101u;
    }
    for (; i < count; i++)
        found |= (bytes[i] & 0x7fu) + 1u;
    return (found & 0x8080808080808080u) != 0;
}

enum status dtype_widen(float *out, const void *from, enum dtype dtype, size_t count)
{
    const unsigned char *bytes = from;

    if (dtype == DTYPE_F32) {
        if (count > 0)
            memcpy(out, from, count * sizeof *out);
        return STATUS_OK;
    }
    if (dtype != DTYPE_BF16 && dtype != DTYPE_F16)
        return FAIL(STATUS_BUG, "numbers of format %s cannot be read as floats", dtype_name(dtype));
    for (size_t i = 0; i < count; i++) {
        uint16_t bits;

        memcpy(&bits, bytes + i * sizeof bits, sizeof bits);
        out[i] = dtype == DTYPE_BF16 ? dtype_from_bf16(bits) : dtype_from_f16(bits);
    }
    return STATUS_OK;
}
