/* generate.c - prompts in, text out: the main job
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/generate.h"

#include "comm/watch.h"
#include "engine/base/clock.h"
#include "engine/base/log.h"

#include <string.h>

enum { IDLE_MILLISECONDS = 2000, RENDER_EXTRA = 4096 };

static void hash_token(void *context, int32_t token)
{
    summary_hash(context, token);
}

/* Address space for requests, prompts and their chat form; pages are used as prompts come. */
static size_t arena_bytes(const struct engine *e)
{
    size_t per_request = (size_t)e->max_positions * sizeof(int32_t) * 2 + 4096;
    size_t pages = scheduler_page_bytes(e->grid.groups, e->pages);
    size_t vocabulary = (size_t)e->config.vocabulary * 64;

    return 4 * (size_t)e->options.max_sequences * per_request + pages + vocabulary +
           4 * (size_t)PROMPTS_LIMIT + ((size_t)64 << 20);
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

static enum status open_front(struct generate *g)
{
    struct engine *e = g->engine;
    struct scheduler_limits limits = {.sequences = e->options.max_sequences,
                                      .rows = e->options.max_rows,
                                      .positions = e->max_positions,
                                      .pages_per_group = e->pages,
                                      .groups = e->grid.groups,
                                      .vocabulary = e->config.vocabulary,
                                      .prefix_caching = g->options.prefix_caching};

    TRY(arena_open(&g->arena, "requests", arena_bytes(e)));
    TRY(tokenizer_open(&g->tokenizer, e->directory));
    if (tokenizer_size(g->tokenizer) > e->config.vocabulary)
        return FAIL(STATUS_BAD_INPUT,
                    "%s: tokenizer.json has ids up to %d, config.json a vocabulary of %d: they do not belong "
                    "together",
                    e->directory, tokenizer_size(g->tokenizer) - 1, e->config.vocabulary);
    add_stop(&e->config, tokenizer_eos(g->tokenizer));
    if (g->options.chat)
        TRY(chat_find(&g->chat, e->config.model_type, g->tokenizer));
    TRY(scheduler_open(&g->scheduler, &g->arena, &limits, g->tokenizer, e->config.stop,
                       e->config.stop_count));
    TRY(printer_open(&g->printer, &g->arena, g->options.output, g->tokenizer, g->scheduler.capacity));
    TRY(prompts_open(&g->prompts, &g->arena, g->options.input, g->options.form));
    g->printer.each = hash_token;
    g->printer.context = &g->summary;
    g->rendered_bytes = (size_t)PROMPTS_LIMIT + RENDER_EXTRA;
    TRY(arena_take(&g->arena, g->rendered_bytes, "a prompt in its chat form", &g->rendered));
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
    tokenizer_close(g->tokenizer);
    arena_close(&g->arena);
    memset(g, 0, sizeof *g);
}

/* One prompt becomes a request. */
static enum status add_prompt(struct generate *g, const char *text, size_t bytes)
{
    struct tokens tokens = scheduler_prompt(&g->scheduler);
    unsigned flags = TOKENIZER_ADD_SPECIAL;

    if (g->options.chat) {
        struct chat_message message = {.role = "user", .content = text, .bytes = bytes};

        TRY(chat_render(g->chat, &message, 1, true, g->rendered, g->rendered_bytes, &bytes));
        text = g->rendered;
        flags = 0; /* the template writes the begin-of-text token itself */
    }
    TRY(tokenizer_encode(g->tokenizer, text, bytes, flags, &tokens));
    return scheduler_add(&g->scheduler, tokens.count, &g->options.request);
}

/* A prompt that cannot be served is named on stderr and answered by an empty line; the others go on. */
static enum status refuse(struct generate *g, enum status status)
{
    if (status != STATUS_BAD_INPUT)
        return status;
    log_line(LOG_ERROR, "prompt %lld is refused: %s", (long long)g->prompts.line, status_text());
    g->summary.refused++;
    printer_blank(&g->printer, g->scheduler.added);
    return STATUS_OK;
}

/* Takes in prompts while there is room; waits for one only when nothing runs. *more: the input has not ended.
 */
static enum status take_prompts(struct generate *g, bool *more)
{
    while (scheduler_has_room(&g->scheduler)) {
        bool idle = scheduler_idle(&g->scheduler);
        enum prompts_event event;
        enum status status = STATUS_OK;
        const char *text;
        size_t bytes;

        TRY(prompts_next(&g->prompts, idle ? IDLE_MILLISECONDS : 0, &event, &text, &bytes));
        if (event == PROMPTS_END)
            *more = false;
        if (event == PROMPTS_END || event == PROMPTS_NOTHING)
            return STATUS_OK;
        g->summary.requests++;
        if (event == PROMPTS_TOO_LONG)
            status = FAIL(STATUS_BAD_INPUT, "it is longer than %d MiB", PROMPTS_LIMIT >> 20);
        else if (bytes == 0)
            printer_blank(&g->printer, g->scheduler.added); /* nothing asked, nothing answered */
        else
            status = add_prompt(g, text, bytes);
        if (status != STATUS_OK)
            TRY(refuse(g, status));
        TRY(printer_show(&g->printer, &g->scheduler, g->options.request.stops,
                         g->options.request.stop_count));
    }
    return STATUS_OK;
}

/* One step at rank 0, from batch to text. */
static enum status lead_step(struct generate *g)
{
    struct engine *e = g->engine;
    struct batch *b = &e->batch;
    int64_t before = g->scheduler.generated_tokens;
    int64_t prompts_before = g->scheduler.prompt_tokens + g->scheduler.recomputed_tokens;
    int64_t start = clock_now();
    double seconds;

    TRY(batch_send(b, e->grid.world));
    TRY(model_forward(&e->model, b));
    watch_enter(WATCH_SAMPLE, -1);
    TRY(scheduler_advance(&g->scheduler, b, e->model.head.results));
    TRY(printer_show(&g->printer, &g->scheduler, g->options.request.stops, g->options.request.stop_count));
    seconds = (double)(clock_now() - start) * 1e-9;
    g->summary.steps++;
    g->summary.seconds += seconds;
    if (g->scheduler.prompt_tokens + g->scheduler.recomputed_tokens == prompts_before) {
        g->summary.decode_seconds += seconds;
        g->summary.decode_tokens += g->scheduler.generated_tokens - before;
    }
    return STATUS_OK;
}

static enum status lead(struct generate *g)
{
    struct batch *b = &g->engine->batch;
    bool more = true;

    while (more || !scheduler_idle(&g->scheduler)) {
        if (g->options.stop && *g->options.stop)
            return FAIL(STATUS_UNAVAILABLE, "asked to stop by a signal; %lld requests were not finished",
                        (long long)g->scheduler.running_count + g->scheduler.waiting.count);
        watch_enter(WATCH_IDLE, -1);
        if (more)
            TRY(take_prompts(g, &more));
        watch_enter(WATCH_BATCH, -1);
        batch_clear(b);
        TRY(scheduler_fill(&g->scheduler, b));
        if (b->row_count > 0) {
            TRY(lead_step(g));
        } else {
            b->flags = BATCH_IDLE; /* a sign of life */
            TRY(batch_send(b, g->engine->grid.world));
        }
    }
    TRY(printer_show(&g->printer, &g->scheduler, g->options.request.stops, g->options.request.stop_count));
    batch_clear(b);
    b->flags = BATCH_STOP;
    return batch_send(b, g->engine->grid.world);
}

static enum status follow(struct generate *g)
{
    struct engine *e = g->engine;

    for (;;) {
        watch_enter(WATCH_IDLE, -1);
        TRY(batch_receive(&e->batch, e->grid.world));
        if (e->batch.flags & BATCH_STOP)
            return STATUS_OK;
        if (!(e->batch.flags & BATCH_IDLE))
            TRY(model_forward(&e->model, &e->batch));
    }
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
    const struct experts *experts = &e->model.experts;

    TRY(agree_on_ids(g));
    watch_clear_times();
    TRY(e->grid.rank == 0 ? lead(g) : follow(g));
    watch_enter(WATCH_END, -1);
    TRY(summary_gather(s, e->grid.world));
    s->ranks = e->grid.ranks;
    s->tensor = e->grid.tensor;
    s->backend = e->kernels->name;
    s->comm = e->grid.world->kind;
    s->prompt_tokens = g->scheduler.prompt_tokens;
    s->cached_tokens = g->scheduler.cached_tokens;
    s->recomputed_tokens = g->scheduler.recomputed_tokens;
    s->preemptions = g->scheduler.preemptions;
    s->generated_tokens = g->scheduler.generated_tokens;
    s->imbalance = experts->mean_rows > 0
                       ? (double)experts->busiest_rows * e->grid.ranks / (double)experts->mean_rows
                       : 1.0;
    if (e->grid.rank == 0)
        summary_log(s);
    *refused = s->refused;
    return STATUS_OK;
}
