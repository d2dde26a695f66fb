/* deal.c - rows dealt out to ranks, and grouped where they arrive, for backends on the processor
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels/deal.h"

#include <string.h>

enum status deal_check(const struct deal *d)
{
    const struct deal_table *t = d->table;

    if (d->out.columns != deal_width(d->x.columns) || d->room < 0 || d->choices < 1 ||
        d->out.rows != t->ranks * d->room)
        return FAIL(STATUS_BUG, "[%d, %d] with %d choices dealt to %d ranks of %d places, into [%d, %d]",
                    d->x.rows, d->x.columns, d->choices, t->ranks, d->room, d->out.rows, d->out.columns);
    return STATUS_OK;
}

static float *row_of(struct matrix m, int row)
{
    return m.data + (ptrdiff_t)row * m.stride;
}

static void set_mark(struct matrix out, int row, int width, int32_t mark)
{
    memcpy(row_of(out, row) + deal_mark(width), &mark, sizeof mark);
}

static int rank_of(const struct deal_table *t, int slot)
{
    int rank = 0;

    while (t->rank_first[rank + 1] <= slot)
        rank++;
    return rank;
}

/* The next free place of a rank is the first whose mark says that it is empty. */
static int free_place(const struct deal *d, int rank)
{
    int32_t mark;

    for (int i = 0; i < d->room; i++) {
        memcpy(&mark, row_of(d->out, rank * d->room + i) + deal_mark(d->x.columns), sizeof mark);
        if (mark < 0)
            return rank * d->room + i;
    }
    return -1;
}

enum status deal_rows(struct kernels *k, const struct deal *d)
{
    const struct deal_table *t = d->table;
    int width = d->x.columns;

    (void)k;
    TRY(deal_check(d));
    memset(d->counts, 0, (size_t)t->slots * sizeof *d->counts);
    for (int row = 0; row < d->out.rows; row++)
        set_mark(d->out, row, width, -1);
    for (int i = 0; i < d->x.rows * d->choices; i++) {
        int e = d->expert[i], row = i / d->choices, slot, rank, place;

        if (e < 0 || e >= t->experts)
            return FAIL(STATUS_BUG, "choice %d of row %d is expert %d of %d", i % d->choices, row, e,
                        t->experts);
        slot = t->slot[t->first[e] + (int)DEAL_HASH(d->number + row, t->first[e + 1] - t->first[e])];
        rank = rank_of(t, slot);
        place = free_place(d, rank);
        if (place < 0)
            return FAIL(STATUS_BUG, "rank %d has no place for more than %d rows of this one", rank, d->room);
        for (int c = 0; c < width; c++)
            row_of(d->out, place)[c] = d->scale ? row_of(d->x, row)[c] * d->scale[i] : row_of(d->x, row)[c];
        set_mark(d->out, place, width, slot - t->rank_first[rank]);
        d->place[i] = place;
        d->counts[slot]++;
    }
    return STATUS_OK;
}

enum status deal_group(struct kernels *k, struct matrix arrivals, int width, int slots, int32_t *order,
                       int32_t *first)
{
    int next = 0;

    (void)k;
    if (arrivals.columns != deal_width(width))
        return FAIL(STATUS_BUG, "rows of %d numbers that travelled as %d", width, arrivals.columns);
    for (int slot = 0; slot < slots; slot++) {
        first[slot] = next;
        for (int row = 0; row < arrivals.rows; row++) {
            int32_t mark;

            memcpy(&mark, row_of(arrivals, row) + deal_mark(width), sizeof mark);
            if (mark == slot)
                order[next++] = row;
        }
    }
    first[slots] = next;
    return STATUS_OK;
}
