/* budget.c - what every rank will take, before any of it is taken
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/budget.h"

#include "comm/comm_mpi.h"
#include "comm/comm_shared.h"
#include "comm/comm_device.h"
#include "kernels/counting.h"
#include "kernels/cuda/cuda_plan.h"

#include <string.h>

static const size_t TRIAL_BYTES = (size_t)4 << 30; /* of address space: what engine.c reserves */

/* -- one rank --- */

/* An engine of the plan: what `read` has read, in another layout, with memory of its own. */
struct trial {
    struct engine engine;
    struct counting counting;
};

/* Ranks that are near each other, at most. */
static int ranks_near(int ranks, const struct budget_place *place)
{
    return place->node_size > 0 ? place->node_size : (ranks + place->nodes - 1) / place->nodes;
}

/* Who is near whom in the plan: NULL where all are. And who shares experts with whom: ranks of one machine.
 */
static enum status map_nodes(struct engine *e, const struct budget_place *place)
{
    int ranks = e->options.ranks, machine = (ranks + place->nodes - 1) / place->nodes;
    int size = ranks_near(ranks, place), most = size < machine ? size : machine;
    int32_t *rank_node, *share_node;

    e->options.ways.rank_node = e->options.share_node = NULL;
    TRY(arena_take_array(&e->arena, (size_t)ranks, sizeof *rank_node, "nodes of ranks", &rank_node));
    TRY(arena_take_array(&e->arena, (size_t)ranks, sizeof *share_node, "nodes of ranks", &share_node));
    for (int r = 0; r < ranks; r++) {
        rank_node[r] = r / size;
        share_node[r] = r / machine * machine + r % machine / size;
    }
    if (size < ranks)
        e->options.ways.rank_node = rank_node;
    if (e->options.share_experts && most > 1 && ranks > 1)
        e->options.share_node = share_node;
    return STATUS_OK;
}

static enum status trial_open(struct trial *t, const struct engine *read, const struct budget *b, int rank)
{
    struct engine *e = &t->engine;

    counting_open(&t->counting, b->place.real);
    *e = (struct engine){.options = b->options,
                         .directory = read->directory,
                         .config = read->config,
                         .tensors = read->tensors,
                         .kernels = &t->counting.table,
                         .weights.kernels = &t->counting.table};
    e->options.rank = rank;
    e->options.node_ranks = 1; /* the place says what is one rank's */
    TRY(arena_open(&e->arena, "a plan", TRIAL_BYTES));
    TRY(map_nodes(e, &b->place));
    TRY(engine_arrange(e));
    return weights_share(&e->weights, &e->config, &e->grid);
}

static void trial_close(struct trial *t)
{
    arena_close(&t->engine.arena);
}

/* Will experts go from device to device? */
static bool moves_beside(const struct engine *e)
{
    return e->grid.ranks > 1 && e->options.exchange != COMM_DEVICE_HOST && e->config.expert_layers > 0 &&
           balance_staging(&e->options.balance) > 0;
}

/* What their checksums take. */
static void plan_moves(struct budget_rank *r, const struct kernels *real)
{
    r->exchanges += kernels_piece_bytes(real, cuda_plan_sum_bytes(BATCH_MOVES));
    r->pinned += cuda_plan_sum_bytes(BATCH_MOVES);
}

/* What driver and libraries hold of a device, and what the driver rounds the backend's last allocation up by.
 */
static size_t plan_libraries(const struct engine *e, const struct budget_place *place)
{
    int near = ranks_near(e->grid.ranks, place);
    bool stores = e->options.ways.dispatch == DISPATCH_LSA && e->grid.ranks > 1;

    if (place->measured)
        return place->held + CUDA_PLAN_GRAIN;
    if (e->options.exchange == COMM_DEVICE_HOST)
        return CUDA_PLAN_GRAIN;
    return CUDA_PLAN_GRAIN + cuda_plan_nccl_bytes(e->grid.ranks, near) +
           (e->grid.tensor > 1 ? cuda_plan_nccl_ring_bytes() : 0) +
           (stores ? cuda_plan_window_bytes(e->grid.ranks, DISPATCH_FIXED_BYTES) : 0);
}

/* --dispatch lsa: where the windows of all ranks are, the number of the next exchange, and what has become of
 * rows. */
static void plan_stores(struct budget_rank *r, const struct engine *e, const struct kernels *real)
{
    r->exchanges += kernels_piece_bytes(real, (size_t)e->grid.ranks * sizeof(char *)) +
                    kernels_piece_bytes(real, sizeof(uint64_t));
    r->pinned += cuda_plan_state_bytes(e->grid.ranks);
}

/* Exchanges and the backend's own; where its memory is apart, also what lies on the host. */
static void plan_exchanges(struct budget_rank *r, const struct engine *e, const struct budget_place *place)
{
    size_t (*bytes)(int size, size_t most) = place->shared ? comm_shared_bytes : comm_mpi_bytes;
    size_t world, group;

    engine_sizes(e, &world, &group);
    r->exchanges = bytes(e->grid.ranks, world) + bytes(e->grid.tensor, group);
    r->backend = place->real->own_bytes;
    if (!place->real->apart)
        return;
    r->host = r->exchanges + comm_device_host_bytes(e->grid.ranks, world) +
              comm_device_host_bytes(e->grid.tensor, group);
    r->exchanges = comm_device_bytes(place->real, e->grid.ranks, world) +
                   comm_device_bytes(place->real, e->grid.tensor, group);
    r->pinned = cuda_plan_pinned_bytes();
    r->libraries = plan_libraries(e, place);
    if (moves_beside(e))
        plan_moves(r, place->real);
    if (e->options.ways.dispatch == DISPATCH_LSA && e->grid.ranks > 1)
        plan_stores(r, e, place->real);
    r->host += r->pinned;
}

/* What is free, as engine_size_cache would find it, when `taken` bytes of a rank's memory are not. */
static size_t free_beside(const struct budget_place *place, size_t taken)
{
    size_t all = place->real->apart ? place->real->total_bytes : place->memory;

    return all > taken ? all - taken : 0;
}

/* What lies on a rank whatever the cache holds, and the pages that it could hold beside that. */
static enum status plan_load(struct budget *b, struct trial *t, int64_t *pages)
{
    struct engine *e = &t->engine;
    struct budget_rank *r = &b->rank[e->options.rank];
    size_t page = kv_cache_page_bytes(&e->config, &t->counting.table, e->weights.kv_heads.count);
    size_t taken;

    if (e->config.expert_layers > 0)
        r->slots = e->placement.rank_first[e->grid.rank + 1] - e->placement.rank_first[e->grid.rank];
    TRY(weights_plan(&r->weights, &r->shared, &e->config, &e->grid, &e->placement, &e->tensors,
                     b->place.real));
    plan_exchanges(r, e, &b->place);
    taken = r->weights + r->exchanges + r->backend + r->libraries;
    TRY(engine_buffer_bytes(e, b->place.real, &r->reserved));
    *pages = engine_cache_pages(e, engine_cache_bytes(e, free_beside(&b->place, taken), r->reserved));
    b->groups = e->grid.groups;
    b->copies = e->grid.ranks / e->grid.expert_ranks;
    b->positions = e->max_positions;
    b->most_pages = (int64_t)((e->max_positions + PAGE_ROWS - 1) / PAGE_ROWS) * b->options.max_sequences;
    if (page > b->page_bytes)
        b->page_bytes = page;
    return STATUS_OK;
}

/* Cache and buffers, once all ranks know the pages. */
static enum status plan_prepare(struct budget *b, struct trial *t)
{
    struct engine *e = &t->engine;
    struct budget_rank *r = &b->rank[e->options.rank];
    size_t page = kv_cache_page_bytes(&e->config, &t->counting.table, e->weights.kv_heads.count);
    size_t cache;

    e->pages = b->pages > 0 ? (int)b->pages : 1;
    if ((int64_t)e->pages * PAGE_ROWS < e->max_positions)
        e->max_positions = e->pages * PAGE_ROWS;
    cache = page * (size_t)e->pages;
    TRY(engine_prepare(e));
    r->cache = b->pages > 0 ? cache : 0;
    r->buffers = t->counting.bytes - cache;
    r->tables = e->arena.used;
    return STATUS_OK;
}

/* -- all ranks --- */

/* What decides what a rank holds: ranks that are alike in it take alike, and only the first of them is tried.
 */
struct likeness {
    int part, vocabulary, slots;
    int places; /* of experts that ranks share */
};

static struct likeness likeness_of(const struct engine *e)
{
    const int32_t *first = e->placement.rank_first;
    int rank = e->grid.rank;

    return (struct likeness){.part = e->grid.my_part,
                             .vocabulary = e->weights.vocabulary.count,
                             .slots = e->config.expert_layers > 0 ? first[rank + 1] - first[rank] : 0,
                             .places = e->grid.share ? weights_node_places(&e->grid, &e->placement) : 0};
}

/* like[rank] = the first rank that takes what this one takes. Rank 0, the front, is like no other. */
static enum status find_alike(const struct budget *b, struct arena *arena, const struct engine *e, int *like)
{
    struct likeness *all;

    TRY(arena_take_array(arena, (size_t)b->options.ranks, sizeof *all, "what ranks hold", &all));
    for (int rank = 0; rank < b->options.ranks; rank++) {
        struct engine other = *e;
        int first = 1;

        TRY(grid_shape(&other.grid, b->options.ranks, rank, b->options.tensor, b->options.expert_ranks));
        other.grid.share = e->grid.share;
        TRY(weights_share(&other.weights, &other.config, &other.grid));
        all[rank] = likeness_of(&other);
        while (first < rank && memcmp(&all[first], &all[rank], sizeof all[rank]) != 0)
            first++;
        like[rank] = rank == 0 ? 0 : first;
    }
    return STATUS_OK;
}

static enum status plan_all(struct budget *b, const struct engine *read, struct trial *t, struct arena *arena)
{
    int64_t pages;
    int *like;

    TRY(arena_take_array(arena, (size_t)b->options.ranks, sizeof *like, "ranks that are alike", &like));
    TRY(trial_open(t, read, b, 0));
    TRY(find_alike(b, arena, &t->engine, like));
    trial_close(t);
    b->pages = INT64_MAX;
    for (int rank = 0; rank < b->options.ranks; rank++) {
        if (like[rank] != rank)
            continue;
        TRY(trial_open(t, read, b, rank));
        TRY(plan_load(b, t, &pages));
        trial_close(t);
        if (pages < b->pages)
            b->pages = pages;
    }
    for (int rank = 0; rank < b->options.ranks; rank++) {
        if (like[rank] != rank) {
            b->rank[rank] = b->rank[like[rank]];
            continue;
        }
        TRY(trial_open(t, read, b, rank));
        TRY(plan_prepare(b, t));
        trial_close(t);
        b->rank[rank].tables += read->arena.used;
        if (b->place.real->apart) { /* they lie on the host, and other memory is planned */
            b->rank[rank].host += b->rank[rank].tables;
            b->rank[rank].tables = 0;
        }
    }
    return STATUS_OK;
}

size_t budget_total(const struct budget_rank *r)
{
    return r->weights + r->cache + r->buffers + r->exchanges + r->backend + r->tables + r->libraries;
}

size_t budget_first(const struct budget_rank *r)
{
    return r->exchanges + r->backend;
}

enum status budget_plan(struct budget *b, struct arena *arena, const struct engine *read,
                        const struct engine_options *options, const struct budget_place *place)
{
    struct budget plan = {.options = *options, .place = *place, .loads = true};
    struct trial trial = {0};
    enum status status;

    if (place->real->apart) {
        plan.device = place->real->total_bytes;
        plan.place.memory = (size_t)((double)plan.device * options->memory_utilization);
    }
    TRY(grid_check(options->ranks, options->tensor, options->expert_ranks));
    TRY(engine_share_check(options, place->real));
    TRY(arena_take_array(arena, (size_t)options->ranks, sizeof *plan.rank, "a plan of ranks", &plan.rank));
    status = plan_all(&plan, read, &trial, arena);
    trial_close(&trial);
    if (status != STATUS_OK)
        return status;
    for (int i = 0; i < options->ranks; i++) {
        const struct budget_rank *r = &plan.rank[i];

        if (budget_total(r) - r->cache > plan.place.memory)
            plan.loads = false;
        if (budget_total(r) > budget_total(&plan.rank[plan.heaviest]))
            plan.heaviest = i;
    }
    *b = plan;
    return STATUS_OK;
}

int budget_wanted(const struct budget *b)
{
    return b->options.max_positions > 0 ? b->options.max_positions : 1;
}

bool budget_fits(const struct budget *b)
{
    return b->loads && budget_total(&b->rank[b->heaviest]) <= b->place.memory && b->pages > 0 &&
           b->pages * PAGE_ROWS >= budget_wanted(b);
}
