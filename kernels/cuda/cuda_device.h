/* cuda_device.h - one device: its stream, its memory, and what travels to it beside the rows
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Work is queued on one stream. Index arrays of an entry travel through a pinned ring; a place of it is used
 * again only after the stream has been waited for. */
#ifndef CUDA_DEVICE_H
#define CUDA_DEVICE_H

#include "kernels/cuda/cuda_plan.h"
#include "kernels/cuda/cuda_pool.h"

#include <cuda_runtime_api.h>

/* Who queues work on the stream that only they know how to wait for; all NULL: nobody does. */
struct cuda_device_guest {
    enum status (*settle)(void *owner, cudaEvent_t event); /* waits for it, or, NULL, for the stream, instead
                                                              of CUDA's own wait */
    enum status (*replayed)(void *owner, int exchanges); /* a recording with so many of its calls is queued */
    void *owner;
};

/* What is on its way to the host. */
struct cuda_device_arrival {
    void *host; /* NULL: nothing */
    size_t at, bytes;
    cudaEvent_t here;
};

struct cuda_device {
    int number;
    size_t total_bytes, foreign_bytes; /* of its memory: all, and what others had taken */
    cudaStream_t stream;
    struct cuda_pool pool;
    char *pinned;   /* [ring bytes] host side of the ring */
    char *mirror;   /* [ring bytes] device side */
    size_t used;    /* of the ring since the stream was last waited for */
    int64_t *waits; /* of the host for the stream */
    struct cuda_device_arrival fetch;
    struct cuda_device_guest guest;
    bool recording; /* what is queued is kept for later: neither sent arrays nor waits are possible */
    int exchanges;  /* of the guest's calls in what is recorded */
    int64_t breaks; /* grows where the next call may run behind others than the last one: recordings */
    float *partial; /* [CUDA_DEVICE_PARTIAL_FLOATS] results of attention not yet added up */
};

enum { CUDA_DEVICE_PARTIAL_FLOATS = CUDA_PLAN_PARTIAL_FLOATS };

/* What went wrong and in which call: "cudaMalloc of 4096 bytes for keys: out of memory". */
enum status cuda_device_error(cudaError_t error, const char *call);

/* Passes a failure of CUDA on. */
#define CUDA_TRY(call)                                                                                       \
    do {                                                                                                     \
        cudaError_t cuda_error_ = (call);                                                                    \
        if (cuda_error_ != cudaSuccess)                                                                      \
            return cuda_device_error(cuda_error_, #call);                                                    \
    } while (0)

/* How many devices this process sees, at least one. STATUS_UNAVAILABLE: no driver, an old one, none visible.
 */
enum status cuda_device_count(int *out);

/* Takes device `number` and `memory` bytes of it, see cuda_pool. STATUS_UNAVAILABLE says in one sentence why
 * there is none that can be used, STATUS_NO_MEMORY how much was free. */
enum status cuda_device_open(struct cuda_device *d, int number, size_t memory);
void cuda_device_close(struct cuda_device *d);

/* Until nothing queued reads or writes any memory more, however it ended: before the first piece goes back,
 * as neither the end of a stream nor giving memory back waits for sure. */
void cuda_device_finish(struct cuda_device *d);

/* The rest of what this rank takes, before a piece is asked for that the first part has no room for. */
enum status cuda_device_extend(struct cuda_device *d, size_t memory);

/* Bytes of the device that driver and libraries hold for this process, once nothing is queued. */
enum status cuda_device_held(const struct cuda_device *d, size_t *bytes);

/* Zeroed memory of the device; it goes back before the device is closed. An allocation of its own, where
 * there is no pool, is waited for. */
enum status cuda_device_take(struct cuda_device *d, size_t bytes, const char *what, void **out);
void cuda_device_give_back(struct cuda_device *d, void *piece);

/* `bytes` of host memory on their way to the device; *out is good for work queued before the next wait. */
enum status cuda_device_send(struct cuda_device *d, const void *host, size_t bytes, const void **out);

/* The same, to device memory of the caller's, in as many pieces as it takes. */
enum status cuda_device_upload(struct cuda_device *d, void *device, const void *host, size_t bytes);

/* Room on the device of the same life, for results; cuda_device_bring copies it to the host and waits. */
enum status cuda_device_room(struct cuda_device *d, size_t bytes, void **out);
enum status cuda_device_bring(struct cuda_device *d, void *host, const void *device, size_t bytes);

/* Results of two kinds that lie behind each other on the device: one copy and one wait for both. Half of the
 * ring at most. */
enum status cuda_device_bring_both(struct cuda_device *d, const void *device, void *first, size_t first_bytes,
                                   void *second, size_t second_bytes);

/* As cuda_device_bring in two parts, one at a time; what is queued between them is not waited for. `host` may
 * be written from the first on. */
enum status cuda_device_fetch(struct cuda_device *d, void *host, const void *device, size_t bytes);
enum status cuda_device_fetched(struct cuda_device *d);

/* Until everything queued has been done. */
enum status cuda_device_wait(struct cuda_device *d);

#endif
