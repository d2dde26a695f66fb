/* cuda_spans.h - rows of sequences as the kernels of attention want them: tiles, chunks and tables of pages
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * A step is described once, and each kind of attention over it once; all layers read the same. Attention of a
 * step that may be recorded goes over all chunks of the positions that steps of its key can have, of which
 * some are empty; those add nothing to a row. */
#ifndef CUDA_SPANS_H
#define CUDA_SPANS_H

#include "kernels/cuda/cuda_record.h"
#include "kernels/cuda/cuda_launch.h"
#include "kernels/host.h"

enum {
    CUDA_SPANS_WIDTH = 256,                          /* most numbers of a head */
    CUDA_SPANS_KINDS = CUDA_PLAN_KINDS,              /* of attention in a model */
    CUDA_SPANS_KIND_NUMBERS = CUDA_PLAN_KIND_NUMBERS /* of one kind that are kept on the device */
};

/* How one kind of attention goes over the spans of the step: tiles and heads are on the device. */
struct cuda_spans_kind {
    const int32_t *kv_of; /* whose heads; NULL: free */
    int heads, kv_heads, mask, mask_size;
    int pages;              /* of the cache that the spans were checked with */
    struct cuda_attend job; /* tiles, heads and chunks of it */
    int rows;               /* that are added up */
    int32_t *numbers;       /* [CUDA_SPANS_KIND_NUMBERS] device */
};

/* What has been said of the step, see kernels' begin. */
struct cuda_spans_step {
    const struct span *spans; /* NULL: nothing */
    int span_count, rows;
    int pages;        /* of the cache that append checked them with; 0: not yet */
    int least, most;  /* positions that attention is made for; most < 0: those of the spans */
    int32_t *numbers; /* [room] device: position, first page, pages */
    struct cuda_spans_kind kind[CUDA_SPANS_KINDS];
};

struct cuda_spans {
    struct cuda_record *record; /* not owned: where arrays of recorded steps lie */
    int32_t *numbers;           /* [room] arrays of one call on their way to the device */
    size_t room;
    struct cuda_spans_step step;
};

struct cuda_spans_job {
    struct cache_layer cache;
    const struct span *spans;
    int span_count;
    int rows; /* of the step */
};

/* Room for the arrays, out of `memory` and the device's. */
enum status cuda_spans_open(struct cuda_spans *s, struct cuda_device *d, struct host_memory *memory,
                            struct cuda_record *record);
void cuda_spans_close(struct cuda_spans *s, struct cuda_device *d);

/* As kernels' begin. */
enum status cuda_spans_begin(struct cuda_spans *s, struct cuda_device *d, const struct cuda_spans_job *job);

/* After that: attention of this step is made for rows at any of these positions, as all of its rows are. */
enum status cuda_spans_reach(struct cuda_spans *s, int least, int most);

/* Keys and values of the spans' rows into their pages. */
enum status cuda_spans_append(struct cuda_spans *s, struct cuda_device *d, const struct cuda_spans_job *job,
                              struct matrix keys, struct matrix values);

/* As kernels' attend; the caller has checked shapes and heads. */
enum status cuda_spans_attend(struct cuda_spans *s, struct cuda_device *d, const struct attention *a);

#endif
