/* measure_lower.c - what lower precision gains in experts, for a few numbers of rows
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 *   measure_lower [D F EXPERTS]
 *
 * EXPERTS (4) of width D (2048) and inner width F (768), BF16, on one thread of the best path; every round
 * multiplies the same rows at the usual and at the lower precision, by turns first. Prints rows of an expert,
 * processor milliseconds of the fastest round of each, what lower precision gains by these, and the median
 * gain of all rounds. Not a test. */
#include "kernels/cpu/cpu.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { EXPERTS_MOST = 64, ROUNDS = 15 };

static struct weight gate_up[EXPERTS_MOST], down[EXPERTS_MOST];

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

static struct weight weight_of(struct kernels *k, int rows, int columns)
{
    size_t count = (size_t)rows * (size_t)columns;
    uint16_t *numbers = malloc(count * sizeof *numbers);
    struct source part = {numbers, DTYPE_BF16, rows, columns, columns, 1, NULL};
    uint32_t state = 1;
    struct weight w;

    if (!numbers)
        exit(71);
    for (size_t i = 0; i < count; i++) {
        state = state * 1664525u + 1013904223u;
        numbers[i] = dtype_to_bf16(((float)(state >> 8) * 0x1p-24f - 0.5f) / sqrtf((float)columns));
    }
    must(kernels_weight(k, DTYPE_BF16, rows, columns, "weights", &w));
    must(k->weight_fill(k, &w, 0, &part));
    free(numbers);
    return w;
}

/* Milliseconds of this thread, which is the only one: others that want the processor do not count. */
static double spent(struct kernels *k, struct expert_batch *b, bool lower)
{
    struct timespec from, to;

    b->lower = lower;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
    must(k->multiply_experts(k, b));
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
    return (double)(to.tv_sec - from.tv_sec) * 1e3 + (double)(to.tv_nsec - from.tv_nsec) * 1e-6;
}

static void measure(struct kernels *k, struct expert_batch *b, int rows)
{
    double usual[ROUNDS], lower[ROUNDS], gain[ROUNDS];

    for (int i = 0; i < ROUNDS; i++) {
        if (i % 2 == 0)
            usual[i] = spent(k, b, false);
        lower[i] = spent(k, b, true);
        if (i % 2 != 0)
            usual[i] = spent(k, b, false);
        gain[i] = usual[i] / lower[i];
    }
    qsort(usual, ROUNDS, sizeof *usual, compare);
    qsort(lower, ROUNDS, sizeof *lower, compare);
    qsort(gain, ROUNDS, sizeof *gain, compare);
    printf("%4d %10.3f %9.3f %6.2f %7.2f\n", rows, usual[0], lower[0], usual[0] / lower[0], gain[ROUNDS / 2]);
}

int main(int argc, char **argv)
{
    static const int counts[] = {8, 16, 24, 32, 48, 64, 128, 256, 512};
    int width = argc > 3 ? atoi(argv[1]) : 2048, inner = argc > 3 ? atoi(argv[2]) : 768;
    int experts = argc > 3 ? atoi(argv[3]) : 4, most = 512 * experts;
    int32_t *order, first[EXPERTS_MOST + 1];
    struct matrix x, out, scratch;
    struct kernels *k;

    if (width < 1 || inner < 1 || experts < 1 || experts > EXPERTS_MOST)
        return 64;
    must(cpu_open(cpu_best_path(), 1, NULL, &k));
    if (k->lower_speed == 0) {
        fprintf(stderr, "%s has no lower precision\n", k->name);
        return 69;
    }
    for (int e = 0; e < experts; e++) {
        gate_up[e] = weight_of(k, 2 * inner, width);
        down[e] = weight_of(k, width, inner);
    }
    must(kernels_matrix(k, most, width, "x", &x));
    must(kernels_matrix(k, most, width, "out", &out));
    must(kernels_matrix(k, most, 2 * inner, "scratch", &scratch));
    order = malloc((size_t)most * sizeof *order);
    if (!order)
        return 71;
    for (int n = 0; n < most; n++) {
        order[n] = n;
        for (int i = 0; i < width; i++)
            x.data[(ptrdiff_t)n * x.stride + i] = (float)((n * 31 + i * 17) % 97 - 48) / 48.0f;
    }
    printf("%s, %d experts of D %d, F %d, BF16\nrows   usual ms  lower ms   gain  median\n", k->name, experts,
           width, inner);
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        struct expert_batch b = {.out = matrix_top(out, experts * counts[c]),
                                 .x = matrix_top(x, experts * counts[c]),
                                 .order = order,
                                 .first = first,
                                 .counted = first,
                                 .slots = experts,
                                 .gate_up = gate_up,
                                 .down = down,
                                 .scratch = matrix_top(scratch, experts * counts[c])};

        for (int e = 0; e <= experts; e++)
            first[e] = e * counts[c];
        measure(k, &b, counts[c]);
    }
    free(order);
    k->close(k);
    return 0;
}
