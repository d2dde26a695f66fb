/* dispatch_fixed.c - rows to experts in places whose number is known before, so that the host waits for
 * nothing
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "comm/dispatch_fixed.h"

#include <string.h>

static int most_local(const struct placement *p)
{
    int most = 0;

    for (int r = 0; r < p->ranks; r++) {
        int slots = p->rank_first[r + 1] - p->rank_first[r];

        most = slots > most ? slots : most;
    }
    return most;
}

static int lesser(int a, int b)
{
    return a < b ? a : b;
}

static size_t row_bytes(const struct dispatch *d)
{
    return (size_t)deal_width(d->width) * sizeof(float);
}

int dispatch_fixed_most(const struct dispatch *d, const struct placement *p, bool always)
{
    size_t counts = (size_t)p->ranks * (size_t)p->layers * (size_t)p->slots * sizeof(int32_t);
    int64_t places = (int64_t)p->ranks * d->max_own * lesser(d->choices, most_local(p));
    int64_t fitting = DISPATCH_FIXED_BYTES / (int64_t)row_bytes(d);

    if ((!d->kernels->apart && !always) || counts > DISPATCH_FIXED_BYTES)
        return 0;
    return (int)(places < fitting ? places : fitting);
}

enum status dispatch_fixed_open(struct dispatch_fixed *f, struct arena *arena, struct dispatch *d,
                                const struct placement *p, int most)
{
    struct kernels *k = d->kernels;
    size_t layers = (size_t)p->layers, slots = (size_t)p->slots, ranks = (size_t)p->ranks;
    size_t table = (size_t)p->experts + 1 + slots;
    struct dispatch_fixed open = {.dispatch = d,
                                  .possible = most > 0,
                                  .layers = p->layers,
                                  .slots = p->slots,
                                  .max_local = most_local(p),
                                  .most = most};
    void *tables, *rank_first, *send, *counts;

    *f = open;
    if (!open.possible)
        return STATUS_OK;
    TRY(arena_take_array(arena, table, sizeof *f->built, "where experts lie", &open.built));
    TRY(arena_take_array(arena, layers * slots, sizeof *f->mine, "rows of slots", &open.mine));
    TRY(arena_take_array(arena, ranks * ranks, sizeof *f->bytes, "bytes of places", &open.bytes));
    TRY(k->alloc(k, layers * table * sizeof *f->tables, "where experts lie", &tables));
    TRY(k->alloc(k, (ranks + 1) * sizeof *f->rank_first, "slots of ranks", &rank_first));
    TRY(k->alloc(k, layers * slots * sizeof *f->counts, "rows of slots", &counts));
    TRY(k->alloc(k, (size_t)most * row_bytes(d), "rows to send", &send));
    open.tables = tables;
    open.rank_first = rank_first;
    open.counts = counts;
    open.send = (struct matrix){
        .data = send, .rows = most, .columns = deal_width(d->width), .stride = deal_width(d->width)};
    TRY(k->upload(k, rank_first, p->rank_first, (ranks + 1) * sizeof *f->rank_first));
    *f = open;
    return STATUS_OK;
}

/* Without the balancer a rank takes one slot of each expert, its own first. */
static int build_near(const struct dispatch_fixed *f, const struct placement *p, int layer, int32_t *first,
                      int32_t *slot)
{
    for (int e = 0; e < p->experts; e++) {
        int32_t expert = e;

        first[e] = e;
        placement_choose(p, layer, f->dispatch->grid->rank, &expert, &slot[e], 1);
    }
    first[p->experts] = p->experts;
    return p->experts;
}

static int build_all(const struct placement *p, int layer, int32_t *first, int32_t *slot)
{
    const int32_t *from = p->first + (ptrdiff_t)layer * (p->experts + 1);

    for (int e = 0; e <= p->experts; e++)
        first[e] = from[e] - from[0];
    memcpy(slot, p->replica + (ptrdiff_t)layer * p->slots + from[0],
           (size_t)first[p->experts] * sizeof *slot);
    return first[p->experts];
}

static enum status send_tables(struct dispatch_fixed *f, const struct placement *p)
{
    struct kernels *k = f->dispatch->kernels;
    size_t table = (size_t)p->experts + 1 + (size_t)p->slots;

    for (int layer = 0; layer < p->layers; layer++) {
        int32_t *first = f->built, *slot = f->built + p->experts + 1;
        int used =
            f->dispatch->replicas ? build_all(p, layer, first, slot) : build_near(f, p, layer, first, slot);

        TRY(k->upload(k, f->tables + (size_t)layer * table, f->built,
                      ((size_t)p->experts + 1 + (size_t)used) * sizeof *f->built));
    }
    f->version = p->version + 1;
    return STATUS_OK;
}

enum status dispatch_fixed_begin(struct dispatch_fixed *f, const struct placement *p, int rows, int most_own,
                                 int number, bool may)
{
    struct dispatch *d = f->dispatch;
    int64_t room = (int64_t)most_own * lesser(d->choices, f->max_local);

    f->room = 0;
    if (!f->possible || !may || room < 1 || room * p->ranks > f->most)
        return STATUS_OK;
    if (p->slots != f->slots || p->layers != f->layers || p->ranks != d->grid->ranks)
        return FAIL(STATUS_BUG, "a placement of %d layers and %d slots, places were made for %d and %d",
                    p->layers, p->slots, f->layers, f->slots);
    if (f->version != p->version + 1)
        TRY(send_tables(f, p));
    f->room = (int)room;
    f->rows = rows;
    f->number = number;
    return STATUS_OK;
}

static void fill_bytes(struct dispatch_fixed *f, size_t one)
{
    for (int i = 0; i < f->dispatch->grid->ranks * f->dispatch->grid->ranks; i++)
        f->bytes[i] = (size_t)f->room * one;
}

enum status dispatch_fixed_send(struct dispatch_fixed *f, int layer, struct matrix x, const int32_t *expert,
                                const float *scale, struct matrix *arrivals)
{
    struct dispatch *d = f->dispatch;
    struct kernels *k = d->kernels;
    struct comm *rows = d->grid->rows;
    int places = d->grid->ranks * f->room, experts = d->experts;
    int local = d->local_slots;
    const int32_t *table = f->tables + (ptrdiff_t)layer * (experts + 1 + f->slots);
    struct deal_table where = {.first = table,
                               .slot = table + experts + 1,
                               .rank_first = f->rank_first,
                               .experts = experts,
                               .slots = f->slots,
                               .ranks = d->grid->ranks};
    struct deal deal = {.out = matrix_top(f->send, places),
                        .x = x,
                        .expert = expert,
                        .scale = scale,
                        .table = &where,
                        .choices = d->choices,
                        .room = f->room,
                        .number = f->number,
                        .place = d->backend_place,
                        .counts = f->counts + (ptrdiff_t)layer * f->slots};
    struct matrix arrived = {.rows = places, .columns = deal_width(d->width), .stride = deal_width(d->width)};
    const void *data;

    TRY(k->deal(k, &deal));
    fill_bytes(f, row_bytes(d));
    TRY(rows->exchange(rows, deal.out.data, f->bytes, &data));
    arrived.data = (float *)(uintptr_t)data; /* only read */
    TRY(k->group(k, arrived, d->width, local, d->backend_order, d->backend_first));
    *arrivals = matrix_columns(arrived, 0, d->width);
    return STATUS_OK;
}

enum status dispatch_fixed_return(struct dispatch_fixed *f, struct matrix results, struct matrix *returned)
{
    struct dispatch *d = f->dispatch;
    struct comm *rows = d->grid->rows;
    const void *data;

    if (results.rows != d->grid->ranks * f->room || results.columns != d->width || results.stride != d->width)
        return FAIL(STATUS_BUG, "results [%d, %d] with %d from row to row, want [%d, %d] without gaps",
                    results.rows, results.columns, results.stride, d->grid->ranks * f->room, d->width);
    fill_bytes(f, (size_t)d->width * sizeof(float));
    TRY(rows->exchange(rows, results.data, f->bytes, &data));
    *returned = (struct matrix){
        .data = (float *)(uintptr_t)data, .rows = results.rows, .columns = d->width, .stride = d->width};
    return STATUS_OK;
}

enum status dispatch_fixed_collect(struct dispatch_fixed *f)
{
    struct dispatch *d = f->dispatch;
    struct comm *world = d->grid->world;
    size_t bytes = (size_t)f->layers * (size_t)f->slots * sizeof *f->mine;
    const void *all;

    TRY(d->kernels->download(d->kernels, f->mine, f->counts, bytes));
    for (int r = 0; r < d->grid->ranks; r++)
        f->bytes[r] = bytes;
    TRY(world->all_gather(world, f->mine, f->bytes, &all));
    f->all = all;
    return STATUS_OK;
}

void dispatch_fixed_layer(struct dispatch_fixed *f, const struct placement *p, int layer)
{
    struct dispatch *d = f->dispatch;
    const int32_t *expert = p->expert + (ptrdiff_t)layer * p->slots;

    memset(d->wanted, 0, (size_t)p->ranks * (size_t)p->experts * sizeof *d->wanted);
    for (int r = 0; r < p->ranks; r++) {
        const int32_t *from = f->all + ((ptrdiff_t)r * f->layers + layer) * f->slots;
        int32_t *wanted = d->wanted + (ptrdiff_t)r * p->experts;

        memcpy(d->counts + (ptrdiff_t)r * p->slots, from, (size_t)p->slots * sizeof *from);
        for (int s = 0; s < p->slots; s++)
            if (expert[s] >= 0)
                wanted[expert[s]] += from[s];
    }
}
