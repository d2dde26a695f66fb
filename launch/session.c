/* session.c - an engine on this rank, from options to closing: what every command that loads a model shares
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "launch/session.h"

#include "engine/base/log.h"
#include "engine/budget.h"
#include "kernels/cuda/cuda_plan.h"
#include "kernels/module.h"
#include "kernels/reference/reference.h"
#include "launch/devices.h"
#include "launch/options_nccl.h"
#include "launch/options_value.h"
#include "launch/report.h"

#include <math.h>

static const size_t START_BYTES = (size_t)64 << 20; /* tables of the start, of address space */
static const size_t PLAN_BYTES = (size_t)64 << 20;
static const size_t TRACE_BYTES = (size_t)1 << 31; /* likewise; a step takes what it needs */

enum status session_open(struct session *s, const struct options *o, const struct environment *environment)
{
    enum status status;

    *s = (struct session){.options = o, .environment = environment};
    status = process_open(&s->process, environment);
    log_open(s->process.rank, o->verbose ? LOG_DEBUG : LOG_INFO);
    if (!s->process.running)
        return status;
    TRY(process_agree(&s->process, status));
    TRY(process_agree(&s->process, arena_open(&s->arena, "the start", START_BYTES)));
    TRY(process_compare(&s->process, "options", options_value_hash(o)));
    if (o->trace)
        TRY(process_agree(&s->process, s->process.rank == 0 ? report_check("trace", o->trace) : STATUS_OK));
    return process_watch(&s->process, o->watchdog_timeout);
}

/* Which processors this rank works on; one line says it for all. */
enum status session_place(struct session *s)
{
    struct process *p = &s->process;
    bool reference = s->options->backend == OPTIONS_BACKEND_REFERENCE; /* works with one thread */
    struct topology_request request = {.node_rank = p->node_rank,
                                       .node_size = p->node_size,
                                       .threads = reference ? 1 : s->options->threads,
                                       .cpus_per_task = s->environment->cpus_per_task};
    struct topology_scene scene = {
        .ranks = p->ranks, .nodes = p->nodes, .open_mpi = s->environment->open_mpi};
    struct topology_set *sets;
    char text[TOPOLOGY_TEXT_BYTES];

    TRY(process_agree(p, topology_open(&s->topology)));
    TRY(arena_take_array(&s->arena, (size_t)p->node_size, sizeof *sets, "processors of ranks", &sets));
    TRY(process_node_gather(p, &s->topology.allowed, sizeof s->topology.allowed, sets));
    request.allowed = sets;
    TRY(process_agree(p, topology_divide(&s->topology, &request)));
    topology_bind(&s->topology);
    TRY(process_extent(p, s->topology.threads, &scene.least, &scene.most));
    topology_describe(&s->topology, &scene, text);
    log_line(LOG_INFO, "%s", text);
    return STATUS_OK;
}

/* How a step towards the device went here. *go: it went well on all ranks. Where it did not, that is an error
 * only when the user asked for the cuda backend, or when a device is there but has not the memory. */
static enum status settle(struct session *s, enum status status, bool *go)
{
    struct process *p = &s->process;
    bool full = status == STATUS_NO_MEMORY;
    int least, most, none_full, one_full;

    *go = true;
    TRY(process_extent(p, full, &none_full, &one_full));
    if (s->options->backend == OPTIONS_BACKEND_CUDA || one_full) {
        if (status != STATUS_OK)
            status = status_prefix(status, "%s",
                                   s->options->backend == OPTIONS_BACKEND_CUDA ? "--backend cuda: " : "");
        return process_agree(p, status);
    }
    TRY(process_extent(p, status == STATUS_OK, &least, &most));
    *go = least;
    if (!least)
        log_line(LOG_INFO, "no GPU is used: %s%s%s%s",
                 status == STATUS_OK ? "another rank has none" : status_text(),
                 s->options->device_exchange == COMM_DEVICE_AUTO ? "" : "; --device-exchange has no effect",
                 s->options->enforce_eager ? "; --enforce-eager has no effect" : "",
                 s->options->enable_dbo ? "; --enable-dbo has no effect" : "");
    return STATUS_OK;
}

/* The line about the node of rank 0. */
static void tell_devices(const struct devices_match_seen *all, int ranks, const int *number)
{
    char text[DEVICES_TEXT_BYTES];
    int one, other;

    if (log_rank() != 0)
        return;
    devices_describe(all, ranks, number, text);
    log_line(LOG_INFO, "%s", text);
    if (devices_apart(all, ranks, number, &one, &other))
        log_line(LOG_WARN,
                 "the GPUs of local ranks %d and %d do not reach each other's memory: rows between them go "
                 "through the "
                 "host's",
                 one, other);
}

/* Which device this rank takes, by what all ranks of its node see. */
enum status session_device(struct session *s, bool *go)
{
    const struct options *o = s->options;
    struct process *p = &s->process;
    struct devices_match_seen *all;
    static struct devices_match_seen mine;
    int *number, least, most;

    *go = o->backend == OPTIONS_BACKEND_CUDA ||
          (o->backend == OPTIONS_BACKEND_AUTO && o->cpu_path == OPTIONS_PATH_AUTO);
    if (!*go)
        return STATUS_OK;
    TRY(settle(s, devices_look(o->cuda_module, &s->topology.own, &mine), go));
    if (!*go)
        return STATUS_OK;
    TRY(arena_take_array(&s->arena, (size_t)p->node_size, sizeof *all, "devices of ranks", &all));
    TRY(arena_take_array(&s->arena, (size_t)p->node_size, sizeof *number, "devices of ranks", &number));
    TRY(process_node_gather(p, &mine, sizeof mine, all));
    TRY(settle(s, devices_match(all, p->node_size, MODULE_LEAST_CAPABILITY, &s->arena, number), go));
    if (!*go)
        return STATUS_OK;
    s->device = number[p->node_rank];
    TRY(process_extent(p, (int)(mine.device[s->device].memory >> 20), &least, &most));
    s->device_memory = (size_t)least << 20;
    tell_devices(all, p->node_size, number);
    return STATUS_OK;
}

/* The line about rank 0's device, and one when the plan leaves no room. */
static enum status tell_plan(const struct session *s, const struct budget *b)
{
    const struct budget_rank *most = &b->rank[b->heaviest];
    const struct budget_rank *first = &b->rank[0];

    if (b->pages < 1)
        return FAIL(STATUS_NO_MEMORY,
                    "rank %d takes %.1f MiB beside keys and values, %.1f MiB of them for driver and "
                    "libraries, and may take %.1f MiB, which leaves no room for a page of %d positions (%.1f "
                    "KiB); raise %s, or see what `inspect` says",
                    b->heaviest, (double)(budget_total(most) - most->cache) / 1048576,
                    (double)most->libraries / 1048576, (double)b->place.memory / 1048576, PAGE_ROWS,
                    (double)b->page_bytes / 1024,
                    s->options->kv_cache_memory > 0 ? "--kv-cache-memory" : "--gpu-memory-utilization");
    if (b->place.held > 0)
        log_line(LOG_INFO,
                 "driver and libraries hold %.1f MiB of a GPU, as measured; with that rank 0 takes %.1f MiB "
                 "of the %.1f MiB that it may, %.1f MiB of them for keys and values",
                 (double)first->libraries / 1048576, (double)budget_total(first) / 1048576,
                 (double)b->place.memory / 1048576, (double)first->cache / 1048576);
    return STATUS_OK;
}

/* The pages of the cache and what this rank takes of its device, out of a plan that comes out alike on all
 * ranks; `arena` is for the plan. */
static enum status plan_in(struct session *s, struct arena *arena, size_t held, struct budget_rank *mine)
{
    struct kernels table;
    struct budget_place place = {.nodes = s->process.nodes,
                                 .node_size = s->options->node_size,
                                 .name = "cuda",
                                 .real = &table,
                                 .measured = true,
                                 .held = held};
    struct budget b;

    cuda_plan_table(&table, s->device_memory, s->options->exact);
    TRY(budget_plan(&b, arena, &s->engine, &s->engine.options, &place));
    TRY(tell_plan(s, &b));
    s->pages = b.pages;
    *mine = b.rank[s->process.rank];
    return STATUS_OK;
}

/* `held`: bytes of a device that driver and libraries hold. */
static enum status plan_device(struct session *s, size_t held, struct budget_rank *mine)
{
    struct arena arena;
    enum status status;

    TRY(arena_open(&arena, "a plan", PLAN_BYTES));
    status = plan_in(s, &arena, held, mine);
    arena_close(&arena);
    return status;
}

/* The exchanges are open, and libraries hold what they will. So it is known what the cache may take, before a
 * weight is read: on all ranks as much as on the one whose libraries hold most. */
static enum status settle_memory(struct session *s)
{
    struct process *p = &s->process;
    struct kernels *k = s->kernels;
    struct budget_rank mine = {0};
    size_t held = 0;
    int64_t most;

    if (!k->apart)
        return STATUS_OK;
    TRY(process_agree(p, k->wait(k)));
    TRY(process_agree(p, k->held(k, &held)));
    most = (int64_t)held;
    TRY(s->world->reduce(s->world, COMM_MAX, &most, 1));
    TRY(process_agree(p, plan_device(s, (size_t)most, &mine)));
    if (s->options->separate_allocations)
        return STATUS_OK;
    return process_agree(p, k->extend(k, budget_total(&mine) - budget_first(&mine) - mine.libraries));
}

/* *open: every rank has a GPU and works on it. A command without a model has no plan. */
static enum status open_cuda(struct session *s, bool *open)
{
    struct module_request request = {.exact = s->options->exact};
    struct budget_rank mine = {0};

    TRY(session_device(s, open));
    if (!*open)
        return STATUS_OK;
    request.device = s->device;
    if (s->engine.options.ranks > 0) /* what cannot be is refused before a device is opened */
        TRY(process_agree(&s->process, plan_device(s, 0, &mine)));
    if (!s->options->separate_allocations)
        request.memory = budget_first(&mine);
    TRY(settle(s, module_open_cuda(s->options->cuda_module, &request, &s->kernels), open));
    if (*open) {
        s->backend = OPTIONS_BACKEND_CUDA;
        if (s->kernels->open_exchange && s->process.ranks > 1 &&
            s->options->device_exchange != COMM_DEVICE_HOST)
            TRY(process_agree(&s->process, options_nccl_check()));
    } else if (s->kernels) {
        s->kernels->close(s->kernels);
        s->kernels = NULL;
    }
    return STATUS_OK;
}

/* All ranks work by the least instruction path of theirs, so that bytes are equal on mixed machines. */
enum status session_kernels(struct session *s)
{
    const struct options *o = s->options;
    const int *pinned = s->topology.pin ? s->topology.pinned : NULL;
    enum cpu_path path = cpu_best_path();
    int least, most;
    bool cuda = false;

    TRY(open_cuda(s, &cuda));
    if (cuda)
        return STATUS_OK;
    if (o->cpu_path != OPTIONS_PATH_AUTO)
        path = (enum cpu_path)(o->cpu_path - OPTIONS_PATH_PORTABLE);
    TRY(process_extent(&s->process, (int)path, &least, &most));
    s->backend = o->backend == OPTIONS_BACKEND_REFERENCE ? OPTIONS_BACKEND_REFERENCE : OPTIONS_BACKEND_CPU;
    s->path = (enum cpu_path)least;
    if (s->backend == OPTIONS_BACKEND_REFERENCE) {
        TRY(process_agree(&s->process, reference_open(&s->kernels)));
        if (o->kv_cache_dtype == OPTIONS_CACHE_BFLOAT16)
            reference_round_cache(s->kernels);
        return STATUS_OK;
    }
    if (least != most)
        log_line(LOG_INFO, "not all machines have %s: all ranks use %s", cpu_path_name((enum cpu_path)most),
                 cpu_path_name((enum cpu_path)least));
    return process_agree(&s->process, cpu_open(s->path, s->topology.threads, pinned, &s->kernels));
}

static struct balance_options balance_of(const struct options_balancer *o)
{
    return (struct balance_options){.on = o->enable,
                                    .redundant = o->redundant,
                                    .policy = (enum replicas_policy)o->dispatch,
                                    .steer = {.window = o->window,
                                              .interval = o->interval,
                                              .load = (enum load_way)o->load,
                                              .staging = o->staging,
                                              .force = o->force}};
}

struct engine_options session_engine(const struct options *o, const struct environment *environment)
{
    return (struct engine_options){.model = o->model,
                                   .cache_root = environment->cache,
                                   .ranks = 1,
                                   .tensor = o->tensor_parallel_size,
                                   .expert_ranks = o->expert_parallel_size,
                                   .kv_cache_memory = o->kv_cache_memory,
                                   .memory_utilization = o->gpu_memory_utilization,
                                   .node_ranks = 1,
                                   .max_positions = o->max_model_len,
                                   /* scores need no logits at rank 0 */
                                   .max_wanted = o->command == OPTIONS_PERPLEXITY ? 1 : 0,
                                   .scores = o->command == OPTIONS_PERPLEXITY,
                                   .max_sequences = o->max_num_seqs,
                                   .max_rows = o->max_num_batched_tokens,
                                   .balance = balance_of(&o->balancer),
                                   .lowering = {.on = o->balancer.precision,
                                                .budget = o->balancer.precision_budget,
                                                .min_rows = o->balancer.precision_min_rows},
                                   .eager = o->enforce_eager,
                                   .speculate = {.drafts = o->speculative.tokens,
                                                 .shortest = o->speculative.least,
                                                 .longest = o->speculative.most},
                                   .exchange = (enum comm_device_way)o->device_exchange,
                                   .ways.dispatch = (enum dispatch_way)o->dispatch,
                                   .ways.halves = o->enable_dbo,
                                   .placement_file = o->balancer.placement,
                                   .share_experts = o->balancer.share};
}

/* machine [ranks]. Who shares one copy of the experts with whom; as shared memory itself is divided. */
static enum status map_sharing(struct session *s, const int32_t *machine)
{
    int ranks = s->process.ranks, size = s->options->node_size;
    int32_t *node;

    if (!s->options->balancer.share)
        return STATUS_OK;
    if (s->process.node_most == 1 || size == 1) {
        log_line(LOG_INFO, "--share-experts has no effect: no two ranks are on one node");
        return STATUS_OK;
    }
    TRY(arena_take_array(&s->arena, (size_t)ranks, sizeof *node, "nodes of ranks", &node));
    for (int r = 0; r < ranks; r++) {
        int before = 0, last = r; /* ranks of the machine before this one, and the last of them */

        for (int other = 0; other < r; other++) {
            if (machine[other] != machine[r])
                continue;
            last = other;
            before++;
        }
        node[r] = before == 0 || (size > 0 && before % size == 0) ? r : node[last];
    }
    s->share_node = node;
    return STATUS_OK;
}

/* Collective: which rank stands on which node, for those to whom that makes a difference. */
static enum status map_nodes(struct session *s)
{
    struct process *p = &s->process;
    size_t ranks = (size_t)p->ranks;
    int size = s->options->node_size, nodes = size > 0 ? (p->ranks + size - 1) / size : p->nodes;
    int32_t *rank_node;

    TRY(process_agree(p,
                      arena_take_array(&s->arena, ranks, sizeof *rank_node, "nodes of ranks", &rank_node)));
    TRY(process_gather(p, p->node, rank_node));
    TRY(process_agree(p, map_sharing(s, rank_node)));
    s->rising = true;
    for (int r = 0; r < p->ranks; r++) {
        if (size > 0)
            rank_node[r] = r / size;
        s->rising = s->rising && (r == 0 || rank_node[r] >= rank_node[r - 1]);
    }
    s->rank_node = nodes > 1 ? rank_node : NULL;
    if (s->options->dispatch == DISPATCH_NODE_ONCE && nodes == 1)
        log_line(LOG_INFO, "--dispatch node-once has no effect: all ranks are on one node");
    return STATUS_OK;
}

enum status session_read(struct session *s)
{
    struct engine_options options = session_engine(s->options, s->environment);

    options.ranks = s->process.ranks;
    options.rank = s->process.rank;
    options.node_ranks = s->process.node_size;
    options.balance.steer.rank_node = s->rising ? s->rank_node : NULL;
    options.ways.rank_node = s->rank_node;
    options.share_node = s->share_node;
    options.share_limit = s->options->node_size;
    TRY(process_agree(&s->process, engine_read(&s->engine, &options)));
    return process_compare(&s->process, "model", s->engine.fingerprint);
}

static enum status load_engine(struct session *s)
{
    struct process *p = &s->process;
    struct engine *e = &s->engine;
    size_t world_bytes, group_bytes;

    engine_sizes(e, &world_bytes, &group_bytes);
    TRY(process_comms(p, (enum options_comm)s->options->comm, e->grid.tensor, world_bytes, group_bytes,
                      &s->world, &s->group));
    TRY(session_kernels(s));
    TRY(process_agree(p, lowering_check(&e->options.lowering, s->kernels)));
    TRY(process_agree(p, engine_place(e, s->world)));
    TRY(process_agree(p, engine_share(e, s->world, s->kernels)));
    TRY(process_agree(p, engine_connect(e, s->world, s->group, s->kernels)));
    TRY(settle_memory(s));
    TRY(process_agree(p, engine_load(e)));
    TRY(process_agree(p, s->pages > 0 ? engine_use_pages(e, s->pages) : engine_size_cache(e)));
    TRY(process_agree(p, engine_prepare(e)));
    TRY(process_agree(p, engine_measure(e)));
    log_line(LOG_INFO,
             "%s on %s: %d layers, %d experts, top %d; a rank holds %.1f MiB of weights, a data group caches "
             "%d positions",
             e->config.architecture, s->kernels->name, e->config.layers, e->config.experts, e->config.choices,
             (double)e->weights.bytes / 1048576.0, e->pages * PAGE_ROWS);
    return STATUS_OK;
}

enum status session_load(struct session *s)
{
    TRY(session_place(s));
    TRY(map_nodes(s));
    TRY(session_read(s));
    return load_engine(s);
}

static enum status open_trace(struct session *s)
{
    const struct options *o = s->options;
    const struct config *c = &s->engine.config;
    const struct process *p = &s->process;

    if (p->rank == 0) {
        TRY(arena_open(&s->trace_arena, "the trace", TRACE_BYTES));
        TRY(trace_open(&s->trace, &s->trace_arena, o->trace, c->expert_layers, p->ranks, c->experts));
    }
    if (o->trace_routes)
        TRY(trace_routes(&s->trace, o->trace, p->rank, c->expert_layers, c->experts, c->choices));
    s->engine.model.experts.trace = &s->trace;
    return STATUS_OK;
}

enum status session_record(struct session *s)
{
    const struct options *o = s->options;
    bool mine = o->trace && (s->process.rank == 0 || o->trace_routes);

    return process_agree(&s->process, mine ? open_trace(s) : STATUS_OK);
}

enum status session_recorded(struct session *s)
{
    s->engine.model.experts.trace = NULL;
    return trace_close(&s->trace);
}

struct sampling session_sampling(const struct session *session)
{
    const struct options *o = session->options;
    const struct config *c = &session->engine.config;
    struct sampling s = {.temperature = o->temperature,
                         .top_p = o->top_p,
                         .min_p = o->min_p,
                         .top_k = o->top_k,
                         .seed = o->seed};

    if (isnan(s.temperature))
        s.temperature = isnan(c->temperature) ? 1.0F : c->temperature;
    if (isnan(s.top_p))
        s.top_p = isnan(c->top_p) ? 1.0F : c->top_p;
    if (isnan(s.min_p))
        s.min_p = isnan(c->min_p) ? 0.0F : c->min_p;
    if (s.top_k == OPTIONS_TOP_K_MODEL)
        s.top_k = c->top_k > 0 ? c->top_k : 0;
    return s;
}

int session_close(struct session *s, enum status status)
{
    if (status != STATUS_OK && !s->process.told)
        return process_end(&s->process, status); /* the others may be anywhere, and closing is collective */
    trace_close(&s->trace);
    arena_close(&s->trace_arena);
    engine_close(&s->engine);
    if (s->kernels)
        s->kernels->close(s->kernels);
    if (s->group)
        s->group->close(s->group);
    if (s->world)
        s->world->close(s->world);
    topology_close(&s->topology);
    arena_close(&s->arena);
    return process_end(&s->process, status);
}
