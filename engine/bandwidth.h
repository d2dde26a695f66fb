/* bandwidth.h - how fast memory and exchanges of this run are
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * What arrives is compared with what was sent, byte by byte; a difference is STATUS_BUG and names the
 * exchange, the size and the place. Times are the means of some repetitions; over ranks, the slowest counts.
 */
#ifndef BANDWIDTH_H
#define BANDWIDTH_H

#include "comm/comm.h"
#include "comm/mover.h"
#include "kernels/kernels.h"

struct bandwidth {
    const char *what;
    size_t bytes;   /* of memory that one call touches, or that a rank receives by it */
    double seconds; /* of one call */
};

enum bandwidth_memory {
    BANDWIDTH_ADD,
    BANDWIDTH_GATHER,
    BANDWIDTH_UPLOAD,
    BANDWIDTH_DOWNLOAD,
    BANDWIDTH_MEMORIES
};

/* One of the backend's own ways over memory, by matrices of `bytes`. This rank alone. */
enum status bandwidth_memory(struct kernels *k, enum bandwidth_memory way, size_t bytes,
                             struct bandwidth *out);

enum bandwidth_exchange {
    BANDWIDTH_BROADCAST,
    BANDWIDTH_ALL_GATHER,
    BANDWIDTH_ALL_TO_ALL,
    BANDWIDTH_BESIDE, /* the same begun and ended apart: of rows that have exchange_begin */
    BANDWIDTH_EXCHANGES
};

/* One exchange in which a rank receives about `bytes`. Collective over `rows`, whose memory is that of `k`;
 * `world` has the same ranks. */
enum status bandwidth_exchange(struct kernels *k, struct comm *rows, struct comm *world,
                               enum bandwidth_exchange way, size_t bytes, struct bandwidth *out);

/* `bytes`, a multiple of 4, of every rank's memory to the next rank's by `m`, which has a checksum for each
 * rank at least; these are compared too. Collective. */
enum status bandwidth_move(struct kernels *k, struct mover *m, struct comm *world, size_t bytes,
                           struct bandwidth *out);

#endif
