/* comm_staged.h - exchanges of rows that lie in a backend's own memory, by copies through host memory
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * For backends whose memory neither MPI nor a neighbour on the node can read. The network moves host memory;
 * what is sent is downloaded before, what arrives is uploaded after. */
#ifndef COMM_STAGED_H
#define COMM_STAGED_H

#include "comm/comm.h"
#include "kernels/kernels.h"

/* The ranks of `inner`, which is not owned and may be used beside it. `mine`, `data` and results of the calls
 * are memory of `kernels`; up to `most` bytes are sent, and up to `most` received, in one call. No reduce: it
 * adds numbers of the host. Not collective. */
enum status comm_staged_open(struct comm *inner, struct kernels *kernels, size_t most, struct comm **out);

/* Bytes of the backend's memory, and of the host's beside those of `inner`, that it takes. */
size_t comm_staged_bytes(const struct kernels *k, size_t most);
size_t comm_staged_host_bytes(size_t most);

#endif
