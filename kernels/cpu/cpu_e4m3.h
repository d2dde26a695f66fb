/* cpu_e4m3.h - sixteen numbers of F8_E4M3 at once, on each instruction path
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * A line holds sixteen fours of codes. lanes_e4m3 gives number `place` of each four, times 2^-120 * scale,
 * rounded once: the code's sign goes to the sign, its seven bits to the lowest of the exponent and the
 * highest of the mantissa. The smallest codes are subnormal floats then, which is exact; a NaN would be read
 * as 480. */
#ifndef CPU_E4M3_H
#define CPU_E4M3_H

#include "kernels/cpu/cpu_vector.h"

#define E4M3_BITS ((int)0x87f00000u)

#if defined(__AVX512F__)

LANES_INLINE struct lanes lanes_e4m3(const void *line, int place, struct lanes scale)
{
    __m512i top = _mm512_slli_epi32(_mm512_loadu_si512(line), 24 - 8 * (unsigned)place);
    __m512i bits = _mm512_and_si512(_mm512_srai_epi32(top, 4), _mm512_set1_epi32(E4M3_BITS));

    return lanes_of(_mm512_mul_ps(_mm512_castsi512_ps(bits), scale.v));
}

#elif defined(__AVX2__)

LANES_INLINE __m256 lanes_e4m3_half(const void *line, int half, int place, __m256 scale)
{
    __m256i top = _mm256_slli_epi32(lanes_words(line, half), 24 - 8 * place);
    __m256i bits = _mm256_and_si256(_mm256_srai_epi32(top, 4), _mm256_set1_epi32(E4M3_BITS));

    return _mm256_mul_ps(_mm256_castsi256_ps(bits), scale);
}

LANES_INLINE struct lanes lanes_e4m3(const void *line, int place, struct lanes scale)
{
    return lanes_of(lanes_e4m3_half(line, 0, place, scale.a), lanes_e4m3_half(line, 1, place, scale.b));
}

#else

LANES_INLINE LANES_FLOATS lanes_e4m3_quarter(const void *line, int quarter, int place, LANES_FLOATS scale)
{
    LANES_WORDS top = lanes_words(line, quarter) << (24 - 8 * place);
    LANES_WORDS sign = {0x80000000u, 0x80000000u, 0x80000000u, 0x80000000u};
    LANES_WORDS rest = {0x07f00000u, 0x07f00000u, 0x07f00000u, 0x07f00000u};

    return (LANES_FLOATS)((top & sign) | ((top >> 4) & rest)) * scale;
}

LANES_INLINE struct lanes lanes_e4m3(const void *line, int place, struct lanes scale)
{
    struct lanes r = {
        lanes_e4m3_quarter(line, 0, place, scale.a), lanes_e4m3_quarter(line, 1, place, scale.b),
        lanes_e4m3_quarter(line, 2, place, scale.c), lanes_e4m3_quarter(line, 3, place, scale.d)};

    return r;
}

#endif

#endif
