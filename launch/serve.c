/* serve.c - the command `generate`: from options to a finished run on this rank
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "launch/serve.h"

#include "engine/base/log.h"
#include "engine/generate.h"
#include "kernels/cpu/cpu.h"
#include "kernels/reference/reference.h"
#include "launch/options_value.h"
#include "launch/process.h"
#include "launch/topology.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

struct serve {
    const struct options *options;
    const struct environment *environment;
    struct process process;
    struct topology topology;
    struct kernels *kernels;
    struct comm *world, *group;
    struct engine engine;
    struct generate generate;
    int input; /* rank 0; -1: not open */
};

/* Which processors this rank works on; one line says it for all. */
static enum status place_rank(struct serve *s, struct arena *arena)
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
    TRY(arena_take_array(arena, (size_t)p->node_size, sizeof *sets, "processors of ranks", &sets));
    TRY(process_node_gather(p, &s->topology.allowed, sizeof s->topology.allowed, sets));
    request.allowed = sets;
    TRY(process_agree(p, topology_divide(&s->topology, &request)));
    topology_bind(&s->topology);
    TRY(process_extent(p, s->topology.threads, &scene.least, &scene.most));
    topology_describe(&s->topology, &scene, text);
    log_line(LOG_INFO, "%s", text);
    return STATUS_OK;
}

/* All ranks work by the least instruction path of theirs, so that bytes are equal on mixed machines. */
static enum status open_kernels(struct serve *s)
{
    const struct options *o = s->options;
    const int *pinned = s->topology.pin ? s->topology.pinned : NULL;
    enum cpu_path path = cpu_best_path();
    int least, most;

    if (o->cpu_path != OPTIONS_PATH_AUTO)
        path = (enum cpu_path)(o->cpu_path - OPTIONS_PATH_PORTABLE);
    TRY(process_extent(&s->process, (int)path, &least, &most));
    if (o->backend == OPTIONS_BACKEND_REFERENCE)
        return process_agree(&s->process, reference_open(&s->kernels));
    if (least != most)
        log_line(LOG_INFO, "not all machines have %s: all ranks use %s", cpu_path_name((enum cpu_path)most),
                 cpu_path_name((enum cpu_path)least));
    return process_agree(&s->process,
                         cpu_open((enum cpu_path)least, s->topology.threads, pinned, &s->kernels));
}

static enum status read_engine(struct serve *s)
{
    const struct options *o = s->options;
    struct engine_options options = {.model = o->model,
                                     .cache_root = s->environment->cache,
                                     .ranks = s->process.ranks,
                                     .rank = s->process.rank,
                                     .tensor = o->tensor_parallel_size,
                                     .expert_ranks = o->expert_parallel_size,
                                     .kv_cache_memory = o->kv_cache_memory,
                                     .memory_utilization = o->gpu_memory_utilization,
                                     .node_ranks = s->process.node_size,
                                     .max_positions = o->max_model_len,
                                     .max_sequences = o->max_num_seqs,
                                     .max_rows = o->max_num_batched_tokens};

    return engine_read(&s->engine, &options);
}

static enum status load_engine(struct serve *s)
{
    struct process *p = &s->process;
    struct engine *e = &s->engine;
    size_t world_bytes, group_bytes;

    engine_sizes(e, &world_bytes, &group_bytes);
    TRY(process_comms(p, (enum options_comm)s->options->comm, e->grid.tensor, world_bytes, group_bytes,
                      &s->world, &s->group));
    TRY(open_kernels(s));
    TRY(process_agree(p, engine_load(e, s->world, s->group, s->kernels)));
    TRY(process_agree(p, engine_size_cache(e)));
    TRY(process_agree(p, engine_prepare(e)));
    log_line(LOG_INFO,
             "%s on %s: %d layers, %d experts, top %d; a rank holds %.1f MiB of weights, a data group caches "
             "%d positions",
             e->config.architecture, s->kernels->name, e->config.layers, e->config.experts, e->config.choices,
             (double)e->weights.bytes / 1048576.0, e->pages * PAGE_ROWS);
    return STATUS_OK;
}

/* The command line first, then the model's generation_config.json, then vLLM's defaults. */
static struct sampling sampling_of(const struct options *o, const struct config *c)
{
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

/* A place for --stats that cannot be written is found now, not after a long run. */
static enum status check_stats(const char *path)
{
    int file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);

    if (file < 0)
        return FAIL(STATUS_IO, "--stats %s: %s", path, strerror(errno));
    close(file);
    return STATUS_OK;
}

/* Rank 0 alone reads prompts and writes statistics. */
static enum status open_files(struct serve *s)
{
    const char *path = s->options->input_file;

    if (s->process.rank != 0)
        return STATUS_OK;
    if (s->options->stats)
        TRY(check_stats(s->options->stats));
    s->input = path ? open(path, O_RDONLY | O_CLOEXEC) : STDIN_FILENO;
    if (s->input < 0)
        return FAIL(STATUS_NO_INPUT, "--input-file %s: %s", path, strerror(errno));
    return STATUS_OK;
}

static enum status generate(struct serve *s)
{
    const struct options *o = s->options;
    struct process *p = &s->process;
    struct generate_options options = {.input = s->input,
                                       .output = p->answers,
                                       .form = o->input == OPTIONS_TEXT ? PROMPTS_TEXT : PROMPTS_LINES,
                                       .chat = o->chat,
                                       .request = {.sampling = sampling_of(o, &s->engine.config),
                                                   .max_tokens = o->max_tokens,
                                                   .ignore_eos = o->ignore_eos,
                                                   .stops = o->stop,
                                                   .stop_count = o->stop_count},
                                       .stop = p->stop};
    enum status status = STATUS_OK;
    int64_t refused;

    TRY(process_agree(p, generate_open(&s->generate, &s->engine, &options)));
    TRY(generate_run(&s->generate, &refused));
    if (p->rank == 0 && o->stats)
        status = summary_write(&s->generate.summary, o->stats);
    if (status == STATUS_OK && p->rank == 0 && refused > 0)
        status = FAIL(STATUS_BAD_INPUT, "%lld of %lld prompts were refused", (long long)refused,
                      (long long)s->generate.summary.requests);
    return process_agree(p, status);
}

static enum status serve(struct serve *s, struct arena *arena)
{
    struct process *p = &s->process;

    TRY(process_compare(p, "options", options_value_hash(s->options)));
    TRY(process_watch(p, s->options->watchdog_timeout));
    TRY(process_agree(p, open_files(s)));
    TRY(place_rank(s, arena));
    TRY(process_agree(p, read_engine(s)));
    TRY(process_compare(p, "model", s->engine.fingerprint));
    TRY(load_engine(s));
    return generate(s);
}

/* Closing exchanges is collective: only where all ranks come here. */
static void close_all(struct serve *s)
{
    generate_close(&s->generate);
    engine_close(&s->engine);
    if (s->kernels)
        s->kernels->close(s->kernels);
    if (s->group)
        s->group->close(s->group);
    if (s->world)
        s->world->close(s->world);
    topology_close(&s->topology);
    if (s->input > STDIN_FILENO)
        close(s->input);
}

int serve_generate(const struct options *o, const struct environment *environment)
{
    static struct serve s; /* too large for a stack that may be limited */
    struct arena arena = {0};
    enum status status;

    s = (struct serve){.options = o, .environment = environment, .input = -1};
    status = process_open(&s.process, environment);
    log_open(s.process.rank, o->verbose ? LOG_DEBUG : LOG_INFO);
    if (s.process.running)
        status = process_agree(&s.process, status);
    if (status == STATUS_OK)
        status = process_agree(&s.process, arena_open(&arena, "the start", (size_t)64 << 20));
    if (status == STATUS_OK)
        status = serve(&s, &arena);
    if (status != STATUS_OK && !s.process.told)
        return process_end(&s.process, status); /* the others may be anywhere */
    close_all(&s);
    arena_close(&arena);
    return process_end(&s.process, status);
}
