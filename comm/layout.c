/* layout.c - where everybody's bytes lie when all counts are known
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "comm/layout.h"

#include <string.h>

enum status layout_open(struct layout *l, struct arena *arena, int rank, int size, size_t most)
{
    size_t **const arrays[] = {&l->send_at, &l->place_at, &l->from_at, &l->total};

    l->rank = rank;
    l->size = size;
    l->most = most;
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        TRY(arena_take_array(arena, (size_t)size, sizeof(size_t), "the layout of exchanges", arrays[i]));
    return STATUS_OK;
}

enum status layout_exchange(struct layout *l, const size_t *bytes)
{
    const size_t *mine = bytes + (size_t)l->rank * (size_t)l->size;
    size_t at = 0;

    memset(l->total, 0, (size_t)l->size * sizeof *l->total);
    for (int s = 0; s < l->size; s++) {
        const size_t *row = bytes + (size_t)s * (size_t)l->size;

        l->from_at[s] = l->total[l->rank];
        if (s == l->rank)
            memcpy(l->place_at, l->total, (size_t)l->size * sizeof *l->total);
        for (int d = 0; d < l->size; d++)
            l->total[d] += row[d];
    }
    for (int d = 0; d < l->size; d++) {
        l->send_at[d] = at;
        at += mine[d];
        if (l->total[d] > l->most)
            return FAIL(STATUS_BUG,
                        "an exchange of %d ranks brings %zu bytes to rank %d, which has room for %zu",
                        l->size, l->total[d], d, l->most);
    }
    return STATUS_OK;
}

enum status layout_gather(struct layout *l, const size_t *bytes, size_t room)
{
    size_t at = 0;

    for (int s = 0; s < l->size; s++) {
        l->from_at[s] = at;
        l->place_at[s] = at;
        at += bytes[s];
    }
    l->total[0] = at;
    if (at > room)
        return FAIL(STATUS_BUG, "%d ranks gather %zu bytes, there is room for %zu", l->size, at, room);
    return STATUS_OK;
}

size_t layout_sum(const size_t *bytes, int count, int step)
{
    size_t total = 0;

    for (int i = 0; i < count; i++)
        total += bytes[(ptrdiff_t)i * step];
    return total;
}
