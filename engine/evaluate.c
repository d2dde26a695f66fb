/* evaluate.c - how well the model predicts given texts: nats and perplexity
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/evaluate.h"

#include "comm/watch.h"
#include "engine/base/clock.h"
#include "engine/base/file.h"
#include "engine/base/log.h"
#include "engine/utf8.h"

#include <string.h>

enum {
    TOKENS_BESIDE = 64,                                                          /* what the tokenizer adds */
    POOL_TOKENS = UTF8_REPLACEMENT_BYTES * TOKENIZER_TEXT_LIMIT + TOKENS_BESIDE, /* of the longest text */
};
static const int64_t PROGRESS_NANOSECONDS = 10000000000; /* between two lines where no terminal is */

static int pages_for(int positions)
{
    return (positions + PAGE_ROWS - 1) / PAGE_ROWS;
}

static enum status open_text(struct file *file, const char *path)
{
    TRY(file_open(file, path));
    if (file->size > 0 && file->size <= TOKENIZER_TEXT_LIMIT)
        return STATUS_OK;
    file_close(file);
    if (file->size == 0)
        return FAIL(STATUS_BAD_INPUT, "%s: the file is empty, there is nothing to predict", path);
    return FAIL(STATUS_BAD_INPUT, "%s: the file is larger than %d MiB; split it", path,
                TOKENIZER_TEXT_LIMIT >> 20);
}

enum status evaluate_check(const char *const *paths, int count)
{
    for (int i = 0; i < count; i++) {
        struct file file = {0};

        TRY(open_text(&file, paths[i]));
        file_close(&file);
    }
    return STATUS_OK;
}

static enum status open_front(struct evaluate *e)
{
    struct engine *engine = e->engine;
    size_t rows = (size_t)engine->options.max_rows;
    size_t sequences = (size_t)engine->options.max_sequences;
    size_t groups = (size_t)engine->grid.groups;
    size_t token_bytes = sizeof(int32_t) + sizeof(double);

    TRY(arena_open(&e->arena, "texts",
                   TOKENIZER_TEXT_LIMIT + POOL_TOKENS * token_bytes + rows * (token_bytes + sizeof(int32_t)) +
                       sequences * sizeof *e->windows + (size_t)e->options.count * sizeof *e->texts +
                       groups * 2 * sizeof(int) + ((size_t)1 << 20)));
    TRY(tokenizer_open(&e->tokenizer, engine->directory));
    if (tokenizer_size(e->tokenizer) > engine->config.vocabulary)
        return FAIL(STATUS_BAD_INPUT,
                    "%s: tokenizer.json has ids up to %d, config.json a vocabulary of %d: they do not belong "
                    "together",
                    engine->directory, tokenizer_size(e->tokenizer) - 1, engine->config.vocabulary);
    e->pool.capacity = POOL_TOKENS;
    TRY(arena_take_array(&e->arena, (size_t)e->options.count, sizeof *e->texts, "results", &e->texts));
    TRY(arena_take(&e->arena, TOKENIZER_TEXT_LIMIT, "a text", &e->bytes));
    TRY(arena_take_array(&e->arena, POOL_TOKENS, sizeof *e->pool.ids, "tokens", &e->pool.ids));
    TRY(arena_take_array(&e->arena, POOL_TOKENS, sizeof *e->nats, "nats of tokens", &e->nats));
    TRY(arena_take_array(&e->arena, sequences, sizeof *e->windows, "windows", &e->windows));
    TRY(arena_take_array(&e->arena, groups, sizeof *e->pages_used, "pages of groups", &e->pages_used));
    TRY(arena_take_array(&e->arena, groups, sizeof *e->rows_left, "rows of groups", &e->rows_left));
    TRY(arena_take_array(&e->arena, rows, sizeof *e->targets, "targets of a step", &e->targets));
    TRY(arena_take_array(&e->arena, rows, sizeof *e->places, "places of targets", &e->places));
    TRY(arena_take_array(&e->arena, rows, sizeof *e->step_nats, "nats of a step", &e->step_nats));
    arena_seal(&e->arena);
    return STATUS_OK;
}

enum status evaluate_open(struct evaluate *e, struct engine *engine, const struct evaluate_options *options)
{
    *e = (struct evaluate){.engine = engine, .options = *options};
    if (!engine->options.scores)
        return FAIL(STATUS_BUG, "texts are scored by an engine that was not opened for it");
    if (engine->grid.rank == 0)
        TRY(open_front(e));
    arena_seal(&engine->arena);
    return STATUS_OK;
}

void evaluate_close(struct evaluate *e)
{
    tokenizer_close(e->tokenizer);
    arena_close(&e->arena);
    memset(e, 0, sizeof *e);
}

/* -- texts --- */

/* The tokens of text `index` go behind those in the pool. */
static enum status load_text(struct evaluate *e, int index)
{
    const char *path = e->options.paths[index];
    struct evaluate_text *text = &e->texts[index];
    struct file file = {0};
    int before = e->pool.count;
    int widest;
    enum status status;

    TRY(open_text(&file, path));
    text->bytes = file.size;
    status = file_read(&file, 0, e->bytes, (size_t)file.size);
    file_close(&file);
    TRY(status);
    status = tokenizer_encode(e->tokenizer, e->bytes, (size_t)text->bytes, TOKENIZER_ADD_SPECIAL, &e->pool);
    if (status != STATUS_OK)
        return status_prefix(status, "%s: ", path);
    if (e->pool.count - before < 2)
        return FAIL(STATUS_BAD_INPUT,
                    "%s: the text is one token and nothing stands before it, so there is "
                    "nothing to predict",
                    path);
    text->tokens = e->pool.count - before - 1;
    widest = e->pool.count - before < e->options.window ? e->pool.count - before : e->options.window;
    text->windows = windows_count(e->pool.count - before, e->options.window, e->options.stride);
    if (pages_for(widest) > e->engine->pages)
        return FAIL(STATUS_BAD_INPUT,
                    "%s: its window of %d tokens does not fit the key-value cache, which holds %d; raise "
                    "--kv-cache-memory or lower --window",
                    path, widest, e->engine->pages * PAGE_ROWS);
    return STATUS_OK;
}

/* As many texts as surely fit the pool; *first ... next_text - 1 are there. */
static enum status load_texts(struct evaluate *e, int *first)
{
    *first = e->next_text;
    e->pool.count = 0;
    while (e->next_text < e->options.count) {
        struct file file = {0};
        int64_t most;

        TRY(open_text(&file, e->options.paths[e->next_text]));
        most = UTF8_REPLACEMENT_BYTES * file.size + TOKENS_BESIDE;
        file_close(&file);
        if (e->pool.count + most > e->pool.capacity)
            return STATUS_OK;
        TRY(load_text(e, e->next_text));
        e->next_text++;
    }
    return STATUS_OK;
}

/* A token's nats are added in the order of the text, whenever they came. */
static void add_up(struct evaluate *e, int first)
{
    const double *nats = e->nats;

    for (int i = first; i < e->next_text; i++) {
        struct evaluate_text *text = &e->texts[i];

        for (int64_t token = 1; token <= text->tokens; token++)
            text->nats += nats[token];
        nats += text->tokens + 1;
    }
}

/* -- rounds and steps --- */

/* Where the next window of the load comes from. */
struct cursor {
    int text;
    int window; /* of this text */
    int start;  /* of this text in the pool */
};

/* The group with the fewest rows that has `pages` left; -1: none. */
static int choose_group(const struct evaluate *e, int pages)
{
    int best = -1;

    for (int g = 0; g < e->engine->grid.groups; g++)
        if (e->pages_used[g] + pages <= e->engine->pages &&
            (best < 0 || e->rows_left[g] < e->rows_left[best]))
            best = g;
    return best;
}

/* Windows that are read together: as many as sequences and pages allow. */
static void fill_round(struct evaluate *e, struct cursor *at)
{
    size_t groups = (size_t)e->engine->grid.groups;

    memset(e->pages_used, 0, groups * sizeof *e->pages_used);
    memset(e->rows_left, 0, groups * sizeof *e->rows_left);
    e->window_count = 0;
    while (at->text < e->next_text && e->window_count < e->engine->options.max_sequences) {
        const struct evaluate_text *text = &e->texts[at->text];
        int tokens = (int)text->tokens + 1;
        struct window w = windows_at(tokens, e->options.window, e->options.stride, at->window);
        int group = choose_group(e, pages_for(w.count));

        if (group < 0)
            return;
        e->windows[e->window_count++] = (struct evaluate_window){
            .window = w, .start = at->start + w.first, .group = group, .first_page = e->pages_used[group]};
        e->pages_used[group] += pages_for(w.count);
        e->rows_left[group] += w.count;
        if (++at->window == text->windows) {
            at->start += tokens;
            at->window = 0;
            at->text++;
        }
    }
}

/* The next `rows` tokens of window number `slot`. */
static void add_piece(struct evaluate *e, struct batch *b, int slot, int rows)
{
    struct evaluate_window *w = &e->windows[slot];
    struct batch_piece *piece = &b->pieces[b->piece_count++];
    int page = pages_for(w->done);

    *piece = (struct batch_piece){.sequence = slot,
                                  .group = w->group,
                                  .first_row = b->row_count,
                                  .rows = rows,
                                  .position = w->done,
                                  .want = BATCH_WANT_NONE,
                                  .first_page = b->page_count,
                                  .new_pages = pages_for(w->done + rows) - page};
    for (int i = 0; i < piece->new_pages; i++)
        b->pages[b->page_count++] = w->first_page + page + i;
    for (int i = 0; i < rows; i++, w->done++) {
        int next = w->done + 1;
        bool counts = next >= w->window.counted && next < w->window.count;

        b->tokens[b->row_count] = e->pool.ids[w->start + w->done];
        e->targets[b->row_count] = counts ? e->pool.ids[w->start + next] : SCORE_NONE;
        e->places[b->row_count++] = w->start + next;
    }
    e->rows_left[w->group] -= rows;
}

/* Groups that have rows left share the step alike; what one cannot use goes to those behind it. */
static void fill_step(struct evaluate *e, struct batch *b)
{
    int groups = e->engine->grid.groups;
    int busy = 0;

    for (int g = 0; g < groups; g++)
        busy += e->rows_left[g] > 0;
    for (int g = 0; g < groups; g++) {
        int share;

        if (e->rows_left[g] == 0)
            continue;
        share = (b->max_rows - b->row_count + busy - 1) / busy;
        busy--;
        for (int slot = 0; slot < e->window_count && share > 0; slot++) {
            struct evaluate_window *w = &e->windows[slot];
            int left = w->window.count - w->done;
            int rows = left < share ? left : share;

            if (w->group != g || left == 0)
                continue;
            add_piece(e, b, slot, rows);
            share -= rows;
        }
    }
}

static void show_progress(struct evaluate *e)
{
    int64_t now = clock_now();

    log_progress(0, "%lld tokens, %d of %d files read", (long long)e->tokens_done, e->next_text,
                 e->options.count);
    if (now - e->shown < PROGRESS_NANOSECONDS)
        return;
    e->shown = now;
    log_line(LOG_INFO, "%lld tokens so far, %d of %d files read", (long long)e->tokens_done, e->next_text,
             e->options.count);
}

static enum status lead_step(struct evaluate *e)
{
    struct engine *engine = e->engine;
    struct batch *b = &engine->batch;
    struct model *m = &engine->model;

    if (e->options.stop && *e->options.stop)
        return FAIL(STATUS_UNAVAILABLE, "asked to stop by a signal, %lld tokens were read",
                    (long long)e->tokens_done);
    watch_enter(WATCH_BATCH, -1);
    batch_clear(b);
    fill_step(e, b);
    TRY(balance_lead(&engine->balance, b));
    TRY(batch_send(b, engine->grid.world));
    TRY(model_forward(m, b));
    TRY(score_forward(&engine->score, &m->step, b, matrix_top(m->x, m->step.own.count), e->targets,
                      e->step_nats));
    for (int row = 0; row < b->row_count; row++)
        if (e->targets[row] != SCORE_NONE)
            e->nats[e->places[row]] = e->step_nats[row];
    e->tokens_done += b->row_count;
    e->steps++;
    show_progress(e);
    return STATUS_OK;
}

static enum status read_load(struct evaluate *e, int first)
{
    struct cursor at = {.text = first};

    while (at.text < e->next_text) {
        fill_round(e, &at);
        for (int g = 0; g < e->engine->grid.groups; g++)
            while (e->rows_left[g] > 0)
                TRY(lead_step(e));
    }
    add_up(e, first);
    return STATUS_OK;
}

/* A text that cannot be read is found between steps, so the other ranks can be told that no more come. */
static enum status lead(struct evaluate *e)
{
    struct batch *b = &e->engine->batch;
    enum status status = STATUS_OK;

    e->shown = clock_now();
    while (status == STATUS_OK && e->next_text < e->options.count) {
        int first;

        watch_enter(WATCH_IDLE, -1);
        status = load_texts(e, &first);
        if (status == STATUS_OK)
            TRY(read_load(e, first));
    }
    log_progress(1, "%lld tokens read", (long long)e->tokens_done);
    batch_clear(b);
    b->flags = BATCH_STOP;
    TRY(batch_send(b, e->engine->grid.world));
    return status;
}

static enum status follow(struct evaluate *e)
{
    struct engine *engine = e->engine;
    struct model *m = &engine->model;
    struct batch *b = &engine->batch;

    for (;;) {
        watch_enter(WATCH_IDLE, -1);
        TRY(batch_receive(b, engine->grid.world));
        if (b->flags & BATCH_STOP)
            return STATUS_OK;
        TRY(model_forward(m, b));
        TRY(score_forward(&engine->score, &m->step, b, matrix_top(m->x, m->step.own.count), NULL, NULL));
    }
}

enum status evaluate_run(struct evaluate *e)
{
    enum status status = e->engine->grid.rank == 0 ? lead(e) : follow(e);

    watch_enter(WATCH_END, -1);
    return status;
}
