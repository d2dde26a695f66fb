/* cuda_pool.h - the two allocations of device memory that everything else is a piece of
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Their sizes are what the plan says (engine/budget), so nothing is asked of the driver once they are there,
 * and what does not fit was not planned. The first is for what the device and its exchanges need to be
 * opened, the second for the rest, when it is known what libraries have taken by then. Pieces lie one behind
 * the other and go back with the pool.
 *
 * A pool of 0 bytes is none: then every piece is an allocation of its own, so that tools which watch the ends
 * of allocations (compute-sanitizer, the emulated device) see what runs past the end of a piece. */
#ifndef CUDA_POOL_H
#define CUDA_POOL_H

#include "kernels/cuda/cuda_plan.h"

#include <cuda_runtime_api.h>

enum { CUDA_POOL_PARTS = 2 };

struct cuda_pool {
    struct {
        char *base;
        size_t bytes, used;
    } part[CUDA_POOL_PARTS];
    int parts;    /* 0: none */
    size_t taken; /* bytes of all allocations; a piece that went back still counts */
};

/* On the present device. `foreign`: bytes of it that are not this process's, for the message that says what
 * was free. */
enum status cuda_pool_open(struct cuda_pool *p, size_t bytes, size_t foreign);
enum status cuda_pool_extend(struct cuda_pool *p, size_t bytes, size_t foreign);
void cuda_pool_close(struct cuda_pool *p);

/* Bytes that are left of a pool. */
size_t cuda_pool_left(const struct cuda_pool *p);

/* A piece, aligned to CUDA_PLAN_ALIGN and zero to whatever is queued on `stream` from now on. `what` is for
 * the message. */
enum status cuda_pool_take(struct cuda_pool *p, size_t bytes, const char *what, cudaStream_t stream,
                           void **out);

/* NULL is nothing. */
void cuda_pool_give_back(struct cuda_pool *p, void *piece);

#endif
