/* generate.c - prompts in, text out: the main job
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/generate.h"

#include "comm/watch.h"
#include "engine/base/log.h"
#include "engine/drive.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { IDLE_MILLISECONDS = 2000, RENDER_EXTRA = 4096, LONGEST = PROMPTS_LIMIT + RENDER_EXTRA };

static void hash_token(void *context, int32_t token)
{
    summary_hash(context, token);
}

static void hash_request(void *context, const struct request *r)
{
    summary_hash_request(context, r->number, r->tokens + r->prompt, r->count - r->prompt);
}

/* Address space for requests, prompts and their chat form; pages are used as prompts come. */
static size_t arena_bytes(const struct generate *g)
{
    const struct engine *e = g->engine;
    size_t choices = (size_t)e->max_positions * (1 + REQUEST_TOP) * sizeof(struct request_choice);
    size_t own = g->options.output_json ? choices + sizeof(struct request_store) : 0;

    return drive_bytes(e, own) + 4 * (size_t)PROMPTS_LIMIT;
}

/* The end-of-text token of tokenizer_config.json stops too, when the model's own list does not name it. */
static void add_stop(struct config *c, int id)
{
    if (id < 0 || c->stop_count == CONFIG_STOP_LIMIT)
        return;
    for (int i = 0; i < c->stop_count; i++)
        if (c->stop[i] == id)
            return;
    c->stop[c->stop_count++] = id;
}

/* A directory without a tokenizer serves token ids. */
static enum status open_tokenizer(struct generate *g)
{
    struct engine *e = g->engine;
    char path[PATH_MAX];

    if (g->options.input_json && g->options.output_json &&
        snprintf(path, sizeof path, "%s/tokenizer.json", e->directory) < (int)sizeof path &&
        access(path, F_OK) != 0 && errno == ENOENT) {
        log_line(LOG_INFO, "%s is not there: only \"prompt_token_ids\" can be served", path);
        return STATUS_OK;
    }
    TRY(tokenizer_open(&g->tokenizer, e->directory));
    if (tokenizer_size(g->tokenizer) > e->config.vocabulary)
        return FAIL(STATUS_BAD_INPUT,
                    "%s: tokenizer.json has ids up to %d, config.json a vocabulary of %d: they do not belong "
                    "together",
                    e->directory, tokenizer_size(g->tokenizer) - 1, e->config.vocabulary);
    add_stop(&e->config, tokenizer_eos(g->tokenizer));
    return STATUS_OK;
}

/* Messages need a renderer: with --chat every prompt does, otherwise those that bring messages. */
static enum status open_chat(struct generate *g)
{
    enum status status;

    if (!g->tokenizer || !(g->options.chat || g->options.input_json))
        return STATUS_OK;
    status = chat_find(&g->chat, g->engine->config.model_type, g->tokenizer);
    if (status != STATUS_BAD_INPUT || g->options.chat)
        return status;
    snprintf(g->chat_missing, sizeof g->chat_missing, "%s", status_text());
    return STATUS_OK;
}

static void print_blank(void *context)
{
    struct generate *g = context;

    printer_blank(&g->printer, g->scheduler.added);
}

static enum status open_intake(struct generate *g)
{
    const struct engine *e = g->engine;
    struct intake_options options = {.defaults = g->options.request,
                                     .directory = e->directory,
                                     .vocabulary = e->config.vocabulary,
                                     .chat = g->chat,
                                     .chat_missing = g->chat_missing,
                                     .literal_text = g->options.literal_text,
                                     .tokenizer = g->tokenizer,
                                     .longest = LONGEST};

    TRY(intake_open(&g->intake, &g->arena, &options, &g->scheduler,
                    g->options.output_json ? &g->answer : NULL));
    g->intake.blank = print_blank;
    g->intake.context = g;
    return STATUS_OK;
}

static enum status open_output(struct generate *g)
{
    const struct answer_options options = {
        .output = g->options.output, .whole = g->options.whole, .ordered = g->options.ordered};
    struct scheduler *s = &g->scheduler;

    if (g->options.input_json || g->options.output_json)
        for (int i = 0; i < s->capacity; i++)
            TRY(request_attach(&s->store[i], &g->arena, g->options.output_json ? s->limits.positions : 0));
    if (g->options.output_json) {
        TRY(answer_open(&g->answer, &g->arena, &options, g->tokenizer, s->capacity));
        g->answer.each = hash_request;
        g->answer.context = &g->summary;
        return STATUS_OK;
    }
    TRY(printer_open(&g->printer, &g->arena, g->options.output, g->tokenizer, s->capacity));
    g->printer.each = hash_token;
    g->printer.context = &g->summary;
    return STATUS_OK;
}

static enum status open_front(struct generate *g)
{
    struct engine *e = g->engine;
    struct scheduler_limits limits = drive_limits(e, g->options.prefix_caching);

    TRY(arena_open(&g->arena, "requests", arena_bytes(g)));
    TRY(open_tokenizer(g));
    TRY(open_chat(g));
    TRY(scheduler_open(&g->scheduler, &g->arena, &limits, g->tokenizer, e->config.stop,
                       e->config.stop_count));
    TRY(open_output(g));
    TRY(prompts_open(&g->prompts, &g->arena, g->options.input, g->options.form));
    TRY(open_intake(g));
    arena_seal(&g->arena);
    return STATUS_OK;
}

enum status generate_open(struct generate *g, struct engine *engine, const struct generate_options *options)
{
    *g = (struct generate){.engine = engine, .options = *options};
    if (engine->grid.rank == 0)
        TRY(open_front(g));
    arena_seal(&engine->arena);
    return STATUS_OK;
}

void generate_close(struct generate *g)
{
    intake_close(&g->intake);
    tokenizer_close(g->tokenizer);
    arena_close(&g->arena);
    memset(g, 0, sizeof *g);
}

/* Writes what can be written now. */
static enum status show(void *context)
{
    struct generate *g = context;

    return g->options.output_json ? answer_show(&g->answer, &g->scheduler)
                                  : printer_show(&g->printer, &g->scheduler);
}

static bool is_blank(const char *text, size_t bytes)
{
    while (bytes > 0 && (text[bytes - 1] == ' ' || text[bytes - 1] == '\t'))
        bytes--;
    return bytes == 0;
}

static enum status take_prompt(struct generate *g, enum prompts_event event, const char *text, size_t bytes)
{
    char why[64];

    if (event == PROMPTS_TOO_LONG) {
        snprintf(why, sizeof why, "it is longer than %d MiB", PROMPTS_LIMIT >> 20);
        return intake_unread(&g->intake, g->prompts.line, why);
    }
    if (g->options.input_json)
        return is_blank(text, bytes) ? STATUS_OK : intake_line(&g->intake, text, bytes, g->prompts.line);
    if (bytes == 0 && !g->options.output_json) { /* nothing asked, nothing answered */
        g->intake.requests++;
        print_blank(g);
        return STATUS_OK;
    }
    if (bytes == 0)
        return intake_unread(&g->intake, g->prompts.line, "the prompt is empty");
    return intake_text(&g->intake, text, bytes, g->options.chat, g->prompts.line);
}

/* May another line be read? A request whose copies wait for room keeps all behind it waiting. */
static bool has_room(const struct generate *g)
{
    if (g->intake.waits || (g->options.output_json && !answer_has_room(&g->answer)))
        return false;
    return g->options.input_json || scheduler_has_room(&g->scheduler);
}

/* Takes in prompts while there is room; waits for one only when nothing runs. *more: the input has not ended.
 */
static enum status take_prompts(struct generate *g, bool *more)
{
    TRY(intake_continue(&g->intake));
    while (has_room(g)) {
        bool idle = scheduler_idle(&g->scheduler);
        enum prompts_event event;
        const char *text;
        size_t bytes;

        TRY(prompts_next(&g->prompts, idle ? IDLE_MILLISECONDS : 0, &event, &text, &bytes));
        if (event == PROMPTS_END)
            *more = false;
        if (event == PROMPTS_END || event == PROMPTS_NOTHING)
            return STATUS_OK;
        TRY(take_prompt(g, event, text, bytes));
        TRY(show(g));
    }
    return STATUS_OK;
}

static enum status lead(struct generate *g)
{
    struct engine *e = g->engine;
    bool more = true;

    while (more || g->intake.waits || !scheduler_idle(&g->scheduler)) {
        if (g->options.stop && *g->options.stop)
            return FAIL(STATUS_UNAVAILABLE, "asked to stop by a signal; %lld requests were not finished",
                        (long long)g->scheduler.running_count + g->scheduler.waiting.count);
        watch_enter(WATCH_IDLE, -1);
        if (more || g->intake.waits)
            TRY(take_prompts(g, &more));
        watch_enter(WATCH_BATCH, -1);
        batch_clear(&e->batch);
        TRY(scheduler_fill(&g->scheduler, &e->batch));
        TRY(e->batch.row_count > 0 ? drive_step(e, &g->scheduler, &g->summary, show, g)
                                   : drive_tell(e, BATCH_IDLE));
    }
    TRY(show(g));
    return drive_tell(e, BATCH_STOP);
}

/* Only rank 0 has the tokenizer; all must know which ids have a token. */
static enum status agree_on_ids(struct generate *g)
{
    struct engine *e = g->engine;
    int64_t limit = e->grid.rank == 0 ? g->scheduler.ground.id_limit : e->config.vocabulary;

    TRY(e->grid.world->reduce(e->grid.world, COMM_MIN, &limit, 1));
    head_limit(&e->model.head, (int)limit);
    return STATUS_OK;
}

enum status generate_run(struct generate *g, int64_t *refused)
{
    struct engine *e = g->engine;
    struct summary *s = &g->summary;

    TRY(agree_on_ids(g));
    watch_clear_times();
    TRY(e->grid.rank == 0 ? lead(g) : drive_follow(e));
    s->requests = g->intake.requests;
    s->refused = g->intake.refused;
    TRY(drive_finish(e, &g->scheduler, s));
    *refused = s->refused;
    return STATUS_OK;
}
