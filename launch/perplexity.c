/* perplexity.c - the command `perplexity`: how well the model predicts texts
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "launch/perplexity.h"

#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "engine/evaluate.h"
#include "engine/summary.h"
#include "launch/report.h"
#include "launch/session.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { NAME_WIDTH_MOST = 60 };

/* A wrong size is found before weights are read, except what only the model can say. */
static enum status check_sizes(const struct options *o)
{
    int window = o->evaluation.window;
    int stride = o->evaluation.stride;

    if (window > 0 && o->max_model_len > 0 && window > o->max_model_len)
        return FAIL(STATUS_USAGE, "--window %d is more than --max-model-len %d", window, o->max_model_len);
    if (window > 0 && stride >= window)
        return FAIL(STATUS_USAGE, "--stride %d: it must be less than --window %d", stride, window);
    return STATUS_OK;
}

/* Window and stride as they were given, or as the model has them. */
static enum status choose_sizes(const struct options *o, int positions, int *window, int *stride)
{
    int all = o->max_model_len > 0 ? o->max_model_len : positions;

    *window = o->evaluation.window > 0 ? o->evaluation.window : all;
    *stride = o->evaluation.stride > 0 ? o->evaluation.stride : *window / 2;
    if (*window > positions)
        return FAIL(STATUS_USAGE, "--window %d: this model was made for %d positions", *window, positions);
    if (*window < 2 || *stride >= *window)
        return FAIL(STATUS_USAGE, "--stride %d: it must be less than the window of %d", *stride, *window);
    return STATUS_OK;
}

/* -- the report --- */

static double per(double nats, int64_t count)
{
    return count > 0 ? nats / (double)count : 0;
}

static struct evaluate_text total_of(const struct evaluate *e)
{
    struct evaluate_text total = {0};

    for (int i = 0; i < e->options.count; i++) {
        total.bytes += e->texts[i].bytes;
        total.tokens += e->texts[i].tokens;
        total.windows += e->texts[i].windows;
        total.nats += e->texts[i].nats;
    }
    return total;
}

static void write_line(FILE *out, int width, const char *name, const struct evaluate_text *t)
{
    double each = per(t->nats, t->tokens);

    fprintf(out, "%-*s %9" PRId64 " %9" PRId64 " %7" PRId64 " %11.5f %11.5f %13.5f\n", width, name, t->tokens,
            t->bytes, t->windows, each, per(t->nats, t->bytes), exp(each));
}

static void write_text(FILE *out, const struct evaluate *e, const struct evaluate_text *total)
{
    int width = (int)strlen("total");

    for (int i = 0; i < e->options.count; i++) {
        int length = (int)strnlen(e->options.paths[i], NAME_WIDTH_MOST);

        width = length > width ? length : width;
    }
    fprintf(out, "%-*s %9s %9s %7s %11s %11s %13s\n", width, "file", "tokens", "bytes", "windows",
            "nats/token", "nats/byte", "perplexity");
    for (int i = 0; i < e->options.count; i++)
        write_line(out, width, e->options.paths[i], &e->texts[i]);
    write_line(out, width, "total", total);
}

static json_t *pack(const struct evaluate_text *t)
{
    double each = per(t->nats, t->tokens);

    return json_pack("{s:I, s:I, s:I, s:f, s:f, s:f}", "tokens", (json_int_t)t->tokens, "bytes",
                     (json_int_t)t->bytes, "windows", (json_int_t)t->windows, "nats_per_token", each,
                     "nats_per_byte", per(t->nats, t->bytes), "perplexity", exp(each));
}

static json_t *pack_all(const struct evaluate *e, const struct evaluate_text *total, int64_t loose_products)
{
    const char *backend = e->engine->kernels->name; /* "cpu (avx2, 2 threads)": ranks differ in the rest */
    bool exact = loose_products == 0 && e->engine->model.experts.lowering.rows == 0;
    json_t *files = json_array();

    for (int i = 0; i < e->options.count; i++) {
        json_t *one = pack(&e->texts[i]);

        json_object_set_new(one, "file", report_text(e->options.paths[i]));
        json_array_append_new(files, one);
    }
    return json_pack("{s:s%, s:b, s:I, s:i, s:i, s:o, s:o}", "backend", backend, strcspn(backend, " "),
                     "exact", exact, "loose_products", (json_int_t)loose_products, "window",
                     e->options.window, "stride", e->options.stride, "files", files, "total", pack(total));
}

static enum status report(const struct evaluate *e, int64_t loose_products, int answers, bool json)
{
    struct evaluate_text total = total_of(e);
    enum status status = STATUS_OK;
    FILE *out;

    TRY(report_open(answers, &out));
    if (json) {
        json_t *all = pack_all(e, &total, loose_products);

        status = report_json(out, all);
        json_decref(all);
    } else {
        write_text(out, e, &total);
    }
    if (status != STATUS_OK) {
        fclose(out);
        return status;
    }
    return report_close(out);
}

/* -- the run --- */

static enum status evaluate(struct session *s, struct evaluate *e)
{
    const struct options *o = s->options;
    struct process *p = &s->process;
    struct evaluate_options options = {.paths = o->operands, .count = o->operand_count, .stop = p->stop};
    struct comm *world = s->engine.grid.world;
    int64_t start, loose;
    enum status status;

    TRY(process_agree(p, choose_sizes(o, s->engine.config.max_positions, &options.window, &options.stride)));
    TRY(process_agree(p, evaluate_open(e, &s->engine, &options)));
    TRY(session_record(s));
    start = clock_now();
    status = evaluate_run(e);
    if (status == STATUS_OK || status == STATUS_BAD_INPUT || status == STATUS_NO_INPUT)
        TRY(process_agree(p, status));
    TRY(status);
    TRY(process_agree(p, session_recorded(s)));
    loose = s->engine.kernels->loose_products;
    TRY(world->reduce(world, COMM_SUM, &loose, 1));
    if (p->rank == 0) {
        double seconds = (double)(clock_now() - start) * 1e-9;
        char law[160], lowered[224];

        summary_law(loose, law, sizeof law);
        lowering_text(&s->engine.model.experts.lowering, s->engine.model.experts.meter.all_rows, lowered,
                      sizeof lowered);
        log_line(LOG_INFO, "%s%s%d files, %lld tokens in %.3f s and %lld steps on %d rank%s: %.1f token/s",
                 lowered, law, options.count, (long long)e->tokens_done, seconds, (long long)e->steps,
                 p->ranks, p->ranks == 1 ? "" : "s", (double)e->tokens_done / seconds);
        status = report(e, loose, p->answers, o->json);
    }
    return process_agree(p, status);
}

static enum status run(struct session *s, struct evaluate *e, const struct options *o,
                       const struct environment *environment)
{
    struct process *p = &s->process;

    TRY(session_open(s, o, environment));
    TRY(process_agree(p, check_sizes(o)));
    TRY(process_agree(p, p->rank == 0 ? evaluate_check(o->operands, o->operand_count) : STATUS_OK));
    TRY(session_load(s));
    return evaluate(s, e);
}

int perplexity_run(const struct options *o, const struct environment *environment)
{
    static struct session session;
    static struct evaluate e;
    enum status status = run(&session, &e, o, environment);

    evaluate_close(&e);
    return session_close(&session, status);
}
