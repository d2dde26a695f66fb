/* held.h - one model on one rank with the reference backend, for tests of weights
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * The reference keeps a weight as rows of plain numbers, so slices can be compared with the files. */
#ifndef HELD_H
#define HELD_H

#include "engine/family.h"
#include "engine/weights.h"

#define HELD_A "tests/golden/llama4_a"
#define HELD_B "tests/golden/llama4_b"

struct held {
    struct arena arena;
    struct config config;
    struct tensor_set set;
    struct kernels *kernels;
    struct grid grid;
    struct placement placement;
    struct weights weights;
};

/* Bytes that the backend gave since held_open. */
extern size_t held_allocated;

/* Ends the test with the failure's words. */
void held_must(enum status status);

/* Everything up to the weights. `configuration` and `files` are directories. */
void held_open(struct held *h, const char *configuration, const char *files, int ranks, int tensor, int rank);
enum status held_load(struct held *h);
void held_close(struct held *h);

/* Rows `to` ... of w are outputs `share` of the tensor that has this role. Returns the row behind them. */
int held_expect_rows(const struct held *h, const struct weight *w, int to, enum family_role role, int layer,
                     int expert, struct range share);

/* The same for norms and biases. */
int held_expect_floats(const struct held *h, const float *floats, int to, enum family_role role, int layer,
                       struct range share);

#endif
