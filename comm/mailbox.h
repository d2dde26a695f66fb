/* mailbox.h - how ranks of one node tell each other that something has been written
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Calls are numbered 1, 2, ... (and wrap around), the same on all ranks. Each rank has a mailbox in shared
 * memory. Whoever has written what call n delivers to it leaves its mark there; a rank that sleeps is woken
 * by the last one it waits for. Each rank also publishes the call it began last: that is what makes old
 * memory free to be written again. */
#ifndef MAILBOX_H
#define MAILBOX_H

#include "engine/base/status.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mailbox {
    _Alignas(64) _Atomic uint32_t started; /* the call its rank began last */
    _Atomic uint32_t awaited;              /* ranks that sleep until it begins another */
    _Alignas(64) _Atomic uint32_t posted;  /* marks that were left, all together; its rank sleeps on it */
    _Atomic uint32_t sleeping;             /* 1: its rank sleeps, or is about to */
    _Atomic uint32_t wake_at;              /* value of `posted` at which waking it is worth while */
    _Atomic uint32_t mark[];               /* [ranks of the node] the latest call of which each left word */
};

/* Bytes of a mailbox on a node of `count` ranks, a multiple of 64. */
size_t mailbox_bytes(int count);

/* Is call a the same as or later than call b? */
static inline bool mailbox_reached(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) >= 0;
}

/* The owner begins a call. */
void mailbox_start(struct mailbox *own, uint32_t call);

/* Rank `from` has written what `call` delivers to the owner of `box`. */
void mailbox_post(struct mailbox *box, int from, uint32_t call);

/* Who of first ... first + count - 1, without `but`, has left no mark of `call`: their number; up to `limit`
 * of them in missing. */
int mailbox_missing(const struct mailbox *own, int first, int count, int but, uint32_t call, int *missing,
                    int limit);

/* The owner sleeps until `absent` more marks have been left since `seen` was read from `posted`, or for `nap`
 * ns. */
void mailbox_sleep(struct mailbox *own, uint32_t seen, int absent, int64_t nap);

/* Another rank sleeps until the owner of `box` begins `call`, or for `nap` ns. */
void mailbox_sleep_for_start(struct mailbox *box, uint32_t call, int64_t nap);

#endif
