/* reference_choose.h - the largest of a row: experts of a token, candidates for the next
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Entries of struct kernels; kernels.h says what each does. */
#ifndef REFERENCE_CHOOSE_H
#define REFERENCE_CHOOSE_H

#include "kernels/kernels.h"

enum status reference_choose_route(struct kernels *k, const struct route *r);
enum status reference_choose_candidates(struct kernels *k, struct matrix logits, int keep, float *values,
                                        int32_t *columns);

#endif
