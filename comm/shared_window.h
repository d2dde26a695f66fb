/* shared_window.h - memory that the ranks of one node share
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Every rank brings a part of its own, zeroed and so first touched by itself (it lies near its processor);
 * all ranks of the node see all parts. It is memory of the system's shared-memory file system, outside the
 * arenas. */
#ifndef SHARED_WINDOW_H
#define SHARED_WINDOW_H

#include "engine/base/arena.h"
#include "engine/base/status.h"

#include <mpi.h>
#include <stddef.h>

struct shared_window {
    MPI_Comm node; /* the ranks of `mpi` on this node, in its order; owned */
    MPI_Win window;
    int rank;             /* in `node` */
    int size;             /* of `node` */
    unsigned char **part; /* [size] aligned to ARENA_ALIGN; in the arena */
    size_t bytes;         /* of this rank's part */
};

/* Collective over `mpi`: `bytes` of zeroed memory for this rank. All ranks fail together with
 * STATUS_NO_MEMORY when the shared memory of one node has no room for it; nothing was taken then. `what`
 * and `advice`, what can be done beside making it larger, are for the message. */
enum status shared_window_open(struct shared_window *w, struct arena *arena, MPI_Comm mpi, size_t bytes,
                               int node_limit, const char *what, const char *advice);

/* Collective over the node; takes a zeroed one. */
void shared_window_close(struct shared_window *w);

#endif
