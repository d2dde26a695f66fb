/* rig.h - an engine for tests: opened on a model directory over given ranks, fed batches by hand
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef RIG_H
#define RIG_H

#include "engine/engine.h"

#include <mpi.h>

enum rig_comm { RIG_ALONE, RIG_MPI, RIG_SHARED };

struct rig_options {
    const char *model;
    enum rig_comm comm; /* RIG_ALONE: this process alone, whatever MPI_COMM_WORLD is */
    bool reference;     /* backend: reference, otherwise cpu on its best path */
    int threads;
    int tensor;
    int expert_ranks;
    struct balance_options balance;
    bool share;      /* ranks share one copy of each expert ... */
    int share_limit; /* ... this many of them; 0: all */
    bool fixed;      /* rows of small batches go to experts in fixed places */
};

struct rig {
    struct engine engine;
    struct kernels *kernels;
    struct comm *world, *group;
};

/* Collective over MPI_COMM_WORLD unless alone. */
enum status rig_open(struct rig *r, const struct rig_options *options);
void rig_close(struct rig *r);

/* Runs `count` tokens of sequence 0 (in data group 0) from `position` on; *results: one for each row when
 * `all`, else one for the last row, at rank 0. Collective. */
enum status rig_run(struct rig *r, const int32_t *tokens, int count, int position, bool all,
                    const struct head_result **results);

#endif
