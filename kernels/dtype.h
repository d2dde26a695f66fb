/* dtype.h - the number formats that weights come in, and how one number of each is read
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef DTYPE_H
#define DTYPE_H

#include "engine/base/status.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* All formats a safetensors header can name, so that sizes can be checked; which of them the engine can
 * multiply is the backend's affair. */
enum dtype {
    DTYPE_BOOL,
    DTYPE_F4,
    DTYPE_F6_E2M3,
    DTYPE_F6_E3M2,
    DTYPE_U8,
    DTYPE_I8,
    DTYPE_F8_E5M2,
    DTYPE_F8_E4M3,
    DTYPE_F8_E8M0,
    DTYPE_F8_E4M3FNUZ,
    DTYPE_F8_E5M2FNUZ,
    DTYPE_I16,
    DTYPE_U16,
    DTYPE_F16,
    DTYPE_BF16,
    DTYPE_I32,
    DTYPE_U32,
    DTYPE_F32,
    DTYPE_C64,
    DTYPE_F64,
    DTYPE_I64,
    DTYPE_U64,
    DTYPE_COUNT
};

/* "BF16", as safetensors spells it. */
const char *dtype_name(enum dtype dtype);

/* Bits of one element: 4, 6, 8, 16, 32 or 64. */
int dtype_bits(enum dtype dtype);

/* The dtype of a safetensors name; false when there is none of that name. */
bool dtype_find(const char *name, enum dtype *out);

/* Reads `count` elements of BF16, F16 or F32 from any alignment into floats; other formats are STATUS_BUG. */
enum status dtype_widen(float *out, const void *from, enum dtype dtype, size_t count);

static inline float dtype_from_bf16(uint16_t bits)
{
    uint32_t wide = (uint32_t)bits << 16;
    float value;

    memcpy(&value, &wide, sizeof value);
    return value;
}

/* Rounds to nearest, ties to even. A NaN stays a NaN. */
static inline uint16_t dtype_to_bf16(float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)((bits >> 16) | 0x40u);
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

/* Exact: every half is a float. */
float dtype_from_f16(uint16_t bits);

/* F8_E4M3, the "fn" form: sign, four bits of exponent (bias 7), three of mantissa; the largest is 448, there
 * is no infinity, and 0x7f and 0xff are NaN. Exact. */
float dtype_from_e4m3(uint8_t code);

/* Is any of these codes of F8_E4M3 a NaN? */
bool dtype_e4m3_nan(const void *codes, size_t count);

#endif
