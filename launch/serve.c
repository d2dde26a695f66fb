/* serve.c - the command `generate`: from options to a finished run on this rank
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "launch/serve.h"

#include "engine/base/file.h"
#include "engine/generate.h"
#include "engine/placement_file.h"
#include "launch/report.h"
#include "launch/session.h"

#include <math.h>
#include <unistd.h>

struct serve {
    struct session session;
    struct generate generate;
    int input; /* rank 0; -1: not open */
};

/* Rank 0 alone reads prompts and writes statistics. */
static enum status open_files(struct serve *s)
{
    const char *path = s->session.options->input_file;

    if (s->session.process.rank != 0)
        return STATUS_OK;
    if (s->session.options->stats)
        TRY(report_check("stats", s->session.options->stats)); /* now, not after a long run */
    if (s->session.options->balancer.placement)
        TRY(placement_file_check(s->session.options->balancer.placement));
    if (path)
        return file_stream("--input-file", path, &s->input);
    s->input = STDIN_FILENO;
    return STATUS_OK;
}

static struct request_logprobs logprobs(int top)
{
    return (struct request_logprobs){.wanted = top >= 0, .top = top < 0 ? 0 : top};
}

static enum status check_request(const struct options *o, const struct config *c)
{
    if (o->min_tokens > o->max_tokens)
        return FAIL(STATUS_USAGE, "--min-tokens %d is more than --max-tokens %d", o->min_tokens,
                    o->max_tokens);
    for (int i = 0; i < o->stop_token_ids.count; i++)
        if (o->stop_token_ids.value[i] >= c->vocabulary)
            return FAIL(STATUS_USAGE, "--stop-token-ids: %d is no token of this model, whose ids end at %d",
                        o->stop_token_ids.value[i], c->vocabulary - 1);
    return STATUS_OK;
}

/* Where experts should lie is known as well when a run is asked to stop. */
static enum status run(struct serve *s, int64_t *refused)
{
    const struct process *p = &s->session.process;
    enum status status = generate_run(&s->generate, refused);

    if (status == STATUS_UNAVAILABLE && p->rank == 0 && *p->stop)
        TRY(engine_save(&s->session.engine));
    return status;
}

static enum status generate(struct serve *s)
{
    const struct options *o = s->session.options;
    struct process *p = &s->session.process;
    const struct config *c = &s->session.engine.config;
    float repetition = isnan(o->repetition_penalty) ? c->repetition : o->repetition_penalty;
    struct generate_options options = {.input = s->input,
                                       .output = p->answers,
                                       .form = o->input == OPTIONS_TEXT ? PROMPTS_TEXT : PROMPTS_LINES,
                                       .chat = o->chat,
                                       .literal_text = o->literal_text,
                                       .input_json = o->input == OPTIONS_JSONL,
                                       .output_json = options_output_json(o),
                                       .whole = o->no_stream,
                                       .ordered = o->ordered,
                                       .request = {.sampling = session_sampling(&s->session),
                                                   .change = {.repetition = repetition,
                                                              .presence = o->presence_penalty,
                                                              .frequency = o->frequency_penalty},
                                                   .max_tokens = o->max_tokens,
                                                   .min_tokens = o->min_tokens,
                                                   .stop_ids = o->stop_token_ids.value,
                                                   .stop_id_count = o->stop_token_ids.count,
                                                   .logprobs = logprobs(o->logprobs),
                                                   .prompt_logprobs = logprobs(o->prompt_logprobs),
                                                   .ignore_eos = o->ignore_eos,
                                                   .stops = o->stop,
                                                   .stop_count = o->stop_count},
                                       .prefix_caching = !o->no_enable_prefix_caching,
                                       .stop = p->stop};
    enum status status = STATUS_OK;
    int64_t refused;

    TRY(process_agree(p, check_request(o, c)));
    TRY(process_agree(p, generate_open(&s->generate, &s->session.engine, &options)));
    TRY(session_record(&s->session));
    TRY(run(s, &refused));
    status = session_recorded(&s->session);
    if (status == STATUS_OK && p->rank == 0 && o->stats)
        status = summary_write(&s->generate.summary, o->stats);
    if (status == STATUS_OK && p->rank == 0)
        status = engine_save(&s->session.engine);
    if (status == STATUS_OK && p->rank == 0 && refused > 0)
        status = FAIL(STATUS_BAD_INPUT, "%lld of %lld prompts were refused", (long long)refused,
                      (long long)s->generate.summary.requests);
    return process_agree(p, status);
}

static enum status serve(struct serve *s, const struct options *o, const struct environment *environment)
{
    TRY(session_open(&s->session, o, environment));
    TRY(process_agree(&s->session.process, open_files(s)));
    TRY(session_load(&s->session));
    return generate(s);
}

int serve_generate(const struct options *o, const struct environment *environment)
{
    static struct serve s = {.input = -1};
    enum status status = serve(&s, o, environment);

    generate_close(&s.generate);
    if (s.input > STDIN_FILENO)
        close(s.input);
    return session_close(&s.session, status);
}
