/* reference_rows.h - entries that turn each row by itself: embed, norm, rotate, move and add rows
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Entries of struct kernels; kernels.h says what each does. */
#ifndef REFERENCE_ROWS_H
#define REFERENCE_ROWS_H

#include "kernels/kernels.h"

/* Row t of a matrix. */
static inline float *reference_rows_at(struct matrix m, int t)
{
    return m.data + (ptrdiff_t)t * m.stride;
}

/* z * sigmoid(z) */
float reference_rows_silu(float z);

enum status reference_rows_embed(struct kernels *k, struct matrix out, const struct weight *w,
                                 const int32_t *tokens, int first_token);
enum status reference_rows_norm(struct kernels *k, struct matrix out, struct matrix x, const float *gain,
                                float epsilon);
enum status reference_rows_rotate(struct kernels *k, struct matrix q, struct matrix keys,
                                  const struct rotation *r, int head_width, const int32_t *positions);
enum status reference_rows_squares(struct kernels *k, struct matrix out, struct matrix x, int head_width);
enum status reference_rows_norm_by(struct kernels *k, struct matrix x, struct matrix squares, int width,
                                   const float *gain, float epsilon);
enum status reference_rows_clamp(struct kernels *k, struct matrix x, float limit);
enum status reference_rows_gather(struct kernels *k, struct matrix out, struct matrix x, const int32_t *rows,
                                  const float *scale);
enum status reference_rows_activate(struct kernels *k, struct matrix out, struct matrix gate_up);
enum status reference_rows_add(struct kernels *k, struct matrix x, struct matrix y);
enum status reference_rows_join(struct kernels *k, struct matrix out, const float *blocks, const int *widths,
                                int count);
enum status reference_rows_combine(struct kernels *k, const struct combine *c);

#endif
