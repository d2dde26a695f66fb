/* comm_nccl.h - exchanges of rows between the devices of the ranks, by NCCL on the backend's own stream
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Part of the module switchyard-cuda.so where the build found NCCL. A call queues and returns: rows of the
 * calls before it, this call and what reads its arrivals keep the stream's order, and the host waits for
 * nothing but NCCL's putting the call on the stream. Only broadcast, whose other ranks learn how much comes,
 * sends that number over `inner`. Ranks that send each other nothing do not meet. There is no reduce: it adds
 * numbers of the host. One of all ranks may have a communicator of each node beside its own, whose ranks it
 * still calls by their numbers among all. */
#ifndef COMM_NCCL_H
#define COMM_NCCL_H

#include "comm/comm.h"
#include "kernels/kernels.h"

/* Collective over the ranks of `inner`, which is not owned; as kernels->open_exchange says. */
enum status comm_nccl_open(struct kernels *k, struct comm *inner, struct comm *whole, int part, size_t most,
                           struct comm **out);

/* From now on an exchange in which nothing leaves its node goes by a communicator of the node's ranks.
 * Collective over `rows`, which is of all ranks; node [size] any numbers, equal for ranks of one node, the
 * same everywhere. As kernels->open_nodes says. */
enum status comm_nccl_open_nodes(struct comm *rows, const int32_t *node);

/* What others need who queue on the same stream for the ranks of a comm opened here. */
struct comm_nccl_team *comm_nccl_team_of(struct comm *c);
struct comm *comm_nccl_inner(struct comm *c);

#endif
