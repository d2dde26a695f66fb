/* mailbox.c - how ranks of one node tell each other that something has been written
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * No wake is lost: the sleeper announces itself and then reads the word once more, the other changes the word
 * and then looks for the announcement, all in one total order (seq_cst). What changes the word between that
 * last look and the sleep is seen by the kernel, which compares it again. */
#include "comm/mailbox.h"

#include "comm/futex.h"

size_t mailbox_bytes(int count)
{
    size_t bytes = offsetof(struct mailbox, mark) + (size_t)count * sizeof(_Atomic uint32_t);

    return (bytes + 63) / 64 * 64;
}

void mailbox_start(struct mailbox *own, uint32_t call)
{
    atomic_store(&own->started, call);
    if (atomic_load(&own->awaited) > 0)
        futex_wake(&own->started);
}

void mailbox_post(struct mailbox *box, int from, uint32_t call)
{
    uint32_t posted;

    atomic_store_explicit(&box->mark[from], call, memory_order_release);
    posted = atomic_fetch_add(&box->posted, 1) + 1;
    if (atomic_load(&box->sleeping) && mailbox_reached(posted, atomic_load(&box->wake_at)))
        futex_wake(&box->posted);
}

int mailbox_missing(const struct mailbox *own, int first, int count, int but, uint32_t call, int *missing,
                    int limit)
{
    int found = 0;

    for (int i = first; i < first + count; i++) {
        if (i == but || mailbox_reached(atomic_load_explicit(&own->mark[i], memory_order_acquire), call))
            continue;
        if (found < limit)
            missing[found] = i;
        found++;
    }
    return found;
}

void mailbox_sleep(struct mailbox *own, uint32_t seen, int absent, int64_t nap)
{
    uint32_t enough = seen + (uint32_t)absent;
    uint32_t posted;

    atomic_store(&own->wake_at, enough);
    atomic_store(&own->sleeping, 1);
    posted = atomic_load(&own->posted);
    if (!mailbox_reached(posted, enough))
        futex_wait(&own->posted, posted, nap);
    atomic_store_explicit(&own->sleeping, 0, memory_order_relaxed);
}

void mailbox_sleep_for_start(struct mailbox *box, uint32_t call, int64_t nap)
{
    uint32_t started;

    atomic_fetch_add(&box->awaited, 1);
    started = atomic_load(&box->started);
    if (!mailbox_reached(started, call))
        futex_wait(&box->started, started, nap);
    atomic_fetch_sub(&box->awaited, 1);
}
