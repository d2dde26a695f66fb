/* cpu_vector.h - sixteen floats at once, on each instruction path
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * The stages are written once, in these words, and compiled once for each path. AVX-512 has the sixteen in
 * one register, AVX2 in two, the portable path in four. lanes_fma rounds once on AVX-512 and AVX2 and twice
 * on the portable path; all else, the order of sums across lanes included, is alike. So AVX-512 and AVX2 give
 * the same bytes. */
#ifndef CPU_VECTOR_H
#define CPU_VECTOR_H

#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

enum { LANES = 16 };

#define LANES_INLINE static inline __attribute__((always_inline))

#ifdef __clang__
#define LANES_UNROLL _Pragma("clang loop unroll(full)")
#else
#define LANES_UNROLL _Pragma("GCC unroll 16")
#endif

#if defined(__AVX512F__)

struct lanes {
    __m512 v;
};

LANES_INLINE struct lanes lanes_of(__m512 v)
{
    struct lanes r = {v};

    return r;
}

LANES_INLINE struct lanes lanes_set(float x)
{
    return lanes_of(_mm512_set1_ps(x));
}

LANES_INLINE float lanes_first(struct lanes x)
{
    return _mm512_cvtss_f32(x.v);
}

LANES_INLINE struct lanes lanes_load(const float *from)
{
    return lanes_of(_mm512_loadu_ps(from));
}

LANES_INLINE void lanes_store(float *to, struct lanes x)
{
    _mm512_storeu_ps(to, x.v);
}

LANES_INLINE __mmask16 lanes_mask(int count)
{
    return (__mmask16)((1u << count) - 1u);
}

/* The first `count` of sixteen, 0 <= count <= 16; the others are zero and not touched in memory. */
LANES_INLINE struct lanes lanes_load_part(const float *from, int count)
{
    return lanes_of(_mm512_maskz_loadu_ps(lanes_mask(count), from));
}

LANES_INLINE void lanes_store_part(float *to, struct lanes x, int count)
{
    _mm512_mask_storeu_ps(to, lanes_mask(count), x.v);
}

LANES_INLINE struct lanes lanes_add(struct lanes x, struct lanes y)
{
    return lanes_of(_mm512_add_ps(x.v, y.v));
}

LANES_INLINE struct lanes lanes_subtract(struct lanes x, struct lanes y)
{
    return lanes_of(_mm512_sub_ps(x.v, y.v));
}

LANES_INLINE struct lanes lanes_multiply(struct lanes x, struct lanes y)
{
    return lanes_of(_mm512_mul_ps(x.v, y.v));
}

LANES_INLINE struct lanes lanes_divide(struct lanes x, struct lanes y)
{
    return lanes_of(_mm512_div_ps(x.v, y.v));
}

/* x * y + z */
LANES_INLINE struct lanes lanes_fma(struct lanes x, struct lanes y, struct lanes z)
{
    return lanes_of(_mm512_fmadd_ps(x.v, y.v, z.v));
}

/* The greater of limit and x; x where it is NaN. */
LANES_INLINE struct lanes lanes_at_least(struct lanes limit, struct lanes x)
{
    return lanes_of(_mm512_max_ps(limit.v, x.v));
}

LANES_INLINE struct lanes lanes_at_most(struct lanes limit, struct lanes x)
{
    return lanes_of(_mm512_min_ps(limit.v, x.v));
}

/* x in lanes first ... end - 1, `otherwise` in the others. */
LANES_INLINE struct lanes lanes_between(struct lanes x, float otherwise, int first, int end)
{
    __mmask16 inside = (__mmask16)(lanes_mask(end) & ~(unsigned)lanes_mask(first));

    return lanes_of(_mm512_mask_blend_ps(inside, _mm512_set1_ps(otherwise), x.v));
}

/* Is any lane of x not at most `limit` (greater, or NaN, or limit is NaN)? */
LANES_INLINE int lanes_any_above(struct lanes x, float limit)
{
    return _mm512_cmp_ps_mask(x.v, _mm512_set1_ps(limit), _CMP_NLE_UQ) != 0;
}

/* A line of sixteen pairs of BF16: the first of each pair, the second of each pair. */
LANES_INLINE struct lanes lanes_even(const void *line)
{
    return lanes_of(_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(line), 16)));
}

LANES_INLINE struct lanes lanes_odd(const void *line)
{
    return lanes_of(
        _mm512_castsi512_ps(_mm512_and_si512(_mm512_loadu_si512(line), _mm512_set1_epi32(-65536))));
}

/* Sixteen BF16 that follow each other. */
LANES_INLINE struct lanes lanes_widen(const uint16_t *from)
{
    __m512i words = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)from));

    return lanes_of(_mm512_castsi512_ps(_mm512_slli_epi32(words, 16)));
}

/* x * 2^n, where t is 1.5 * 2^23 + n. */
LANES_INLINE struct lanes lanes_scale(struct lanes x, struct lanes t)
{
    __m512i exponent = _mm512_slli_epi32(_mm512_castps_si512(t.v), 23);

    return lanes_of(_mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(x.v), exponent)));
}

LANES_INLINE __m256 lanes_low(struct lanes x)
{
    return _mm512_castps512_ps256(x.v);
}

LANES_INLINE __m256 lanes_high(struct lanes x)
{
    return _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(x.v), 1));
}

#elif defined(__AVX2__)

struct lanes {
    __m256 a, b;
};

LANES_INLINE struct lanes lanes_of(__m256 a, __m256 b)
{
    struct lanes r = {a, b};

    return r;
}

LANES_INLINE struct lanes lanes_set(float x)
{
    __m256 v = _mm256_set1_ps(x);

    return lanes_of(v, v);
}

LANES_INLINE float lanes_first(struct lanes x)
{
    return _mm256_cvtss_f32(x.a);
}

LANES_INLINE struct lanes lanes_load(const float *from)
{
    return lanes_of(_mm256_loadu_ps(from), _mm256_loadu_ps(from + 8));
}

LANES_INLINE void lanes_store(float *to, struct lanes x)
{
    _mm256_storeu_ps(to, x.a);
    _mm256_storeu_ps(to + 8, x.b);
}

/* All ones in the lanes below `count` of the eight that start at `from`. */
LANES_INLINE __m256i lanes_mask(int from, int count)
{
    __m256i place = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);

    return _mm256_cmpgt_epi32(_mm256_set1_epi32(count - from), place);
}

LANES_INLINE struct lanes lanes_load_part(const float *from, int count)
{
    return lanes_of(_mm256_maskload_ps(from, lanes_mask(0, count)),
                    _mm256_maskload_ps(from + 8, lanes_mask(8, count)));
}

LANES_INLINE void lanes_store_part(float *to, struct lanes x, int count)
{
    _mm256_maskstore_ps(to, lanes_mask(0, count), x.a);
    _mm256_maskstore_ps(to + 8, lanes_mask(8, count), x.b);
}

LANES_INLINE struct lanes lanes_add(struct lanes x, struct lanes y)
{
    return lanes_of(_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b));
}

LANES_INLINE struct lanes lanes_subtract(struct lanes x, struct lanes y)
{
    return lanes_of(_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b));
}

LANES_INLINE struct lanes lanes_multiply(struct lanes x, struct lanes y)
{
    return lanes_of(_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b));
}

LANES_INLINE struct lanes lanes_divide(struct lanes x, struct lanes y)
{
    return lanes_of(_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b));
}

LANES_INLINE struct lanes lanes_fma(struct lanes x, struct lanes y, struct lanes z)
{
    return lanes_of(_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b));
}

LANES_INLINE struct lanes lanes_at_least(struct lanes limit, struct lanes x)
{
    return lanes_of(_mm256_max_ps(limit.a, x.a), _mm256_max_ps(limit.b, x.b));
}

LANES_INLINE struct lanes lanes_at_most(struct lanes limit, struct lanes x)
{
    return lanes_of(_mm256_min_ps(limit.a, x.a), _mm256_min_ps(limit.b, x.b));
}

LANES_INLINE struct lanes lanes_between(struct lanes x, float otherwise, int first, int end)
{
    __m256 other = _mm256_set1_ps(otherwise);
    __m256i a = _mm256_andnot_si256(lanes_mask(0, first), lanes_mask(0, end));
    __m256i b = _mm256_andnot_si256(lanes_mask(8, first), lanes_mask(8, end));

    return lanes_of(_mm256_blendv_ps(other, x.a, _mm256_castsi256_ps(a)),
                    _mm256_blendv_ps(other, x.b, _mm256_castsi256_ps(b)));
}

LANES_INLINE int lanes_any_above(struct lanes x, float limit)
{
    __m256 limits = _mm256_set1_ps(limit);

    return _mm256_movemask_ps(_mm256_or_ps(_mm256_cmp_ps(x.a, limits, _CMP_NLE_UQ),
                                           _mm256_cmp_ps(x.b, limits, _CMP_NLE_UQ))) != 0;
}

LANES_INLINE __m256i lanes_words(const void *line, int half)
{
    return _mm256_loadu_si256((const void *)((const char *)line + 32 * half));
}

LANES_INLINE struct lanes lanes_even(const void *line)
{
    return lanes_of(_mm256_castsi256_ps(_mm256_slli_epi32(lanes_words(line, 0), 16)),
                    _mm256_castsi256_ps(_mm256_slli_epi32(lanes_words(line, 1), 16)));
}

LANES_INLINE struct lanes lanes_odd(const void *line)
{
    __m256i upper = _mm256_set1_epi32(-65536);

    return lanes_of(_mm256_castsi256_ps(_mm256_and_si256(lanes_words(line, 0), upper)),
                    _mm256_castsi256_ps(_mm256_and_si256(lanes_words(line, 1), upper)));
}

LANES_INLINE struct lanes lanes_widen(const uint16_t *from)
{
    __m256i a = _mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)from));
    __m256i b = _mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)(from + 8)));

    return lanes_of(_mm256_castsi256_ps(_mm256_slli_epi32(a, 16)),
                    _mm256_castsi256_ps(_mm256_slli_epi32(b, 16)));
}

LANES_INLINE struct lanes lanes_scale(struct lanes x, struct lanes t)
{
    __m256i a = _mm256_slli_epi32(_mm256_castps_si256(t.a), 23);
    __m256i b = _mm256_slli_epi32(_mm256_castps_si256(t.b), 23);

    return lanes_of(_mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(x.a), a)),
                    _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(x.b), b)));
}

LANES_INLINE __m256 lanes_low(struct lanes x)
{
    return x.a;
}

LANES_INLINE __m256 lanes_high(struct lanes x)
{
    return x.b;
}

#else

#define LANES_FLOATS float __attribute__((vector_size(16)))
#define LANES_WORDS uint32_t __attribute__((vector_size(16)))

struct lanes {
    LANES_FLOATS a;
    LANES_FLOATS b;
    LANES_FLOATS c;
    LANES_FLOATS d;
};

LANES_INLINE struct lanes lanes_load(const float *from)
{
    struct lanes r;

    memcpy(&r, from, sizeof r);
    return r;
}

LANES_INLINE void lanes_store(float *to, struct lanes x)
{
    memcpy(to, &x, sizeof x);
}

LANES_INLINE struct lanes lanes_set(float x)
{
    LANES_FLOATS v = {x, x, x, x};
    struct lanes r = {v, v, v, v};

    return r;
}

LANES_INLINE float lanes_first(struct lanes x)
{
    return x.a[0];
}

LANES_INLINE struct lanes lanes_load_part(const float *from, int count)
{
    float all[LANES] = {0};

    memcpy(all, from, (size_t)count * sizeof *all);
    return lanes_load(all);
}

LANES_INLINE void lanes_store_part(float *to, struct lanes x, int count)
{
    memcpy(to, &x, (size_t)count * sizeof *to);
}

LANES_INLINE struct lanes lanes_add(struct lanes x, struct lanes y)
{
    struct lanes r = {x.a + y.a, x.b + y.b, x.c + y.c, x.d + y.d};

    return r;
}

LANES_INLINE struct lanes lanes_subtract(struct lanes x, struct lanes y)
{
    struct lanes r = {x.a - y.a, x.b - y.b, x.c - y.c, x.d - y.d};

    return r;
}

LANES_INLINE struct lanes lanes_multiply(struct lanes x, struct lanes y)
{
    struct lanes r = {x.a * y.a, x.b * y.b, x.c * y.c, x.d * y.d};

    return r;
}

LANES_INLINE struct lanes lanes_divide(struct lanes x, struct lanes y)
{
    struct lanes r = {x.a / y.a, x.b / y.b, x.c / y.c, x.d / y.d};

    return r;
}

LANES_INLINE struct lanes lanes_fma(struct lanes x, struct lanes y, struct lanes z)
{
    return lanes_add(lanes_multiply(x, y), z);
}

LANES_INLINE LANES_FLOATS lanes_choose(LANES_WORDS yes, LANES_FLOATS x, LANES_FLOATS y)
{
    return (LANES_FLOATS)((yes & (LANES_WORDS)x) | (~yes & (LANES_WORDS)y));
}

LANES_INLINE struct lanes lanes_at_least(struct lanes limit, struct lanes x)
{
    struct lanes r = {lanes_choose((LANES_WORDS)(limit.a > x.a), limit.a, x.a),
                      lanes_choose((LANES_WORDS)(limit.b > x.b), limit.b, x.b),
                      lanes_choose((LANES_WORDS)(limit.c > x.c), limit.c, x.c),
                      lanes_choose((LANES_WORDS)(limit.d > x.d), limit.d, x.d)};

    return r;
}

LANES_INLINE struct lanes lanes_at_most(struct lanes limit, struct lanes x)
{
    struct lanes r = {lanes_choose((LANES_WORDS)(limit.a < x.a), limit.a, x.a),
                      lanes_choose((LANES_WORDS)(limit.b < x.b), limit.b, x.b),
                      lanes_choose((LANES_WORDS)(limit.c < x.c), limit.c, x.c),
                      lanes_choose((LANES_WORDS)(limit.d < x.d), limit.d, x.d)};

    return r;
}

LANES_INLINE struct lanes lanes_between(struct lanes x, float otherwise, int first, int end)
{
    float all[LANES];

    lanes_store(all, x);
    for (int i = 0; i < LANES; i++)
        all[i] = i >= first && i < end ? all[i] : otherwise;
    return lanes_load(all);
}

LANES_INLINE int lanes_any_above(struct lanes x, float limit)
{
    float all[LANES];
    int above = 0;

    lanes_store(all, x);
    for (int i = 0; i < LANES; i++)
        above |= !(all[i] <= limit);
    return above;
}

LANES_INLINE LANES_WORDS lanes_words(const void *line, int quarter)
{
    LANES_WORDS r;

    memcpy(&r, (const char *)line + 16 * quarter, sizeof r);
    return r;
}

LANES_INLINE struct lanes lanes_even(const void *line)
{
    struct lanes r = {(LANES_FLOATS)(lanes_words(line, 0) << 16), (LANES_FLOATS)(lanes_words(line, 1) << 16),
                      (LANES_FLOATS)(lanes_words(line, 2) << 16), (LANES_FLOATS)(lanes_words(line, 3) << 16)};

    return r;
}

LANES_INLINE struct lanes lanes_odd(const void *line)
{
    LANES_WORDS upper = {0xffff0000u, 0xffff0000u, 0xffff0000u, 0xffff0000u};
    struct lanes r = {
        (LANES_FLOATS)(lanes_words(line, 0) & upper), (LANES_FLOATS)(lanes_words(line, 1) & upper),
        (LANES_FLOATS)(lanes_words(line, 2) & upper), (LANES_FLOATS)(lanes_words(line, 3) & upper)};

    return r;
}

LANES_INLINE struct lanes lanes_widen(const uint16_t *from)
{
    uint32_t words[LANES];
    struct lanes r;

    for (int i = 0; i < LANES; i++)
        words[i] = (uint32_t)from[i] << 16;
    memcpy(&r, words, sizeof r);
    return r;
}

LANES_INLINE struct lanes lanes_scale(struct lanes x, struct lanes t)
{
    struct lanes r = {(LANES_FLOATS)((LANES_WORDS)x.a + ((LANES_WORDS)t.a << 23)),
                      (LANES_FLOATS)((LANES_WORDS)x.b + ((LANES_WORDS)t.b << 23)),
                      (LANES_FLOATS)((LANES_WORDS)x.c + ((LANES_WORDS)t.c << 23)),
                      (LANES_FLOATS)((LANES_WORDS)x.d + ((LANES_WORDS)t.d << 23))};

    return r;
}

/* The sum of all lanes: i and i + 8 first, then i and i + 4, and so on, on every path. */
LANES_INLINE float lanes_sum(struct lanes x)
{
    LANES_FLOATS four = (x.a + x.c) + (x.b + x.d);

    return (four[0] + four[2]) + (four[1] + four[3]);
}

/* The greatest lane; of no use when one is NaN. */
LANES_INLINE float lanes_greatest(struct lanes x)
{
    float all[LANES];
    float greatest;

    lanes_store(all, x);
    greatest = all[0];
    for (int i = 1; i < LANES; i++)
        greatest = all[i] > greatest ? all[i] : greatest;
    return greatest;
}

#endif

#if defined(__AVX512F__) || defined(__AVX2__)

LANES_INLINE float lanes_sum(struct lanes x)
{
    __m256 eight = _mm256_add_ps(lanes_low(x), lanes_high(x));
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));

    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

LANES_INLINE float lanes_greatest(struct lanes x)
{
    __m256 eight = _mm256_max_ps(lanes_low(x), lanes_high(x));
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));

    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

#endif

/* e^x to 2 units in the last place, for x within -87 ... 88; beyond, the value at that end. NaN stays. Rounds
 * x / ln 2 to a whole n by adding 1.5 * 2^23, then a polynomial for what is left (coefficients of Cephes'
 * expf). */
LANES_INLINE struct lanes lanes_exp(struct lanes x)
{
    struct lanes magic = lanes_set(12582912.0f);
    struct lanes kept = lanes_at_least(lanes_set(-87.0f), lanes_at_most(lanes_set(88.0f), x));
    struct lanes t = lanes_fma(kept, lanes_set(1.44269504f), magic);
    struct lanes n = lanes_subtract(t, magic);
    struct lanes r = lanes_fma(n, lanes_set(2.12194440e-4f), lanes_fma(n, lanes_set(-0.693359375f), kept));
    struct lanes p = lanes_set(1.9875691500e-4f);

    p = lanes_fma(p, r, lanes_set(1.3981999507e-3f));
    p = lanes_fma(p, r, lanes_set(8.3334519073e-3f));
    p = lanes_fma(p, r, lanes_set(4.1665795894e-2f));
    p = lanes_fma(p, r, lanes_set(1.6666665459e-1f));
    p = lanes_fma(p, r, lanes_set(5.0000001201e-1f));
    p = lanes_add(lanes_fma(p, lanes_multiply(r, r), r), lanes_set(1.0f));
    return lanes_scale(p, t);
}

/* z / (1 + e^-z) */
LANES_INLINE struct lanes lanes_silu(struct lanes z)
{
    struct lanes e = lanes_exp(lanes_subtract(lanes_set(0.0f), z));

    return lanes_divide(z, lanes_add(lanes_set(1.0f), e));
}

LANES_INLINE float lanes_exp_one(float x)
{
    return lanes_first(lanes_exp(lanes_set(x)));
}

#endif
