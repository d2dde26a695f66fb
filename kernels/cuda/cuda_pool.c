/* cuda_pool.c - the two allocations of device memory that everything else is a piece of
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/cuda_pool.h"

static enum status explain(cudaError_t error, const char *call, const char *what, size_t bytes)
{
    enum status status = error == cudaErrorMemoryAllocation ? STATUS_NO_MEMORY : STATUS_UNAVAILABLE;

    return FAIL(status, "%s, %zu bytes: %s: %s", what, bytes, call, cudaGetErrorString(error));
}

static enum status allocate(size_t bytes, const char *what, void **out)
{
    cudaError_t error = cudaMalloc(out, bytes > 0 ? bytes : 1);

    return error == cudaSuccess ? STATUS_OK : explain(error, "cudaMalloc", what, bytes);
}

/* The share of the device that was free may be given to no more than two digits, and is never rounded up. */
static enum status check_room(size_t bytes, size_t foreign)
{
    size_t left = 0, total = 0;
    cudaError_t error = cudaMemGetInfo(&left, &total);

    if (error != cudaSuccess)
        return explain(error, "cudaMemGetInfo", "memory of the device", bytes);
    if (bytes <= left)
        return STATUS_OK;
    return FAIL(STATUS_NO_MEMORY,
                "%.1f MiB more of the GPU's %.1f MiB are wanted, but only %.1f MiB were free; lower "
                "--gpu-memory-utilization to 0.%02d, or --kv-cache-memory where it is given, or end what "
                "else uses the GPU",
                (double)bytes / 1048576, (double)total / 1048576, (double)left / 1048576,
                (int)(100 * (double)(total - foreign) / (double)total));
}

enum status cuda_pool_extend(struct cuda_pool *p, size_t bytes, size_t foreign)
{
    void *base = NULL;

    if (bytes == 0)
        return STATUS_OK;
    if (p->parts == CUDA_POOL_PARTS)
        return FAIL(STATUS_BUG, "memory of the GPU is taken a third time");
    TRY(check_room(bytes, foreign));
    TRY(allocate(bytes, "memory of this rank", &base));
    p->part[p->parts].base = base;
    p->part[p->parts].bytes = bytes;
    p->parts++;
    p->taken += bytes;
    return STATUS_OK;
}

enum status cuda_pool_open(struct cuda_pool *p, size_t bytes, size_t foreign)
{
    *p = (struct cuda_pool){0};
    return cuda_pool_extend(p, bytes, foreign);
}

void cuda_pool_close(struct cuda_pool *p)
{
    for (int i = 0; i < p->parts; i++)
        cudaFree(p->part[i].base);
    *p = (struct cuda_pool){0};
}

size_t cuda_pool_left(const struct cuda_pool *p)
{
    size_t left = 0;

    for (int i = 0; i < p->parts; i++)
        left += p->part[i].bytes - p->part[i].used;
    return left;
}

/* Of the first part that has room for it. */
static enum status cut(struct cuda_pool *p, size_t bytes, const char *what, void **out)
{
    size_t taken = (bytes + CUDA_PLAN_ALIGN - 1) / CUDA_PLAN_ALIGN * CUDA_PLAN_ALIGN;

    for (int i = 0; i < p->parts; i++) {
        size_t left = p->part[i].bytes - p->part[i].used;

        if (bytes > left || taken > left)
            continue;
        *out = p->part[i].base + p->part[i].used;
        p->part[i].used += taken;
        return STATUS_OK;
    }
    return FAIL(STATUS_NO_MEMORY,
                "%s, %zu bytes: of the %zu bytes of the GPU that were planned for this rank %zu are left",
                what, bytes, p->taken, cuda_pool_left(p));
}

enum status cuda_pool_take(struct cuda_pool *p, size_t bytes, const char *what, cudaStream_t stream,
                           void **out)
{
    void *piece = NULL;
    cudaError_t error;

    TRY(p->parts > 0 ? cut(p, bytes, what, &piece) : allocate(bytes, what, &piece));
    p->taken += p->parts > 0 ? 0 : bytes;
    error = cudaMemsetAsync(piece, 0, bytes, stream);
    if (error != cudaSuccess)
        return explain(error, "cudaMemsetAsync", what, bytes);
    *out = piece;
    return STATUS_OK;
}

void cuda_pool_give_back(struct cuda_pool *p, void *piece)
{
    if (p->parts == 0)
        cudaFree(piece);
}
