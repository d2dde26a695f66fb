/* migrate_probe.c - how fast experts would move from rank to rank
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/migrate_probe.h"

#include "engine/base/clock.h"

#include <string.h>

enum { PROBE_ROUNDS = 4 };

/* Of staging to the next rank's, which nobody uses yet; *bytes from each rank. */
static enum status probe_moves(struct migrate *m, size_t *bytes)
{
    int ranks = m->grid->ranks, me = m->grid->rank;
    struct mover_piece pieces[] = {
        {.from = me, .to = (me + 1) % ranks, .source = m->room[0].down.data},
        {.from = (me + ranks - 1) % ranks, .to = me, .target = m->room[0].gate_up.data},
    };
    bool ready = false;

    *bytes = m->slot.down < m->slot.gate_up ? m->slot.down : m->slot.gate_up;
    *bytes = *bytes < m->chunk ? *bytes : m->chunk;
    pieces[0].bytes = pieces[1].bytes = *bytes;
    TRY(m->grid->mover->send(m->grid->mover, pieces, 2));
    while (!ready)
        TRY(migrate_ready(m, &ready));
    return STATUS_OK;
}

static enum status probe_exchange(struct migrate *m, size_t *bytes)
{
    struct comm *world = m->grid->world;
    int ranks = m->grid->ranks;
    const void *arrived;

    *bytes = m->chunk;
    memset(m->between, 0, (size_t)ranks * (size_t)ranks * sizeof *m->between);
    for (int r = 0; r < ranks; r++)
        m->between[(ptrdiff_t)r * ranks + (r + 1) % ranks] = m->chunk;
    return world->exchange(world, m->pack, m->between, &arrived);
}

enum status migrate_probe(struct migrate *m, double *bytes_per_ns)
{
    *bytes_per_ns = 0;
    if (m->grid->ranks == 1 || m->staging == 0)
        return STATUS_OK;
    for (int round = 0; round < PROBE_ROUNDS; round++) { /* the first one touches the memory */
        int64_t start = clock_now();
        size_t bytes;
        double rate;

        TRY(m->grid->mover ? probe_moves(m, &bytes) : probe_exchange(m, &bytes));
        rate = (double)bytes * m->grid->ranks / (double)(clock_now() - start + 1);
        *bytes_per_ns = rate > *bytes_per_ns ? rate : *bytes_per_ns;
    }
    return STATUS_OK;
}
