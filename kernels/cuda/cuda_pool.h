/* cuda_pool.h - the one allocation of device memory that everything else is a piece of
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Its size is what the plan says (engine/budget), so nothing is asked of the driver once it is there, and
 * what does not fit was not planned. Pieces lie one behind the other and go back with the pool.
 *
 * A pool of 0 bytes is none: then every piece is an allocation of its own, so that tools which watch the ends
 * of allocations (compute-sanitizer, the emulated device) see what runs past the end of a piece. */
#ifndef CUDA_POOL_H
#define CUDA_POOL_H

#include "kernels/cuda/cuda_plan.h"

#include <cuda_runtime_api.h>

struct cuda_pool {
    char *base; /* NULL: none */
    size_t bytes, used;
};

/* On the present device. */
enum status cuda_pool_open(struct cuda_pool *p, size_t bytes);
void cuda_pool_close(struct cuda_pool *p);

/* A piece, aligned to CUDA_PLAN_ALIGN and zero to whatever is queued on `stream` from now on. `what` is for
 * the message. */
enum status cuda_pool_take(struct cuda_pool *p, size_t bytes, const char *what, cudaStream_t stream,
                           void **out);

/* NULL is nothing. */
void cuda_pool_give_back(struct cuda_pool *p, void *piece);

#endif
