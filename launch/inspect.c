/* inspect.c - what a model is, and what its ranks would take, from the headers of its files
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "launch/inspect.h"

#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cuda/cuda_plan.h"
#include "kernels/host.h"
#include "kernels/module.h"
#include "kernels/reference/reference.h"
#include "launch/session.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static const size_t PLANS_BYTES = (size_t)64 << 20; /* of address space */

/* The backend, to ask it for sizes: one thread will do, and the path does not matter. `device`: bytes of a
 * device, for the cuda backend; 0: another backend. */
static enum status open_kernels(const struct options *o, size_t device, struct kernels **out)
{
    static struct kernels table;

    if (device > 0) {
        cuda_plan_table(&table, device, o->exact);
        *out = &table;
        return STATUS_OK;
    }
    if (o->backend == OPTIONS_BACKEND_REFERENCE)
        return reference_open(out);
    return cpu_open(CPU_PORTABLE, 1, NULL, out);
}

static const char *backend_name(const struct options *o, size_t device)
{
    return device > 0 ? "cuda" : o->backend == OPTIONS_BACKEND_REFERENCE ? "reference" : "cpu";
}

static enum status add_plan(struct inspect_report *r, struct arena *arena,
                            const struct engine_options *options, const struct budget_place *place)
{
    struct inspect_plan *plan = &r->plan[r->plans];

    TRY(budget_plan(&plan->budget, arena, r->engine, options, place));
    TRY(budget_nearest(&plan->nearest, r->engine, &plan->budget));
    r->plans++;
    return STATUS_OK;
}

/* -- the command --- */

/* Ranks on the fullest machine. */
static int ranks_of_node(int ranks, int nodes)
{
    return (ranks + nodes - 1) / nodes;
}

static bool uses_shared_memory(const struct options *o, int node_ranks)
{
    return o->comm == OPTIONS_COMM_AUTO ? node_ranks > 1 : o->comm == OPTIONS_COMM_SHARED;
}

static int larger(int a, int b)
{
    return a > b ? a : b;
}

static enum status plan_counts(struct inspect_report *r, struct arena *arena, const struct options *o,
                               struct kernels *k)
{
    const struct options_inspect *i = &o->inspect;
    int least = larger(o->tensor_parallel_size, o->expert_parallel_size);
    int counts = i->ranks.count > 0 ? i->ranks.count : 1;
    struct engine_options options = r->engine->options;

    options.tensor = o->tensor_parallel_size;
    options.expert_ranks = o->expert_parallel_size;
    for (int n = 0; n < counts; n++) {
        struct budget_place place = {.nodes = i->nodes,
                                     .node_size = o->node_size,
                                     .memory = i->memory,
                                     .name = backend_name(o, k->total_bytes),
                                     .real = k};
        int node_ranks;

        options.ranks = i->ranks.count > 0 ? i->ranks.value[n] : least;
        if (place.nodes > options.ranks)
            return FAIL(STATUS_USAGE, "--nodes %d: %d rank%s cannot lie on so many machines", place.nodes,
                        options.ranks, options.ranks == 1 ? "" : "s");
        node_ranks = ranks_of_node(options.ranks, place.nodes);
        if (place.memory == 0)
            place.memory = k->free_bytes(k) / (size_t)node_ranks;
        place.shared = uses_shared_memory(o, node_ranks);
        TRY(add_plan(r, arena, &options, &place));
    }
    return STATUS_OK;
}

/* Bytes of a device: what was said, or the smallest of this machine; 0 for other backends. */
static enum status device_memory(const struct options *o, size_t *bytes)
{
    static struct module_devices list;
    enum status status;

    *bytes = o->backend == OPTIONS_BACKEND_CUDA ? o->inspect.memory : 0;
    if (o->backend != OPTIONS_BACKEND_CUDA || *bytes > 0)
        return STATUS_OK;
    status = module_list_cuda(o->cuda_module, &list);
    if (status != STATUS_OK)
        return status_prefix(status,
                             "--backend cuda without --memory, which says how much a GPU has (80GiB): ");
    for (int d = 0; d < list.count; d++)
        if (*bytes == 0 || list.device[d].memory < *bytes)
            *bytes = list.device[d].memory;
    return STATUS_OK;
}

static enum status make_report(struct inspect_report *r, struct engine *engine, struct arena *arena,
                               const struct options *o, const struct environment *e)
{
    struct engine_options options = session_engine(o, e);
    int64_t begin = clock_now();
    struct kernels *k;
    enum status status;
    size_t device;

    TRY(device_memory(o, &device));
    options.tensor = options.expert_ranks = 0; /* the files are read as for one rank */
    TRY(engine_read(engine, &options));
    r->engine = engine;
    census_take(&r->census, &engine->config, &engine->tensors);
    TRY(open_kernels(o, device, &k));
    status = plan_counts(r, arena, o, k);
    k->close(k);
    r->seconds = (double)(clock_now() - begin) / 1e9;
    return status;
}

static enum status print_report(const struct inspect_report *r, bool json, int answers)
{
    FILE *out = fdopen(answers, "w");

    if (!out)
        return FAIL(STATUS_IO, "standard output: %s", strerror(errno));
    if (json)
        inspect_json(out, r);
    else
        inspect_text(out, r);
    if (fclose(out) != 0)
        return FAIL(STATUS_IO, "standard output: %s", strerror(errno));
    return STATUS_OK;
}

enum status inspect_run(const struct options *o, const struct environment *e, int answers)
{
    static struct inspect_report report;
    static struct engine engine;
    struct arena arena;
    enum status status;

    log_open(0, o->verbose ? LOG_DEBUG : LOG_INFO);
    TRY(arena_open(&arena, "plans", PLANS_BYTES));
    status = make_report(&report, &engine, &arena, o, e);
    if (status == STATUS_OK)
        status = print_report(&report, o->json, answers);
    engine_close(&engine);
    arena_close(&arena);
    return status;
}

/* -- a dry run --- */

/* The free memory of the poorest machine, for each of its ranks; or the smallest device of those that the run
 * would take, and 0 as *memory. */
static enum status rank_memory(struct session *s, size_t *memory, size_t *device)
{
    struct process *p = &s->process;
    int least, most;
    bool there;

    TRY(session_device(s, &there));
    TRY(process_extent(p, (int)(host_free_bytes() / (size_t)p->node_size >> 20), &least, &most));
    *device = there ? s->device_memory : 0;
    *memory = there ? 0 : (size_t)least << 20;
    return STATUS_OK;
}

static enum status plan_run(struct session *s, struct arena *arena, size_t memory, size_t device)
{
    static struct inspect_report report;
    const struct options *o = s->options;
    struct process *p = &s->process;
    struct budget_place place = {.memory = memory,
                                 .nodes = p->nodes,
                                 .node_size = o->node_size,
                                 .name = backend_name(o, device),
                                 .shared = uses_shared_memory(o, p->node_most)};
    int answers = p->answers;
    int64_t begin = clock_now();
    enum status status;

    if (p->rank != 0)
        return STATUS_OK;
    report.engine = &s->engine;
    census_take(&report.census, &s->engine.config, &s->engine.tensors);
    TRY(open_kernels(o, device, &place.real));
    status = add_plan(&report, arena, &s->engine.options, &place);
    place.real->close(place.real);
    report.seconds = (double)(clock_now() - begin) / 1e9;
    p->answers = -1;
    return status == STATUS_OK ? print_report(&report, o->json, answers) : status;
}

static enum status dry_run(struct session *s, const struct options *o, const struct environment *e,
                           struct arena *arena)
{
    size_t memory, device;

    TRY(session_open(s, o, e));
    TRY(session_place(s));
    TRY(session_read(s));
    TRY(rank_memory(s, &memory, &device));
    TRY(process_agree(&s->process, arena_open(arena, "plans", PLANS_BYTES)));
    return process_agree(&s->process, plan_run(s, arena, memory, device));
}

int inspect_dry_run(const struct options *o, const struct environment *e)
{
    static struct session session;
    struct arena arena = {0};
    enum status status = dry_run(&session, o, e, &arena);

    arena_close(&arena);
    return session_close(&session, status);
}
