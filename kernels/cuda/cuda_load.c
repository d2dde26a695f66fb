/* cuda_load.c - weights on their way to the device through two pinned buffers
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/cuda_load.h"

enum status cuda_load_open(struct cuda_load *l)
{
    *l = (struct cuda_load){0};
    for (int i = 0; i < CUDA_LOAD_BUFFERS; i++) {
        CUDA_TRY(cudaMallocHost((void **)&l->buffer[i].pinned, CUDA_LOAD_BYTES));
        CUDA_TRY(cudaEventCreateWithFlags(&l->buffer[i].arrived, cudaEventDisableTiming));
    }
    return STATUS_OK;
}

void cuda_load_close(struct cuda_load *l)
{
    for (int i = 0; i < CUDA_LOAD_BUFFERS; i++) {
        if (l->buffer[i].arrived)
            cudaEventDestroy(l->buffer[i].arrived);
        cudaFreeHost(l->buffer[i].pinned);
    }
    *l = (struct cuda_load){0};
}

/* The present buffer is full: on to the next one, once what it held has arrived. */
static enum status change_buffers(struct cuda_load *l, struct cuda_device *d)
{
    CUDA_TRY(cudaEventRecord(l->buffer[l->at].arrived, d->stream));
    l->buffer[l->at].travels = true;
    l->at = (l->at + 1) % CUDA_LOAD_BUFFERS;
    l->used = 0;
    if (!l->buffer[l->at].travels)
        return STATUS_OK;
    (*d->waits)++;
    CUDA_TRY(cudaEventSynchronize(l->buffer[l->at].arrived));
    l->buffer[l->at].travels = false;
    return STATUS_OK;
}

enum status cuda_load_room(struct cuda_load *l, struct cuda_device *d, size_t bytes, void **out)
{
    if (bytes > CUDA_LOAD_BYTES)
        return FAIL(STATUS_BUG, "%zu bytes are loaded at a time, a buffer holds %d", bytes, CUDA_LOAD_BYTES);
    if (bytes > CUDA_LOAD_BYTES - l->used)
        TRY(change_buffers(l, d));
    *out = l->buffer[l->at].pinned + l->used;
    bytes = (bytes + CUDA_PLAN_ALIGN - 1) / CUDA_PLAN_ALIGN * CUDA_PLAN_ALIGN;
    l->used = bytes < CUDA_LOAD_BYTES - l->used ? l->used + bytes : CUDA_LOAD_BYTES;
    return STATUS_OK;
}

enum status cuda_load_send(struct cuda_load *l, struct cuda_device *d, void *to, const void *from,
                           size_t bytes)
{
    const char *first = l->buffer[l->at].pinned;

    if ((const char *)from < first || (const char *)from + bytes > first + l->used)
        return FAIL(STATUS_BUG, "%zu bytes are sent that do not lie in the buffer", bytes);
    CUDA_TRY(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, d->stream));
    return STATUS_OK;
}
