/* agree.c - does a backend compute what the reference computes, and does it keep the law?
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels/agree/agree.h"

#include "kernels/reference/reference.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const size_t HOST_BYTES = (size_t)256 << 20;
static const float FRAME = 12345.5f;
static const float RUBBISH = -777.25f;

static unsigned long long seed;
static int most_rounds, this_round;
static uint64_t state;
static bool on_device;
static struct arena host;
static char shape[160];
static char words[512];
static jmp_buf back;

void agree_start(uint64_t first, int most)
{
    seed = state = first;
    most_rounds = most;
}

void agree_shape(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(shape, sizeof shape, format, arguments);
    va_end(arguments);
}

_Noreturn void agree_fail(struct kernels *k, const char *format, ...)
{
    va_list arguments;
    int used = snprintf(words, sizeof words, "%s, seed %llu%s%s: ", k ? k->name : "the check", seed,
                        shape[0] ? ", " : "", shape);

    va_start(arguments, format);
    if (used > 0 && (size_t)used < sizeof words)
        vsnprintf(words + used, sizeof words - (size_t)used, format, arguments);
    va_end(arguments);
    longjmp(back, 1);
}

void agree_number(struct kernels *k, const char *what, long long got, long long want)
{
    if (got != want)
        agree_fail(k, "%s is %lld, not %lld", what, got, want);
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
    return on_device ? 0x3p-16 : 0.0; /* of each factor, and the product of what is left of both */
}

int agree_round(void)
{
    return this_round;
}

int agree_head_width(int most)
{
    return on_device ? 16 * agree_between(1, (most + 15) / 16) : agree_width(most);
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

/* -- running --- */

/* One round in memory of its own. What a check holds when it fails lies in that memory and in the backends'.
 */
static enum status run_round(const struct agree_check *check, struct kernels *reference, struct kernels **k)
{
    enum status status;

    TRY(arena_open(&host, "a check", HOST_BYTES));
    shape[0] = '\0';
    if (setjmp(back) == 0) {
        if (check->agrees)
            check->agrees(reference, k[0]);
        else
            check->law(k);
        status = STATUS_OK;
    } else {
        status = FAIL(STATUS_BUG, "%s: %s", check->entry, words);
    }
    arena_close(&host);
    return status;
}

/* Rounds first, first + step, ... below `rounds`. */
static enum status run_rounds(const struct agree_check *check, struct kernels *reference, struct kernels **k,
                              int first, int step)
{
    int rounds = check->rounds < most_rounds ? check->rounds : most_rounds;

    for (this_round = first; this_round < rounds; this_round += step)
        TRY(run_round(check, reference, k));
    return STATUS_OK;
}

static enum status run_agreement(const struct agree_check *check, const struct agree_backend *backend)
{
    struct agree_backend asked = *backend;

    for (int threads = 1; threads <= AGREE_THREADS; threads++) {
        struct kernels *reference, *k;
        enum status status;

        asked.exact = backend->exact || threads == 2;
        TRY(reference_open(&reference));
        status = backend->open(&asked, threads, &k);
        if (status == STATUS_OK) {
            status = run_rounds(check, reference, &k, threads - 1, AGREE_THREADS);
            k->close(k);
        }
        reference->close(reference);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

static enum status run_law(const struct agree_check *check, const struct agree_backend *backend)
{
    struct agree_backend asked = *backend;
    struct kernels *k[AGREE_THREADS];
    enum status status = STATUS_OK;
    int open = 0;

    asked.exact = true;
    while (status == STATUS_OK && open < AGREE_THREADS) {
        status = backend->open(&asked, open + 1, &k[open]);
        open += status == STATUS_OK;
    }
    if (status == STATUS_OK)
        status = run_rounds(check, NULL, k, 0, 1);
    while (open > 0) {
        open--;
        if (status == STATUS_OK && k[open]->loose_products > 0)
            status = FAIL(STATUS_BUG, "%s, asked to be exact, left %lld products to a library", k[open]->name,
                          (long long)k[open]->loose_products);
        k[open]->close(k[open]);
    }
    return status;
}

enum status agree_run(const struct agree_check *check, const struct agree_backend *backend, int *rounds)
{
    on_device = backend->device;
    TRY(check->agrees ? run_agreement(check, backend) : run_law(check, backend));
    *rounds = check->rounds < most_rounds ? check->rounds : most_rounds;
    return STATUS_OK;
}

/* -- memory and matrices
 * -------------------------------------------------------------------------------------------- */

void *agree_take(size_t count, size_t size)
{
    void *memory;

    if (arena_take_array(&host, count, size, "test data", &memory) != STATUS_OK)
        agree_fail(NULL, "%s", status_text());
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
                agree_fail(k, "[%d, %d] was written at row %d, column %d", rows, columns, t - 1, d - left);
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

int32_t *agree_numbers(struct kernels *k, const int32_t *content, size_t count)
{
    void *memory;

    agree_ok(k, "alloc", k->alloc(k, count * sizeof *content, "test", &memory));
    if (content)
        agree_ok(k, "upload", k->upload(k, memory, content, count * sizeof *content));
    return memory;
}

void *agree_bring(struct kernels *k, const void *there, size_t count)
{
    void *content = agree_take(count, sizeof(int32_t));

    agree_ok(k, "download", k->download(k, content, there, count * sizeof(int32_t)));
    return content;
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

struct drawn agree_tensor(enum dtype dtype, int rows, int columns, bool transposed)
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
    return (struct drawn){.dtype = dtype,
                          .rows = rows,
                          .columns = columns,
                          .data = data,
                          .values = values,
                          .scale = scale,
                          .transposed = transposed};
}

struct weight agree_weight(struct kernels *k, const struct drawn *tensor, int first, int rows)
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
        agree_fail(k,
                   "%s of row %d, column %d is %.9g, the reference says %.9g, allowed is a difference of "
                   "%.3g",
                   what, row, column, (double)got, (double)want, bound);
}

void agree_same(struct kernels *k, const char *what, int row, const float *got, const float *want, int count)
{
    for (int i = 0; i < count; i++)
        if (memcmp(&got[i], &want[i], sizeof got[i]) != 0)
            agree_fail(k, "%s of row %d, column %d is %.9g or %.9g, depending on what it should not", what,
                       row, i, (double)got[i], (double)want[i]);
}

void agree_ok(struct kernels *k, const char *what, enum status status)
{
    if (status != STATUS_OK)
        agree_fail(k, "%s: %s (%s)", what, status_text(), status_place());
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
