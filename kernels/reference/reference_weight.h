/* reference_weight.h - weights of the reference: rows of BF16 or F32 numbers, F8_E4M3 times its scales
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Entries of struct kernels; kernels.h says what each does. */
#ifndef REFERENCE_WEIGHT_H
#define REFERENCE_WEIGHT_H

#include "kernels/kernels.h"

enum status reference_weight_plan(struct kernels *k, struct weight *w, enum dtype dtype, int rows,
                                  int columns);
enum status reference_weight_fill(struct kernels *k, struct weight *w, int first_row,
                                  const struct source *part);

/* The number at output `row` and input `column`. */
static inline float reference_weight_at(const struct weight *w, int row, int column)
{
    ptrdiff_t place = (ptrdiff_t)row * w->columns + column;

    return w->format == DTYPE_BF16 ? dtype_from_bf16(((const uint16_t *)w->data)[place])
                                   : ((const float *)w->data)[place];
}

#endif
