/* comm_shared.h - exchanges through memory that ranks of one node share; MPI carries what crosses nodes
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * All sizes are known to all, so a sender writes at the final place in the receiver's memory, leaves its mark
 * and wakes the receiver only if it sleeps. What all ranks of a node get alike (all_gather, broadcast) is
 * written once and read by all in place. A wait pauses (only when the node has a processor for each rank),
 * then yields for about 50 us, then sleeps on a futex. Messages of other nodes go straight into and out of
 * the shared memory.
 *
 * Three parts of memory take turns. A result of call n lives until its owner begins call n + 2, so call n + 3
 * may write there as soon as all ranks of the node have begun n + 2. A rank that got something from everybody
 * in n + 2 knows that without asking; only after a broadcast or a gather it has to look. */
#ifndef COMM_SHARED_H
#define COMM_SHARED_H

#include "comm/comm.h"

#include <mpi.h>

/* Collective over `mpi` (duplicated inside). `most_bytes` as for comm_mpi_open, but three buffers of it; they
 * are compared with what the system's shared memory has free and refused in words, on all ranks together with
 * STATUS_NO_MEMORY, when they do not fit. A group of one rank becomes comm_alone. */
enum status comm_shared_open(MPI_Comm mpi, size_t most_bytes, struct comm **out);

/* The same as if a node had no more than `node_limit` ranks, for tests of what crosses nodes. */
enum status comm_shared_open_divided(MPI_Comm mpi, size_t most_bytes, int node_limit, struct comm **out);

/* Bytes of memory that one rank of such a group of `size` ranks takes; 0 for a group of one. */
size_t comm_shared_bytes(int size, size_t most_bytes);

#endif
