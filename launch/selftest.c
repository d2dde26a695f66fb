/* selftest.c - the command `bench selftest`: is every entry right here, and how fast are memory and exchanges
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "launch/selftest.h"

#include "comm/comm_device.h"
#include "engine/bandwidth.h"
#include "kernels/agree/agree_attention.h"
#include "kernels/agree/agree_kernels.h"
#include "kernels/agree/agree_law.h"
#include "kernels/agree/agree_multiply.h"
#include "kernels/cpu/cpu.h"
#include "kernels/module.h"
#include "kernels/reference/reference.h"
#include "launch/report.h"
#include "launch/session.h"

#include <limits.h>

enum { LEAST_EXCHANGE = 4096, EXCHANGE_STEP = 16 };

struct selftest {
    struct session session;
    struct agree_backend backend;
    struct comm *rows; /* exchanges of the backend's memory; `apart` or the world */
    struct comm *apart;
    struct comm *stores;                 /* by stores into other devices' memory; NULL: there are none */
    struct mover *mover;                 /* between devices; NULL: there is none */
    FILE *out;                           /* rank 0, for lines of text; NULL: none */
    json_t *checks, *memory, *exchanges; /* rank 0 */
};

static const struct agree_check *const lists[] = {agree_kernels_checks, agree_multiply_checks,
                                                  agree_attention_checks, agree_law_checks};

/* -- what is tested --- */

static enum status open_cpu(const struct agree_backend *b, int threads, struct kernels **out)
{
    return cpu_open((enum cpu_path)b->number, threads, NULL, out);
}

static enum status open_reference(const struct agree_backend *b, int threads, struct kernels **out)
{
    (void)b, (void)threads;
    return reference_open(out);
}

static enum status open_cuda(const struct agree_backend *b, int threads, struct kernels **out)
{
    struct module_request request = {.device = b->number, .exact = b->exact};

    (void)threads;
    return module_open_cuda(b->file, &request, out);
}

/* More tables like the session's. */
static struct agree_backend backend_of(const struct session *s)
{
    switch (s->backend) {
    case OPTIONS_BACKEND_CUDA:
        return (struct agree_backend){.name = "cuda",
                                      .open = open_cuda,
                                      .device = true,
                                      .number = s->device,
                                      .file = s->options->cuda_module};
    case OPTIONS_BACKEND_REFERENCE:
        return (struct agree_backend){.name = "reference", .open = open_reference};
    default:
        return (struct agree_backend){.name = "cpu", .open = open_cpu, .number = (int)s->path};
    }
}

static enum status open_exchanges(struct selftest *t)
{
    struct session *s = &t->session;
    size_t most = s->options->selftest.size;

    t->rows = s->world;
    if (!s->kernels->apart)
        return STATUS_OK;
    TRY(comm_device_open((enum comm_device_way)s->options->device_exchange, s->kernels, s->world, most,
                         &t->apart));
    t->rows = t->apart;
    return STATUS_OK;
}

/* -- checks --- */

/* A line and an object for the reader; `wrong` NULL: nothing is. */
static enum status tell_check(struct selftest *t, const struct agree_check *check, int rounds,
                              const char *wrong)
{
    json_t *entry;

    if (t->session.process.rank != 0)
        return STATUS_OK;
    if (t->out) {
        fprintf(t->out, "%-14s %-38s", check->entry, check->promise);
        if (wrong)
            fprintf(t->out, " WRONG: %s\n", wrong);
        else
            fprintf(t->out, " %d round%s\n", rounds, rounds == 1 ? "" : "s");
        fflush(t->out);
    }
    entry = json_pack("{s:s, s:s, s:i, s:b}", "entry", check->entry, "promise", check->promise, "rounds",
                      rounds, "right", wrong ? 0 : 1);
    if (wrong)
        json_object_set_new(entry, "wrong", report_text(wrong));
    return json_array_append_new(t->checks, entry) == 0 ? STATUS_OK
                                                        : FAIL(STATUS_NO_MEMORY, "no memory for the report");
}

static enum status run_check(struct selftest *t, const struct agree_check *check)
{
    char words[512];
    int rounds = 0;
    enum status status = process_agree(&t->session.process, agree_run(check, &t->backend, &rounds));

    if (status == STATUS_OK)
        return tell_check(t, check, rounds, NULL);
    snprintf(words, sizeof words, "%s", status_text());
    tell_check(t, check, 0, words);
    return status;
}

static enum status run_checks(struct selftest *t)
{
    const struct options *o = t->session.options;

    agree_start(o->seed, o->selftest.rounds > 0 ? o->selftest.rounds : INT_MAX);
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
        for (const struct agree_check *check = lists[i]; check->entry; check++)
            TRY(run_check(t, check));
    return STATUS_OK;
}

/* -- speeds --- */

static enum status tell_speed(struct selftest *t, json_t *list, const char *kind, const struct bandwidth *b)
{
    double rate = (double)b->bytes / b->seconds / 1e9;

    if (t->session.process.rank != 0)
        return STATUS_OK;
    if (t->out) {
        fprintf(t->out, "%-14s %-16s %12zu bytes %12.1f us %10.2f GB/s\n", kind, b->what, b->bytes,
                b->seconds * 1e6, rate);
        fflush(t->out);
    }
    return json_array_append_new(list, json_pack("{s:s, s:I, s:f, s:f}", "what", b->what, "bytes",
                                                 (json_int_t)b->bytes, "seconds", b->seconds, "gb_per_second",
                                                 rate)) == 0
               ? STATUS_OK
               : FAIL(STATUS_NO_MEMORY, "no memory for the report");
}

/* The slowest rank's. */
static enum status measure_memory(struct selftest *t)
{
    struct session *s = &t->session;
    struct bandwidth b;

    for (int way = 0; way < BANDWIDTH_MEMORIES; way++) {
        int64_t nanoseconds;

        TRY(process_agree(&s->process, bandwidth_memory(s->kernels, (enum bandwidth_memory)way,
                                                        s->options->selftest.size, &b)));
        nanoseconds = (int64_t)(b.seconds * 1e9) + 1;
        TRY(s->world->reduce(s->world, COMM_MAX, &nanoseconds, 1));
        b.seconds = (double)nanoseconds / 1e9;
        TRY(tell_speed(t, t->memory, "memory", &b));
    }
    return STATUS_OK;
}

static enum status measure_exchanges(struct selftest *t)
{
    struct session *s = &t->session;
    struct bandwidth b;

    if (s->process.ranks == 1)
        return STATUS_OK;
    for (int way = 0; way < BANDWIDTH_EXCHANGES && (way != BANDWIDTH_BESIDE || t->rows->exchange_begin);
         way++)
        for (size_t bytes = LEAST_EXCHANGE; bytes <= s->options->selftest.size; bytes *= EXCHANGE_STEP) {
            TRY(process_agree(&s->process, bandwidth_exchange(s->kernels, t->rows, s->world,
                                                              (enum bandwidth_exchange)way, bytes, &b)));
            TRY(tell_speed(t, t->exchanges, "exchange", &b));
        }
    return STATUS_OK;
}

/* What experts that move take. */
static enum status measure_moves(struct selftest *t)
{
    struct session *s = &t->session;
    struct bandwidth b;

    if (!t->apart || s->process.ranks == 1)
        return STATUS_OK;
    TRY(process_agree(&s->process,
                      comm_device_open_mover(s->kernels, t->apart, s->world, s->process.ranks, &t->mover)));
    for (size_t bytes = LEAST_EXCHANGE; t->mover && bytes <= s->options->selftest.size;
         bytes *= EXCHANGE_STEP) {
        TRY(process_agree(&s->process, bandwidth_move(s->kernels, t->mover, s->world, bytes, &b)));
        TRY(tell_speed(t, t->exchanges, "move", &b));
    }
    return STATUS_OK;
}

/* Not everywhere can devices store into each other's memory: then why is told, and nothing is wrong. */
static enum status open_stores(struct selftest *t)
{
    struct session *s = &t->session;
    enum status status =
        comm_device_open_stores(s->kernels, t->apart, s->world, s->options->selftest.size, &t->stores);
    int least, most;

    TRY(process_extent(&s->process, status == STATUS_OK, &least, &most));
    if (t->out && !least)
        fprintf(t->out, "%-14s %-16s is not tested: %s\n", "exchange", "by stores",
                status == STATUS_OK ? "another rank has none" : status_text());
    return least == most ? STATUS_OK : process_agree(&s->process, status);
}

/* What --dispatch lsa does. */
static enum status measure_stores(struct selftest *t)
{
    struct session *s = &t->session;
    struct bandwidth b;

    if (!t->apart || s->process.ranks == 1)
        return STATUS_OK;
    TRY(open_stores(t));
    for (size_t bytes = LEAST_EXCHANGE; t->stores && bytes <= s->options->selftest.size;
         bytes *= EXCHANGE_STEP) {
        TRY(process_agree(&s->process, bandwidth_exchange(s->kernels, t->stores, s->world,
                                                          BANDWIDTH_ALL_TO_ALL, bytes, &b)));
        b.what = "by stores";
        TRY(tell_speed(t, t->exchanges, "exchange", &b));
    }
    return STATUS_OK;
}

/* -- the run --- */

static enum status open_report(struct selftest *t)
{
    const struct session *s = &t->session;

    if (s->process.rank != 0)
        return STATUS_OK;
    t->checks = json_array();
    t->memory = json_array();
    t->exchanges = json_array();
    if (s->options->output_json)
        TRY(report_check("output-json", s->options->output_json));
    if (s->options->json)
        return STATUS_OK;
    TRY(report_open(s->process.answers, &t->out));
    fprintf(t->out, "%s, %d rank%s, seed %llu\n", s->kernels->name, s->process.ranks,
            s->process.ranks == 1 ? "" : "s", (unsigned long long)s->options->seed);
    return STATUS_OK;
}

static enum status write_json(struct selftest *t, const json_t *all)
{
    const struct options *o = t->session.options;

    if (o->json) {
        enum status status, closed;
        FILE *out;

        TRY(report_open(t->session.process.answers, &out));
        status = report_json(out, all);
        closed = report_close(out);
        TRY(status == STATUS_OK ? closed : status);
    }
    return o->output_json ? report_file("output-json", o->output_json, all) : STATUS_OK;
}

/* Also when something is wrong: the report says what. */
static enum status end_report(struct selftest *t, bool right)
{
    const struct session *s = &t->session;
    enum status status;
    json_t *all;

    if (s->process.rank != 0 || !t->checks)
        return STATUS_OK;
    if (t->out && right)
        fputs("every entry is right\n", t->out);
    all = json_pack("{s:o, s:i, s:I, s:b, s:o, s:o, s:o}", "backend", report_text(s->kernels->name), "ranks",
                    s->process.ranks, "seed", (json_int_t)s->options->seed, "right", right ? 1 : 0, "checks",
                    t->checks, "memory", t->memory, "exchanges", t->exchanges);
    status = t->out ? report_close(t->out) : STATUS_OK;
    if (status == STATUS_OK)
        status = all ? write_json(t, all) : FAIL(STATUS_NO_MEMORY, "no memory for the report");
    json_decref(all);
    return status;
}

static enum status run(struct selftest *t, const struct options *o, const struct environment *environment)
{
    struct session *s = &t->session;
    struct process *p = &s->process;
    enum status status;

    TRY(session_open(s, o, environment));
    TRY(session_place(s));
    TRY(process_comms(p, (enum options_comm)o->comm, 1, o->selftest.size, o->selftest.size, &s->world,
                      &s->group));
    TRY(session_kernels(s));
    t->backend = backend_of(s);
    TRY(process_agree(p, open_exchanges(t)));
    TRY(process_agree(p, open_report(t)));
    status = run_checks(t);
    if (status == STATUS_OK)
        status = measure_memory(t);
    if (status == STATUS_OK)
        status = measure_exchanges(t);
    if (status == STATUS_OK)
        status = measure_moves(t);
    if (status == STATUS_OK)
        status = measure_stores(t);
    if (status != STATUS_OK) {
        end_report(t, false); /* what was wrong has been told */
        return status;
    }
    return process_agree(p, end_report(t, true));
}

static void close_exchanges(struct selftest *t)
{
    if (t->stores)
        t->stores->close(t->stores);
    if (t->mover)
        t->mover->close(t->mover);
    if (t->apart)
        t->apart->close(t->apart);
}

int selftest_run(const struct options *o, const struct environment *environment)
{
    static struct selftest t;
    enum status status = run(&t, o, environment);

    if (status == STATUS_OK || t.session.process.told) /* closing is collective */
        close_exchanges(&t);
    return session_close(&t.session, status);
}
