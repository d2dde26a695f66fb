/* comm_mpi_transfer.h - messages of any length by nonblocking MPI, and the wait for them
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Messages between two ranks arrive in the order they were sent; one that is longer than a piece travels as
 * several, so MPI's int counts never overflow. */
#ifndef COMM_MPI_TRANSFER_H
#define COMM_MPI_TRANSFER_H

#include "comm/wait.h"
#include "engine/base/arena.h"
#include "engine/base/status.h"

#include <mpi.h>
#include <stddef.h>

struct transfer {
    MPI_Comm mpi;     /* not owned */
    size_t piece;     /* bytes that travel in one MPI message */
    int pauses;       /* for waits */
    const int *world; /* [ranks of mpi] in MPI_COMM_WORLD, for the watchdog */
    MPI_Request *requests;
    int *peers; /* of each request */
    int *ended; /* scratch of MPI_Testsome */
    int limit;  /* requests there is room for */
    int count;  /* requests begun since all were done */
    int pending;
    size_t bytes; /* of all messages begun since all were done */
};

static const size_t COMM_MPI_TRANSFER_PIECE = (size_t)1 << 30;

/* `messages` of up to `most` bytes each can be under way at once. The other fields are filled by the caller.
 */
enum status comm_mpi_transfer_open(struct transfer *t, struct arena *arena, size_t messages, size_t most);

/* Begin; memory must stay until all is done. Zero bytes send nothing. A receiver may expect more than comes,
 * as long as it is no more than one piece. */
enum status comm_mpi_transfer_send(struct transfer *t, int peer, const void *data, size_t bytes);
enum status comm_mpi_transfer_receive(struct transfer *t, int peer, void *data, size_t bytes);

/* Move on without waiting; *some: something was completed. t->pending says how much is left. */
enum status comm_mpi_transfer_test(struct transfer *t, bool *some);

/* Tell the watchdog for whom we wait; writes up to `limit` ranks of MPI_COMM_WORLD, returns their number. */
int comm_mpi_transfer_missing(const struct transfer *t, int *ranks, int limit);

/* Wait until all is done. */
enum status comm_mpi_transfer_finish(struct transfer *t);

#endif
