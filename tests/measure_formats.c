/* measure_formats.c - how fast the cpu backend multiplies by FP8 beside BF16, for a few numbers of rows
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 *   measure_formats [THREADS [MIB]]
 *
 * MIB (768) of BF16 weights [2048, 2048], so that caches hold none of them, and the same numbers of FP8 ones;
 * every round multiplies by all of the one and then by all of the other. Prints rows, milliseconds and GB/s
 * of the fastest round of each format, what FP8 gains by these, and the median gain of all rounds. Not a
 * test. */
#include "engine/base/clock.h"
#include "kernels/cpu/cpu.h"

#include <stdio.h>
#include <stdlib.h>

enum { WIDTH = 2048, ROWS_MOST = 256, WEIGHTS_MOST = 512, ROUNDS = 15 };

static struct weight weights[2][WEIGHTS_MOST];
static const enum dtype FORMATS[2] = {DTYPE_BF16, DTYPE_F8_E4M3};

static void must(enum status status)
{
    if (status == STATUS_OK)
        return;
    fprintf(stderr, "%s\n", status_text());
    exit(70);
}

static int compare(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;

    return (a > b) - (a < b);
}

/* Numbers as trained weights have them, nearly normal, and the largest of many thousand near 448 times the
 * scale: few codes are among the smallest then. */
static float draw(uint32_t *state)
{
    float sum = 0;

    for (int i = 0; i < 6; i++) {
        *state = *state * 1664525u + 1013904223u;
        sum += (float)(*state >> 8) * 0x1p-24f - 0.5f;
    }
    return sum * 150;
}

/* The largest code that is not above |x|, with the sign of x. */
static uint8_t code_of(float x)
{
    float size = x < 0 ? -x : x;
    int low = 0, high = 126;

    while (low < high) {
        int middle = (low + high + 1) / 2;

        if (dtype_from_e4m3((uint8_t)middle) <= size)
            low = middle;
        else
            high = middle - 1;
    }
    return (uint8_t)(low | (x < 0 ? 0x80 : 0));
}

static void fill(struct kernels *k, int format, int count)
{
    static uint16_t numbers[WIDTH * WIDTH];
    static uint8_t codes[WIDTH * WIDTH];
    static float scales[WIDTH * (WIDTH / SCALE_INPUTS)];
    struct source source = {numbers, DTYPE_BF16, WIDTH, WIDTH, WIDTH, 1, NULL};
    uint32_t state = 1;

    for (int i = 0; i < WIDTH * (WIDTH / SCALE_INPUTS); i++)
        scales[i] = 1.0f / 4096;
    for (int i = 0; i < WIDTH * WIDTH; i++) {
        float number = draw(&state);

        numbers[i] = dtype_to_bf16(number / 4096);
        codes[i] = code_of(number);
    }
    if (format == 1)
        source = (struct source){codes, DTYPE_F8_E4M3, WIDTH, WIDTH, WIDTH, 1, scales};
    for (int i = 0; i < count; i++) {
        must(kernels_weight(k, FORMATS[format], WIDTH, WIDTH, "weights", &weights[format][i]));
        must(k->weight_fill(k, &weights[format][i], 0, &source));
    }
}

static double pass(struct kernels *k, int format, int count, struct matrix out, struct matrix x)
{
    int64_t start = clock_now();

    for (int i = 0; i < count; i++)
        must(k->multiply(k, out, x, &weights[format][i], NULL));
    return (double)(clock_now() - start) / 1e6;
}

int main(int argc, char **argv)
{
    static const int rows[] = {1, 2, 4, 8, 16, 64, 256};
    int threads = argc > 1 ? atoi(argv[1]) : 2;
    int count = (argc > 2 ? atoi(argv[2]) : 768) / (WIDTH * WIDTH * 2 >> 20);
    struct matrix x, out;
    struct kernels *k;

    if (threads < 1 || count < 1 || count > WEIGHTS_MOST)
        return 64;
    must(cpu_open(cpu_best_path(), threads, NULL, &k));
    fill(k, 0, count);
    fill(k, 1, count);
    must(kernels_matrix(k, ROWS_MOST, WIDTH, "x", &x));
    must(kernels_matrix(k, ROWS_MOST, WIDTH, "out", &out));
    for (int t = 0; t < ROWS_MOST; t++)
        for (int i = 0; i < WIDTH; i++)
            x.data[(ptrdiff_t)t * x.stride + i] = (float)((t * 31 + i * 17) % 97 - 48) / 48.0f;
    printf("%s, %d weights [%d, %d]\nrows   bf16 ms   fp8 ms   bf16 GB/s  fp8 GB/s   gain  median\n", k->name,
           count, WIDTH, WIDTH);
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        struct matrix top = matrix_top(x, rows[r]), to = matrix_top(out, rows[r]);
        int used = rows[r] > 16 ? (count + 7) / 8 : count; /* these are bound by arithmetic */
        double spent[2][ROUNDS], gain[ROUNDS];

        for (int i = 0; i < ROUNDS; i++) {
            spent[0][i] = pass(k, 0, used, to, top);
            spent[1][i] = pass(k, 1, used, to, top);
            gain[i] = spent[0][i] / spent[1][i];
        }
        qsort(spent[0], ROUNDS, sizeof(double), compare);
        qsort(spent[1], ROUNDS, sizeof(double), compare);
        qsort(gain, ROUNDS, sizeof(double), compare);
        printf("%4d %9.2f %8.2f %11.2f %9.2f %6.2f %7.2f\n", rows[r], spent[0][0], spent[1][0],
               (double)used * (double)weights[0][0].bytes / spent[0][0] / 1e6,
               (double)used * (double)weights[1][0].bytes / spent[1][0] / 1e6, spent[0][0] / spent[1][0],
               gain[ROUNDS / 2]);
    }
    k->close(k);
    return 0;
}
