/* wait.h - how long to pause, to yield and to sleep while something has not come yet
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 *     struct wait w;
 *     wait_open(&w, pauses, asks, bell);
 *     while (not there yet) {
 *         TRY_or_close(wait_round(&w, &nap));
 *         if (nap > 0)
 *             sleep for at most nap nanoseconds, or until woken
 *     }
 *     wait_close(&w);
 *
 * A round pauses (where every rank of the node has a processor), later yields the processor, and at last asks
 * the caller to sleep. Who must ask again and again, because nobody wakes it (MPI), sleeps longer and longer,
 * up to 5 ms. */
#ifndef WAIT_H
#define WAIT_H

#include "engine/base/status.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct wait {
    int pauses;             /* left */
    bool asks;              /* nobody wakes this wait */
    size_t bytes;           /* under way by MPI; the caller keeps it */
    bool begun;             /* a first round has passed */
    int64_t yield_until;    /* clock_now */
    int64_t nap;            /* the last one, nanoseconds; 0: none yet */
    _Atomic uint32_t *bell; /* for watch_wait_begin */
};

/* A comm that sends by MPI is opened (+1) or closed (-1). While there is one, long waits of any comm let MPI
 * move what it still holds back. */
void wait_uses_mpi(int change);

void wait_open(struct wait *w, int pauses, bool asks, _Atomic uint32_t *bell);

/* One more round; *nap > 0: the caller sleeps now. Fails when the watchdog has found a failure. */
enum status wait_round(struct wait *w, int64_t *nap);

/* Something came, though not all: be quick again. */
void wait_again(struct wait *w);

void wait_close(struct wait *w);

#endif
