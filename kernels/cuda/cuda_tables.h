/* cuda_tables.h - where the weights of experts lie, told to the device once and again when they have moved
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * A layer's table keeps its place on the device from its first use on, so that a step which finds every table
 * as it was sends none. What is found there is compared number by number: a layer that has got other
 * weights, or an expert that has moved, is sent again, in the order of the stream. */
#ifndef CUDA_TABLES_H
#define CUDA_TABLES_H

#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/cuda_launch.h"
#include "kernels/host.h"

enum { CUDA_TABLES_KEPT = 512 };

struct cuda_tables_kept {
    const struct weight *gate_up, *down; /* [slots] whose layer it is */
    int slots;
    size_t first; /* of its weights in the tables: gate and up of each slot, then down; only of `kept` */
};

struct cuda_tables {
    struct cuda_weight *sent;  /* [room] host: what the device holds */
    struct cuda_weight *table; /* [room] device */
    size_t used;
    struct cuda_tables_kept kept[CUDA_TABLES_KEPT];
    int count;
};

/* Room for the tables, out of `memory` and the device's. */
enum status cuda_tables_open(struct cuda_tables *t, struct cuda_device *d, struct host_memory *memory);
void cuda_tables_close(struct cuda_tables *t, struct cuda_device *d);

/* What gate_up and down [slots] of a layer are for the kernels, weights [2 * slots]: *out the same on the
 * device, good for work that is queued before the next call, and in a recorded step for every replay that
 * comes after a call for each of `kept`. */
enum status cuda_tables_take(struct cuda_tables *t, struct cuda_device *d,
                             const struct cuda_tables_kept *layer, const struct cuda_weight *weights,
                             const struct cuda_weight **out);

#endif
