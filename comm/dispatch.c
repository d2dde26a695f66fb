/* dispatch.c - rows to the ranks that hold their experts, results back
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "comm/dispatch.h"

#include "comm/dispatch_split.h"

#include <limits.h>
#include <string.h>

struct dispatch_memory {
    int experts;        /* E */
    int slots;          /* per layer over all ranks, at most */
    int max_local;      /* of one rank, at most */
    int32_t *mine;      /* [2 E + 1] of each cohort, rows of this rank for each expert, then its note */
    int32_t *half;      /* [P, E] those of the first of two cohorts */
    int32_t *part;      /* [2, P, slots] rows of each of two cohorts for each slot */
    int32_t *cursor;    /* [slots] where the next row of a slot goes */
    int32_t *left;      /* [slots] rows of this rank that a slot still takes */
    int32_t *replica;   /* [E] where in the placement's list the next row of an expert goes */
    int32_t *all;       /* [E] 0, 1, ... */
    int32_t *near;      /* [E] the slot that a rank takes first */
    int32_t *row;       /* [max_own * k] row of x that travels in each place, by cohorts */
    float *scale;       /* [max_own * k] its factor */
    int32_t *room;      /* [P] rows that may arrive at each rank */
    size_t *share;      /* [P] bytes of counts that each rank gives */
    size_t *out;        /* [cohorts, P, P] bytes from each rank to each rank, and ... */
    size_t *back;       /* ... the other way */
    struct matrix send; /* [max_own * k, D] without gaps */

    /* of this step */
    const struct placement *placement;
    int rows, choices; /* T, k */
    int planned;       /* cohorts whose results have not come back */
    bool by_nodes; /* both cohorts, so that neither's arrivals lie in the comm while the other goes once */
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
    TRY(arena_take_array(arena, DISPATCH_COHORTS * experts + 1, sizeof *m->mine, "counts of experts",
                         &m->mine));
    TRY(arena_take_array(arena, ranks * experts, sizeof *m->half, "counts of a half", &m->half));
    TRY(arena_take_array(arena, DISPATCH_COHORTS * ranks * slots, sizeof *m->part, "counts of halves",
                         &m->part));
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
    TRY(arena_take_array(arena, DISPATCH_COHORTS * ranks * ranks, sizeof *m->out, "bytes to ranks", &m->out));
    TRY(arena_take_array(arena, DISPATCH_COHORTS * ranks * ranks, sizeof *m->back, "bytes from ranks",
                         &m->back));
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
    struct dispatch open = {.grid = grid,
                            .kernels = kernels,
                            .width = width,
                            .max_rows = max_rows,
                            .choices = choices,
                            .cohorts = 1};
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

/* This rank's rows of each cohort, and the message about them: what they want, and the note. */
static enum status count_mine(struct dispatch *d, const int32_t *expert)
{
    struct dispatch_memory *m = d->memory;
    int32_t *wanted = m->mine;

    memset(wanted, 0, sizeof *wanted * (size_t)(d->cohorts * m->experts));
    for (int c = 0; c < d->cohorts; c++, wanted += m->experts) {
        struct range own = range_share(m->rows, d->cohorts, c);

        for (int i = own.first * m->choices; i < (own.first + own.count) * m->choices; i++) {
            if (expert[i] < 0 || expert[i] >= m->experts)
                return FAIL(STATUS_BUG, "choice %d of row %d is expert %d of %d", i % m->choices,
                            i / m->choices, expert[i], m->experts);
            wanted[expert[i]]++;
        }
        d->cohort[c].own = own;
    }
    *wanted = d->note;
    return STATUS_OK;
}

/* One exchange for all: what each rank wants in each cohort, and its note. */
static enum status gather_wanted(struct dispatch *d)
{
    struct dispatch_memory *m = d->memory;
    struct comm *world = d->grid->world;
    size_t experts = (size_t)m->experts, length = (size_t)d->cohorts * experts + 1;
    const int32_t *row;
    const void *all;

    for (int r = 0; r < d->grid->ranks; r++)
        m->share[r] = length * sizeof(int32_t);
    TRY(world->all_gather(world, m->mine, m->share, &all));
    row = all;
    for (size_t r = 0; r < (size_t)d->grid->ranks; r++, row += length) {
        int32_t *wanted = d->wanted + r * experts;

        for (size_t i = 0; i + 1 < length; i++)
            if (row[i] < 0)
                return FAIL(STATUS_BUG, "rank %zu sends %d rows to expert %zu", r, row[i], i % experts);
        memcpy(wanted, row, experts * sizeof *row);
        d->notes[r] = row[length - 1];
        if (d->cohorts == 1)
            continue;
        memcpy(m->half + r * experts, row, experts * sizeof *row);
        for (size_t e = 0; e < experts; e++)
            wanted[e] += row[experts + e];
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

/* The plan of the layer is that of its cohorts together. */
static void share_cohorts(struct dispatch *d, int layer)
{
    struct dispatch_memory *m = d->memory;
    ptrdiff_t cells = (ptrdiff_t)d->grid->ranks * m->placement->slots;

    d->cohort[0].counts = d->counts;
    if (d->cohorts == 1)
        return;
    dispatch_split(m->placement, layer, d->wanted, m->half, d->counts, m->part);
    for (ptrdiff_t i = 0; i < cells; i++)
        m->part[cells + i] = d->counts[i] - m->part[i];
    for (int c = 0; c < d->cohorts; c++)
        d->cohort[c].counts = m->part + c * cells;
}

/* This rank's rows of an expert go to its slots in their order, as many to each as was planned. They leave by
 * slot, that is by rank and slot, then by row and choice; they come back to the same places. */
static enum status plan_places(struct dispatch *d, struct dispatch_cohort *cohort, int layer,
                               const int32_t *expert)
{
    struct dispatch_memory *m = d->memory;
    const struct placement *p = m->placement;
    const int32_t *counts = cohort->counts + (ptrdiff_t)d->grid->rank * p->slots;
    const int32_t *first = p->first + (ptrdiff_t)layer * (p->experts + 1);
    const int32_t *replica = p->replica + (ptrdiff_t)layer * p->slots;
    int begin = cohort->own.first * m->choices, end = begin + cohort->own.count * m->choices, sent = 0;

    for (int s = 0; s < p->slots; s++) {
        m->cursor[s] = sent;
        m->left[s] = counts[s];
        sent += counts[s];
    }
    if (sent != end - begin)
        return FAIL(STATUS_BUG, "%d rows were planned for layer %d, there are %d", sent, layer, end - begin);
    memcpy(m->replica, first, sizeof *first * (size_t)p->experts);
    for (int i = begin; i < end; i++) {
        int e = expert[i], slot;

        while (m->replica[e] < first[e + 1] && m->left[replica[m->replica[e]]] == 0)
            m->replica[e]++;
        if (m->replica[e] == first[e + 1])
            return FAIL(STATUS_BUG, "the slots of expert %d of layer %d take fewer rows than there are", e,
                        layer);
        slot = replica[m->replica[e]];
        m->left[slot]--;
        d->place[i] = m->cursor[slot]++;
        m->row[begin + d->place[i]] = i / m->choices;
    }
    cohort->sent = sent;
    cohort->first_sent = begin;
    cohort->place = d->backend_place + begin;
    return STATUS_OK;
}

/* Rows of a cohort from one rank to another, -1: somebody counted wrong. */
static int64_t rows_between(const struct placement *p, const struct dispatch_cohort *cohort, int from, int to)
{
    const int32_t *counts = cohort->counts + (ptrdiff_t)from * p->slots;
    int64_t rows = 0;

    for (int s = p->rank_first[to]; s < p->rank_first[to + 1]; s++) {
        if (counts[s] < 0)
            return -1;
        rows += counts[s];
    }
    return rows;
}

static size_t *bytes_of(const struct dispatch *d, size_t *bytes, int cohort)
{
    return bytes + (ptrdiff_t)cohort * d->grid->ranks * d->grid->ranks;
}

/* What every rank sends to every rank, checked against the room of all. */
static enum status plan_bytes(struct dispatch *d)
{
    struct dispatch_memory *m = d->memory;
    int ranks = d->grid->ranks;
    size_t row_bytes = (size_t)d->width * sizeof(float);

    for (int to = 0; to < ranks; to++) {
        int64_t arriving = 0;

        for (int c = 0; c < d->cohorts; c++) {
            struct dispatch_cohort *cohort = &d->cohort[c];
            int64_t before = arriving;

            for (int from = 0; from < ranks; from++) {
                int64_t rows = rows_between(m->placement, cohort, from, to);

                if (rows < 0)
                    return FAIL(STATUS_BUG, "rank %d sends fewer rows than none to rank %d", from, to);
                bytes_of(d, m->out, c)[(ptrdiff_t)from * ranks + to] = (size_t)rows * row_bytes;
                bytes_of(d, m->back, c)[(ptrdiff_t)to * ranks + from] = (size_t)rows * row_bytes;
                arriving += rows;
            }
            if (to != d->grid->rank)
                continue;
            cohort->first_arrival = (int)before;
            cohort->arriving = (int)(arriving - before);
        }
        if (arriving > m->room[to])
            return FAIL(STATUS_BUG, "%lld rows go to rank %d, which has room for %d", (long long)arriving, to,
                        m->room[to]);
    }
    return STATUS_OK;
}

enum status dispatch_plan(struct dispatch *d, const struct placement *placement, int layer,
                          const int32_t *expert, int rows, int choices)
{
    struct dispatch_memory *m = d->memory;

    if (rows < 0 || rows > d->max_own || choices < 1 || choices > d->choices || d->cohorts < 1 ||
        d->cohorts > DISPATCH_COHORTS)
        return FAIL(STATUS_BUG, "dispatch of %d rows with %d choices in %d cohorts, made for %d with %d",
                    rows, choices, d->cohorts, d->max_rows, d->choices);
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
    share_cohorts(d, layer);
    for (int c = 0; c < d->cohorts; c++)
        TRY(plan_places(d, &d->cohort[c], layer, expert));
    TRY(plan_bytes(d));
    d->crossed = 0;
    d->crossed_direct = dispatch_crossing(d, placement, d->counts);
    m->by_nodes = d->once && d->crossed_direct > 0;
    m->planned = d->cohorts;
    return STATUS_OK;
}

/* Arrivals stand by source rank, then slot; order lists them by slot, then source rank. */
static void group_arrivals(struct dispatch *d, const struct dispatch_cohort *cohort)
{
    struct dispatch_memory *m = d->memory;
    const struct placement *p = m->placement;
    int slots = local_slots(p, d->grid->rank);
    const int32_t *counts = cohort->counts + p->rank_first[d->grid->rank];
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

int64_t dispatch_crossing(const struct dispatch *d, const struct placement *p, const int32_t *counts)
{
    int64_t rows = 0;

    for (int from = 0; d->rank_node && from < p->ranks; from++, counts += p->slots)
        for (int to = 0; to < p->ranks; to++)
            for (int s = p->rank_first[to];
                 d->rank_node[to] != d->rank_node[from] && s < p->rank_first[to + 1]; s++)
                rows += counts[s];
    return rows;
}

/* What is queued for a send goes beside what? */
static enum beside_what beside_of(const struct dispatch *d)
{
    return !d->beside ? BESIDE_NOTHING : d->ahead ? BESIDE_LAST : BESIDE_NEXT;
}

static enum status gather_and_exchange(struct dispatch *d, int cohort, struct matrix x, const float *factor,
                                       const void **arrived)
{
    struct dispatch_memory *m = d->memory;
    const struct dispatch_cohort *part = &d->cohort[cohort];
    struct matrix leaving = matrix_rows(m->send, part->first_sent, part->sent);
    struct comm *comm = d->grid->rows;

    if (part->sent > 0)
        TRY(d->kernels->gather(d->kernels, leaving, x, m->row + part->first_sent,
                               factor ? factor + part->first_sent : NULL));
    return comm->exchange(comm, leaving.data, bytes_of(d, m->out, cohort), arrived);
}

static enum status send_straight(struct dispatch *d, int cohort, struct matrix x, const float *factor)
{
    struct beside *travels = &d->cohort[cohort].travels;
    const void *arrived = NULL;
    enum status status;

    TRY(beside_enter(travels, d->grid->rows, beside_of(d)));
    status = gather_and_exchange(d, cohort, x, factor, &arrived);
    return beside_leave(travels, d->grid->rows, arrived, status);
}

static enum status send_by_nodes(struct dispatch *d, int cohort, struct matrix x, const float *factor)
{
    struct dispatch_memory *m = d->memory;
    struct dispatch_cohort *part = &d->cohort[cohort];
    struct comm *comm = d->grid->rows;
    struct node_once_rows rows = {.bytes = bytes_of(d, m->out, cohort),
                                  .row = m->row + part->first_sent,
                                  .factor = factor ? factor + part->first_sent : NULL,
                                  .x = x,
                                  .leaving = matrix_rows(m->send, part->first_sent, part->sent),
                                  .first = part->first_arrival};
    enum status status;

    TRY(beside_enter(&part->travels, comm, beside_of(d)));
    status = node_once_send(d->once, &rows, &part->arrivals);
    TRY(beside_leave(&part->travels, comm, d->once->came, status));
    d->crossed += d->once->crossed;
    return STATUS_OK;
}

enum status dispatch_send(struct dispatch *d, int cohort, struct matrix x, const float *scale)
{
    struct dispatch_memory *m = d->memory;
    const struct dispatch_cohort *part = &d->cohort[cohort];
    int begin = part->own.first * m->choices, end = begin + part->own.count * m->choices;
    const float *factor = scale ? m->scale : NULL;

    if (!m->planned)
        return FAIL(STATUS_BUG, "dispatch_send without dispatch_plan");
    if (x.rows != m->rows || x.columns != d->width)
        return FAIL(STATUS_BUG, "dispatch of [%d, %d], planned for [%d, %d]", x.rows, x.columns, m->rows,
                    d->width);
    for (int i = begin; scale && i < end; i++)
        m->scale[begin + d->place[i]] = scale[i];
    if (m->by_nodes)
        return send_by_nodes(d, cohort, x, factor);
    d->crossed += dispatch_crossing(d, m->placement, part->counts);
    return send_straight(d, cohort, x, factor);
}

/* Rows of `cohort` that the comm delivered: a matrix that is only read may view them. */
static struct matrix delivered(const struct dispatch *d, const struct dispatch_cohort *cohort, int rows)
{
    return (struct matrix){.data = (float *)(uintptr_t)cohort->travels.arrived,
                           .rows = rows,
                           .columns = d->width,
                           .stride = d->width};
}

enum status dispatch_arrive(struct dispatch *d, int cohort, struct matrix *arrivals)
{
    struct dispatch_cohort *part = &d->cohort[cohort];
    struct kernels *k = d->kernels;
    size_t places = (size_t)part->sent;
    size_t firsts = (size_t)local_slots(d->memory->placement, d->grid->rank) + 1;

    TRY(beside_end(&part->travels, d->grid->rows));
    group_arrivals(d, part);
    *arrivals = d->memory->by_nodes ? part->arrivals : delivered(d, part, part->arriving);
    if (!k->apart)
        return STATUS_OK;
    TRY(k->upload(k, part->place, d->place + part->first_sent, places * sizeof *d->place));
    TRY(k->upload(k, d->backend_order, d->order, (size_t)part->arriving * sizeof *d->order));
    return k->upload(k, d->backend_first, d->first, firsts * sizeof *d->first);
}

enum status dispatch_return(struct dispatch *d, int cohort, struct matrix results)
{
    struct dispatch_cohort *part = &d->cohort[cohort];

    if (!d->memory->planned)
        return FAIL(STATUS_BUG, "dispatch_return without dispatch_plan");
    if (results.rows != part->arriving || results.columns != d->width || results.stride != d->width)
        return FAIL(STATUS_BUG, "results [%d, %d] with %d from row to row, want [%d, %d] without gaps",
                    results.rows, results.columns, results.stride, part->arriving, d->width);
    return beside_begin(&part->travels, d->grid->rows, d->cohorts > 1, results.data,
                        bytes_of(d, d->memory->back, cohort));
}

enum status dispatch_returned(struct dispatch *d, int cohort, struct matrix *returned)
{
    struct dispatch_cohort *part = &d->cohort[cohort];

    TRY(beside_end(&part->travels, d->grid->rows));
    d->memory->planned--;
    *returned = delivered(d, part, part->sent);
    return STATUS_OK;
}
