/* node_once.c - rows to the ranks that hold their experts, each row once to each node
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "comm/node_once.h"

#include "comm/watch.h"

#include <limits.h>
#include <string.h>

/* -- life --- */

static int lesser(int a, int b)
{
    return a < b ? a : b;
}

/* The rank that takes rows of `source` for the ranks of `node`. */
static int relay_of(const struct node_once *n, int source, int node)
{
    return node_map_rank(&n->map, node, n->map.index[source]);
}

static enum status map_ranks(struct node_once *n, struct arena *arena, const int32_t *rank_node)
{
    int ranks = n->grid->ranks;
    int *leader;

    TRY(arena_take_array(arena, (size_t)ranks, sizeof *leader, "nodes of ranks", &leader));
    for (int r = 0; r < ranks; r++) {
        leader[r] = 0;
        while (rank_node[leader[r]] != rank_node[r])
            leader[r]++;
    }
    return node_map_open(&n->map, arena, n->grid->rank, ranks, leader);
}

/* Copies that one rank sends at most, the same number for all: each row comes once to a node, to a rank that
 * serves one source and those of other nodes, and goes to no more ranks than it has choices, or a node slots.
 */
static enum status plan_room(struct node_once *n, const struct node_once_shape *s)
{
    const struct placement *p = s->placement;
    int served = 0, slots = 0;
    int64_t rows;

    for (int node = 0; node < n->map.nodes; node++) {
        int here = 0;

        for (int i = 0; i < n->map.count[node]; i++) {
            int rank = node_map_rank(&n->map, node, i), sources = 0;

            here += p->rank_first[rank + 1] - p->rank_first[rank];
            for (int source = 0; source < n->grid->ranks; source++)
                sources += relay_of(n, source, node) == rank;
            served = sources > served ? sources : served;
        }
        slots = here > slots ? here : slots;
    }
    rows = (int64_t)s->own * served;
    rows = (rows < s->rows ? rows : s->rows) * lesser(s->choices, slots);
    if (rows > INT_MAX)
        return FAIL(STATUS_BUG, "%d rows of %d choices are more than can be numbered", s->rows, s->choices);
    n->room = (int)rows;
    return STATUS_OK;
}

static enum status take_arrays(struct node_once *n, struct arena *arena, const struct node_once_shape *s)
{
    size_t ranks = (size_t)n->grid->ranks, own = (size_t)s->own, places = own * (size_t)s->choices;
    size_t room = (size_t)n->room;

    TRY(arena_take_array(arena, own, sizeof *n->seen, "rows seen", &n->seen));
    TRY(arena_take_array(arena, own, sizeof *n->number, "numbers of rows", &n->number));
    TRY(arena_take_array(arena, places, sizeof *n->leave, "rows that leave", &n->leave));
    TRY(arena_take_array(arena, (size_t)n->map.nodes + 2 * places, sizeof *n->message, "a list of rows",
                         &n->message));
    TRY(arena_take_array(arena, ranks, sizeof *n->told, "lists of rows", &n->told));
    TRY(arena_take_array(arena, ranks, sizeof *n->share, "bytes of lists", &n->share));
    TRY(arena_take_array(arena, ranks * (ranks + 1), sizeof *n->place, "places of ranks", &n->place));
    TRY(arena_take_array(arena, ranks * ranks, sizeof *n->rails, "bytes between nodes", &n->rails));
    TRY(arena_take_array(arena, ranks * ranks, sizeof *n->spread, "bytes inside nodes", &n->spread));
    TRY(arena_take_array(arena, ranks, sizeof *n->base, "rows of ranks", &n->base));
    TRY(arena_take_array(arena, room, sizeof *n->row, "rows of copies", &n->row));
    TRY(arena_take_array(arena, room, sizeof *n->factor, "factors of copies", &n->factor));
    return arena_take_array(arena, (size_t)s->arrivals, sizeof *n->order, "order of sources", &n->order);
}

enum status node_once_open(struct node_once *n, struct arena *arena, struct grid *grid,
                           struct kernels *kernels, const struct node_once_shape *s)
{
    struct node_once open = {.grid = grid, .kernels = kernels, .own = s->own};
    size_t row_bytes = (size_t)s->width * sizeof(float);
    void *copies, *arrivals;

    TRY(map_ranks(&open, arena, s->rank_node));
    TRY(plan_room(&open, s));
    TRY(take_arrays(&open, arena, s));
    TRY(kernels->alloc(kernels, (size_t)open.room * row_bytes, "copies inside a node", &copies));
    open.copies = (struct matrix){.data = copies, .rows = open.room, .columns = s->width, .stride = s->width};
    TRY(kernels->alloc(kernels, (size_t)s->arrivals * row_bytes, "rows in order of sources", &arrivals));
    open.arrivals =
        (struct matrix){.data = arrivals, .rows = s->arrivals, .columns = s->width, .stride = s->width};
    *n = open;
    return STATUS_OK;
}

void node_once_close(struct node_once *n)
{
    if (n->kernels) {
        n->kernels->release(n->kernels, n->copies.data);
        n->kernels->release(n->kernels, n->arrivals.data);
    }
    memset(n, 0, sizeof *n);
}

size_t node_once_message_bytes(int ranks, int rows, int choices)
{
    size_t all = (size_t)ranks;

    return (all * all + 2 * (size_t)rows * (size_t)choices) * sizeof(int32_t);
}

/* -- lists --- */

static const int32_t *places_of(const struct node_once *n, int source)
{
    return n->place + (ptrdiff_t)source * (n->grid->ranks + 1);
}

static void find_places(struct node_once *n, const struct node_once_rows *s)
{
    int ranks = n->grid->ranks;
    size_t row_bytes = (size_t)s->x.columns * sizeof(float);

    for (int source = 0; source < ranks; source++) {
        int32_t *place = n->place + (ptrdiff_t)source * (ranks + 1);

        place[0] = 0;
        for (int to = 0; to < ranks; to++)
            place[to + 1] = place[to] + (int32_t)(s->bytes[(ptrdiff_t)source * ranks + to] / row_bytes);
    }
}

/* Numbers the rows for a node as they appear in its ranks' places; returns how many there are. */
static int number_rows(struct node_once *n, const struct node_once_rows *s, int node, int32_t *leave)
{
    const int32_t *place = places_of(n, n->grid->rank);
    int32_t *list = n->message + n->map.nodes;
    int count = 0;

    for (int i = 0; i < n->map.count[node]; i++) {
        int to = node_map_rank(&n->map, node, i);

        for (int at = place[to]; at < place[to + 1]; at++) {
            int row = s->row[at];

            if (n->seen[row] != node + 1) {
                n->seen[row] = node + 1;
                n->number[row] = count;
                leave[count++] = row;
            }
            list[at] = n->number[row];
        }
    }
    return count;
}

/* This rank's message: rows for each node, the number of the row in each place, its factor. Returns how many
 * rows leave; they do so by the rank they go to. */
static int write_message(struct node_once *n, const struct node_once_rows *s)
{
    int me = n->grid->rank, sent = places_of(n, me)[n->grid->ranks];
    int leaving = 0;

    memset(n->seen, 0, (size_t)s->x.rows * sizeof *n->seen);
    for (int rank = 0; rank < n->grid->ranks; rank++) {
        int node = n->map.node[rank];

        if (relay_of(n, me, node) != rank)
            continue;
        n->message[node] = number_rows(n, s, node, n->leave + leaving);
        leaving += n->message[node];
    }
    if (s->factor && sent > 0)
        memcpy(n->message + n->map.nodes + sent, s->factor, (size_t)sent * sizeof *s->factor);
    return leaving;
}

static enum status gather_lists(struct node_once *n, const struct node_once_rows *s)
{
    struct comm *world = n->grid->world;
    const int32_t *at;
    const void *all;

    for (int r = 0; r < n->grid->ranks; r++) {
        size_t sent = (size_t)places_of(n, r)[n->grid->ranks];

        n->share[r] = ((size_t)n->map.nodes + sent * (s->factor ? 2 : 1)) * sizeof(int32_t);
    }
    TRY(world->all_gather(world, n->message, n->share, &all));
    at = all;
    for (int r = 0; r < n->grid->ranks; r++) {
        n->told[r] = at;
        at += n->share[r] / sizeof *at;
    }
    return STATUS_OK;
}

/* -- rails and spread --- */

static enum status plan_bytes(struct node_once *n, const struct node_once_rows *s)
{
    int ranks = n->grid->ranks;
    size_t row_bytes = (size_t)s->x.columns * sizeof(float);
    size_t matrix = (size_t)ranks * (size_t)ranks * sizeof *n->rails;

    memset(n->rails, 0, matrix);
    memset(n->spread, 0, matrix);
    n->crossed = 0;
    for (int source = 0; source < ranks; source++) {
        for (int node = 0; node < n->map.nodes; node++) {
            int32_t rows = n->told[source][node];

            n->rails[(ptrdiff_t)source * ranks + relay_of(n, source, node)] = (size_t)rows * row_bytes;
            n->crossed += node == n->map.node[source] ? 0 : rows;
        }
        for (int to = 0; to < ranks; to++)
            n->spread[(ptrdiff_t)relay_of(n, source, n->map.node[to]) * ranks + to] +=
                s->bytes[(ptrdiff_t)source * ranks + to];
    }
    for (int relay = 0; relay < ranks; relay++) {
        size_t sent = 0;

        for (int to = 0; to < ranks; to++)
            sent += n->spread[(ptrdiff_t)relay * ranks + to];
        if (sent / row_bytes > (size_t)n->room)
            return FAIL(STATUS_BUG, "rank %d sends %zu copies inside its node, there is room for %d", relay,
                        sent / row_bytes, n->room);
    }
    return STATUS_OK;
}

/* Where the rows of each rank that this one serves begin among those that came, and how many came. */
static int find_bases(struct node_once *n)
{
    int came = 0;

    for (int source = 0; source < n->grid->ranks; source++) {
        n->base[source] = came;
        if (relay_of(n, source, n->map.mine) == n->grid->rank)
            came += n->told[source][n->map.mine];
    }
    return came;
}

/* The copies for one rank of this node, of all that is served here; *copies counts on. */
static enum status plan_copies(struct node_once *n, const struct node_once_rows *s, int to, int *copies)
{
    for (int source = 0; source < n->grid->ranks; source++) {
        const int32_t *place = places_of(n, source), *list = n->told[source] + n->map.nodes;
        const int32_t *factor = list + place[n->grid->ranks];

        if (relay_of(n, source, n->map.mine) != n->grid->rank)
            continue;
        for (int at = place[to]; at < place[to + 1]; at++, ++*copies) {
            if (list[at] < 0 || list[at] >= n->told[source][n->map.mine])
                return FAIL(STATUS_BUG, "rank %d has row %d of %d copied", source, list[at],
                            n->told[source][n->map.mine]);
            n->row[*copies] = n->base[source] + list[at];
            if (s->factor)
                memcpy(&n->factor[*copies], &factor[at], sizeof *factor);
        }
    }
    return STATUS_OK;
}

/* What arrives stands by the rank that sent it inside the node, then by source: order lists it by source. */
static int order_sources(struct node_once *n)
{
    int ranks = n->grid->ranks, me = n->grid->rank;
    int32_t *next = n->base, count = 0;

    for (int relay = 0; relay < ranks; relay++) {
        next[relay] = count;
        for (int source = 0; source < ranks; source++)
            if (relay_of(n, source, n->map.mine) == relay)
                count += places_of(n, source)[me + 1] - places_of(n, source)[me];
    }
    count = 0;
    for (int source = 0; source < ranks; source++) {
        int32_t *from = &next[relay_of(n, source, n->map.mine)];

        for (int i = places_of(n, source)[me]; i < places_of(n, source)[me + 1]; i++)
            n->order[count++] = (*from)++;
    }
    return count;
}

/* Rows that the comm delivered: a matrix that is only read may view them. */
static struct matrix delivered(const void *data, int rows, int width)
{
    return (struct matrix){.data = (float *)(uintptr_t)data, .rows = rows, .columns = width, .stride = width};
}

static enum status gather_rows(struct node_once *n, struct matrix out, struct matrix x, const int32_t *row,
                               const float *factor)
{
    return out.rows > 0 ? n->kernels->gather(n->kernels, out, x, row, factor) : STATUS_OK;
}

static enum status send_rails(struct node_once *n, const struct node_once_rows *s, int leaving,
                              const void **came)
{
    struct comm *rows = n->grid->rows;

    TRY(gather_rows(n, matrix_top(s->leaving, leaving), s->x, n->leave, NULL));
    return rows->exchange(rows, s->leaving.data, n->rails, came);
}

static enum status send_spread(struct node_once *n, const struct node_once_rows *s, const void *came,
                               const void **arrived)
{
    struct comm *rows = n->grid->rows;
    int width = s->x.columns, copies = 0, have = find_bases(n);

    for (int i = 0; i < n->map.count[n->map.mine]; i++)
        TRY(plan_copies(n, s, node_map_rank(&n->map, n->map.mine, i), &copies));
    TRY(gather_rows(n, matrix_top(n->copies, copies), delivered(came, have, width), n->row,
                    s->factor ? n->factor : NULL));
    return rows->exchange(rows, n->copies.data, n->spread, arrived);
}

enum status node_once_send(struct node_once *n, const struct node_once_rows *s, struct matrix *arrivals)
{
    const void *came, *arrived;
    enum watch_phase phase;
    int leaving, count, layer;

    if (s->x.rows > n->own || s->x.columns != n->copies.columns)
        return FAIL(STATUS_BUG, "[%d, %d] goes once to nodes, made for [%d, %d]", s->x.rows, s->x.columns,
                    n->own, n->copies.columns);
    find_places(n, s);
    leaving = write_message(n, s);
    TRY(gather_lists(n, s));
    TRY(plan_bytes(n, s));
    TRY(send_rails(n, s, leaving, &came));
    watch_place(&phase, &layer);
    watch_enter(WATCH_SPREAD, layer);
    TRY(send_spread(n, s, came, &arrived));
    n->came = arrived;
    count = order_sources(n);
    *arrivals = matrix_rows(n->arrivals, s->first, count);
    return gather_rows(n, *arrivals, delivered(arrived, count, s->x.columns), n->order, NULL);
}
