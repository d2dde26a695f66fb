/* ranks_budget.c - a plan says what a run then takes: on every rank, for every family, backend and layout
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * The plan comes from one process and the headers of the files. The run is real: its backend's memory is
 * counted at its own alloc, its tables in its arena, its exchanges in the memory that the system says this
 * process shares. */
#include "ranks.h"

#include "comm/comm_mpi.h"
#include "comm/comm_shared.h"
#include "engine/budget.h"
#include "kernels/cpu/cpu.h"
#include "kernels/reference/reference.h"

#include <math.h>
#include <sys/resource.h>
#include <unistd.h>

static const double NEAR = 0.02;

/* -- counting what a real backend gives --- */

static enum status (*real_alloc)(struct kernels *k, size_t bytes, const char *what, void **out);
static size_t given;

static enum status counted_alloc(struct kernels *k, size_t bytes, const char *what, void **out)
{
    given += bytes;
    return real_alloc(k, bytes, what, out);
}

/* Bytes of memory that this process shares with others and has touched. Page by page: the sums in
 * /proc/self/status leave out what each processor has not yet told, with many processors more than is
 * allowed.
 */
static size_t shared_bytes(void)
{
    FILE *file = fopen("/proc/self/smaps", "re");
    char line[512], rights[5];
    size_t kibibytes = 0;
    bool shared = false;

    assert_non_null(file);
    while (fgets(line, sizeof line, file)) {
        if (sscanf(line, "%*x-%*x %4s ", rights) == 1)
            shared = rights[1] == 'w' && rights[3] == 's';
        else if (shared && (strncmp(line, "Rss:", 4) == 0 || strncmp(line, "Swap:", 5) == 0))
            kibibytes += strtoul(strchr(line, ':') + 1, NULL, 10);
    }
    fclose(file);
    return kibibytes * 1024;
}

/* -- one run, planned and taken --- */

struct shape {
    const char *model;
    bool reference, shared;
    bool share; /* experts, with some redundant ones that move */
    int tensor, expert_ranks, rows;
    int node_size; /* 0: all ranks are on one node */
    size_t cache;  /* --kv-cache-memory; 0: as much as all sequences can use */
};

struct run {
    struct engine engine;
    struct kernels *kernels;
    struct comm *world, *group;
    size_t shared;  /* that the exchanges brought */
    size_t experts; /* and the experts that ranks share */
};

/* [ranks]; NULL: one node */
static const int32_t *nodes_of(const struct shape *s)
{
    static int32_t rank_node[64];

    for (int r = 0; s->node_size > 0 && r < ranks_size; r++)
        rank_node[r] = r / s->node_size;
    return s->node_size > 0 && s->node_size < ranks_size ? rank_node : NULL;
}

/* [ranks] who shares experts with whom; NULL: nobody with anybody. */
static const int32_t *sharers_of(const struct shape *s)
{
    static const int32_t one_node[64];

    if (!s->share || ranks_size == 1)
        return NULL;
    return nodes_of(s) ? nodes_of(s) : one_node;
}

static struct engine_options options_of(const struct shape *s)
{
    struct balance_options balance = {
        .on = true, .redundant = 9, .steer = {.window = 8, .interval = 4, .staging = 2}};

    return (struct engine_options){.model = s->model,
                                   .ways.rank_node = nodes_of(s),
                                   .cache_root = "",
                                   .ranks = ranks_size,
                                   .rank = ranks_rank,
                                   .tensor = s->tensor,
                                   .expert_ranks = s->expert_ranks,
                                   .kv_cache_memory = s->cache,
                                   .memory_utilization = 0.9,
                                   .node_ranks = ranks_size,
                                   .max_positions = 256,
                                   .max_sequences = 3,
                                   .max_rows = s->rows,
                                   .balance = s->share ? balance : (struct balance_options){0},
                                   .share_experts = s->share,
                                   .share_node = sharers_of(s),
                                   .share_limit = s->node_size};
}

static enum status open_comms(struct run *r, const struct shape *s)
{
    enum status (*open)(MPI_Comm mpi, size_t most, struct comm * *out) =
        s->shared ? comm_shared_open : comm_mpi_open;
    size_t world, group, before = shared_bytes();
    enum status status;
    MPI_Comm part;

    engine_sizes(&r->engine, &world, &group);
    MPI_Comm_split(MPI_COMM_WORLD, ranks_rank / s->tensor, ranks_rank, &part);
    TRY(open(MPI_COMM_WORLD, world, &r->world));
    status = open(part, group, &r->group);
    r->shared = shared_bytes() - before;
    MPI_Comm_free(&part);
    return status;
}

static enum status open_run(struct run *r, const struct shape *s)
{
    struct engine_options options = options_of(s);
    size_t before;

    memset(r, 0, sizeof *r);
    TRY(engine_read(&r->engine, &options));
    TRY(open_comms(r, s));
    if (s->reference)
        TRY(reference_open(&r->kernels));
    else
        TRY(cpu_open(cpu_best_path(), 1, NULL, &r->kernels));
    real_alloc = r->kernels->alloc;
    r->kernels->alloc = counted_alloc;
    given = 0;
    before = shared_bytes();
    TRY(engine_share(&r->engine, r->world, r->kernels));
    r->experts = shared_bytes() - before;
    TRY(engine_connect(&r->engine, r->world, r->group, r->kernels));
    TRY(engine_load(&r->engine));
    TRY(engine_size_cache(&r->engine));
    return engine_prepare(&r->engine);
}

static void close_run(struct run *r)
{
    engine_close(&r->engine);
    r->kernels->close(r->kernels);
    r->group->close(r->group);
    r->world->close(r->world);
}

/* Planned from headers read as for one rank, as `inspect` does. */
static enum status plan_run(struct budget *b, struct arena *arena, struct engine *read, const struct shape *s)
{
    struct engine_options options = options_of(s), alone = options;
    struct budget_place place = {
        .memory = (size_t)8 << 30, .nodes = 1, .node_size = s->node_size, .shared = s->shared, .name = "x"};
    enum status status;

    alone.ranks = 1;
    alone.rank = alone.tensor = alone.expert_ranks = 0;
    TRY(engine_read(read, &alone));
    TRY(s->reference ? reference_open(&place.real) : cpu_open(CPU_PORTABLE, 1, NULL, &place.real));
    status = budget_plan(b, arena, read, &options, &place);
    place.real->close(place.real);
    return status;
}

static bool near(const char *what, size_t planned, size_t taken, size_t slack)
{
    double apart = fabs((double)planned - (double)taken);

    if (apart <= NEAR * (double)taken + (double)slack)
        return true;
    print_message("rank %d: %s: planned %zu bytes, taken %zu\n", ranks_rank, what, planned, taken);
    return false;
}

static void check(const struct shape *s)
{
    struct engine read;
    struct arena arena;
    struct budget b;
    struct run run;
    const struct budget_rank *mine;

    assert_all_ok(arena_open(&arena, "a plan", 1 << 20));
    assert_all_ok(plan_run(&b, &arena, &read, s));
    assert_all_ok(open_run(&run, s));
    mine = &b.rank[ranks_rank];
    /* what one rank has alone is no shared memory */
    assert_all(run.engine.weights.node.places.shape.ranks < 2 ||
               near("shared experts", run.engine.weights.node.bytes, run.experts, (size_t)256 << 10));
    given += run.engine.weights.node.bytes;
    assert_all(near("backend", mine->weights + mine->cache + mine->buffers, given, 0));
    assert_all(near("weights", mine->weights, run.engine.weights.bytes, 0));
    assert_all(near("tables", mine->tables, run.engine.arena.used, 4096));
    assert_all(b.pages == run.engine.pages && budget_fits(&b));
    if (run.shared > (size_t)4 << 20)
        assert_all(near("exchanges", mine->exchanges, run.shared, (size_t)256 << 10));
    if (ranks_rank == 0)
        print_message(
            "%s, %s, -tp %d: planned %zu bytes of the backend, taken %zu; exchanges %zu, shared %zu\n",
            s->model, s->reference ? "reference" : "cpu", s->tensor,
            mine->weights + mine->cache + mine->buffers, given, mine->exchanges, run.shared);
    close_run(&run);
    engine_close(&read);
    arena_close(&arena);
}

static void a_plan_is_what_a_run_takes(void **state)
{
    static const char *const models[] = {"tests/golden/llama4_a",
                                         "tests/golden/llama4_b",
                                         "tests/golden/llama4_a_sharded",
                                         "tests/golden/mixtral",
                                         "tests/golden/olmoe",
                                         "tests/golden/mixtral_f16",
                                         "tests/golden/glm4moe",
                                         "tests/golden/olmoe_f32",
                                         "tests/golden/qwen3moe_a",
                                         "tests/golden/llama4_fp8_dynamic",
                                         "tests/golden/llama4_fp8_experts",
                                         "tests/golden/qwen3moe_fp8block",
                                         "models/demo"};

    (void)state;
    for (size_t m = 0; m < sizeof models / sizeof models[0]; m++)
        for (int reference = 0; reference < 2; reference++)
            for (int tensor = 1; tensor <= ranks_size; tensor++) {
                struct shape s = {.model = models[m],
                                  .reference = reference,
                                  .tensor = tensor,
                                  .rows = 64,
                                  .shared = tensor == 1,
                                  .cache = reference ? 0 : (size_t)1 << 20};

                if (ranks_size % tensor == 0)
                    check(&s);
            }
}

/* Large enough that the system's own count of shared memory can be compared. */
static void exchanges_share_what_was_planned(void **state)
{
    const struct shape s = {.model = "models/demo", .tensor = 1, .rows = 2048, .shared = true};

    (void)state;
    check(&s);
}

static void copies_of_the_experts_are_planned(void **state)
{
    const struct shape s = {
        .model = "tests/golden/mixtral", .tensor = 1, .expert_ranks = 1, .rows = 64, .shared = false};

    (void)state;
    check(&s);
}

static void rows_once_to_each_node_are_planned(void **state)
{
    const struct shape s = {.model = "tests/golden/qwen3moe_a", .tensor = 1, .rows = 512, .node_size = 2};

    (void)state;
    check(&s);
}

/* Redundant experts cost nothing where all ranks share; between nodes there are rooms. */
static void experts_that_ranks_share_are_planned(void **state)
{
    struct shape s = {.model = "models/demo", .tensor = 1, .rows = 64, .shared = true, .share = true};

    (void)state;
    check(&s);
    s.node_size = 2;
    check(&s);
}

/* Where the free memory decides on the cache, plan and run divide it alike: what was free for the run is
 * given to the plan. */
static void the_cache_of_free_memory_is_planned(void **state)
{
    struct shape s = {.model = "models/demo", .tensor = 1, .rows = 64};
    struct budget_place place = {.nodes = 1, .name = "cpu"};
    struct engine_options options = options_of(&s);
    size_t world, group, beside;
    struct arena arena;
    struct budget b;
    struct run run;

    (void)state;
    assert_all_ok(arena_open(&arena, "a plan", 1 << 20));
    assert_all_ok(open_run(&run, &s));
    engine_sizes(&run.engine, &world, &group);
    /* so much that not all sequences fit */
    place.memory = run.engine.weights.bytes + comm_mpi_bytes(ranks_size, world) + ((size_t)16 << 20);
    place.real = run.kernels;
    options.max_positions = 4096;
    run.engine.max_positions = 4096;
    assert_all_ok(budget_plan(&b, &arena, &run.engine, &options, &place));
    run.engine.options.node_ranks = 1;
    assert_all_ok(engine_buffer_bytes(&run.engine, run.kernels, &beside));
    assert_all(b.pages > 0 && b.pages < b.most_pages);
    if (ranks_rank == 0)
        assert_int_equal(
            b.pages,
            engine_cache_pages(&run.engine, engine_cache_bytes(&run.engine, (size_t)16 << 20, beside)));
    close_run(&run);
    arena_close(&arena);
}

/* The address space of this process from now on: what it has and a little more. */
static void limit_memory(struct rlimit *before)
{
    FILE *file = fopen("/proc/self/statm", "re");
    unsigned long pages;
    struct rlimit limit;

    assert_non_null(file);
    assert_int_equal(fscanf(file, "%lu", &pages), 1);
    fclose(file);
    assert_int_equal(getrlimit(RLIMIT_AS, before), 0);
    limit = *before;
    limit.rlim_cur = (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE) + ((rlim_t)1 << 30);
    assert_int_equal(setrlimit(RLIMIT_AS, &limit), 0);
}

/* One rank finds no memory to plan in. It fails, and no other waits for it in the exchange that follows. */
static void a_rank_without_memory_keeps_nobody_waiting(void **state)
{
    const struct shape s = {.model = "tests/golden/llama4_a", .tensor = 1, .rows = 64, .shared = true};
    bool poor = ranks_rank == ranks_size - 1;
    struct rlimit before;
    enum status found;
    struct run run;

    (void)state;
    assert_all_ok(open_run(&run, &s));
    if (poor)
        limit_memory(&before);
    found = engine_size_cache(&run.engine);
    if (poor)
        assert_int_equal(setrlimit(RLIMIT_AS, &before), 0);
    assert_all(found == (poor ? STATUS_NO_MEMORY : STATUS_OK));
    assert_all_ok(engine_size_cache(&run.engine));
    close_run(&run);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plan_is_what_a_run_takes),
        cmocka_unit_test(exchanges_share_what_was_planned),
        cmocka_unit_test(copies_of_the_experts_are_planned),
        cmocka_unit_test(rows_once_to_each_node_are_planned),
        cmocka_unit_test(experts_that_ranks_share_are_planned),
        cmocka_unit_test(the_cache_of_free_memory_is_planned),
        cmocka_unit_test(a_rank_without_memory_keeps_nobody_waiting),
    };

    return ranks_run(argc, argv, tests, sizeof tests / sizeof tests[0]);
}
