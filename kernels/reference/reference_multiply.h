/* reference_multiply.h - products of rows with weights
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Entries of struct kernels; kernels.h says what each does. */
#ifndef REFERENCE_MULTIPLY_H
#define REFERENCE_MULTIPLY_H

#include "kernels/kernels.h"

enum status reference_multiply(struct kernels *k, struct matrix out, struct matrix x, const struct weight *w,
                               const float *bias);
enum status reference_multiply_experts(struct kernels *k, const struct expert_batch *b);

#endif
