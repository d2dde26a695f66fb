/* dispatch.c - rows to the ranks that hold their experts, results back
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "comm/dispatch.h"

#include <limits.h>
#include <string.h>

struct dispatch_memory {
    int experts;        /* E */
    int slots;          /* per layer over all ranks, at most */
    int max_local;      /* of one rank, at most */
    int32_t *mine;      /* [E + 1] rows of this rank for each expert, then its note */
    int32_t *cursor;    /* [slots] where the next row of a slot goes */
    int32_t *left;      /* [slots] rows of this rank that a slot still takes */
    int32_t *replica;   /* [E] where in the placement's list the next row of an expert goes */
    int32_t *all;       /* [E] 0, 1, ... */
    int32_t *near;      /* [E] the slot that a rank takes first */
    int32_t *row;       /* [max_own * k] row of x that travels in each place */
    float *scale;       /* [max_own * k] its factor */
    int32_t *room;      /* [P] rows that may arrive at each rank */
    size_t *share;      /* [P] bytes of counts that each rank gives */
    size_t *out;        /* [P, P] bytes from each rank to each rank, and ... */
    size_t *back;       /* ... the other way */
    struct matrix send; /* [max_own * k, D] without gaps */

    /* of this step */
    const struct placement *placement;
    int rows, choices; /* T, k */
    bool planned;
};

static int local_slots(const struct placement *p, int rank)
{
    return p->rank_first[rank + 1] - p->rank_first[rank];
}

/* Rows that may arrive at each rank: everybody knows everybody's, so that all ranks refuse together. */
static enum status plan_room(const struct dispatch *d, const struct placement *placement, int32_t *room)
{
    for (int r = 0; r < placement->ranks; r++) {
        int slots = local_slots(placement, r);
        int64_t rows = (int64_t)d->max_rows * (slots < d->choices ? slots : d->choices);

        if (rows > INT_MAX)
            return FAIL(STATUS_BUG, "%d rows of %d choices are more than can be numbered", d->max_rows,
                        d->choices);
        room[r] = (int32_t)rows;
    }
    return STATUS_OK;
}

static enum status take_memory(struct dispatch *d, struct arena *arena, const struct placement *placement,
                               struct dispatch_memory *m)
{
    size_t sent = (size_t)d->max_own * (size_t)d->choices;
    size_t ranks = (size_t)d->grid->ranks;
    size_t experts = (size_t)placement->experts, slots = (size_t)placement->slots;

    m->experts = placement->experts;
    m->slots = placement->slots;
    for (int r = 0; r < placement->ranks; r++) {
        if (local_slots(placement, r) > m->max_local)
            m->max_local = local_slots(placement, r);
    }
    TRY(arena_take_array(arena, experts + 1, sizeof *m->mine, "counts of experts", &m->mine));
    TRY(arena_take_array(arena, slots, sizeof *m->cursor, "places in slots", &m->cursor));
    TRY(arena_take_array(arena, slots, sizeof *m->left, "room of slots", &m->left));
    TRY(arena_take_array(arena, experts, sizeof *m->replica, "replicas in use", &m->replica));
    TRY(arena_take_array(arena, experts, sizeof *m->all, "experts", &m->all));
    TRY(arena_take_array(arena, experts, sizeof *m->near, "near slots", &m->near));
    TRY(arena_take_array(arena, ranks * experts, sizeof *d->wanted, "counts of ranks", &d->wanted));
    TRY(arena_take_array(arena, ranks, sizeof *d->notes, "notes of ranks", &d->notes));
    TRY(arena_take_array(arena, ranks * slots, sizeof *d->counts, "counts of slots", &d->counts));
    for (int e = 0; e < m->experts; e++)
        m->all[e] = e;
    TRY(arena_take_array(arena, sent, sizeof *m->row, "rows to send", &m->row));
    TRY(arena_take_array(arena, sent, sizeof *m->scale, "factors to send", &m->scale));
    TRY(arena_take_array(arena, sent, sizeof *d->place, "places of choices", &d->place));
    TRY(arena_take_array(arena, ranks, sizeof *m->room, "room of ranks", &m->room));
    TRY(arena_take_array(arena, ranks, sizeof *m->share, "counts of ranks", &m->share));
    TRY(arena_take_array(arena, ranks * ranks, sizeof *m->out, "bytes to ranks", &m->out));
    TRY(arena_take_array(arena, ranks * ranks, sizeof *m->back, "bytes from ranks", &m->back));
    TRY(plan_room(d, placement, m->room));
    d->max_arrivals = m->room[d->grid->rank];
    TRY(arena_take_array(arena, (size_t)d->max_arrivals, sizeof *d->order, "order of arrivals", &d->order));
    return arena_take_array(arena, (size_t)m->max_local + 1, sizeof *d->first, "arrivals of slots",
                            &d->first);
}

/* Where the backend reads what the host has planned. */
static enum status take_arrays(struct dispatch *d)
{
    struct kernels *k = d->kernels;
    size_t places = (size_t)d->max_own * (size_t)d->choices;
    void *place, *order, *first;

    d->backend_place = d->place;
    d->backend_order = d->order;
    d->backend_first = d->first;
    if (!k->apart)
        return STATUS_OK;
    TRY(k->alloc(k, places * sizeof *d->place, "places of choices", &place));
    TRY(k->alloc(k, (size_t)d->max_arrivals * sizeof *d->order, "order of arrivals", &order));
    TRY(k->alloc(k, ((size_t)d->memory->max_local + 1) * sizeof *d->first, "arrivals of slots", &first));
    d->backend_place = place;
    d->backend_order = order;
    d->backend_first = first;
    return STATUS_OK;
}

enum status dispatch_open(struct dispatch *d, struct arena *arena, struct grid *grid, struct kernels *kernels,
                          const struct placement *placement, int width, int max_rows, int choices)
{
    struct dispatch open = {
        .grid = grid, .kernels = kernels, .width = width, .max_rows = max_rows, .choices = choices};
    struct dispatch_memory *m;
    void *send;

    if (width < 1 || max_rows < 1 || choices < 1 || max_rows > INT_MAX / choices)
        return FAIL(STATUS_BUG, "dispatch of %d rows of %d numbers, %d choices", max_rows, width, choices);
    if (placement->ranks != grid->ranks)
        return FAIL(STATUS_BUG, "a placement on %d ranks in a grid of %d", placement->ranks, grid->ranks);
    open.max_own = grid_rows(grid, max_rows, 0).count;
    TRY(arena_take(arena, sizeof *m, "dispatch", &m));
    TRY(take_memory(&open, arena, placement, m));
    TRY(kernels->alloc(kernels, (size_t)open.max_own * (size_t)choices * (size_t)width * sizeof(float),
                       "rows to send", &send));
    m->send =
        (struct matrix){.data = send, .rows = open.max_own * choices, .columns = width, .stride = width};
    open.memory = m;
    open.experts = placement->experts;
    open.local_slots = local_slots(placement, grid->rank);
    *d = open;
    return take_arrays(d);
}

enum status dispatch_widen(struct dispatch *d, struct arena *arena, int arrivals)
{
    struct kernels *k = d->kernels;
    void *order;

    if (arrivals <= d->max_arrivals)
        return STATUS_OK;
    if (k->apart) {
        TRY(k->alloc(k, (size_t)arrivals * sizeof *d->order, "order of arrivals", &order));
        k->release(k, d->backend_order);
        d->backend_order = order;
        return STATUS_OK;
    }
    TRY(arena_take_array(arena, (size_t)arrivals, sizeof *d->order, "order of arrivals", &d->order));
    d->backend_order = d->order;
    return STATUS_OK;
}

bool dispatch_wants_nodes(enum dispatch_way way, const int32_t *rank_node, int choices)
{
    return rank_node && (way == DISPATCH_NODE_ONCE || (way == DISPATCH_AUTO && choices > 1));
}

enum status dispatch_by_nodes(struct dispatch *d, struct arena *arena, const struct placement *placement)
{
    struct node_once_shape shape = {.rank_node = d->rank_node,
                                    .placement = placement,
                                    .width = d->width,
                                    .rows = d->max_rows,
                                    .own = d->max_own,
                                    .choices = d->choices,
                                    .arrivals = d->max_arrivals};
    struct node_once *once;

    TRY(arena_take_array(arena, 1, sizeof *once, "rows once to each node", &once));
    TRY(node_once_open(once, arena, d->grid, d->kernels, &shape));
    d->once = once;
    return STATUS_OK;
}

void dispatch_close(struct dispatch *d)
{
    if (d->once)
        node_once_close(d->once);
    if (d->memory)
        d->kernels->release(d->kernels, d->memory->send.data);
    if (d->memory && d->kernels->apart) {
        d->kernels->release(d->kernels, d->backend_place);
        d->kernels->release(d->kernels, d->backend_order);
        d->kernels->release(d->kernels, d->backend_first);
    }
    memset(d, 0, sizeof *d);
}

static enum status count_mine(struct dispatch *d, const int32_t *expert)
{
    struct dispatch_memory *m = d->memory;

    memset(m->mine, 0, sizeof *m->mine * (size_t)m->experts);
    for (int i = 0; i < m->rows * m->choices; i++) {
        if (expert[i] < 0 || expert[i] >= m->experts)
            return FAIL(STATUS_BUG, "choice %d of row %d is expert %d of %d", i % m->choices, i / m->choices,
                        expert[i], m->experts);
        m->mine[expert[i]]++;
    }
    m->mine[m->experts] = d->note;
    return STATUS_OK;
}

/* One exchange for all: what each rank wants, and its note. */
static enum status gather_wanted(struct dispatch *d)
{
    struct dispatch_memory *m = d->memory;
    struct comm *world = d->grid->world;
    size_t experts = (size_t)m->experts;
    const int32_t *row;
    const void *all;

    for (int r = 0; r < d->grid->ranks; r++)
        m->share[r] = (experts + 1) * sizeof(int32_t);
    TRY(world->all_gather(world, m->mine, m->share, &all));
    row = all;
    for (int r = 0; r < d->grid->ranks; r++, row += experts + 1) {
        for (size_t e = 0; e < experts; e++) {
            if (row[e] < 0)
                return FAIL(STATUS_BUG, "rank %d sends %d rows to expert %zu", r, row[e], e);
        }
        memcpy(d->wanted + (size_t)r * experts, row, experts * sizeof *row);
        d->notes[r] = row[experts];
    }
    return STATUS_OK;
}

/* Every rank takes one slot of each expert, its own first. */
static void share_near(struct dispatch *d, int layer)
{
    struct dispatch_memory *m = d->memory;
    const struct placement *p = m->placement;

    for (int r = 0; r < d->grid->ranks; r++) {
        const int32_t *wanted = d->wanted + (ptrdiff_t)r * m->experts;
        int32_t *counts = d->counts + (ptrdiff_t)r * p->slots;

        memset(counts, 0, sizeof *counts * (size_t)p->slots);
        placement_choose(p, layer, r, m->all, m->near, m->experts);
        for (int e = 0; e < m->experts; e++)
            counts[m->near[e]] = wanted[e];
    }
}

static enum status share_rows(struct dispatch *d, int layer)
{
    struct replicas_result result;

    if (d->replicas)
        return replicas_share(d->replicas, d->memory->placement, layer, d->wanted, d->policy, d->cost,
                              d->counts, &result);
    share_near(d, layer);
    return STATUS_OK;
}

/* This rank's rows of an expert go to its slots in their order, as many to each as was planned. They leave by
 * slot, that is by rank and slot, then by row and choice; they come back to the same places. */
static enum status plan_places(struct dispatch *d, int layer, const int32_t *expert)
{
    struct dispatch_memory *m = d->memory;
    const struct placement *p = m->placement;
    const int32_t *counts = d->counts + (ptrdiff_t)d->grid->rank * p->slots;
    const int32_t *first = p->first + (ptrdiff_t)layer * (p->experts + 1);
    const int32_t *replica = p->replica + (ptrdiff_t)layer * p->slots;
    int sent = 0;

    for (int s = 0; s < p->slots; s++) {
        m->cursor[s] = sent;
        m->left[s] = counts[s];
        sent += counts[s];
    }
    memcpy(m->replica, first, sizeof *first * (size_t)p->experts);
    for (int i = 0; i < m->rows * m->choices; i++) {
        int e = expert[i], slot;

        while (m->replica[e] < first[e + 1] && m->left[replica[m->replica[e]]] == 0)
            m->replica[e]++;
        if (m->replica[e] == first[e + 1])
            return FAIL(STATUS_BUG, "the slots of expert %d of layer %d take fewer rows than there are", e,
                        layer);
        slot = replica[m->replica[e]];
        m->left[slot]--;
        d->place[i] = m->cursor[slot]++;
        m->row[d->place[i]] = i / m->choices;
    }
    if (sent != m->rows * m->choices)
        return FAIL(STATUS_BUG, "%d rows were planned for layer %d, there are %d", sent, layer,
                    m->rows * m->choices);
    d->sent = sent;
    return STATUS_OK;
}

/* What every rank sends to every rank, checked against the room of all. */
static enum status plan_bytes(struct dispatch *d)
{
    struct dispatch_memory *m = d->memory;
    const struct placement *p = m->placement;
    int ranks = d->grid->ranks;
    size_t row_bytes = (size_t)d->width * sizeof(float);

    for (int to = 0; to < ranks; to++) {
        int64_t arriving = 0;

        for (int from = 0; from < ranks; from++) {
            int64_t rows = 0;

            for (int s = p->rank_first[to]; s < p->rank_first[to + 1]; s++) {
                int32_t count = d->counts[(ptrdiff_t)from * p->slots + s];

                if (count < 0)
                    return FAIL(STATUS_BUG, "rank %d sends %d rows to slot %d", from, count, s);
                rows += count;
            }
            m->out[(ptrdiff_t)from * ranks + to] = (size_t)rows * row_bytes;
            m->back[(ptrdiff_t)to * ranks + from] = (size_t)rows * row_bytes;
            arriving += rows;
        }
        if (arriving > m->room[to])
            return FAIL(STATUS_BUG, "%lld rows go to rank %d, which has room for %d", (long long)arriving, to,
                        m->room[to]);
        if (to == d->grid->rank)
            d->arriving = (int)arriving;
    }
    return STATUS_OK;
}

enum status dispatch_plan(struct dispatch *d, const struct placement *placement, int layer,
                          const int32_t *expert, int rows, int choices)
{
    struct dispatch_memory *m = d->memory;

    if (rows < 0 || rows > d->max_own || choices < 1 || choices > d->choices)
        return FAIL(STATUS_BUG, "dispatch of %d rows with %d choices, made for %d with %d", rows, choices,
                    d->max_rows, d->choices);
    if (placement->ranks != d->grid->ranks || placement->slots > m->slots ||
        placement->experts != m->experts || layer < 0 || layer >= placement->layers ||
        local_slots(placement, d->grid->rank) > m->max_local)
        return FAIL(STATUS_BUG,
                    "layer %d of a placement of %d slots on %d ranks, dispatch was made for %d on %d", layer,
                    placement->slots, placement->ranks, m->slots, d->grid->ranks);
    m->placement = placement;
    m->rows = rows;
    m->choices = choices;
    TRY(count_mine(d, expert));
    TRY(gather_wanted(d));
    TRY(share_rows(d, layer));
    TRY(plan_places(d, layer, expert));
    TRY(plan_bytes(d));
    m->planned = true;
    return STATUS_OK;
}

/* Arrivals stand by source rank, then slot; order lists them by slot, then source rank. */
static void group_arrivals(struct dispatch *d)
{
    struct dispatch_memory *m = d->memory;
    const struct placement *p = m->placement;
    int slots = local_slots(p, d->grid->rank);
    const int32_t *counts = d->counts + p->rank_first[d->grid->rank];
    int32_t row = 0;

    memset(d->first, 0, sizeof *d->first * ((size_t)slots + 1));
    for (int from = 0; from < d->grid->ranks; from++) {
        for (int s = 0; s < slots; s++)
            d->first[s + 1] += counts[(ptrdiff_t)from * p->slots + s];
    }
    for (int s = 0; s < slots; s++) {
        d->first[s + 1] += d->first[s];
        m->cursor[s] = d->first[s];
    }
    for (int from = 0; from < d->grid->ranks; from++) {
        for (int s = 0; s < slots; s++) {
            for (int32_t n = counts[(ptrdiff_t)from * p->slots + s]; n > 0; n--)
                d->order[m->cursor[s]++] = row++;
        }
    }
}

static enum status upload_arrays(struct dispatch *d)
{
    struct kernels *k = d->kernels;
    const struct placement *p = d->memory->placement;
    size_t places = (size_t)d->memory->rows * (size_t)d->memory->choices;
    size_t firsts = (size_t)local_slots(p, d->grid->rank) + 1;

    if (!k->apart)
        return STATUS_OK;
    TRY(k->upload(k, d->backend_place, d->place, places * sizeof *d->place));
    TRY(k->upload(k, d->backend_order, d->order, (size_t)d->arriving * sizeof *d->order));
    return k->upload(k, d->backend_first, d->first, firsts * sizeof *d->first);
}

int64_t dispatch_crossing(const struct dispatch *d, const struct placement *p)
{
    int64_t rows = 0;

    for (int from = 0; d->rank_node && from < p->ranks; from++) {
        const int32_t *counts = d->counts + (ptrdiff_t)from * p->slots;

        for (int to = 0; to < p->ranks; to++)
            for (int s = p->rank_first[to];
                 d->rank_node[to] != d->rank_node[from] && s < p->rank_first[to + 1]; s++)
                rows += counts[s];
    }
    return rows;
}

static enum status send_straight(struct dispatch *d, struct matrix x, const float *factor,
                                 struct matrix *arrivals)
{
    struct dispatch_memory *m = d->memory;
    struct comm *rows = d->grid->rows;
    const void *arrived;

    if (d->sent > 0)
        TRY(d->kernels->gather(d->kernels, matrix_top(m->send, d->sent), x, m->row, factor));
    TRY(rows->exchange(rows, m->send.data, m->out, &arrived));
    /* The table's receive pointers are read-only by contract; a matrix that is only read may view them. */
    *arrivals = (struct matrix){
        .data = (float *)arrived, .rows = d->arriving, .columns = d->width, .stride = d->width};
    d->crossed = d->crossed_direct;
    return STATUS_OK;
}

static enum status send_by_nodes(struct dispatch *d, struct matrix x, const float *factor,
                                 struct matrix *arrivals)
{
    struct dispatch_memory *m = d->memory;
    struct node_once_rows rows = {
        .bytes = m->out, .row = m->row, .factor = factor, .x = x, .leaving = m->send};

    TRY(node_once_send(d->once, &rows, arrivals));
    d->crossed = d->once->crossed;
    return STATUS_OK;
}

enum status dispatch_send(struct dispatch *d, struct matrix x, const float *scale, struct matrix *arrivals)
{
    struct dispatch_memory *m = d->memory;
    const float *factor = scale ? m->scale : NULL;

    if (!d->memory->planned)
        return FAIL(STATUS_BUG, "dispatch_send without dispatch_plan");
    if (x.rows != m->rows || x.columns != d->width)
        return FAIL(STATUS_BUG, "dispatch of [%d, %d], planned for [%d, %d]", x.rows, x.columns, m->rows,
                    d->width);
    for (int i = 0; scale && i < m->rows * m->choices; i++)
        m->scale[d->place[i]] = scale[i];
    d->crossed_direct = dispatch_crossing(d, m->placement);
    if (d->once && d->crossed_direct > 0)
        TRY(send_by_nodes(d, x, factor, arrivals));
    else
        TRY(send_straight(d, x, factor, arrivals));
    group_arrivals(d);
    return upload_arrays(d);
}

enum status dispatch_return(struct dispatch *d, struct matrix results, struct matrix *returned)
{
    struct comm *rows = d->grid->rows;
    const void *arrived;

    if (!d->memory->planned)
        return FAIL(STATUS_BUG, "dispatch_return without dispatch_plan");
    if (results.rows != d->arriving || results.columns != d->width || results.stride != d->width)
        return FAIL(STATUS_BUG, "results [%d, %d] with %d from row to row, want [%d, %d] without gaps",
                    results.rows, results.columns, results.stride, d->arriving, d->width);
    TRY(rows->exchange(rows, results.data, d->memory->back, &arrived));
    d->memory->planned = false;
    *returned =
        (struct matrix){.data = (float *)arrived, .rows = d->sent, .columns = d->width, .stride = d->width};
    return STATUS_OK;
}
