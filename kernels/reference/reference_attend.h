/* reference_attend.h - keys and values in pages, and attention over them
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Entries of struct kernels; kernels.h says what each does. */
#ifndef REFERENCE_ATTEND_H
#define REFERENCE_ATTEND_H

#include "kernels/kernels.h"

enum status reference_attend_append(struct kernels *k, struct cache_layer cache, struct matrix keys,
                                    struct matrix values, const struct span *spans, int span_count);

/* The same, each number rounded to BF16 before it is kept. */
enum status reference_attend_append_rounded(struct kernels *k, struct cache_layer cache, struct matrix keys,
                                            struct matrix values, const struct span *spans, int span_count);

enum status reference_attend(struct kernels *k, const struct attention *a);

#endif
