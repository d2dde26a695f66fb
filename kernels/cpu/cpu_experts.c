/* cpu_experts.c - rows through the experts they were sent to
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cpu/cpu_experts.h"

#include "engine/base/range.h"
#include "kernels/cpu/cpu_lower.h"
#include "kernels/cpu/cpu_multiply.h"
#include "kernels/cpu/cpu_vector.h"

/* scratch[n, c] = silu(scratch[n, c]) * scratch[n, F + c] for some columns c; they still lie in the cache. */
static void activate(struct matrix scratch, int width, struct range columns)
{
    for (int n = 0; n < scratch.rows; n++) {
        float *gate = cpu_row(scratch, n) + columns.first;
        const float *up = gate + width;

        for (int c = 0; c < columns.count; c += LANES)
            lanes_store(gate + c, lanes_multiply(lanes_silu(lanes_load(gate + c)), lanes_load(up + c)));
    }
}

void cpu_experts_gate_up(const void *job, int part, int parts)
{
    const struct expert_batch *b = job;

    for (int s = 0; s < b->slots; s++) {
        int count = b->first[s + 1] - b->first[s];
        int width = b->gate_up[s].rows / 2;
        struct cpu_product p = {.x_row = b->order + b->first[s], .rows = count, .w = &b->gate_up[s]};
        struct range share;

        if (count == 0)
            continue;
        p.lower = cpu_lower_takes(b, p.w);
        p.x = p.lower ? b->out : b->x;
        p.out = matrix_rows(b->scratch, b->first[s], count);
        if (cpu_path_fuses(&b->gate_up[s])) {
            share = range_share(width / PANEL_COLUMNS, parts, part);
            cpu_multiply_columns(&p, share.first, share.count);
            cpu_multiply_columns(&p, width / PANEL_COLUMNS + share.first, share.count);
            activate(
                p.out, width,
                (struct range){.first = share.first * PANEL_COLUMNS, .count = share.count * PANEL_COLUMNS});
        } else {
            share = range_share(panel_count(2 * width), parts, part);
            cpu_multiply_columns(&p, share.first, share.count);
        }
    }
}

void cpu_experts_down(const void *job, int part, int parts)
{
    const struct expert_batch *b = job;

    for (int s = 0; s < b->slots; s++) {
        int count = b->first[s + 1] - b->first[s];
        struct cpu_product p = {
            .out = b->out, .out_row = b->order + b->first[s], .rows = count, .w = &b->down[s]};
        struct range share = range_share(panel_count(b->down[s].rows), parts, part);

        if (count == 0)
            continue;
        p.lower = cpu_lower_takes(b, p.w);
        p.x = matrix_rows(b->scratch, b->first[s], count);
        if (p.lower)
            p.x.data += b->down[s].columns; /* where cpu_lower_inner has put them */
        cpu_multiply_columns(&p, share.first, share.count);
    }
}
