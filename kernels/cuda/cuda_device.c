/* cuda_device.c - one device: its stream, its memory, and what travels to it beside the rows
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/cuda_device.h"

#include "kernels/cuda/cuda_context.h"
#include "kernels/module.h"

#include <stdlib.h>
#include <string.h>

enum { RING_BYTES = CUDA_PLAN_RING_BYTES, RING_ALIGN = 256, PIECE_BYTES = 1 << 20 };

enum status cuda_device_error(cudaError_t error, const char *call)
{
    enum status status = error == cudaErrorMemoryAllocation ? STATUS_NO_MEMORY : STATUS_UNAVAILABLE;

    return FAIL(status, "%s: %s", call, cudaGetErrorString(error));
}

/* Before the driver looks: all streams of a process, the libraries' too, share 8 queues to the device unless
 * this asks for more. One that waits for another rank holds up whatever stands behind it in its queue, which
 * may be what that rank waits for. What somebody has set stays. */
static void ask_for_queues(void)
{
    setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0);
}

enum status cuda_device_count(int *out)
{
    int driver = 0, count = 0;
    cudaError_t error;

    ask_for_queues();
    error = cudaDriverGetVersion(&driver);
    if (error != cudaSuccess || driver == 0)
        return FAIL(STATUS_UNAVAILABLE, "no NVIDIA driver is loaded");
    error = cudaGetDeviceCount(&count);
    if (error == cudaErrorInsufficientDriver)
        return FAIL(STATUS_UNAVAILABLE, "the NVIDIA driver is for CUDA %d.%d, this program needs %d.%d",
                    driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
    if (error == cudaErrorSystemNotReady)
        return FAIL(
            STATUS_UNAVAILABLE,
            "the GPUs are not ready (%s); where they are joined by NVSwitch, nvidia-fabricmanager must "
            "run, in the driver's version",
            cudaGetErrorString(error));
    if (error != cudaSuccess || count == 0)
        return FAIL(STATUS_UNAVAILABLE, "no GPU is visible (%s); CUDA_VISIBLE_DEVICES may hide some",
                    cudaGetErrorString(error));
    *out = count;
    return STATUS_OK;
}

/* A device of that number, new enough? */
static enum status check_device(int number)
{
    int count, major = 0, minor = 0;

    TRY(cuda_device_count(&count));
    if (number >= count)
        return FAIL(STATUS_UNAVAILABLE,
                    "this machine shows %d GPUs and local rank %d needs one of its own; start fewer ranks",
                    count, number);
    CUDA_TRY(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, number));
    CUDA_TRY(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, number));
    if (10 * major + minor < MODULE_LEAST_CAPABILITY)
        return FAIL(STATUS_UNAVAILABLE, "GPU %d has compute capability %d.%d, at least 8.0 is needed", number,
                    major, minor);
    return STATUS_OK;
}

enum status cuda_device_take(struct cuda_device *d, size_t bytes, const char *what, void **out)
{
    return cuda_pool_take(&d->pool, bytes, what, d->stream, out);
}

void cuda_device_give_back(struct cuda_device *d, void *piece)
{
    if (d->pool.parts == 0)
        cuda_device_finish(d); /* an allocation of its own goes at once */
    cuda_pool_give_back(&d->pool, piece);
}

/* From here on the driver has a context here. Where nobody tells its size it counts as taken by others. */
static enum status enter_device(struct cuda_device *d)
{
    size_t before = 0, after = 0, left = 0, own = 0;
    bool known = cuda_context_look(d->number, &before);

    CUDA_TRY(cudaSetDevice(d->number));
    CUDA_TRY(cudaMemGetInfo(&left, &d->total_bytes));
    if (known && cuda_context_look(d->number, &after) && after > before)
        own = after - before;
    d->foreign_bytes = d->total_bytes - left;
    d->foreign_bytes -= own < d->foreign_bytes ? own : d->foreign_bytes;
    return STATUS_OK;
}

static enum status take_all(struct cuda_device *d, size_t memory)
{
    void *mirror, *partial;

    TRY(enter_device(d));
    CUDA_TRY(cudaStreamCreateWithFlags(&d->stream, cudaStreamNonBlocking));
    CUDA_TRY(cudaEventCreateWithFlags(&d->fetch.here, cudaEventDisableTiming));
    CUDA_TRY(cudaMallocHost((void **)&d->pinned, RING_BYTES));
    TRY(cuda_pool_open(&d->pool, memory, d->foreign_bytes));
    TRY(cuda_device_take(d, RING_BYTES, "arrays on their way", &mirror));
    d->mirror = mirror;
    TRY(cuda_device_take(d, CUDA_DEVICE_PARTIAL_FLOATS * sizeof *d->partial, "partial results", &partial));
    d->partial = partial;
    return STATUS_OK;
}

enum status cuda_device_open(struct cuda_device *d, int number, size_t memory)
{
    enum status status;

    *d = (struct cuda_device){.number = number};
    TRY(check_device(number));
    status = take_all(d, memory);
    if (status != STATUS_OK)
        cuda_device_close(d);
    return status;
}

void cuda_device_finish(struct cuda_device *d)
{
    if (d->stream)
        cudaStreamSynchronize(d->stream);
}

void cuda_device_close(struct cuda_device *d)
{
    cuda_device_finish(d);
    if (d->stream)
        cudaStreamDestroy(d->stream);
    d->stream = NULL;
    if (d->fetch.here)
        cudaEventDestroy(d->fetch.here);
    cuda_device_give_back(d, d->partial);
    cuda_device_give_back(d, d->mirror);
    cuda_pool_close(&d->pool);
    cudaFreeHost(d->pinned);
    *d = (struct cuda_device){0};
}

enum status cuda_device_extend(struct cuda_device *d, size_t memory)
{
    return cuda_pool_extend(&d->pool, memory, d->foreign_bytes);
}

enum status cuda_device_held(const struct cuda_device *d, size_t *bytes)
{
    size_t left = 0, total = 0, ours = d->foreign_bytes + d->pool.taken;

    CUDA_TRY(cudaMemGetInfo(&left, &total));
    *bytes = total - left > ours ? total - left - ours : 0; /* others may have given back some */
    return STATUS_OK;
}

/* `event` NULL: for everything. */
static enum status settle(struct cuda_device *d, cudaEvent_t event)
{
    if (d->recording)
        return FAIL(STATUS_BUG, "the host waits for a step while it is recorded");
    (*d->waits)++;
    if (d->guest.settle)
        return d->guest.settle(d->guest.owner, event);
    if (event)
        CUDA_TRY(cudaEventSynchronize(event));
    else
        CUDA_TRY(cudaStreamSynchronize(d->stream));
    return STATUS_OK;
}

/* What was fetched has arrived: its place in the ring is no longer needed. */
static void take_fetched(struct cuda_device *d)
{
    if (d->fetch.host)
        memcpy(d->fetch.host, d->pinned + d->fetch.at, d->fetch.bytes);
    d->fetch.host = NULL;
}

enum status cuda_device_wait(struct cuda_device *d)
{
    TRY(settle(d, NULL));
    take_fetched(d);
    d->used = 0;
    return STATUS_OK;
}

/* The next `bytes` of the ring, as an offset. */
static enum status take_ring(struct cuda_device *d, size_t bytes, size_t *at)
{
    size_t taken = (bytes + RING_ALIGN - 1) / RING_ALIGN * RING_ALIGN;

    if (d->recording)
        return FAIL(STATUS_BUG, "an array of one step is sent while it is recorded for others");
    if (taken > RING_BYTES / 2) /* so that two arrays of one entry never meet */
        return FAIL(STATUS_BUG, "%zu bytes are sent beside the rows, there is room for %d", bytes,
                    RING_BYTES / 2);
    if (taken > RING_BYTES - d->used)
        TRY(cuda_device_wait(d));
    *at = d->used;
    d->used += taken;
    return STATUS_OK;
}

enum status cuda_device_send(struct cuda_device *d, const void *host, size_t bytes, const void **out)
{
    size_t at = 0;

    TRY(take_ring(d, bytes, &at));
    if (bytes > 0) {
        memcpy(d->pinned + at, host, bytes);
        CUDA_TRY(cudaMemcpyAsync(d->mirror + at, d->pinned + at, bytes, cudaMemcpyHostToDevice, d->stream));
    }
    *out = d->mirror + at;
    return STATUS_OK;
}

enum status cuda_device_upload(struct cuda_device *d, void *device, const void *host, size_t bytes)
{
    for (size_t done = 0; done < bytes;) {
        size_t part = bytes - done < PIECE_BYTES ? bytes - done : PIECE_BYTES;
        const void *there;

        TRY(cuda_device_send(d, (const char *)host + done, part, &there));
        CUDA_TRY(cudaMemcpyAsync((char *)device + done, there, part, cudaMemcpyDeviceToDevice, d->stream));
        done += part;
    }
    return STATUS_OK;
}

enum status cuda_device_room(struct cuda_device *d, size_t bytes, void **out)
{
    size_t at = 0;

    TRY(take_ring(d, bytes, &at));
    *out = d->mirror + at;
    return STATUS_OK;
}

enum status cuda_device_bring(struct cuda_device *d, void *host, const void *device, size_t bytes)
{
    char *to = host;

    for (size_t done = 0; done < bytes;) {
        size_t part = bytes - done < RING_BYTES / 2 ? bytes - done : RING_BYTES / 2;
        size_t at = 0;

        TRY(take_ring(d, part, &at));
        CUDA_TRY(cudaMemcpyAsync(d->pinned + at, (const char *)device + done, part, cudaMemcpyDeviceToHost,
                                 d->stream));
        TRY(settle(d, NULL));
        memcpy(to + done, d->pinned + at, part);
        d->used = at; /* everything before is done too, but a caller may still read its room */
        done += part;
    }
    return STATUS_OK;
}

enum status cuda_device_bring_both(struct cuda_device *d, const void *device, void *first, size_t first_bytes,
                                   void *second, size_t second_bytes)
{
    size_t bytes = first_bytes + second_bytes, at = 0;

    TRY(take_ring(d, bytes, &at));
    CUDA_TRY(cudaMemcpyAsync(d->pinned + at, device, bytes, cudaMemcpyDeviceToHost, d->stream));
    TRY(settle(d, NULL));
    memcpy(first, d->pinned + at, first_bytes);
    memcpy(second, d->pinned + at + first_bytes, second_bytes);
    d->used = at;
    return STATUS_OK;
}

enum status cuda_device_fetch(struct cuda_device *d, void *host, const void *device, size_t bytes)
{
    size_t at = 0;

    if (d->fetch.host)
        return FAIL(STATUS_BUG, "two arrays are fetched at once");
    if (bytes == 0 || bytes > RING_BYTES / 2)
        return cuda_device_bring(d, host, device, bytes);
    TRY(take_ring(d, bytes, &at));
    CUDA_TRY(cudaMemcpyAsync(d->pinned + at, device, bytes, cudaMemcpyDeviceToHost, d->stream));
    CUDA_TRY(cudaEventRecord(d->fetch.here, d->stream));
    d->fetch.host = host;
    d->fetch.at = at;
    d->fetch.bytes = bytes;
    return STATUS_OK;
}

enum status cuda_device_fetched(struct cuda_device *d)
{
    if (!d->fetch.host)
        return STATUS_OK;
    TRY(settle(d, d->fetch.here));
    take_fetched(d);
    return STATUS_OK;
}
