/* engine.c - the life of the engine on one rank: read, plan, load, serve, close
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/engine.h"

#include "comm/comm_device.h"
#include "comm/watch.h"
#include "engine/base/log.h"
#include "engine/placement_file.h"
#include "kernels/counting.h"

#include <string.h>

static const size_t ARENA_BYTES = (size_t)4
                                  << 30; /* of address space: tensor headers, tables, messages of logits */

/* Rows whose logits a step can want beside one of each sequence: of prompts, and most of drafts. Of more
 * drafts than these a step would rather have none. */
enum { PROMPT_ROWS = 16, DRAFT_ROWS = 256 };
enum { UNKNOWN = -1 }; /* pages, where a rank could not count them */

static uint64_t mix(uint64_t hash, const void *bytes, size_t count)
{
    const unsigned char *at = bytes;

    for (size_t i = 0; i < count; i++)
        hash = (hash ^ at[i]) * 0x100000001b3u; /* FNV-1a */
    return hash;
}

/* Two ranks that would load different models differ in shapes, names, formats, offsets or sizes. */
static uint64_t fingerprint(const struct engine *e)
{
    const struct config *c = &e->config;
    const int numbers[] = {c->vocabulary,   c->width,       c->layers,  c->heads,
                           c->kv_heads,     c->head_width,  c->experts, c->choices,
                           c->expert_width, c->dense_width, c->rotated, c->max_positions};
    uint64_t hash = mix(0xcbf29ce484222325u, numbers, sizeof numbers);

    for (int i = 0; i < e->tensors.count; i++) {
        const struct tensor *t = e->tensors.by_name[i];

        hash = mix(hash, t->name, strlen(t->name));
        hash = mix(hash, &t->dtype, sizeof t->dtype);
        hash = mix(hash, t->shape, (size_t)t->dimensions * sizeof t->shape[0]);
        hash = mix(hash, &t->offset, sizeof t->offset);
    }
    for (int i = 0; i < c->rotated / 2; i++)
        hash = mix(hash, &c->frequency[i], sizeof c->frequency[i]);
    return hash;
}

static enum status check_limits(struct engine *e)
{
    struct engine_options *o = &e->options;
    int positions = o->max_positions > 0 ? o->max_positions : e->config.max_positions;

    if (positions > e->config.max_positions)
        return FAIL(STATUS_USAGE, "--max-model-len %d: this model was made for %d positions", positions,
                    e->config.max_positions);
    if (o->max_wanted == 0) {
        int64_t drafts = (int64_t)o->max_sequences * o->speculate.drafts;

        o->max_wanted = o->max_sequences + PROMPT_ROWS + (int)(drafts < DRAFT_ROWS ? drafts : DRAFT_ROWS);
        o->max_wanted = o->max_wanted < o->max_rows ? o->max_wanted : o->max_rows;
    }
    e->max_positions = positions;
    return STATUS_OK;
}

enum status engine_read(struct engine *e, const struct engine_options *options)
{
    *e = (struct engine){.options = *options};
    TRY(grid_check(options->ranks, options->tensor, options->expert_ranks));
    TRY(arena_open(&e->arena, "the engine", ARENA_BYTES));
    TRY(config_locate(&e->arena, options->model, options->cache_root, &e->directory));
    TRY(config_read(&e->config, &e->arena, e->directory));
    TRY(tensor_set_open(&e->tensors, &e->arena, e->directory));
    TRY(engine_arrange(e));
    e->fingerprint = fingerprint(e);
    return STATUS_OK;
}

/* Experts that come from other nodes need rooms; inside a node nothing is sent. */
static void arrange_share(struct engine *e)
{
    const struct engine_options *o = &e->options;

    e->share = (struct grid_share){.node = o->share_node};
    for (int r = 1; o->share_node && r < o->ranks; r++)
        if (o->share_node[r] != o->share_node[0])
            e->share.rooms = balance_staging(&o->balance);
    e->grid.share = o->share_node && e->config.expert_layers > 0 ? &e->share : NULL;
}

enum status engine_arrange(struct engine *e)
{
    const struct engine_options *o = &e->options;

    TRY(grid_shape(&e->grid, o->ranks, o->rank, o->tensor, o->expert_ranks));
    TRY(check_limits(e));
    TRY(balance_check(&o->balance, o->ranks, o->expert_ranks));
    arrange_share(e);
    return balance_place(&o->balance, &e->arena, &e->config, o->ranks, o->expert_ranks, &e->placement);
}

static struct model_limits limits_of(const struct engine *e)
{
    return (struct model_limits){.rows = e->options.max_rows,
                                 .pieces = e->options.max_sequences,
                                 .wanted = e->options.max_wanted,
                                 .positions = e->max_positions,
                                 .eager = e->options.eager,
                                 .ways = e->options.ways};
}

void engine_sizes(const struct engine *e, size_t *world, size_t *group)
{
    struct model_limits limits = limits_of(e);

    model_message_bytes(&e->config, &e->grid, &e->placement, &limits, world, group);
}

/* Everything that a step needs beside the cache. */
static enum status open_buffers(struct engine *e)
{
    const struct engine_options *o = &e->options;
    struct model_limits limits = limits_of(e);

    struct weights_slot slot = {0};
    size_t world_bytes, group_bytes;

    TRY(model_open(&e->model, &e->arena, &e->config, &e->grid, &e->weights, &e->kv, &e->placement, &limits));
    TRY(lowering_open(&e->model.experts.lowering, &e->arena, &o->lowering, e->kernels, e->grid.ranks));
    if (o->balance.on)
        TRY(weights_slot_plan(&slot, &e->config, &e->grid, &e->placement, &e->tensors, e->kernels));
    engine_sizes(e, &world_bytes, &group_bytes);
    TRY(balance_open(&e->balance, &e->arena, &o->balance, &e->config, &e->weights, &e->model.experts, &slot,
                     world_bytes));
    e->model.balance = &e->balance;
    if (o->scores)
        TRY(score_open(&e->score, &e->arena, &e->config, &e->weights, &e->model.step));
    if (o->speculate.drafts > 0 && e->grid.rank == 0)
        TRY(speculate_open(&e->speculate, &e->arena, e->kernels, &o->speculate, o->max_sequences,
                           e->max_positions));
    return batch_open(&e->batch, &e->arena, o->max_sequences, o->max_rows,
                      batch_new_pages(o->max_rows, o->max_sequences) +
                          batch_found_pages(o->max_rows, e->max_positions));
}

enum status engine_buffer_bytes(const struct engine *e, struct kernels *real, size_t *bytes)
{
    struct counting counting;
    struct engine trial = *e;
    enum status status;

    counting_open(&counting, real);
    trial.kernels = trial.weights.kernels = &counting.table;
    TRY(arena_open(&trial.arena, "the engine", ARENA_BYTES));
    status = open_buffers(&trial);
    if (status == STATUS_OK)
        *bytes = counting.bytes + (real->apart ? 0 : trial.arena.used);
    arena_close(&trial.arena);
    return status;
}

size_t engine_cache_bytes(const struct engine *e, size_t free_bytes, size_t buffer_bytes)
{
    const struct engine_options *o = &e->options;
    const struct kernels *k = e->kernels;
    double share = (double)free_bytes * o->memory_utilization / (double)o->node_ranks;

    if (o->kv_cache_memory > 0)
        return o->kv_cache_memory;
    if (k->apart) /* a share of all its memory, of which this rank has taken what is no longer free */
        share = (double)k->total_bytes * o->memory_utilization -
                (double)(k->total_bytes - k->foreign_bytes - free_bytes);
    return share > (double)buffer_bytes ? (size_t)share - buffer_bytes : 0;
}

int64_t engine_cache_pages(const struct engine *e, size_t bytes)
{
    size_t page = kv_cache_page_bytes(&e->config, e->kernels, e->weights.kv_heads.count);
    int64_t table = (e->max_positions + PAGE_ROWS - 1) / PAGE_ROWS;
    int64_t most = table * e->options.max_sequences;
    int64_t pages = page > 0 ? (int64_t)(bytes / page) : most; /* a rank without heads caches nothing */

    return pages < most ? pages : most;
}

/* Pages of every group's pool: what the poorest rank can hold, no more than all sequences can use. */
enum status engine_size_cache(struct engine *e)
{
    struct comm *world = e->grid.world;
    struct kernels *k = e->kernels;
    size_t beside, bytes = 0;
    int64_t pages = UNKNOWN;
    enum status status = engine_buffer_bytes(e, k, &beside);

    if (status == STATUS_OK) {
        bytes = engine_cache_bytes(e, k->free_bytes(k), beside);
        pages = engine_cache_pages(e, bytes);
    }
    TRY(world->reduce(world, COMM_MIN, &pages, 1));
    if (pages == UNKNOWN)
        return status; /* a rank that fails says so when all agree */
    if (pages < 1)
        return FAIL(STATUS_NO_MEMORY,
                    "the key-value cache: %.1f KiB do not hold one page of %d positions (%.1f KiB); raise %s",
                    (double)bytes / 1024, PAGE_ROWS,
                    (double)kv_cache_page_bytes(&e->config, k, e->weights.kv_heads.count) / 1024,
                    e->options.kv_cache_memory > 0 ? "--kv-cache-memory"
                                                   : "--gpu-memory-utilization, or free some memory");
    return engine_use_pages(e, pages);
}

enum status engine_use_pages(struct engine *e, int64_t pages)
{
    e->pages = (int)pages;
    if ((int64_t)e->pages * PAGE_ROWS < e->max_positions) {
        if (e->options.max_positions > 0 && log_rank() == 0)
            log_line(LOG_WARN, "the key-value cache holds %d positions, fewer than --max-model-len %d",
                     e->pages * PAGE_ROWS, e->max_positions);
        e->max_positions = e->pages * PAGE_ROWS;
    }
    return STATUS_OK;
}

enum status engine_place(struct engine *e, struct comm *world)
{
    struct placement *p = &e->placement;
    enum status status = STATUS_OK;
    bool fits = false;
    int64_t use;

    if (!e->options.placement_file || e->config.expert_layers == 0)
        return STATUS_OK;
    if (world->rank == 0)
        status =
            placement_file_read(e->options.placement_file, &e->config, e->fingerprint, &e->arena, p, &fits);
    use = status == STATUS_OK && fits;
    TRY(world->reduce(world, COMM_MAX, &use, 1));
    for (int layer = 0; use && layer < p->layers; layer++) {
        int32_t *expert = p->expert + (ptrdiff_t)layer * p->slots;
        size_t bytes = (size_t)p->slots * sizeof *expert;
        const void *all;

        TRY(world->broadcast(world, 0, expert, &bytes, &all));
        if (world->rank != 0)
            memcpy(expert, all, bytes);
    }
    return status == STATUS_OK ? placement_index(p) : status;
}

enum status engine_save(const struct engine *e)
{
    if (!e->options.placement_file || e->config.expert_layers == 0)
        return STATUS_OK;
    return placement_file_write(e->options.placement_file, &e->config, e->fingerprint, &e->placement);
}

enum status engine_share_check(const struct engine_options *o, const struct kernels *k)
{
    if (!o->share_experts || !k->apart)
        return STATUS_OK;
    return FAIL(
        STATUS_USAGE,
        "--share-experts is for experts in the memory of processors, and the backend is %s; leave it out, "
        "or add --backend cpu",
        k->name);
}

/* Alone: may this rank share, and how much does it give? */
static enum status plan_share(const struct engine *e, const struct comm *world, struct kernels *k,
                              size_t *shared)
{
    size_t bytes;

    if (!world->share)
        return FAIL(
            STATUS_UNAVAILABLE,
            "--share-experts: exchanges by %s have no shared memory; leave it out, or add --comm shared",
            world->kind);
    return weights_plan(&bytes, shared, &e->config, &e->grid, &e->placement, &e->tensors, k);
}

enum status engine_share(struct engine *e, struct comm *world, struct kernels *k)
{
    enum status status;
    size_t bytes = 0;
    int64_t good;
    void **part;

    TRY(engine_share_check(&e->options, k)); /* the backend is the same on all ranks */
    if (!e->grid.share)
        return STATUS_OK;
    status = plan_share(e, world, k, &bytes);
    if (status == STATUS_OK)
        status = arena_take_array(&e->arena, (size_t)world->size, sizeof *part, "parts of ranks", &part);
    good = status == STATUS_OK;
    TRY(world->reduce(world, COMM_MIN, &good, 1));
    if (!good)
        return status; /* a rank that fails says so when all agree */
    TRY(world->share(world, bytes, e->options.share_limit, "experts", "leave --share-experts out", part));
    for (int r = 0; r < world->size; r++)
        if ((part[r] != NULL) != (e->share.node[r] == e->share.node[world->rank]))
            return FAIL(STATUS_BUG, "rank %d shares memory with rank %d, or should", world->rank, r);
    e->share.part = part;
    log_line(LOG_INFO,
             "the ranks of a node share one copy of each expert; this one gives %.1f MiB of shared memory",
             (double)bytes / 1048576);
    return STATUS_OK;
}

/* Small steps by stores into the memory of other devices. */
static enum status connect_stores(struct engine *e)
{
    TRY(comm_device_open_stores(e->kernels, e->apart[0], e->grid.world, DISPATCH_FIXED_BYTES, &e->apart[2]));
    log_line(LOG_INFO, "rows of small steps go to experts by stores into the memory of other GPUs");
    e->grid.rows = e->apart[2];
    return STATUS_OK;
}

/* Experts that move beside the steps. */
static enum status connect_moves(struct engine *e)
{
    if (e->grid.ranks == 1 || e->config.expert_layers == 0 || balance_staging(&e->options.balance) == 0)
        return STATUS_OK;
    TRY(comm_device_open_mover(e->kernels, e->apart[0], e->grid.world, BATCH_MOVES, &e->mover));
    e->grid.mover = e->mover;
    return STATUS_OK;
}

/* Rows that lie in the backend's own memory. */
static enum status connect_devices(struct engine *e)
{
    size_t world, group;

    engine_sizes(e, &world, &group);
    TRY(comm_device_open(e->options.exchange, e->kernels, e->grid.world, world, &e->apart[0]));
    TRY(comm_device_open_part(e->kernels, e->grid.group, e->apart[0], e->grid.my_group, group, &e->apart[1]));
    if (e->grid.ranks > 1 && e->options.ways.halves && !e->apart[0]->exchange_begin)
        return FAIL(STATUS_USAGE,
                    "--enable-dbo lets GPUs work beside NCCL's exchanges, but rows go from device "
                    "to device through host memory: this build has no NCCL");
    if (e->grid.ranks > 1)
        log_line(LOG_INFO, "rows go from device to device %s",
                 strcmp(e->apart[0]->kind, "nccl") == 0 ? "by NCCL" : "through host memory");
    e->grid.rows = e->apart[0];
    e->grid.group_rows = e->apart[1];
    if (dispatch_wants_nodes(e->options.ways.dispatch, e->options.ways.rank_node, e->config.choices))
        TRY(comm_device_open_nodes(e->kernels, e->apart[0], e->options.ways.rank_node));
    TRY(connect_moves(e));
    return e->options.ways.dispatch == DISPATCH_LSA && e->grid.ranks > 1 ? connect_stores(e) : STATUS_OK;
}

enum status engine_connect(struct engine *e, struct comm *world, struct comm *group, struct kernels *k)
{
    e->kernels = k;
    if (e->options.ways.dispatch == DISPATCH_LSA && !k->apart)
        return FAIL(STATUS_UNAVAILABLE, "--dispatch lsa is for rows on GPUs, and the backend is %s", k->name);
    TRY(grid_open(&e->grid, world, group, e->options.tensor, e->options.expert_ranks));
    e->grid.share = e->share.part ? &e->share : NULL;
    return k->apart ? connect_devices(e) : STATUS_OK;
}

enum status engine_load(struct engine *e)
{
    watch_enter(WATCH_LOAD, -1);
    TRY(weights_open(&e->weights, &e->config, &e->grid, &e->placement, &e->tensors, e->kernels));
    return lowering_check_weights(&e->options.lowering, &e->config, &e->weights, &e->placement,
                                  e->options.rank);
}

enum status engine_prepare(struct engine *e)
{
    const struct engine_options *o = &e->options;

    TRY(kv_cache_open(&e->kv, &e->arena, e->kernels, &e->config, e->weights.kv_heads.count, e->pages,
                      o->max_sequences, e->max_positions));
    TRY(open_buffers(e));
    if (o->ways.dispatch == DISPATCH_LSA && (e->grid.ranks == 1 || !e->model.experts.fixed.possible))
        log_line(LOG_WARN, "--dispatch lsa has no effect: %s",
                 e->grid.ranks == 1 ? "one rank sends nothing" : "no step's rows go in fixed places");
    return STATUS_OK;
}

enum status engine_measure(struct engine *e)
{
    lowering_introduce(&e->model.experts.lowering);
    return balance_measure(&e->balance);
}

void engine_close(struct engine *e)
{
    if (e->mover) /* first: it waits for what still goes into staging */
        e->mover->close(e->mover);
    balance_close(&e->balance);
    model_close(&e->model);
    kv_cache_close(&e->kv);
    weights_close(&e->weights);
    for (int i = 2; i >= 0; i--)
        if (e->apart[i])
            e->apart[i]->close(e->apart[i]);
    tensor_set_close(&e->tensors);
    arena_close(&e->arena);
    memset(e, 0, sizeof *e);
}
