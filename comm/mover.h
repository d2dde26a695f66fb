/* mover.h - the table of a mover: memory of a backend goes from rank to rank beside its steps
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * One struct mover is all ranks. begin, send and close are collective: all ranks call them in the same order
 * between the same exchanges, with agreeing arguments. The host waits in none of them. What is sent comes
 * behind all that the backend was asked for before, and travels while it goes on. Until all ranks are ready
 * nobody changes a source nor touches a target.
 *
 * Of what is sent, and of what then lies in the targets, checksums are kept (kernels/checksum.h), so that
 * the caller can compare both ends. */
#ifndef MOVER_H
#define MOVER_H

#include "engine/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Backend memory that goes from one rank to another or within one. */
struct mover_piece {
    int from, to;       /* ranks */
    const void *source; /* used at `from` */
    void *target;       /* used at `to` */
    size_t bytes, at;   /* `at` is where it stands in what it is a piece of; all four are multiples of 4 */
    int sum;            /* number of the checksum that it counts for */
};

struct mover {
    int sums; /* that there are */

    /* All checksums are 0. */
    enum status (*begin)(struct mover *m);

    enum status (*send)(struct mover *m, const struct mover_piece *pieces, int count);

    /* *ready: what this rank sends has left, and what it gets has arrived, of all calls so far. Then: sent
     * and held [sums], of its sources and of its targets. Not collective. */
    enum status (*ready)(struct mover *m, bool *ready, uint64_t *sent, uint64_t *held);

    /* What the backend is asked for from now on finds in the targets what was sent before. Not collective. */
    enum status (*join)(struct mover *m);

    void (*close)(struct mover *m); /* after a wait for all that was sent; frees the table as well */
};

#endif
