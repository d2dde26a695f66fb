/* step.h - what of a batch concerns this rank, and the exchanges of columns inside its group
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Inside a data group of T ranks the rows of the group are shared out; matrices are split by output column.
 * So a layer gathers whole rows, multiplies its own columns, and hands columns to the rank that owns the row:
 *
 *     step_gather_rows      [own rows, C] of each  ->  [rows, C] on all
 *     step_gather_columns   [rows, c] of each      ->  [rows, C] on all
 *     step_return_columns   [rows, c] of each      ->  [own rows, C] at the owners
 *
 * With T = 1 all three give back their input. No number is added on the way. */
#ifndef STEP_H
#define STEP_H

#include "comm/grid.h"
#include "engine/base/arena.h"
#include "engine/batch.h"
#include "engine/kv_cache.h"
#include "kernels/kernels.h"

struct step {
    struct grid *grid;
    struct kernels *kernels;
    int max_rows; /* of a batch, so of a group too */
    bool by_row;  /* in steps that only decode every row has a span of its own */

    /* after step_begin */
    int rows;           /* of this rank's group */
    int first;          /* row of the batch where they start */
    struct range own;   /* those this rank owns, counted from `first` */
    int32_t *positions; /* [rows] */
    struct span *spans; /* of the group's pieces, or of its rows */
    int span_count;

    size_t *bytes; /* [T, T] for the group's exchanges */
    int *widths;   /* [T] columns of each part */
};

enum status step_open(struct step *s, struct arena *arena, struct grid *grid, struct kernels *kernels,
                      int max_rows);

/* Takes what the batch says about this rank's group; `kv` has applied it already. */
enum status step_begin(struct step *s, const struct batch *b, const struct kv_cache *kv);

/* mine [own rows, C], rows without gaps. *out is memory of the comm, or mine itself. */
enum status step_gather_rows(struct step *s, struct matrix mine, struct matrix *out);

/* mine [rows, c]: part p holds the columns range_share(units, T, p) of `unit` numbers each; rows without
 * gaps. `room` [max_rows, units * unit] receives the join. */
enum status step_gather_columns(struct step *s, struct matrix mine, int units, int unit, struct matrix room,
                                struct matrix *out);

/* The same for parts of s->widths[p] columns, which the caller has set, `columns` in all. */
enum status step_gather_widths(struct step *s, struct matrix mine, int columns, struct matrix room,
                               struct matrix *out);

/* mine [rows, c], columns shared out as above with unit 1; room [own rows, columns]. */
enum status step_return_columns(struct step *s, struct matrix mine, int columns, struct matrix room,
                                struct matrix *out);

/* A matrix in backend memory whose rows stand without gaps, as it travels. */
enum status step_matrix(struct kernels *k, int rows, int columns, const char *what, struct matrix *out);

#endif
