/* reference_softmax.h - the parts of a soft-max's denominator
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef REFERENCE_SOFTMAX_H
#define REFERENCE_SOFTMAX_H

#include "kernels/kernels.h"

/* Of up to SOFTMAX_CHUNK logits, added in rising order. */
struct softmax_chunk reference_softmax_chunk(const float *logits, int count);

enum status reference_softmax(struct kernels *k, const struct softmax_chunks *s);

#endif
