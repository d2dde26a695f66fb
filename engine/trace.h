/* trace.h - records what the router chose, step by step, in files
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * For every step, layer, source rank and expert the number of rows, as every dispatch gathers them: nothing
 * is sent for it. Rank 0 writes them; the form, differences to the step before, stands in eplb/trace_read.h.
 *
 * On request every rank writes the routes of its own rows as well, in a file of its own:
 *
 *     "SWYROUTE", then whole numbers of 4 bytes, lowest first: version 1, layers, rank, experts, choices
 *     for each step and layer: rows, in 4 bytes; for each row its experts, as chosen, in 2 bytes each
 *
 * Calls:
 *
 *     trace_open    before the first step: the counts
 *     trace_routes  likewise: the routes
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
    FILE *out;    /* of the counts; NULL: not open */
    FILE *routes; /* likewise */
    int layers, ranks, experts, choices;
    int32_t *last;         /* [layers, ranks, experts] of the step before */
    unsigned char *record; /* of the present step */
    size_t used;
    int error; /* the first errno of writing */
};

/* path: not copied. */
enum status trace_open(struct trace *t, struct arena *arena, const char *path, int layers, int ranks,
                       int experts);

/* In a file beside `path`: path.routes.RANK. */
enum status trace_routes(struct trace *t, const char *path, int rank, int layers, int experts, int choices);

/* wanted [ranks, experts], expert [rows, choices] of this rank. Layers come in rising order; the last one
 * ends the step. NULL: nothing is traced. */
void trace_layer(struct trace *t, int layer, const int32_t *wanted, const int32_t *expert, int rows);

/* Takes a zeroed one. */
enum status trace_close(struct trace *t);

#endif
