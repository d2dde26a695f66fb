/* measure_share.c - what the balancer does beside the steps of a recorded run, counted and timed
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 *   measure_share TRACE COPIES
 *
 * TRACE is a file of --trace from a run without the balancer; COPIES stand beside its experts. For each way
 * to share rows: slots that read weights, those of them that were idle the step before (their weights lie
 * less near), rows of the busiest rank, each added up over steps and layers, and processor microseconds of
 * sharing a layer. Then processor milliseconds of a plan after every 32nd step. Not a test. */
#include "engine/replan.h"
#include "eplb/replicas.h"
#include "eplb/trace_read.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    WINDOW = 50,
    INTERVAL = 32,
    LAYER_MOVES = 8,
    EXPERT_BYTES = 144 << 10, /* of the demo */
    PROMPTS = 160,            /* more rows are a batch of prompts: 128 sequences decode */
    WAIT_US = 2000,
};
static const size_t ROOM = (size_t)1 << 30; /* of address space */

/* The demo on an AMD EPYC of family 26, by measure_lower. */
static const struct replicas_cost cost = {.expert_picoseconds = 2000000, .row_picoseconds = 580000};

struct replay {
    struct arena arena;
    struct trace_read trace;
    struct placement placement;
    struct replicas *replicas;
    int32_t *share; /* [P, slots] */
    bool *read;     /* [layers, slots] in the step before */
    void *bytes;
    size_t count;
};

struct sums {
    int64_t read, fresh, busiest, layers, nanoseconds;
    int taken[REPLICAS_EVEN + 1];
};

static void must(enum status status)
{
    if (status == STATUS_OK)
        return;
    fprintf(stderr, "%s\n", status_text());
    exit(70);
}

static int64_t processor_time(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void read_file(struct replay *r, const char *path)
{
    FILE *file = fopen(path, "rb");

    if (!file || fseek(file, 0, SEEK_END) != 0) {
        perror(path);
        exit(66);
    }
    r->count = (size_t)ftell(file);
    r->bytes = malloc(r->count + 1);
    rewind(file);
    if (!r->bytes || fread(r->bytes, 1, r->count, file) != r->count)
        exit(74);
    fclose(file);
}

static void open_replay(struct replay *r, const char *path, int copies)
{
    struct placement *p = &r->placement;

    read_file(r, path);
    must(arena_open(&r->arena, "a replay", ROOM));
    must(trace_read_open(&r->trace, &r->arena, r->bytes, r->count));
    must(placement_redundant(p, &r->arena, r->trace.layers, r->trace.experts, copies, r->trace.ranks));
    must(replicas_open(&r->replicas, &r->arena, p, NULL));
    must(arena_take_array(&r->arena, (size_t)p->ranks * (size_t)p->slots, sizeof *r->share, "rows",
                          &r->share));
    must(arena_take_array(&r->arena, (size_t)p->layers * (size_t)p->slots, sizeof *r->read, "slots",
                          &r->read));
}

static const int32_t *rows_of(const struct replay *r, int layer)
{
    return r->trace.rows + (ptrdiff_t)layer * r->trace.ranks * r->trace.experts;
}

static bool next_step(struct replay *r)
{
    bool more;

    must(trace_read_next(&r->trace, &more));
    return more;
}

/* One layer of a step, whose rows have been shared out. */
static void count_layer(struct replay *r, int layer, struct sums *s)
{
    const struct placement *p = &r->placement;
    bool *read = r->read + (ptrdiff_t)layer * p->slots;
    int64_t most = 0;

    for (int rank = 0; rank < p->ranks; rank++) {
        int64_t rows = 0;

        for (int slot = p->rank_first[rank]; slot < p->rank_first[rank + 1]; slot++) {
            int64_t here = 0;

            for (int from = 0; from < p->ranks; from++)
                here += r->share[(ptrdiff_t)from * p->slots + slot];
            s->read += here > 0;
            s->fresh += here > 0 && !read[slot];
            read[slot] = here > 0;
            rows += here;
        }
        most = rows > most ? rows : most;
    }
    s->busiest += most;
    s->layers++;
}

static void share_all(struct replay *r, const char *name, enum replicas_policy policy)
{
    struct replicas_result result;
    struct sums s = {0};

    must(trace_read_open(&r->trace, &r->arena, r->bytes, r->count));
    memset(r->read, 0, (size_t)r->placement.layers * (size_t)r->placement.slots * sizeof *r->read);
    while (next_step(r)) {
        for (int layer = 0; layer < r->trace.layers; layer++) {
            int64_t start = processor_time(CLOCK_THREAD_CPUTIME_ID);

            must(replicas_share(r->replicas, &r->placement, layer, rows_of(r, layer), policy, &cost, r->share,
                                &result));
            s.nanoseconds += processor_time(CLOCK_THREAD_CPUTIME_ID) - start;
            s.taken[result.policy]++;
            count_layer(r, layer, &s);
        }
    }
    printf("%-6s  read %lld, idle before %lld, rows of the busiest %lld, flow in %d and fewest in %d of %lld "
           "layers, %.2f "
           "us a layer\n",
           name, (long long)s.read, (long long)s.fresh, (long long)s.busiest, s.taken[REPLICAS_FLOW],
           s.taken[REPLICAS_FEWEST], (long long)s.layers, (double)s.nanoseconds * 1e-3 / (double)s.layers);
}

/* The only other thread is the planner's, and this one sleeps. */
static void time_plan(struct replan *plan, const struct placement *p, const struct load *load, int step)
{
    int64_t start = processor_time(CLOCK_PROCESS_CPUTIME_ID);
    const struct placement *next;
    struct gate_case c;

    replan_start(plan, p, load);
    while (!replan_take(plan, &next, &c))
        usleep(WAIT_US);
    printf("plan after step %d: %.2f ms, %d moves\n", step,
           (double)(processor_time(CLOCK_PROCESS_CPUTIME_ID) - start) * 1e-6, (int)c.moves);
}

static void plan_all(struct replay *r)
{
    const struct placement *p = &r->placement;
    struct replan_options options = {.load = LOAD_LAST,
                                     .expert_bytes = EXPERT_BYTES,
                                     .layer_moves = LAYER_MOVES,
                                     .most_bytes = (int64_t)EXPERT_BYTES * LAYER_MOVES * p->layers};
    struct replan *plan;
    struct load *load;

    must(trace_read_open(&r->trace, &r->arena, r->bytes, r->count));
    must(load_open(&load, &r->arena, p->layers, p->experts, WINDOW));
    must(replan_open(&plan, &r->arena, p, &options));
    must(replan_begin(plan));
    while (next_step(r)) {
        int64_t rows = 0;

        for (int i = 0; i < r->trace.ranks * r->trace.experts; i++)
            rows += r->trace.rows[i];
        load_begin(load, rows > PROMPTS ? LOAD_PREFILL : LOAD_DECODE);
        for (int layer = 0; layer < p->layers; layer++)
            load_add(load, layer, rows_of(r, layer), p->ranks);
        if (r->trace.steps % INTERVAL == 0)
            time_plan(plan, p, load, r->trace.steps);
    }
    replan_close(plan);
}

int main(int argc, char **argv)
{
    static struct replay r;

    if (argc != 3) {
        fprintf(stderr, "usage: measure_share TRACE COPIES\n");
        return 64;
    }
    open_replay(&r, argv[1], atoi(argv[2]));
    share_all(&r, "auto", REPLICAS_AUTO);
    share_all(&r, "flow", REPLICAS_FLOW);
    share_all(&r, "fewest", REPLICAS_FEWEST);
    share_all(&r, "even", REPLICAS_EVEN);
    plan_all(&r);
    arena_close(&r.arena);
    free(r.bytes);
    return 0;
}
