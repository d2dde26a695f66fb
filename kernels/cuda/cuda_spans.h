/* cuda_spans.h - rows of sequences as the kernels of attention want them: tiles, chunks and tables of pages
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef CUDA_SPANS_H
#define CUDA_SPANS_H

#include "kernels/cuda/cuda_device.h"
#include "kernels/host.h"

struct cuda_spans {
    int32_t *numbers; /* [room] arrays of one call on their way to the device */
    size_t room;
};

struct cuda_spans_job {
    struct cache_layer cache;
    const struct span *spans;
    int span_count;
    int rows; /* of the step */
};

enum { CUDA_SPANS_WIDTH = 256 }; /* most numbers of a head */

/* Room for the arrays, out of `memory`. */
enum status cuda_spans_open(struct cuda_spans *s, struct host_memory *memory);

/* Keys and values of the spans' rows into their pages. */
enum status cuda_spans_append(struct cuda_spans *s, struct cuda_device *d, const struct cuda_spans_job *job,
                              struct matrix keys, struct matrix values);

/* As kernels' attend; the caller has checked shapes and heads. */
enum status cuda_spans_attend(struct cuda_spans *s, struct cuda_device *d, const struct attention *a);

#endif
