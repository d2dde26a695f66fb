/* comm_mpi.h - exchanges by MPI alone: works wherever MPI works
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Only nonblocking calls and a wait loop of our own, which pauses, then yields, then sleeps, and knows the
 * watchdog. */
#ifndef COMM_MPI_H
#define COMM_MPI_H

#include "comm/comm.h"

#include <mpi.h>

/* Collective over `mpi` (not owned, duplicated inside). `most_bytes`: the most that one call delivers to a
 * rank; two buffers of it are taken now. A group of one rank becomes comm_alone. */
enum status comm_mpi_open(MPI_Comm mpi, size_t most_bytes, struct comm **out);

/* Bytes of the buffers that one rank of such a group of `size` ranks takes; 0 for a group of one. */
size_t comm_mpi_bytes(int size, size_t most_bytes);

/* The same with messages cut into pieces of `piece` bytes, RELAY_FIRST at least, for tests: comm_mpi_open
 * takes a GiB. */
enum status comm_mpi_open_in_pieces(MPI_Comm mpi, size_t most_bytes, size_t piece, struct comm **out);

#endif
