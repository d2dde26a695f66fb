/* trace.h - records what the router chose, step by step, in a file
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * For every step, layer, source rank and expert the number of rows, as every dispatch gathers them: nothing
 * is sent for it. Rank 0 writes; the others have none. The form, differences to the step before, stands in
 * eplb/trace_read.h.
 *
 *     trace_open    before the first step
 *     trace_layer   after each dispatch_plan
 *     trace_close   says whether all could be written */
#ifndef TRACE_H
#define TRACE_H

#include "engine/base/arena.h"
#include "engine/base/status.h"

#include <stdint.h>
#include <stdio.h>

struct trace {
    const char *path;
    FILE *out; /* NULL: not open */
    int layers, ranks, experts;
    int32_t *last;         /* [layers, ranks, experts] of the step before */
    unsigned char *record; /* of the present step */
    size_t used;
    int error; /* the first errno of writing */
};

/* path: not copied. */
enum status trace_open(struct trace *t, struct arena *arena, const char *path, int layers, int ranks,
                       int experts);

/* wanted [ranks, experts]. Layers come in rising order; the last one ends the step. NULL: nothing is traced.
 */
void trace_layer(struct trace *t, int layer, const int32_t *wanted);

/* Takes a zeroed one. */
enum status trace_close(struct trace *t);

#endif
