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

/* What cohorts cannot have as parts of arrays that the step has anyway. */
static enum status open_cohorts(struct dispatch_fixed *f, struct arena *arena)
{
    struct kernels *k = f->dispatch->kernels;
    size_t counts = (size_t)f->layers * (size_t)f->slots;
    void *memory;

    for (int i = 0; i < (f->halves ? DISPATCH_COHORTS : 1); i++) {
        TRY(k->alloc(k, counts * sizeof(int32_t), "rows of slots", &memory));
        f->cohort[i].counts = memory;
    }
    if (!f->halves)
        return STATUS_OK;
    return arena_take_array(arena, counts, sizeof *f->other, "rows of slots", &f->other);
}

enum status dispatch_fixed_open(struct dispatch_fixed *f, struct arena *arena, struct dispatch *d,
                                const struct placement *p, int most, bool halves)
{
    struct kernels *k = d->kernels;
    size_t layers = (size_t)p->layers, slots = (size_t)p->slots, ranks = (size_t)p->ranks;
    size_t table = (size_t)p->experts + 1 + slots;
    struct dispatch_fixed open = {.dispatch = d,
                                  .possible = most > 0,
                                  .layers = p->layers,
                                  .slots = p->slots,
                                  .max_local = most_local(p),
                                  .most = most,
                                  .halves = halves};
    void *tables, *rank_first, *send;

    *f = open;
    if (!open.possible)
        return STATUS_OK;
    TRY(arena_take_array(arena, table, sizeof *f->built, "where experts lie", &open.built));
    TRY(arena_take_array(arena, layers * slots, sizeof *f->mine, "rows of slots", &open.mine));
    TRY(arena_take_array(arena, ranks * ranks, sizeof *f->bytes, "bytes of places", &open.bytes));
    TRY(k->alloc(k, layers * table * sizeof *f->tables, "where experts lie", &tables));
    TRY(k->alloc(k, (ranks + 1) * sizeof *f->rank_first, "slots of ranks", &rank_first));
    TRY(k->alloc(k, (size_t)most * row_bytes(d), "rows to send", &send));
    open.tables = tables;
    open.rank_first = rank_first;
    open.send = (struct matrix){
        .data = send, .rows = most, .columns = deal_width(d->width), .stride = deal_width(d->width)};
    TRY(k->upload(k, rank_first, p->rank_first, (ranks + 1) * sizeof *f->rank_first));
    TRY(open_cohorts(&open, arena));
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

/* Into halves, of which the first is the longer one, on a rank with few rows too. Both have their part of the
 * arrays of the whole step. */
static void cut_rows(struct dispatch_fixed *f, int most_own, int own)
{
    struct dispatch *d = f->dispatch;
    int place = 0;

    f->cohorts = f->halves && most_own >= DISPATCH_COHORTS ? DISPATCH_COHORTS : 1;
    for (int i = 0; i < f->cohorts; i++) {
        struct dispatch_fixed_cohort *part = &f->cohort[i];

        part->own = range_share(own, f->cohorts, i);
        part->room = range_share(most_own, f->cohorts, i).count * lesser(d->choices, f->max_local);
        part->first = place;
        part->places = part->room * d->grid->ranks;
        part->place = d->backend_place + (ptrdiff_t)part->own.first * d->choices;
        place += part->places;
    }
}

enum status dispatch_fixed_begin(struct dispatch_fixed *f, const struct placement *p, int rows, int most_own,
                                 int own, int number, bool may)
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
    cut_rows(f, most_own, own);
    return STATUS_OK;
}

/* `one`: bytes of a place. */
static enum status exchange_begin(struct dispatch_fixed *f, struct dispatch_fixed_cohort *cohort,
                                  bool meanwhile, const void *mine, size_t one)
{
    struct comm *rows = f->dispatch->grid->rows;

    for (int i = 0; i < rows->size * rows->size; i++)
        f->bytes[i] = (size_t)cohort->room * one;
    return beside_begin(&cohort->travels, rows, meanwhile, mine, f->bytes);
}

/* What was begun last, as rows of D numbers. */
static struct matrix arrived(const struct dispatch_fixed_cohort *cohort, int width, int stride)
{
    return (struct matrix){.data = (float *)(uintptr_t)cohort->travels.arrived, /* only read */
                           .rows = cohort->places,
                           .columns = width,
                           .stride = stride};
}

enum status dispatch_fixed_send(struct dispatch_fixed *f, int cohort, int layer, struct matrix x,
                                const int32_t *expert, const float *scale)
{
    struct dispatch *d = f->dispatch;
    struct dispatch_fixed_cohort *part = &f->cohort[cohort];
    ptrdiff_t first = (ptrdiff_t)part->own.first * d->choices;
    int experts = d->experts;
    const int32_t *table = f->tables + (ptrdiff_t)layer * (experts + 1 + f->slots);
    struct deal_table where = {.first = table,
                               .slot = table + experts + 1,
                               .rank_first = f->rank_first,
                               .experts = experts,
                               .slots = f->slots,
                               .ranks = d->grid->ranks};
    struct deal deal = {.out = matrix_rows(f->send, part->first, part->places),
                        .x = matrix_rows(x, part->own.first, part->own.count),
                        .expert = expert + first,
                        .scale = scale ? scale + first : NULL,
                        .table = &where,
                        .choices = d->choices,
                        .room = part->room,
                        .number = f->number + part->own.first,
                        .place = part->place,
                        .counts = part->counts + (ptrdiff_t)layer * f->slots};

    TRY(d->kernels->deal(d->kernels, &deal));
    return exchange_begin(f, part, d->beside, deal.out.data, row_bytes(d));
}

enum status dispatch_fixed_arrive(struct dispatch_fixed *f, int cohort, struct matrix *arrivals)
{
    struct dispatch *d = f->dispatch;
    struct dispatch_fixed_cohort *part = &f->cohort[cohort];
    struct matrix rows = arrived(part, deal_width(d->width), deal_width(d->width));

    TRY(beside_end(&part->travels, d->grid->rows));
    TRY(d->kernels->group(d->kernels, rows, d->width, d->local_slots, d->backend_order, d->backend_first));
    *arrivals = matrix_columns(rows, 0, d->width);
    return STATUS_OK;
}

enum status dispatch_fixed_return(struct dispatch_fixed *f, int cohort, struct matrix results)
{
    struct dispatch *d = f->dispatch;
    struct dispatch_fixed_cohort *part = &f->cohort[cohort];

    if (results.rows != part->places || results.columns != d->width || results.stride != d->width)
        return FAIL(STATUS_BUG, "results [%d, %d] with %d from row to row, want [%d, %d] without gaps",
                    results.rows, results.columns, results.stride, part->places, d->width);
    return exchange_begin(f, part, f->cohorts > 1, results.data, (size_t)d->width * sizeof(float));
}

enum status dispatch_fixed_returned(struct dispatch_fixed *f, int cohort, struct matrix *returned)
{
    struct dispatch_fixed_cohort *part = &f->cohort[cohort];

    TRY(beside_end(&part->travels, f->dispatch->grid->rows));
    *returned = arrived(part, f->dispatch->width, f->dispatch->width);
    return STATUS_OK;
}

enum status dispatch_fixed_collect(struct dispatch_fixed *f)
{
    struct dispatch *d = f->dispatch;
    struct comm *world = d->grid->world;
    size_t bytes = (size_t)f->layers * (size_t)f->slots * sizeof *f->mine;
    const void *all;

    TRY(d->kernels->download(d->kernels, f->mine, f->cohort[0].counts, bytes));
    if (f->cohorts > 1) {
        TRY(d->kernels->download(d->kernels, f->other, f->cohort[1].counts, bytes));
        for (int i = 0; i < f->layers * f->slots; i++)
            f->mine[i] += f->other[i];
    }
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
