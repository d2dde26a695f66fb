/* cuda_entries.h - the stages of the table: checks, index arrays to the device, and the launch
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef CUDA_ENTRIES_H
#define CUDA_ENTRIES_H

#include "kernels/cuda/cuda_blas.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/cuda_launch.h"
#include "kernels/cuda/cuda_load.h"
#include "kernels/cuda/cuda_record.h"
#include "kernels/cuda/cuda_spans.h"
#include "kernels/cuda/cuda_tables.h"
#include "kernels/cuda/cuda_turns.h"
#include "kernels/host.h"

/* Most experts of a layer on one rank. */
enum { CUDA_ENTRIES_SLOTS = 4096 };

struct cuda_entries {
    struct kernels table; /* first, so that a pointer to the table is one to this */
    struct host_memory memory;
    struct cuda_device device;
    struct cuda_blas blas; /* not opened: every product is our own */
    struct cuda_record record;
    struct cuda_turns turns;
    struct cuda_spans spans;
    struct cuda_tables tables;
    uint64_t weights; /* where those of experts lay that `tables` tells of, see struct recording */
    int64_t products; /* of blas before a recording began */
    struct cuda_load load;
    struct cuda_weight slot[2 * CUDA_ENTRIES_SLOTS]; /* of a layer: gate and up of each, then down */
    char name[64];
};

static inline struct cuda_entries *cuda_entries_of(struct kernels *k)
{
    return (struct cuda_entries *)(void *)k;
}

/* How a planned weight lies in memory. */
struct cuda_weight cuda_entries_weight(const struct weight *w);

/* Puts the stages into the table. */
void cuda_entries_enter(struct kernels *k);

#endif
