/* comm_nccl_mover.h - memory from device to device by NCCL, on a stream and a communicator of its own
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Part of the module switchyard-cuda.so where the build found NCCL. The communicator is one more of the team,
 * so an error or a rank that is missing aborts it with the others. NCCL runs the team's calls in the order in
 * which they were queued, and moves are queued by the thread that queues the steps, between the same two of
 * them on all ranks: so a move goes beside kernels and not beside exchanges, and none waits for one that
 * waits for it. All pairs of ranks are connected at the start, so that NCCL takes no memory of
 * the device later, which could wait for kernels that wait for other ranks. */
#ifndef COMM_NCCL_MOVER_H
#define COMM_NCCL_MOVER_H

#include "comm/comm.h"
#include "comm/mover.h"
#include "kernels/kernels.h"

/* As kernels->open_mover says. */
enum status comm_nccl_mover_open(struct kernels *k, struct comm *rows, int sums, struct mover **out);

#endif
