/* trace_read.h - recorded steps: which experts the rows of every rank went to
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Two forms are read. A file of --trace (engine/trace writes it):
 *
 *     "SWYTRACE", then whole numbers of 4 bytes, lowest first: version 1, layers, ranks, experts
 *     for each step: 'S', bytes of what follows; then for each layer, over the table [ranks, experts]:
 *         how many cells are as in the step before, then the difference of the next one, and so on up to the
 *         last cell. The table before the first step is zero.
 *
 * Bytes and cells are varints (7 bits a byte, the lowest first, bit 7: more follow), differences zigzag
 * varints (0, -1, 1, -2 ...). And text, without ranks, that is, of one:
 *
 *     batch,layer,count of expert 0,count of expert 1 ...
 *
 * a line for each batch and layer, every batch with the same layers, # before a comment. */
#ifndef TRACE_READ_H
#define TRACE_READ_H

#include "engine/base/arena.h"
#include "engine/base/status.h"

#include <stdbool.h>
#include <stdint.h>

#define TRACE_READ_MAGIC "SWYTRACE"
enum {
    TRACE_READ_HEAD = 24, /* bytes before the first step */
    TRACE_READ_VERSION = 1,
    TRACE_READ_CELLS = 1 << 26, /* layers * ranks * experts, at most */
    TRACE_READ_MOST = 1 << 30,  /* rows of a cell */
    TRACE_READ_LAYERS = 4096,
    TRACE_READ_EXPERTS = 65536,
};

struct trace_read {
    int layers, ranks, experts;
    int32_t *rows; /* [layers, ranks, experts] of the present step */
    int steps;     /* read so far, the present one included */

    const unsigned char *at, *end;
    bool text;
    int line;
    int32_t *layer; /* [TRACE_READ_LAYERS] of text: the numbers of the layers */
};

/* The bytes are the caller's and outlive the reading. STATUS_BAD_INPUT says what is wrong where. */
enum status trace_read_open(struct trace_read *t, struct arena *arena, const void *bytes, size_t count);

/* The next step; *more is false when there is none. */
enum status trace_read_next(struct trace_read *t, bool *more);

#endif
