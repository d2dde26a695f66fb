/* agree.c - what the tests of backends share: the list of backends, random numbers, framed matrices, weights
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "agree.h"

#ifdef AGREE_CUDA
#include "kernels/cuda/cuda.h"
#else
#include "kernels/cpu/cpu.h"
#endif
#include "kernels/reference/reference.h"

#include <limits.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

static const unsigned long long DEFAULT_SEED = 20250711;
static const size_t HOST_BYTES = (size_t)256 << 20;
static const float FRAME = 12345.5f;
static const float RUBBISH = -777.25f;

static unsigned long long seed;
static int most_rounds = INT_MAX;
static uint64_t state;
static struct arena host;

/* Backends to compare with the reference. */
#ifdef AGREE_CUDA
static const struct backend {
    const char *name;
} BACKENDS[] = {{"cuda"}};
#else
static const struct backend {
    const char *name;
    enum cpu_path path;
} BACKENDS[] = {
    {"cpu portable", CPU_PORTABLE},
    {"cpu avx2", CPU_AVX2},
    {"cpu avx512", CPU_AVX512},
};
#endif

enum { BACKEND_COUNT = sizeof BACKENDS / sizeof BACKENDS[0] };

void agree_start(int argc, char **argv)
{
    seed = argc > 1 ? strtoull(argv[1], NULL, 0) : DEFAULT_SEED;
    state = seed;
    if (argc > 2)
        most_rounds = atoi(argv[2]);
    printf("seed %llu\n", seed);
}

/* splitmix64, Steele, Lea and Flood 2014 */
static uint64_t next(void)
{
    uint64_t z = state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

int agree_between(int low, int high)
{
    return low + (int)(next() % (uint64_t)(high - low + 1));
}

float agree_uniform(void)
{
    return (float)(next() >> 40) * 0x1p-23f - 1.0f;
}

bool agree_chance(int percent)
{
    return agree_between(0, 99) < percent;
}

int agree_width(int most)
{
    if (agree_chance(20))
        return agree_between(1, most < 9 ? most : 9);
    if (agree_chance(20) && most >= 32)
        return agree_between(1, most / 32) * 32;
    return agree_between(1, most);
}

double agree_split(void)
{
#ifdef AGREE_CUDA
    return 0x3p-16; /* of each factor, and the product of what is left of both */
#else
    return 0.0;
#endif
}

int agree_head_width(int most)
{
#ifdef AGREE_CUDA
    return 16 * agree_between(1, (most + 15) / 16);
#else
    return agree_width(most);
#endif
}

void agree_shuffle(int32_t *numbers, int count)
{
    for (int i = count - 1; i > 0; i--) {
        int j = agree_between(0, i);
        int32_t kept = numbers[i];

        numbers[i] = numbers[j];
        numbers[j] = kept;
    }
}

/* -- opening
 * ------------------------------------------------------------------------------------------------------ */

static void host_open(void)
{
    if (arena_open(&host, "test", HOST_BYTES) != STATUS_OK)
        fail_msg("%s", status_text());
}

/* False, with a line, when this machine lacks the backend. */
static bool open_backend(const struct backend *backend, int threads, struct kernels **out)
{
#ifdef AGREE_CUDA
    enum status status = cuda_open(0, out);

    (void)threads;
#else
    enum status status = cpu_open(backend->path, threads, NULL, out);

#endif
    if (status == STATUS_UNAVAILABLE) {
        printf("skipped: %s (not on this machine)\n", backend->name);
        return false;
    }
    if (status != STATUS_OK)
        fail_msg("%s: %s", backend->name, status_text());
    return true;
}

void agree_each(int rounds, void (*check)(struct kernels *reference, struct kernels *k))
{
    rounds = rounds < most_rounds ? rounds : most_rounds;
    for (int b = 0; b < BACKEND_COUNT; b++) {
        for (int threads = 1; threads <= AGREE_THREADS; threads++) {
            struct kernels *reference, *k;

            if (!open_backend(&BACKENDS[b], threads, &k))
                break;
            agree_ok(k, "reference_open", reference_open(&reference));
            for (int round = threads - 1; round < rounds; round += AGREE_THREADS) {
                host_open();
                check(reference, k);
                arena_close(&host);
            }
            reference->close(reference);
            k->close(k);
        }
    }
}

static void law_rounds(int rounds, struct kernels **k, void (*check)(struct kernels **k))
{
    for (int round = 0; round < rounds; round++) {
        host_open();
        check(k);
        arena_close(&host);
    }
    for (int i = 0; i < AGREE_THREADS; i++)
        k[i]->close(k[i]);
}

void agree_each_law(int rounds, void (*check)(struct kernels **k))
{
    struct kernels *k[AGREE_THREADS];

    rounds = rounds < most_rounds ? rounds : most_rounds;
    for (int i = 0; i < AGREE_THREADS; i++)
        if (reference_open(&k[i]) != STATUS_OK)
            fail_msg("%s", status_text());
    law_rounds(rounds, k, check);

    for (int b = 0; b < BACKEND_COUNT; b++) {
        bool there = true;

        for (int i = 0; i < AGREE_THREADS && there; i++)
            there = open_backend(&BACKENDS[b], i + 1, &k[i]);
        if (there)
            law_rounds(rounds, k, check);
    }
}

/* -- memory and matrices
 * -------------------------------------------------------------------------------------------- */

void *agree_take(size_t count, size_t size)
{
    void *memory;

    if (arena_take_array(&host, count, size, "test data", &memory) != STATUS_OK)
        fail_msg("%s", status_text());
    return memory;
}

float *agree_rows(int rows, int columns)
{
    return agree_take((size_t)rows * (size_t)columns, sizeof(float));
}

float *agree_random_rows(int rows, int columns)
{
    float *content = agree_rows(rows, columns);

    for (ptrdiff_t i = 0; i < (ptrdiff_t)rows * columns; i++)
        content[i] = agree_uniform();
    return content;
}

struct framed agree_framed(struct kernels *k, int rows, int columns, const float *content)
{
    int left = agree_chance(50) ? 0 : agree_between(1, 17);
    int right = agree_between(1, 17);
    int width = left + columns + right;
    float *line = agree_rows(1, width);
    struct framed m;

    agree_ok(k, "matrix", kernels_matrix(k, rows + 2, width, "test", &m.frame));
    m.view = matrix_columns(matrix_rows(m.frame, 1, rows), left, columns);
    for (int t = 0; t < rows + 2; t++) {
        for (int d = 0; d < width; d++) {
            bool inside = t >= 1 && t <= rows && d >= left && d < left + columns;

            line[d] = !inside ? FRAME : content ? content[(ptrdiff_t)(t - 1) * columns + d - left] : RUBBISH;
        }
        agree_ok(k, "upload",
                 k->upload(k, matrix_rows(m.frame, t, 1).data, line, (size_t)width * sizeof *line));
    }
    return m;
}

float *agree_content(struct kernels *k, const struct framed *m)
{
    int rows = m->view.rows, columns = m->view.columns, width = m->frame.columns;
    int left = (int)((m->view.data - m->frame.data) % m->frame.stride);
    float *content = agree_rows(rows, columns);
    float *line = agree_rows(1, width);

    for (int t = 0; t < rows + 2; t++) {
        agree_ok(k, "download",
                 k->download(k, line, matrix_rows(m->frame, t, 1).data, (size_t)width * sizeof *line));
        for (int d = 0; d < width; d++) {
            bool inside = t >= 1 && t <= rows && d >= left && d < left + columns;

            if (inside)
                content[(ptrdiff_t)(t - 1) * columns + d - left] = line[d];
            else if (line[d] != FRAME)
                fail_msg("%s, seed %llu: [%d, %d] was written at row %d, column %d", k->name, seed, rows,
                         columns, t - 1, d - left);
        }
    }
    return content;
}

float *agree_upload(struct kernels *k, const float *content, size_t count)
{
    void *memory;

    agree_ok(k, "alloc", k->alloc(k, count * sizeof *content, "test", &memory));
    agree_ok(k, "upload", k->upload(k, memory, content, count * sizeof *content));
    return memory;
}

/* -- weights
 * ----------------------------------------------------------------------------------------------------------
 */

enum dtype agree_dtype(void)
{
    static const enum dtype FORMATS[] = {DTYPE_BF16, DTYPE_BF16, DTYPE_F16, DTYPE_F32, DTYPE_F8_E4M3};

    return FORMATS[agree_between(0, 4)];
}

/* Writes a random number at `to` in its format; the value is what was written. */
static float random_number(enum dtype dtype, void *to)
{
    float value = agree_uniform();
    uint16_t bits;

    if (dtype == DTYPE_F8_E4M3) {
        /* Every code but NaN. */
        uint8_t code = (uint8_t)(agree_between(0, 1) << 7 | agree_between(0, 126));

        memcpy(to, &code, sizeof code);
        return dtype_from_e4m3(code);
    }
    if (dtype == DTYPE_F32) {
        memcpy(to, &value, sizeof value);
        return value;
    }
    if (dtype == DTYPE_BF16) {
        bits = dtype_to_bf16(value);
        memcpy(to, &bits, sizeof bits);
        return dtype_from_bf16(bits);
    }
    /* A half between 2^-6 and 1, of either sign. */
    bits = (uint16_t)(agree_between(0, 1) << 15 | agree_between(9, 14) << 10 | agree_between(0, 1023));
    memcpy(to, &bits, sizeof bits);
    return dtype_from_f16(bits);
}

/* Scales of any size and sign, such that no product is large. */
static float *random_scales(int rows, int columns)
{
    float *scale = agree_random_rows(rows, scale_count(columns));

    for (ptrdiff_t i = 0; i < (ptrdiff_t)rows * scale_count(columns); i++)
        scale[i] /= agree_chance(10) ? 1e6f : 448.0f;
    return scale;
}

struct tensor agree_tensor(enum dtype dtype, int rows, int columns, bool transposed)
{
    const float *scale = dtype == DTYPE_F8_E4M3 ? random_scales(rows, columns) : NULL;
    size_t element = (size_t)dtype_bits(dtype) / 8;
    float *values = agree_rows(rows, columns);
    /* A file's tensors start at any even place. */
    char *data =
        (char *)agree_take((size_t)rows * (size_t)columns * element + 2, 1) + 2 * agree_between(0, 1);

    for (int n = 0; n < rows; n++) {
        for (int i = 0; i < columns; i++) {
            size_t place =
                transposed ? (size_t)i * (size_t)rows + (size_t)n : (size_t)n * (size_t)columns + (size_t)i;

            values[(ptrdiff_t)n * columns + i] =
                random_number(dtype, data + place * element) *
                (scale ? scale[(ptrdiff_t)n * scale_count(columns) + i / SCALE_INPUTS] : 1.0f);
        }
    }
    return (struct tensor){.dtype = dtype,
                           .rows = rows,
                           .columns = columns,
                           .data = data,
                           .values = values,
                           .scale = scale,
                           .transposed = transposed};
}

struct weight agree_weight(struct kernels *k, const struct tensor *tensor, int first, int rows)
{
    ptrdiff_t element = dtype_bits(tensor->dtype) / 8;
    struct source part = {.dtype = tensor->dtype,
                          .columns = tensor->columns,
                          .row_step = tensor->transposed ? 1 : tensor->columns,
                          .column_step = tensor->transposed ? tensor->rows : 1};
    struct weight w;

    agree_ok(k, "weight", kernels_weight(k, tensor->dtype, rows, tensor->columns, "test", &w));
    for (int done = 0; done < rows; done += part.rows) {
        part.rows = agree_chance(50) ? rows - done : agree_between(1, rows - done);
        part.data = (const char *)tensor->data + (first + done) * part.row_step * element;
        if (tensor->scale)
            part.scale = tensor->scale + (ptrdiff_t)(first + done) * scale_count(tensor->columns);
        agree_ok(k, "weight_fill", k->weight_fill(k, &w, done, &part));
    }
    return w;
}

/* -- judging
 * ----------------------------------------------------------------------------------------------------------
 */

void agree_close(struct kernels *k, const char *what, int row, int column, float got, float want,
                 double bound)
{
    if (isnan(got) && isnan(want))
        return;
    if (got != want && !(fabs((double)got - (double)want) <= bound))
        fail_msg("%s, seed %llu: %s of row %d, column %d is %.9g, the reference says %.9g, allowed is a "
                 "difference of %.3g",
                 k->name, seed, what, row, column, (double)got, (double)want, bound);
}

void agree_same(struct kernels *k, const char *what, int row, const float *got, const float *want, int count)
{
    for (int i = 0; i < count; i++)
        if (memcmp(&got[i], &want[i], sizeof got[i]) != 0)
            fail_msg(
                "%s, seed %llu: %s of row %d, column %d is %.9g or %.9g, depending on what it should not",
                k->name, seed, what, row, i, (double)got[i], (double)want[i]);
}

void agree_ok(struct kernels *k, const char *what, enum status status)
{
    if (status != STATUS_OK)
        fail_msg("%s, seed %llu: %s: %s (%s)", k->name, seed, what, status_text(), status_place());
}

void agree_equal(struct kernels *k, const char *what, const float *got, const float *want, int rows,
                 int columns)
{
    for (int t = 0; t < rows; t++)
        agree_same(k, what, t, got + (ptrdiff_t)t * columns, want + (ptrdiff_t)t * columns, columns);
}

void agree_near(struct kernels *k, const char *what, const float *got, const float *want, int rows,
                int columns)
{
    for (ptrdiff_t i = 0; i < (ptrdiff_t)rows * columns; i++)
        agree_close(k, what, (int)(i / columns), (int)(i % columns), got[i], want[i],
                    agree_split() * fabs((double)want[i]));
}
