/* bench.c - the commands `bench throughput` and `bench latency`
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "launch/bench.h"

#include "engine/base/file.h"
#include "engine/trial.h"
#include "launch/report.h"
#include "launch/session.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { WARMUP_TOKENS = 8, LATENCY_TOKENS = 32, THROUGHPUT_TOKENS = 1024, FIGURES = 4 };

struct bench {
    struct session session;
    struct trial trial;
    struct workload workload;    /* rank 0 */
    struct tokenizer *tokenizer; /* rank 0, where a dataset needs it */
};

static const int percents[] = {10, 25, 50, 75, 90, 99};

enum { PERCENTS = sizeof percents / sizeof percents[0] };

/* -- before the run --- */

static bool measures_latency(const struct options *o)
{
    return o->command == OPTIONS_BENCH_LATENCY;
}

/* Of a random prompt. */
static int input_length(const struct options *o)
{
    if (o->bench.input_len > 0)
        return o->bench.input_len;
    return measures_latency(o) ? LATENCY_TOKENS : THROUGHPUT_TOKENS;
}

/* What is wrong with options or files is found before weights are read. */
static enum status check(const struct options *o, int rank)
{
    if (measures_latency(o) && o->bench.batch_size > o->max_num_seqs)
        return FAIL(STATUS_USAGE, "--batch-size %d: no more than --max-num-seqs %d run together",
                    o->bench.batch_size, o->max_num_seqs);
    if (o->bench.dataset && o->bench.input_len > 0)
        return FAIL(STATUS_USAGE, "--input-len is for random prompts, --dataset brings its own");
    if (o->max_model_len > 0 && !o->bench.dataset &&
        (int64_t)input_length(o) + o->bench.output_len > o->max_model_len)
        return FAIL(STATUS_USAGE, "--input-len %d and --output-len %d are more than --max-model-len %d",
                    input_length(o), o->bench.output_len, o->max_model_len);
    if (rank != 0)
        return STATUS_OK;
    if (o->bench.dataset) {
        struct file file = {0};

        TRY(file_open(&file, o->bench.dataset));
        file_close(&file);
    }
    return o->output_json ? report_check("output-json", o->output_json) : STATUS_OK;
}

static enum status open_workload(struct bench *b)
{
    const struct options *o = b->session.options;
    const struct engine *e = &b->session.engine;
    struct workload_options options = {.count =
                                           measures_latency(o) ? o->bench.batch_size : o->bench.num_prompts,
                                       .input = input_length(o),
                                       .output = o->bench.output_len,
                                       .positions = e->max_positions,
                                       .vocabulary = e->config.vocabulary,
                                       .seed = o->seed,
                                       .rate = measures_latency(o) ? HUGE_VAL : o->bench.request_rate,
                                       .path = o->bench.dataset};
    char path[PATH_MAX];

    if (b->session.process.rank != 0)
        return STATUS_OK;
    if (options.path && snprintf(path, sizeof path, "%s/tokenizer.json", e->directory) < (int)sizeof path &&
        file_exists(path))
        TRY(tokenizer_open(&b->tokenizer, e->directory));
    options.tokenizer = b->tokenizer;
    return workload_open(&b->workload, &options);
}

static enum status open_trial(struct bench *b)
{
    const struct options *o = b->session.options;
    struct trial_options options = {.workload = &b->workload,
                                    .sampling = session_sampling(&b->session),
                                    .prefix_caching = o->bench.enable_prefix_caching,
                                    .rounds = 1,
                                    .stop = b->session.process.stop};

    if (measures_latency(o))
        options.rounds =
            o->bench.num_iters > o->bench.num_iters_warmup ? o->bench.num_iters : o->bench.num_iters_warmup;
    return trial_open(&b->trial, &b->session.engine, &options);
}

/* -- reports --- */

static const char *const kinds[TIMELINE_KINDS] = {
    [TIMELINE_TTFT] = "ttft", [TIMELINE_TPOT] = "tpot", [TIMELINE_ITL] = "itl", [TIMELINE_E2EL] = "e2el"};
static const char *const titles[TIMELINE_KINDS] = {[TIMELINE_TTFT] = "time to first token",
                                                   [TIMELINE_TPOT] = "time per output token",
                                                   [TIMELINE_ITL] = "inter-token latency",
                                                   [TIMELINE_E2EL] = "end-to-end latency"};

/* What the run was asked for, so that a report can be told from another. */
static json_t *pack_settings(const struct bench *b)
{
    const struct options *o = b->session.options;
    const struct sampling *s = &b->trial.options.sampling;
    json_t *all =
        json_pack("{s:I, s:f, s:i, s:f, s:f, s:b, s:b, s:b, s:i}", "seed", (json_int_t)s->seed, "temperature",
                  (double)s->temperature, "top_k", s->top_k, "top_p", (double)s->top_p, "min_p",
                  (double)s->min_p, "ignore_eos", 1, "detokenize", 0, "enable_prefix_caching",
                  o->bench.enable_prefix_caching ? 1 : 0, "output_len", o->bench.output_len);

    if (o->bench.dataset)
        json_object_set_new(all, "dataset", report_text(o->bench.dataset));
    else
        json_object_set_new(all, "input_len", json_integer(input_length(o)));
    if (measures_latency(o)) {
        json_object_set_new(all, "batch_size", json_integer(o->bench.batch_size));
        json_object_set_new(all, "num_iters", json_integer(o->bench.num_iters));
        json_object_set_new(all, "num_iters_warmup", json_integer(o->bench.num_iters_warmup));
        return all;
    }
    json_object_set_new(all, "num_warmups", json_integer(o->bench.num_warmups));
    json_object_set_new(all, "request_rate",
                        isfinite(o->bench.request_rate) ? json_real(o->bench.request_rate)
                                                        : json_string("inf"));
    return all;
}

/* "mean_ttft_ms" and so on, as vLLM names them. */
static void set_figures(json_t *all, const char *kind, const struct timeline_figures *f)
{
    const struct {
        const char *name;
        double value;
    } figures[FIGURES] = {{"mean", f->mean}, {"median", f->median}, {"p90", f->p90}, {"p99", f->p99}};
    char key[32];

    for (int i = 0; i < FIGURES; i++) {
        snprintf(key, sizeof key, "%s_%s_ms", figures[i].name, kind);
        json_object_set_new(all, key, json_real(figures[i].value));
    }
}

/* Behind what is special to a report: what the time line says, the settings, the facts of the closing line.
 */
static void set_common(struct bench *b, json_t *all)
{
    json_t *facts = summary_pack(&b->trial.summary);

    for (int kind = 0; kind < TIMELINE_KINDS; kind++) {
        struct timeline_figures f;

        timeline_figures(&b->trial.timeline, (enum timeline_kind)kind, &f);
        set_figures(all, kinds[kind], &f);
    }
    json_object_set_new(all, "settings", pack_settings(b));
    json_object_update_missing(all, facts);
    json_decref(facts);
}

static json_t *pack_throughput(struct bench *b)
{
    const struct workload *w = &b->workload;
    double seconds = b->trial.seconds[0];
    int64_t tokens = w->input_tokens + w->output_tokens;
    json_t *all =
        json_pack("{s:f, s:i, s:I, s:f, s:f, s:f, s:I, s:I}", "elapsed_time", seconds, "num_requests",
                  w->count, "total_num_tokens", (json_int_t)tokens, "requests_per_second", w->count / seconds,
                  "tokens_per_second", (double)tokens / seconds, "output_tokens_per_second",
                  (double)w->output_tokens / seconds, "num_prompt_tokens", (json_int_t)w->input_tokens,
                  "num_output_tokens", (json_int_t)w->output_tokens);

    set_common(b, all);
    return all;
}

/* The seconds of each batch, then the same in rising order. */
static json_t *pack_latency(struct bench *b)
{
    int count = b->session.options->bench.num_iters;
    double *seconds = b->trial.seconds;
    json_t *latencies = json_array();
    json_t *points = json_object();
    double sum = 0;
    char key[8];
    json_t *all;

    for (int i = 0; i < count; i++) {
        json_array_append_new(latencies, json_real(seconds[i]));
        sum += seconds[i];
    }
    timeline_sort(seconds, count);
    for (int i = 0; i < PERCENTS; i++) {
        snprintf(key, sizeof key, "%d", percents[i]);
        json_object_set_new(points, key, json_real(timeline_percentile(seconds, count, percents[i])));
    }
    all = json_pack("{s:f, s:o, s:o}", "avg_latency", sum / count, "latencies", latencies, "percentiles",
                    points);
    set_common(b, all);
    return all;
}

static double number(const json_t *all, const char *key)
{
    return json_number_value(json_object_get(all, key));
}

/* The first lines are vLLM's own. */
static void write_throughput(FILE *out, const json_t *all)
{
    fprintf(out, "Throughput: %.2f requests/s, %.2f total tokens/s, %.2f output tokens/s\n",
            number(all, "requests_per_second"), number(all, "tokens_per_second"),
            number(all, "output_tokens_per_second"));
    fprintf(out, "Total num prompt tokens:  %.0f\nTotal num output tokens:  %.0f\n",
            number(all, "num_prompt_tokens"), number(all, "num_output_tokens"));
    fprintf(out, "Elapsed time: %.3f seconds\n", number(all, "elapsed_time"));
}

static void write_latency(FILE *out, const json_t *all)
{
    const json_t *points = json_object_get(all, "percentiles");
    char key[8];

    fprintf(out, "Avg latency: %.6f seconds\n", number(all, "avg_latency"));
    for (int i = 0; i < PERCENTS; i++) {
        snprintf(key, sizeof key, "%d", percents[i]);
        fprintf(out, "%s%% percentile latency: %.6f seconds\n", key, number(points, key));
    }
}

static void write_common(FILE *out, const json_t *all)
{
    const json_t *settings = json_object_get(all, "settings");
    static const char *const figures[FIGURES] = {"mean", "median", "p90", "p99"};
    char key[32];

    fprintf(out, "\n%-28s %10s %10s %10s %10s\n", "milliseconds", "mean", "median", "p90", "p99");
    for (int kind = 0; kind < TIMELINE_KINDS; kind++) {
        fprintf(out, "%-21s (%s)%*s", titles[kind], kinds[kind], 5 - (int)strlen(kinds[kind]), "");
        for (int i = 0; i < FIGURES; i++) {
            snprintf(key, sizeof key, "%s_%s_ms", figures[i], kinds[kind]);
            fprintf(out, " %10.3f", number(all, key));
        }
        fputc('\n', out);
    }
    fprintf(out, "\nprefix caching %s, %.0f prompt tokens taken from the cache; tokens %s\n",
            json_is_true(json_object_get(settings, "enable_prefix_caching")) ? "on" : "off",
            number(all, "cached_tokens"), json_string_value(json_object_get(all, "tokens_hash")));
}

static enum status write_report(const struct options *o, FILE *out, const json_t *all)
{
    if (o->json)
        return report_json(out, all);
    if (measures_latency(o))
        write_latency(out, all);
    else
        write_throughput(out, all);
    write_common(out, all);
    return STATUS_OK;
}

static enum status report(struct bench *b)
{
    const struct options *o = b->session.options;
    json_t *all = measures_latency(o) ? pack_latency(b) : pack_throughput(b);
    enum status status;
    FILE *out;

    if (!all)
        return FAIL(STATUS_NO_MEMORY, "no memory for the report");
    status = report_open(b->session.process.answers, &out);
    if (status == STATUS_OK) {
        enum status closed;

        status = write_report(o, out, all);
        closed = report_close(out);
        status = status == STATUS_OK ? closed : status;
    }
    if (status == STATUS_OK && o->output_json)
        status = report_file("output-json", o->output_json, all);
    json_decref(all);
    return status;
}

/* -- the run --- */

static enum status measure(struct bench *b)
{
    const struct options *o = b->session.options;
    struct trial *t = &b->trial;
    int warm = o->bench.num_warmups < o->bench.num_prompts ? o->bench.num_warmups : o->bench.num_prompts;

    if (measures_latency(o)) {
        if (o->bench.num_iters_warmup > 0)
            TRY(trial_run(t, "warming up", o->bench.num_iters_warmup, o->bench.batch_size, 0));
        TRY(session_record(&b->session));
        return trial_run(t, "measuring", o->bench.num_iters, o->bench.batch_size, 0);
    }
    if (warm > 0)
        TRY(trial_run(t, "warming up", 1, warm, WARMUP_TOKENS));
    TRY(session_record(&b->session));
    return trial_run(t, "measuring", 1, o->bench.num_prompts, 0);
}

static enum status run(struct bench *b, const struct options *o, const struct environment *environment)
{
    struct process *p = &b->session.process;

    TRY(session_open(&b->session, o, environment));
    TRY(process_agree(p, check(o, p->rank)));
    TRY(session_load(&b->session));
    TRY(process_agree(p, open_workload(b)));
    TRY(process_agree(p, open_trial(b)));
    TRY(measure(b));
    TRY(process_agree(p, session_recorded(&b->session)));
    TRY(trial_finish(&b->trial));
    return process_agree(p, p->rank == 0 ? report(b) : STATUS_OK);
}

static int bench(const struct options *o, const struct environment *environment)
{
    static struct bench b;
    enum status status = run(&b, o, environment);

    trial_close(&b.trial);
    workload_close(&b.workload);
    tokenizer_close(b.tokenizer);
    return session_close(&b.session, status);
}

int bench_throughput(const struct options *o, const struct environment *environment)
{
    return bench(o, environment);
}

int bench_latency(const struct options *o, const struct environment *environment)
{
    return bench(o, environment);
}
