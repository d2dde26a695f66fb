/* tokenize.c - the commands `tokenize` and `detokenize`: a line out for each line in
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "launch/tokenize.h"

#include "engine/base/arena.h"
#include "engine/base/file.h"
#include "engine/base/log.h"
#include "engine/chat.h"
#include "engine/config.h"
#include "engine/detokenizer.h"
#include "engine/json.h"
#include "engine/json_text.h"
#include "engine/prompts.h"
#include "engine/tokenizer.h"
#include "engine/utf8.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    PATIENCE = 1000, /* milliseconds of one wait for input */
    TOKEN_LIMIT = UTF8_REPLACEMENT_BYTES * TOKENIZER_TEXT_LIMIT +
                  64, /* a token has a byte at least, and broken bytes grow */
    MESSAGE_LIMIT = 1 << 16,
    CONFIG_BYTES = 64 << 20,
    CHUNK = 1024, /* bytes escaped at once */
};

struct work {
    const struct tokenize_job *job;
    struct arena arena;
    struct prompts prompts;
    struct tokenizer *tokenizer;
    struct tokens tokens;
    struct chat_message *messages; /* [MESSAGE_LIMIT] */
    struct chat_prompt prompt;     /* of TOKENIZER_TEXT_LIMIT bytes */
    char *shown;                   /* [room] */
    size_t room;
    int64_t refused, lines;
};

static void write_escaped(FILE *out, const char *text, size_t bytes)
{
    char escaped[JSON_TEXT_GROWTH * CHUNK];

    for (size_t at = 0; at < bytes; at += CHUNK)
        fwrite(escaped, 1, json_text_escape(escaped, text + at, bytes - at < CHUNK ? bytes - at : CHUNK),
               out);
}

static void write_ids(FILE *out, const struct tokens *tokens, const char *between)
{
    for (int i = 0; i < tokens->count; i++)
        fprintf(out, "%s%" PRId32, i > 0 ? between : "", tokens->ids[i]);
}

static enum status encode(struct work *w, const char *text, size_t bytes)
{
    unsigned flags = (w->job->add_special_tokens ? TOKENIZER_ADD_SPECIAL : 0) |
                     (w->job->literal_text ? TOKENIZER_LITERAL : 0);

    w->tokens.count = 0;
    return tokenizer_encode(w->tokenizer, text, bytes, flags, &w->tokens);
}

static enum status answer_text(struct work *w, json_t *text)
{
    if (!json_is_string(text))
        return FAIL(STATUS_BAD_INPUT, "\"text\" must be a string");
    TRY(encode(w, json_string_value(text), json_string_length(text)));
    fputs("{\"ids\":[", w->job->output);
    write_ids(w->job->output, &w->tokens, ",");
    fputs("]}", w->job->output);
    return STATUS_OK;
}

static enum status read_message(json_t *item, size_t index, struct chat_message *out)
{
    json_t *role = json_object_get(item, "role");
    json_t *content = json_object_get(item, "content");

    if (!json_is_string(role) || strlen(json_string_value(role)) != json_string_length(role))
        return FAIL(STATUS_BAD_INPUT, "messages[%zu] needs a \"role\" that is text", index);
    if (!json_is_string(content))
        return FAIL(STATUS_BAD_INPUT, "messages[%zu] needs a \"content\" that is text", index);
    if (json_object_get(item, "tool_calls"))
        return FAIL(STATUS_BAD_INPUT, "messages[%zu] has \"tool_calls\", which are not supported", index);
    *out = (struct chat_message){.role = json_string_value(role),
                                 .content = json_string_value(content),
                                 .bytes = json_string_length(content)};
    return STATUS_OK;
}

/* The renderer that belongs to the directory. */
static enum status find_chat(const struct work *w, const struct chat **out)
{
    const char *model_type = NULL;
    struct json json = {0};
    struct json_at root;
    char path[PATH_MAX];
    enum status status;

    if (snprintf(path, sizeof path, "%s/config.json", w->job->directory) >= (int)sizeof path)
        return FAIL(STATUS_BAD_INPUT, "%.80s...: the path is too long", w->job->directory);
    TRY(json_open_file(&json, path, CONFIG_BYTES, JSON_OPEN_NUL | JSON_OPEN_REAL));
    status = json_get_root(&json, &root);
    if (status == STATUS_OK)
        status = json_require(&root, "model_type");
    if (status == STATUS_OK)
        status = json_get_text(&root, "model_type", &model_type);
    if (status == STATUS_OK)
        status = chat_find(out, model_type, w->tokenizer);
    json_close(&json);
    return status;
}

/* What a template may be told beside the messages. */
static enum status read_settings(json_t *line, struct chat_job *job)
{
    json_t *generation = json_object_get(line, "add_generation_prompt");
    json_t *settings = json_object_get(line, "chat_template_kwargs");
    json_t *thinking = json_object_get(settings, "enable_thinking");

    if (generation && !json_is_boolean(generation))
        return FAIL(STATUS_BAD_INPUT, "\"add_generation_prompt\" must be true or false");
    if (settings && (!json_is_object(settings) || json_object_size(settings) != (thinking != NULL) ||
                     (thinking && !json_is_boolean(thinking))))
        return FAIL(STATUS_BAD_INPUT,
                    "\"chat_template_kwargs\" must be an object with \"enable_thinking\", true or false");
    job->generation_prompt = !json_is_false(generation);
    job->no_thinking = json_is_false(thinking);
    return STATUS_OK;
}

static enum status answer_messages(struct work *w, json_t *messages, json_t *line)
{
    size_t count = json_array_size(messages);
    struct chat_job job = {.messages = w->messages, .count = (int)count};
    const struct chat *chat;

    if (!json_is_array(messages))
        return FAIL(STATUS_BAD_INPUT, "\"messages\" must be a list");
    if (count > MESSAGE_LIMIT)
        return FAIL(STATUS_BAD_INPUT, "%zu messages; there may be %d", count, MESSAGE_LIMIT);
    TRY(read_settings(line, &job));
    for (size_t i = 0; i < count; i++)
        TRY(read_message(json_array_get(messages, i), i, &w->messages[i]));
    TRY(find_chat(w, &chat));
    TRY(chat_render(chat, &job, &w->prompt));
    w->tokens.count = 0;
    TRY(tokenizer_encode_spans(w->tokenizer, w->prompt.text, w->prompt.bytes, w->prompt.content,
                               w->prompt.content_count, &w->tokens));
    fputs("{\"ids\":[", w->job->output);
    write_ids(w->job->output, &w->tokens, ",");
    fputs("],\"prompt\":\"", w->job->output);
    write_escaped(w->job->output, w->prompt.text, w->prompt.bytes);
    fputs("\"}", w->job->output);
    return STATUS_OK;
}

static enum status check_id(const struct work *w, long long id)
{
    if (id < 0 || id >= tokenizer_size(w->tokenizer))
        return FAIL(STATUS_BAD_INPUT, "id %lld is no token: ids go from 0 to %d", id,
                    tokenizer_size(w->tokenizer) - 1);
    return STATUS_OK;
}

/* The text of the ids in w->tokens, escaped or as it is. */
static enum status write_text(struct work *w, bool escaped)
{
    struct detokenizer d;
    size_t bytes;

    TRY(detokenizer_start(&d, w->tokenizer, NULL, 0, true));
    detokenizer_whole(&d);
    for (int i = 0; i <= w->tokens.count; i++) {
        if (i < w->tokens.count)
            TRY(detokenizer_push(&d, w->tokens.ids[i], w->shown, w->room, &bytes));
        else
            TRY(detokenizer_finish(&d, w->shown, w->room, &bytes));
        if (escaped)
            write_escaped(w->job->output, w->shown, bytes);
        else
            fwrite(w->shown, 1, bytes, w->job->output);
    }
    return STATUS_OK;
}

static enum status answer_ids(struct work *w, json_t *ids)
{
    if (!json_is_array(ids))
        return FAIL(STATUS_BAD_INPUT, "\"ids\" must be a list of whole numbers");
    w->tokens.count = 0;
    for (size_t i = 0; i < json_array_size(ids); i++) {
        json_t *id = json_array_get(ids, i);

        if (!json_is_integer(id))
            return FAIL(STATUS_BAD_INPUT, "ids[%zu] must be a whole number", i);
        TRY(check_id(w, json_integer_value(id)));
        TRY(tokens_append(&w->tokens, (int32_t)json_integer_value(id)));
    }
    fputs("{\"text\":\"", w->job->output);
    TRY(write_text(w, true));
    fputs("\"}", w->job->output);
    return STATUS_OK;
}

static enum status answer_object(struct work *w, const struct json *line)
{
    json_t *text = json_object_get(line->root, "text");
    json_t *messages = json_object_get(line->root, "messages");
    json_t *ids = json_object_get(line->root, "ids");

    if (w->job->detokenize)
        return ids ? answer_ids(w, ids) : FAIL(STATUS_BAD_INPUT, "the line needs a key \"ids\"");
    if (!text == !messages)
        return FAIL(STATUS_BAD_INPUT, "the line needs either a key \"text\" or a key \"messages\"");
    return text ? answer_text(w, text) : answer_messages(w, messages, line->root);
}

static enum status answer_json(struct work *w, const char *text, size_t bytes)
{
    struct json line = {0};
    enum status status;

    TRY(json_open(&line, "the line", text, bytes, JSON_OPEN_NUL));
    status = answer_object(w, &line);
    json_close(&line);
    return status;
}

/* Ids with blanks between them. */
static enum status answer_numbers(struct work *w, const char *text, size_t bytes)
{
    if (strlen(text) != bytes)
        return FAIL(STATUS_BAD_INPUT, "the line holds a NUL: ids have blanks between them");
    w->tokens.count = 0;
    for (const char *at = text + strspn(text, " \t"); *at; at += strspn(at, " \t")) {
        char *end;
        long long id;

        errno = 0;
        id = strtoll(at, &end, 10);
        if (end == at || errno || !strchr(" \t", *end))
            return FAIL(STATUS_BAD_INPUT, "\"%.20s\" is no whole number: ids have blanks between them", at);
        TRY(check_id(w, id));
        TRY(tokens_append(&w->tokens, (int32_t)id));
        at = end;
    }
    return write_text(w, false);
}

static enum status answer_plain(struct work *w, const char *text, size_t bytes)
{
    if (w->job->detokenize)
        return answer_numbers(w, text, bytes);
    TRY(encode(w, text, bytes));
    write_ids(w->job->output, &w->tokens, " ");
    return STATUS_OK;
}

/* What was wrong with one line goes where its answer would; other failures end the run. */
static enum status refuse(struct work *w, enum status status)
{
    char repaired[UTF8_REPLACEMENT_BYTES * CHUNK]; /* a sentence that was cut may end in half a character */
    size_t bytes = strlen(status_text());

    if (status != STATUS_BAD_INPUT && status != STATUS_NO_INPUT)
        return status;
    if (w->job->jsonl) {
        bytes = utf8_repair(repaired, status_text(), bytes < CHUNK ? bytes : CHUNK);
        fputs("{\"error\":\"", w->job->output);
        write_escaped(w->job->output, repaired, bytes);
        fputs("\"}", w->job->output);
    } else {
        log_line(LOG_WARN, "input line %lld: %s", (long long)w->prompts.line, status_text());
        w->refused++;
    }
    return STATUS_OK;
}

static enum status answer(struct work *w, enum prompts_event event, const char *text, size_t bytes)
{
    enum status status;

    if (event == PROMPTS_TOO_LONG)
        status = FAIL(STATUS_BAD_INPUT, "the line is longer than %d bytes", PROMPTS_LIMIT);
    else
        status = w->job->jsonl ? answer_json(w, text, bytes) : answer_plain(w, text, bytes);
    if (status != STATUS_OK)
        TRY(refuse(w, status));
    w->lines++;
    if (putc('\n', w->job->output) == EOF || fflush(w->job->output) != 0)
        return FAIL(STATUS_IO, "writing the answer to line %lld: %s", (long long)w->lines, strerror(errno));
    return STATUS_OK;
}

static enum status answer_all(struct work *w)
{
    enum prompts_event event = PROMPTS_NOTHING;
    const char *text = NULL;
    size_t bytes = 0;

    while (event != PROMPTS_END) {
        TRY(prompts_next(&w->prompts, PATIENCE, &event, &text, &bytes));
        if (event == PROMPTS_ONE || event == PROMPTS_TOO_LONG)
            TRY(answer(w, event, text, bytes));
    }
    if (w->refused > 0)
        return FAIL(STATUS_BAD_INPUT, "%lld of %lld lines were refused", (long long)w->refused,
                    (long long)w->lines);
    return STATUS_OK;
}

/* Content is noted only where it is to be plain. */
static enum status open_prompt(struct work *w)
{
    w->prompt.capacity = TOKENIZER_TEXT_LIMIT;
    TRY(arena_take(&w->arena, w->prompt.capacity, "a prompt", &w->prompt.text));
    if (!w->job->literal_text)
        return STATUS_OK;
    w->prompt.content_capacity = MESSAGE_LIMIT * CHAT_PROMPT_PARTS;
    return arena_take_array(&w->arena, MESSAGE_LIMIT * CHAT_PROMPT_PARTS, sizeof *w->prompt.content,
                            "content of messages", &w->prompt.content);
}

static enum status open_work(struct work *w)
{
    TRY(tokenizer_open(&w->tokenizer, w->job->directory));
    w->room = detokenizer_room(w->tokenizer);
    w->tokens.capacity = TOKEN_LIMIT;
    TRY(arena_open(&w->arena, "lines of text",
                   PROMPTS_LIMIT + TOKENIZER_TEXT_LIMIT + TOKEN_LIMIT * sizeof *w->tokens.ids +
                       MESSAGE_LIMIT * (sizeof *w->messages + CHAT_PROMPT_PARTS * sizeof *w->prompt.content) +
                       w->room + (1 << 20)));
    TRY(arena_take_array(&w->arena, TOKEN_LIMIT, sizeof *w->tokens.ids, "ids", &w->tokens.ids));
    TRY(arena_take_array(&w->arena, MESSAGE_LIMIT, sizeof *w->messages, "messages", &w->messages));
    TRY(open_prompt(w));
    TRY(arena_take(&w->arena, w->room, "text of a token", &w->shown));
    return prompts_open(&w->prompts, &w->arena, w->job->input, PROMPTS_LINES);
}

enum status tokenize_lines(const struct tokenize_job *job)
{
    struct work w = {.job = job};
    enum status status = open_work(&w);

    if (status == STATUS_OK)
        status = answer_all(&w);
    tokenizer_close(w.tokenizer);
    arena_close(&w.arena);
    return status;
}

/* A directory with a tokenizer will do, even if it holds no model. */
static enum status locate(struct arena *arena, const struct options *o, const struct environment *e,
                          const char **directory)
{
    char path[PATH_MAX];

    if (!o->model)
        return FAIL(STATUS_USAGE, "--model is missing");
    if (snprintf(path, sizeof path, "%s/tokenizer.json", o->model) < (int)sizeof path && file_exists(path)) {
        *directory = o->model;
        return STATUS_OK;
    }
    return config_locate(arena, o->model, e->cache, directory);
}

static enum status run_job(const struct options *o, const struct environment *e, struct tokenize_job *job)
{
    struct arena arena = {0};
    enum status status;

    TRY(arena_open(&arena, "the model's path", 2 * PATH_MAX));
    status = locate(&arena, o, e, &job->directory);
    if (status == STATUS_OK && o->input_file)
        status = file_stream("--input-file", o->input_file, &job->input);
    if (status == STATUS_OK)
        status = tokenize_lines(job);
    if (job->input > STDIN_FILENO)
        close(job->input);
    arena_close(&arena);
    return status;
}

enum status tokenize_run(const struct options *o, const struct environment *e, int answers)
{
    struct tokenize_job job = {.input = STDIN_FILENO,
                               .output = fdopen(answers, "w"),
                               .jsonl = o->input == OPTIONS_JSONL,
                               .detokenize = o->command == OPTIONS_DETOKENIZE,
                               .add_special_tokens = o->add_special_tokens,
                               .literal_text = o->literal_text};
    enum status status;

    if (!job.output)
        return FAIL(STATUS_IO, "the output cannot be opened: %s", strerror(errno));
    status = run_job(o, e, &job);
    if (fclose(job.output) != 0 && status == STATUS_OK)
        status = FAIL(STATUS_IO, "writing the answers: %s", strerror(errno));
    return status;
}
