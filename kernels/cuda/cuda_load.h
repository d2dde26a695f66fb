/* cuda_load.h - weights on their way to the device through two pinned buffers
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * While one buffer travels the host fills the other; it waits only when it comes back to one that has not
 * arrived, so N bytes cost fewer than N / CUDA_LOAD_BYTES waits, and reading files goes on beside the copies.
 *
 *     cuda_load_room     where to put the next rows, after waiting for the buffer if need be
 *     cuda_load_send     a part of that room to its place, in the order of the stream */
#ifndef CUDA_LOAD_H
#define CUDA_LOAD_H

#include "kernels/cuda/cuda_device.h"

enum { CUDA_LOAD_BYTES = CUDA_PLAN_LOAD_BYTES, CUDA_LOAD_BUFFERS = CUDA_PLAN_LOAD_BUFFERS };

struct cuda_load {
    struct {
        char *pinned;        /* [CUDA_LOAD_BYTES] */
        cudaEvent_t arrived; /* all that was sent from it */
        bool travels;        /* since the event was recorded nobody has waited for it */
    } buffer[CUDA_LOAD_BUFFERS];
    int at;      /* the one that is being filled */
    size_t used; /* of it */
};

enum status cuda_load_open(struct cuda_load *l);
void cuda_load_close(struct cuda_load *l); /* after the last copy has arrived */

/* Host memory that is the caller's to fill until the next call. `bytes` <= CUDA_LOAD_BYTES. */
enum status cuda_load_room(struct cuda_load *l, struct cuda_device *d, size_t bytes, void **out);

/* `bytes` at `from`, in the last room, to `to` on the device; they stay untouched from now on. */
enum status cuda_load_send(struct cuda_load *l, struct cuda_device *d, void *to, const void *from,
                           size_t bytes);

#endif
