/* agree_multiply.c - every backend multiplies as the reference does: rows by weights, and rows by their
 * experts
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Bounds as in agree_kernels.c. Some batches are large, as a backend may multiply many rows in another way.
 */
#include "kernels/agree/agree_multiply.h"

#include "kernels/agree/agree_kernels.h"

#include <math.h>
#include <string.h>

static const double U = 0x1p-24;
static const double FUNCTION = 0x1p-19;

static int draw_rows(void)
{
    return agree_chance(5) ? 0 : agree_chance(20) ? agree_between(65, 150) : agree_width(70);
}

/* -- multiply
 * ---------------------------------------------------------------------------------------------------------
 */

/* 2 K u sum |x w|, and what is lost of the factors. */
static double product_bound(const float *x, const float *w, int count, double lost)
{
    double sum = 0.0;

    for (int i = 0; i < count; i++)
        sum += fabs((double)x[i] * (double)w[i]);
    return (2.0 * (count + 1) * U + lost) * sum;
}

static void multiply_rows(struct kernels *reference, struct kernels *k, enum dtype dtype, int rows,
                          int outputs, int inputs)
{
    struct drawn tensor = agree_tensor(dtype, outputs, inputs, agree_chance(40));
    float *content = agree_random_rows(rows, inputs);
    float *bias = agree_chance(40) ? agree_random_rows(1, outputs) : NULL;
    const int wide =
        4096; /* beyond, few inputs are not zero: the bound would hide a row in place of another */
    float *got[2];

    agree_shape("[%d, %d] by %s [%d, %d]", rows, inputs, dtype_name(tensor.dtype), outputs, inputs);
    for (ptrdiff_t i = 0; inputs > wide && i < (ptrdiff_t)rows * inputs; i++)
        content[i] = i % inputs < 100 ? content[i] : 0.0f;
    for (int i = 0; i < 2; i++) {
        struct kernels *backend = i == 0 ? reference : k;
        struct weight w = agree_weight(backend, &tensor, 0, outputs);
        struct framed x = agree_framed(backend, rows, inputs, content);
        struct framed out = agree_framed(backend, rows, outputs, NULL);
        float *there = bias ? agree_upload(backend, bias, (size_t)outputs) : NULL;

        agree_ok(backend, "multiply", backend->multiply(backend, out.view, x.view, &w, there));
        got[i] = agree_content(backend, &out);
    }
    for (int i = 0; i < rows * outputs; i++) {
        const float *x = content + (ptrdiff_t)(i / outputs) * inputs;
        double bound =
            product_bound(x, tensor.values + (ptrdiff_t)(i % outputs) * inputs, inputs, agree_split());

        agree_close(k, "product", i / outputs, i % outputs, got[1][i], got[0][i],
                    bound + (bias ? 4.0 * inputs * U : 0));
    }
}

static void check_multiply(struct kernels *reference, struct kernels *k)
{
    int rows = draw_rows(), outputs = agree_chance(5) ? 0 : agree_width(150);

    multiply_rows(reference, k, agree_dtype(), rows, outputs, agree_width(agree_chance(10) ? 3000 : 300));
}

/* So that experts can move between ranks. */
static void check_copied_weight(struct kernels *reference, struct kernels *k)
{
    int rows = agree_width(20), outputs = agree_width(150), inputs = agree_width(200);
    struct drawn tensor = agree_tensor(agree_dtype(), outputs, inputs, agree_chance(40));
    struct weight w = agree_weight(k, &tensor, 0, outputs), copy;
    struct framed x = agree_framed(k, rows, inputs, agree_random_rows(rows, inputs));
    struct framed out = agree_framed(k, rows, outputs, NULL), again = agree_framed(k, rows, outputs, NULL);
    void *bytes = agree_take(w.bytes, 1);

    (void)reference;
    agree_shape("[%d, %d] by %s [%d, %d]", rows, inputs, dtype_name(tensor.dtype), outputs, inputs);
    agree_ok(k, "weight", kernels_weight(k, tensor.dtype, outputs, inputs, "copy", &copy));
    agree_number(k, "the size of a copied weight", (long long)copy.bytes, (long long)w.bytes);
    agree_ok(k, "download", k->download(k, bytes, w.data, w.bytes));
    agree_ok(k, "upload", k->upload(k, copy.data, bytes, w.bytes));
    agree_ok(k, "multiply", k->multiply(k, out.view, x.view, &w, NULL));
    agree_ok(k, "multiply", k->multiply(k, again.view, x.view, &copy, NULL));
    agree_equal(k, "product by a copied weight", agree_content(k, &again), agree_content(k, &out), rows,
                outputs);
}

struct expert_shape {
    int width, inner, slots;
    bool lower; /* at lower precision */
    struct drawn gate_up[6], down[6];
};

static float rounded(double value)
{
    return dtype_from_bf16(dtype_to_bf16((float)value));
}

/* A number known but for `error`, once it is rounded to BF16: known for certain, unless it is near a number
 * where rounding goes the other way. */
static void round_inner(double *inner, double *error)
{
    double doubt = *error + 2.0 * U * fabs(*inner);
    double low = (double)rounded(*inner - doubt), high = (double)rounded(*inner + doubt);

    *error = high - low;
    *inner = fmax(fabs(low), fabs(high));
}

/* What rounding can do to one row of an expert, [width] bounds. `lower`: at lower precision. */
static void expert_bounds(const struct expert_shape *shape, int slot, const float *row, bool lower,
                          double *bounds)
{
    int D = shape->width, F = shape->inner;
    const float *gate_up = shape->gate_up[slot].values, *down = shape->down[slot].values;
    double *inner = agree_take((size_t)F, sizeof *inner), *error = agree_take((size_t)F, sizeof *error);
    double lost = lower ? 0.0 : agree_split(); /* both factors are of 8 bits */
    float *x = agree_rows(1, D);

    for (int d = 0; d < D; d++)
        x[d] = lower ? rounded((double)row[d]) : row[d];
    for (int f = 0; f < F; f++) {
        const float *gate_row = gate_up + (ptrdiff_t)f * D, *up_row = gate_up + (ptrdiff_t)(F + f) * D;
        double gate = 0.0, up = 0.0, silu;

        for (int d = 0; d < D; d++) {
            gate += (double)x[d] * (double)gate_row[d];
            up += (double)x[d] * (double)up_row[d];
        }
        silu = gate / (1.0 + exp(-gate));
        inner[f] = silu * up;
        /* The slope of silu is below 1.1. */
        error[f] = 1.1 * product_bound(x, gate_row, D, lost) * fabs(up) +
                   product_bound(x, up_row, D, lost) * fabs(silu) + 2.0 * FUNCTION * fabs(inner[f]);
        if (lower)
            round_inner(&inner[f], &error[f]);
    }
    for (int d = 0; d < D; d++) {
        double sum = 0.0, carried = 0.0;

        for (int f = 0; f < F; f++) {
            sum += fabs(inner[f]) * fabs((double)down[(ptrdiff_t)d * F + f]);
            carried += error[f] * fabs((double)down[(ptrdiff_t)d * F + f]);
        }
        bounds[d] = carried + (2.0 * (F + 1) * U + lost) * (sum + carried);
    }
}

/* Rows dealt to slots at random, some slots empty; order and first as in struct expert_batch. */
static void deal_rows(int rows, int slots, int32_t *order, int32_t *first, int32_t *slot_of)
{
    int place = 0, busy = agree_between(0, slots - 1);

    for (int n = 0; n < rows; n++)
        slot_of[n] = agree_chance(40) ? busy : agree_between(0, slots - 1);
    for (int s = 0; s < slots; s++) {
        first[s] = place;
        for (int n = 0; n < rows; n++)
            if (slot_of[n] == s)
                order[place++] = n;
        agree_shuffle(order + first[s], place - first[s]);
    }
    first[slots] = place;
}

/* `plain`: of BF16, and the host knows the counts. */
static void multiply_experts(struct kernels *reference, struct kernels *k, int rows,
                             struct expert_shape shape, bool plain)
{
    int D = shape.width;
    float *content = agree_random_rows(rows, D);
    int32_t *order = agree_take((size_t)rows, sizeof *order),
            *slot_of = agree_take((size_t)rows, sizeof *slot_of);
    double *bounds = agree_take((size_t)D, sizeof *bounds);
    bool counted = plain || agree_chance(75);
    bool alike = plain || agree_chance(70); /* as in most models; a backend may treat them together */
    enum dtype dtype = plain ? DTYPE_BF16 : agree_dtype();
    int32_t first[7];
    float *got[2];

    agree_shape("%d rows of %d through %d experts of %d%s", rows, D, shape.slots, shape.inner,
                shape.lower ? ", lowered" : "");
    deal_rows(rows, shape.slots, order, first, slot_of);
    for (int s = 0; s < shape.slots; s++) {
        if (!alike)
            dtype = agree_dtype();
        shape.gate_up[s] = agree_tensor(dtype, 2 * shape.inner, D, agree_chance(50));
        shape.down[s] = agree_tensor(shape.gate_up[s].dtype, D, shape.inner, agree_chance(50));
    }
    for (int i = 0; i < 2; i++) {
        struct kernels *backend = i == 0 ? reference : k;
        struct weight gate_up[6], down[6];
        struct framed x = agree_framed(backend, rows, D, content), out = agree_framed(backend, rows, D, NULL);
        struct expert_batch batch = {.out = out.view,
                                     .x = x.view,
                                     .order = agree_numbers(backend, order, (size_t)rows),
                                     .first = agree_numbers(backend, first, (size_t)shape.slots + 1),
                                     .counted = counted ? first : NULL,
                                     .most = rows,
                                     .slots = shape.slots,
                                     .lower = shape.lower,
                                     .gate_up = gate_up,
                                     .down = down,
                                     .scratch = agree_framed(backend, rows, 2 * shape.inner, NULL).view};

        for (int s = 0; s < shape.slots; s++) {
            gate_up[s] = agree_weight(backend, &shape.gate_up[s], 0, 2 * shape.inner);
            down[s] = agree_weight(backend, &shape.down[s], 0, D);
        }
        agree_ok(backend, "multiply_experts", backend->multiply_experts(backend, &batch));
        got[i] = agree_content(backend, &out);
    }
    for (int n = 0; n < rows; n++) {
        expert_bounds(&shape, slot_of[n], content + (ptrdiff_t)n * D,
                      shape.lower && shape.gate_up[slot_of[n]].dtype == DTYPE_BF16, bounds);
        for (int d = 0; d < D; d++)
            agree_close(k, "expert result", n, d, got[1][n * D + d], got[0][n * D + d], bounds[d]);
    }
}

static void check_experts(struct kernels *reference, struct kernels *k)
{
    bool first = agree_round() == 0; /* has an expert whose rows any library would be given */
    struct expert_shape shape = {.width = agree_width(120),
                                 .inner = agree_width(90),
                                 .slots = first ? 1 : agree_between(1, 6),
                                 .lower = k->lower_speed > 0 && agree_chance(40)};
    bool wide = shape.lower && agree_split() == 0.0 &&
                agree_chance(60); /* so that a sum is put down on the way, and threads share rows */

    if (wide) {
        shape.width = agree_between(1025, 1300);
        shape.inner = agree_between(120, 200);
    }
    multiply_experts(reference, k, wide || first || agree_chance(25) ? agree_between(100, 200) : draw_rows(),
                     shape, wide || first);
}

/* More numbers than a device has room for beside the rows, so that it works in turns. */
static void check_wide_rows(struct kernels *reference, struct kernels *k)
{
    multiply_rows(reference, k, DTYPE_BF16, agree_between(65, 70), 2, 1 << 18);
}

static void check_wide_experts(struct kernels *reference, struct kernels *k)
{
    multiply_experts(reference, k, agree_between(90, 100),
                     (struct expert_shape){.width = 3, .inner = 1 << 16, .slots = 1}, true);
}

const struct agree_check agree_multiply_checks[] = {
    {.entry = "multiply", .promise = "agrees with the reference", .rounds = 36, .agrees = check_multiply},
    {.entry = "experts", .promise = "agrees with the reference", .rounds = 24, .agrees = check_experts},
    {.entry = "copied_weight", .promise = "multiplies alike", .rounds = 12, .agrees = check_copied_weight},
    {0},
};

const struct agree_check agree_wide_checks[] = {
    {.entry = "wide rows", .promise = "agrees with the reference", .rounds = 1, .agrees = check_wide_rows},
    {.entry = "wide experts",
     .promise = "agrees with the reference",
     .rounds = 1,
     .agrees = check_wide_experts},
    {.entry = "rotate",
     .promise = "many rows agree with the reference",
     .rounds = 1,
     .agrees = agree_kernels_rotate_many},
    {.entry = "route",
     .promise = "many experts agree with the reference",
     .rounds = 1,
     .agrees = agree_kernels_route_many},
    {0},
};
