/* weights_read.h - one matrix or vector from the files into backend memory, by pieces
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIGHTS_READ_H
#define WEIGHTS_READ_H

#include "engine/base/arena.h"
#include "engine/roles.h"
#include "engine/safetensors.h"
#include "kernels/kernels.h"

/* One pass over everything a rank holds: first to count it, then to read it. The same calls serve both, so
 * what is planned is what is taken. */
struct weights_reader {
    struct kernels *kernels;
    bool reading; /* otherwise only count */
    bool speaks;  /* this rank shows progress */

    size_t taken;       /* bytes of backend memory */
    int64_t file_bytes; /* bytes of the files that this rank reads */

    void **memory; /* what the backend gave; room for every call of weights_read_take */
    int memory_count;

    struct arena scratch; /* one piece of a matrix on its way from the file; open while reading */
    void *piece;
    size_t piece_bytes;
    float *scales;      /* all of one F8_E4M3 tensor */
    size_t scales_most; /* of any tensor that the counting pass met */
    int64_t total;      /* file_bytes that the counting pass found */
    int64_t started;    /* clock_now */
    int64_t shown;      /* when progress was last shown */
};

/* From counting to reading: takes the scratch of `piece_bytes`, 0: WEIGHTS_READ_PIECE. */
enum status weights_read_begin(struct weights_reader *r, size_t piece_bytes);

/* Gives the scratch back; the backend's memory stays. */
void weights_read_end(struct weights_reader *r);

/* The last word on a load, from the rank that speaks: over the progress line on a terminal, a line of its own
 * elsewhere. */
void weights_read_report(const struct weights_reader *r);

enum { WEIGHTS_READ_PIECE = 64 << 20 };

/* Outputs first ... first + count - 1 of a tensor that holds the numbers of a matrix. */
struct weights_part {
    const struct tensor *tensor;
    struct roles_scale scale;
    int plane;        /* of a tensor with three dimensions */
    bool input_first; /* the tensor is [inputs, outputs] */
    int first, count;
};

/* A matrix whose rows come from up to three parts, in this order; all have the same inputs. */
struct weights_source {
    struct weights_part part[3];
    int parts;
    int inputs;
};

/* The format of all parts; F32, which holds all, when they differ. */
enum dtype weights_read_dtype(const struct weights_source *s);

/* `bytes` of backend memory, counted, and taken when reading. */
enum status weights_read_take(struct weights_reader *r, size_t bytes, const char *what, void **out);

/* Fills w, which is planned and (when reading) has data. */
enum status weights_read_fill(struct weights_reader *r, struct weight *w, const struct weights_source *s);

/* Plans, takes and fills. */
enum status weights_read_matrix(struct weights_reader *r, struct weight *w, const struct weights_source *s,
                                const char *what);

/* The same for parts of vectors, which become floats. */
enum status weights_read_vector(struct weights_reader *r, float **out, const struct weights_source *s,
                                const char *what);

#endif
