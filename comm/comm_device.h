/* comm_device.h - exchanges of rows that lie in a backend's own memory, by the best way that there is
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * From device to device where the backend can (kernels->open_exchange), else through host memory
 * (comm/comm_staged). A group of one rank exchanges nothing, so there rows stay where they are. */
#ifndef COMM_DEVICE_H
#define COMM_DEVICE_H

#include "comm/comm.h"
#include "comm/mover.h"
#include "kernels/kernels.h"

enum comm_device_way { COMM_DEVICE_AUTO, COMM_DEVICE_NCCL, COMM_DEVICE_HOST };

/* Collective over `inner`, which is not owned and may be used beside it. COMM_DEVICE_NCCL on a backend or in
 * a build without it: STATUS_USAGE. */
enum status comm_device_open(enum comm_device_way way, struct kernels *k, struct comm *inner, size_t most,
                             struct comm **out);

/* The same way for a part of the ranks of `whole`, which was opened so and is closed later; collective over
 * `whole`. Ranks of equal `part` are those of `inner`. */
enum status comm_device_open_part(struct kernels *k, struct comm *inner, struct comm *whole, int part,
                                  size_t most, struct comm **out);

/* From now on exchanges of `rows`, opened by comm_device_open, in which nothing leaves its node go by
 * kernels->open_nodes, where rows go by NCCL. node [ranks] as there. Collective over `rows`. */
enum status comm_device_open_nodes(struct kernels *k, struct comm *rows, const int32_t *node);

/* `rows`, opened by comm_device_open by all ranks and closed later, but with exchanges of equal sizes by
 * stores into the memory of the other ranks' devices: kernels->open_stores. Collective; all ranks alike get
 * STATUS_USAGE where rows do not go by NCCL or the build has none. */
enum status comm_device_open_stores(struct kernels *k, struct comm *rows, struct comm *inner, size_t most,
                                    struct comm **out);

/* Memory of the ranks of `rows`, opened likewise, that moves beside the steps: kernels->open_mover. *out
 * NULL: it must go through the hosts. Collective. */
enum status comm_device_open_mover(struct kernels *k, struct comm *rows, struct comm *inner, int sums,
                                   struct mover **out);

/* Of the device, whichever way; of the host at most. What NCCL takes for itself is not known here. */
size_t comm_device_bytes(const struct kernels *k, int size, size_t most);
size_t comm_device_host_bytes(int size, size_t most);

#endif
