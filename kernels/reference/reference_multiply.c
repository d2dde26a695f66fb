/* reference_multiply.c - products of rows with weights
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels/reference/reference_multiply.h"

#include "kernels/reference/reference_rows.h"
#include "kernels/reference/reference_weight.h"

#include <string.h>

/* One sum over the inputs, in rising order. */
static float dot(const float *x, const struct weight *w, int row)
{
    float sum = 0.0f;

    for (int i = 0; i < w->columns; i++)
        sum += x[i] * reference_weight_at(w, row, i);
    return sum;
}

enum status reference_multiply(struct kernels *k, struct matrix out, struct matrix x, const struct weight *w,
                               const float *bias)
{
    (void)k;
    if (out.rows != x.rows || x.columns != w->columns || out.columns != w->rows)
        return FAIL(STATUS_BUG, "[%d, %d] times a weight [%d, %d] into [%d, %d]", x.rows, x.columns, w->rows,
                    w->columns, out.rows, out.columns);
    for (int t = 0; t < out.rows; t++) {
        for (int n = 0; n < out.columns; n++) {
            float sum = dot(reference_rows_at(x, t), w, n);

            reference_rows_at(out, t)[n] = bias ? sum + bias[n] : sum;
        }
    }
    return STATUS_OK;
}

static enum status check_slot(const struct expert_batch *b, int slot)
{
    const struct weight *gate_up = &b->gate_up[slot];
    const struct weight *down = &b->down[slot];

    if (gate_up->columns != b->x.columns || down->rows != b->out.columns ||
        gate_up->rows != 2 * down->columns || b->scratch.columns < gate_up->rows)
        return FAIL(STATUS_BUG, "slot %d: rows of %d through [%d, %d] and [%d, %d] to %d, scratch of %d",
                    slot, b->x.columns, gate_up->rows, gate_up->columns, down->rows, down->columns,
                    b->out.columns, b->scratch.columns);
    for (int i = b->first[slot]; i < b->first[slot + 1]; i++)
        if (b->order[i] < 0 || b->order[i] >= b->x.rows || b->order[i] >= b->out.rows ||
            b->order[i] >= b->scratch.rows)
            return FAIL(STATUS_BUG, "slot %d: row %d, there are %d", slot, b->order[i], b->x.rows);
    return STATUS_OK;
}

/* The inputs of a product by this weight, at the batch's precision. */
static void round_inputs(const struct expert_batch *b, const struct weight *w, float *x)
{
    for (int i = 0; b->lower && w->format == DTYPE_BF16 && i < w->columns; i++)
        x[i] = dtype_from_bf16(dtype_to_bf16(x[i]));
}

/* out = down( silu(gate x) * (up x) ) for one row */
static void expert(const struct expert_batch *b, int slot, int row)
{
    const struct weight *gate_up = &b->gate_up[slot];
    const struct weight *down = &b->down[slot];
    float *inner = reference_rows_at(b->scratch, row);
    float *x = reference_rows_at(b->out, row); /* until results are put there */
    int width = down->columns;

    memcpy(x, reference_rows_at(b->x, row), (size_t)gate_up->columns * sizeof *x);
    round_inputs(b, gate_up, x);
    for (int n = 0; n < 2 * width; n++)
        inner[n] = dot(x, gate_up, n);
    for (int f = 0; f < width; f++)
        inner[f] = reference_rows_silu(inner[f]) * inner[width + f];
    round_inputs(b, down, inner);
    for (int d = 0; d < down->rows; d++)
        reference_rows_at(b->out, row)[d] = dot(inner, down, d);
}

enum status reference_multiply_experts(struct kernels *k, const struct expert_batch *b)
{
    (void)k;
    for (int slot = 0; slot < b->slots; slot++) {
        if (b->first[slot + 1] > b->first[slot])
            TRY(check_slot(b, slot));
    }
    for (int slot = 0; slot < b->slots; slot++)
        for (int i = b->first[slot]; i < b->first[slot + 1]; i++)
            expert(b, slot, b->order[i]);
    return STATUS_OK;
}
