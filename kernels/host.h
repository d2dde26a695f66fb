/* host.h - memory of the backends that compute on the processor
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * What `alloc`, `release` and `free_bytes` of such a backend do. Small pieces share blocks, so that a
 * thousand gains do not take a thousand huge pages. Not for several threads at once. */
#ifndef HOST_H
#define HOST_H

#include "engine/base/arena.h"
#include "engine/base/status.h"

#include <stddef.h>

struct host_block;

/* Starts as {0}. */
struct host_memory {
    struct host_block *blocks; /* newest first */
};

/* `bytes` of zeroed memory, aligned to ARENA_ALIGN. `what` is for the message. Zero bytes give a valid
 * pointer. */
enum status host_alloc(struct host_memory *memory, size_t bytes, const char *what, void **out);

/* Gives one piece back; NULL is nothing. A shared block goes back with its last piece. */
void host_release(struct host_memory *memory, void *piece);

/* Bytes the system could still give: available memory, and no more than the control group and the limit on
 * address space allow. */
size_t host_free_bytes(void);

/* Gives everything back. */
void host_close(struct host_memory *memory);

#endif
