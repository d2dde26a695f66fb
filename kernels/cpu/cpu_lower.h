/* cpu_lower.h - experts at lower precision: inputs rounded to BF16, two of them for one
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * For processors with AVX512_BF16 and weights of BF16: a line of a panel, pairs of k of 16 columns, is the
 * operand of its VDPBF16PS as it is. Rounded rows need no memory of their own: those of x lie in the rows of
 * `out`, which nothing has written yet, those between the two products in scratch, where `up` was. The law
 * holds for these rows among themselves: one chain of such steps per output, along k from 0. Subnormal
 * numbers count as zero. */
#ifndef CPU_LOWER_H
#define CPU_LOWER_H

#include "kernels/cpu/cpu_tile.h"

/* Does this weight's product take rounded inputs in a lowered batch? */
static inline bool cpu_lower_takes(const struct expert_batch *b, const struct weight *w)
{
    return b->lower && w->format == DTYPE_BF16;
}

#if defined(__AVX512F__)

/* Stages of cpu_path.h, before gate_up and before down. */
void cpu_lower_inputs(const void *job, int part, int parts);
void cpu_lower_inner(const void *job, int part, int parts);

/* As cpu_multiply_tile, for BF16. */
void cpu_lower_tile(const struct cpu_tile *tile, int rows, int panels);

#endif

#endif
