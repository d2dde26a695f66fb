/* eplb_simulate.c - the command eplb simulate: a recorded run on an imagined cluster, under every policy
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "launch/eplb_simulate.h"

#include "engine/base/file.h"
#include "eplb/simulate.h"
#include "eplb/trace_read.h"
#include "launch/report.h"
#include "launch/topology.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define ARENA_BYTES ((size_t)16 << 30) /* reserved; only what is used is touched */

enum { BATCHES = 1 << 20, CELLS = 1 << 29, TRACE_BYTES = 1 << 30, LOAD_BYTES = 24 };

struct work {
    const struct options *o;
    FILE *out;
    struct arena arena;
    struct simulate_stream stream;
    struct simulate_cluster cluster;
};

/* Rows over all source ranks; steps without rows are no batches. */
static enum status read_stream(struct work *w, const char *text, size_t bytes)
{
    struct simulate_stream *s = &w->stream;
    struct trace_read t;
    ptrdiff_t cells;
    int32_t *rows;
    bool more;

    TRY(trace_read_open(&t, &w->arena, text, bytes));
    *s = (struct simulate_stream){.layers = t.layers, .experts = t.experts};
    cells = (ptrdiff_t)t.layers * t.experts;
    TRY(arena_take_array(&w->arena, CELLS + (size_t)cells, sizeof *rows, "batches", &rows));
    s->rows = rows;
    for (;;) {
        int64_t sum = 0;

        TRY(trace_read_next(&t, &more));
        if (!more)
            return STATUS_OK;
        memset(rows, 0, sizeof *rows * (size_t)cells);
        for (ptrdiff_t i = 0; i < (ptrdiff_t)t.layers * t.ranks * t.experts; i++) {
            int32_t *cell = &rows[i / t.experts / t.ranks * t.experts + i % t.experts];

            if (t.rows[i] > TRACE_READ_MOST - *cell)
                return FAIL(STATUS_BAD_INPUT, "step %d has more than %d rows for an expert", t.steps,
                            TRACE_READ_MOST);
            *cell += t.rows[i];
            sum += t.rows[i];
        }
        if (sum == 0)
            continue;
        s->batches++;
        rows += cells;
        if (s->batches == BATCHES || (int64_t)s->batches * cells > CELLS)
            return FAIL(STATUS_BAD_INPUT, "more than %d batches, or %d counts", BATCHES, CELLS);
    }
}

static void print_head(const struct work *w, int first)
{
    const struct simulate_stream *s = &w->stream;
    const struct simulate_cluster *c = &w->cluster;

    fprintf(w->out, "%d batches, %d layers, %d experts; %d ranks on %d nodes\n", s->batches, s->layers,
            s->experts, c->ranks, c->nodes);
    fprintf(
        w->out,
        "a rank: %g TFLOP/s, memory %g GB/s, node %g GB/s, network %g GB/s; an expert %g MB, a row %g KB\n",
        c->rate / 1e12, c->memory_bandwidth / 1e9, c->node_bandwidth / 1e9, c->network_bandwidth / 1e9,
        c->expert_bytes / 1e6, c->row_bytes / 1e3);
    fprintf(w->out, "means from batch %d on; imbalance: the busiest rank over the mean\n\n", first);
    fprintf(w->out, "%-41s | %-29s | %-21s | ms of a step's expert layers\n", "", "imbalance", "moved");
    fprintf(w->out, "%-12s %9s %8s %9s | %9s %9s %9s | %10s %10s | %9s %9s %9s %9s\n", "policy", "redundant",
            "interval", "load", "even", "flow", "fewest", "a layer", "GB", "even", "flow", "fewest", "auto");
}

/* "last 4", "window 50", "ewma 0.3" */
static void name_load(const struct simulate_options *o, char text[static LOAD_BYTES])
{
    if (o->policy == SIMULATE_NONE)
        snprintf(text, LOAD_BYTES, "-");
    else if (o->load == SIMULATE_EWMA)
        snprintf(text, LOAD_BYTES, "ewma %g", o->share);
    else
        snprintf(text, LOAD_BYTES, "%s %d", o->load == SIMULATE_LAST ? "last" : "window",
                 o->load == SIMULATE_LAST ? SIMULATE_SCENARIOS : o->window);
}

static enum status print_case(const struct work *w, const struct simulate_options *o, const char *name)
{
    struct simulate_result r;
    enum status status = simulate_run(&w->stream, &w->cluster, o, &r);
    char load[LOAD_BYTES];

    if (status != STATUS_OK && status != STATUS_USAGE)
        return status;
    name_load(o, load);
    fprintf(w->out, "%-12s %9d %8d %9s | ", name, o->redundant, o->interval, load);
    if (status == STATUS_USAGE) { /* this policy cannot do it, others may */
        fprintf(w->out, "%s\n", status_text());
        return STATUS_OK;
    }
    for (int way = SIMULATE_EVEN; way <= SIMULATE_FEWEST; way++)
        fprintf(w->out, "%8.3fx ", r.imbalance[way]);
    fprintf(w->out, "| %10.2f %10.3f |", r.moves, r.moved_bytes / 1e9);
    for (int way = SIMULATE_EVEN; way < SIMULATE_DISPATCHES; way++)
        fprintf(w->out, " %9.3f", 1e3 * r.time[way]);
    fprintf(w->out, "\n");
    return fflush(w->out) == 0 ? STATUS_OK : FAIL(STATUS_IO, "writing the answer: %s", strerror(errno));
}

/* An empty list stands for one value. */
static struct options_wholes list(const struct options_wholes *given, int preset)
{
    return given->count > 0 ? *given : (struct options_wholes){.count = 1, .value = {preset}};
}

static enum status print_policies(const struct work *w, struct simulate_options o)
{
    static const char *const names[] = {[SIMULATE_REFERENCE] = "reference",
                                        [SIMULATE_BALANCED] = "balanced",
                                        [SIMULATE_SPILL] = "spill",
                                        [SIMULATE_INCREMENTAL] = "incremental"};

    for (int p = SIMULATE_REFERENCE; p <= SIMULATE_INCREMENTAL; p++) {
        o.policy = (enum simulate_policy)p;
        if (p == SIMULATE_SPILL && (w->cluster.nodes == 1 || o.groups % w->cluster.nodes))
            continue;
        for (int load = SIMULATE_LAST; load <= SIMULATE_EWMA; load++) {
            o.load = (enum simulate_load)load;
            if (load == SIMULATE_LAST && p != SIMULATE_INCREMENTAL)
                continue;
            if (w->o->eplb.load == OPTIONS_EPLB_ALL || w->o->eplb.load == load)
                TRY(print_case(w, &o, names[p]));
        }
    }
    return STATUS_OK;
}

/* Ranks and machines, from their numbers or a description. */
static enum status imagine(struct work *w)
{
    const struct options_eplb *e = &w->o->eplb;
    struct simulate_cluster *c = &w->cluster;
    int processors;

    c->ranks = e->ranks > 0 ? e->ranks : 8;
    c->nodes = e->nodes > 0 ? e->nodes : 1;
    if (e->topology) {
        if (e->nodes > 0)
            return FAIL(STATUS_USAGE, "--topology says how many nodes there are: leave --nodes out");
        if (topology_imagine(e->topology, &c->nodes, &processors) != STATUS_OK)
            return status_prefix(STATUS_USAGE, "--topology: ");
        c->ranks = e->ranks > 0 ? e->ranks : processors;
    }
    if (c->nodes > c->ranks || c->ranks % c->nodes)
        return FAIL(STATUS_USAGE, "--ranks %d do not stand on %d nodes alike", c->ranks, c->nodes);
    return STATUS_OK;
}

static enum status simulate(struct work *w)
{
    const struct options_eplb *e = &w->o->eplb;
    struct options_wholes redundant = list(&e->redundants, 0), interval = list(&e->intervals, 16);
    struct simulate_options o = {
        .groups = e->groups > 0 ? e->groups : 1, .window = e->window, .share = e->share};
    size_t bytes;
    char *text;

    TRY(imagine(w));
    TRY(arena_open(&w->arena, "a trace", ARENA_BYTES));
    TRY(file_whole(&w->arena, w->o->operands[0], TRACE_BYTES, &text,
                   &bytes)); /* whose failures name the file */
    if (read_stream(w, text, bytes) != STATUS_OK)
        return status_prefix(STATUS_BAD_INPUT, "%s: ", w->o->operands[0]);
    for (int i = 0; i < interval.count; i++)
        o.first = interval.value[i] > o.first ? interval.value[i] : o.first;
    if (w->stream.batches <= o.first)
        return FAIL(STATUS_BAD_INPUT, "%s has %d batches with rows: with --interval %d it takes more than %d",
                    w->o->operands[0], w->stream.batches, o.first, o.first);
    print_head(w, o.first);
    o.interval = o.first;
    TRY(print_case(w, &o, "none"));
    for (int r = 0; r < redundant.count; r++)
        for (int i = 0; i < interval.count; i++) {
            o.redundant = redundant.value[r];
            o.interval = interval.value[i];
            TRY(print_policies(w, o));
        }
    return STATUS_OK;
}

enum status eplb_simulate_run(const struct options *o, const struct environment *e, int answers)
{
    static struct work w;
    enum status status;

    (void)e;
    w = (struct work){.o = o,
                      .cluster = {.rate = o->eplb.rate * 1e12,
                                  .memory_bandwidth = o->eplb.memory_bandwidth * 1e9,
                                  .node_bandwidth = o->eplb.node_bandwidth * 1e9,
                                  .network_bandwidth = o->eplb.network_bandwidth * 1e9,
                                  .expert_bytes = (double)o->eplb.expert_bytes,
                                  .row_bytes = (double)o->eplb.row_bytes}};
    TRY(report_open(answers, &w.out));
    status = simulate(&w);
    status = report_end(w.out, status);
    arena_close(&w.arena);
    return status;
}
