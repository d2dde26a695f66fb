/* workload.c - requests to measure with: made up from a seed, or read from a file
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/workload.h"

#include "engine/base/file.h"
#include "engine/json.h"
#include "engine/sampler.h"
#include "engine/utf8.h"

#include <limits.h>
#include <math.h>
#include <string.h>

/* Streams of random numbers: prompt i takes request i's, arrivals one that no prompt has. */
static const uint64_t ARRIVALS = UINT64_MAX;
static const int64_t FILE_BYTES = (int64_t)1 << 32;

enum { TOKENS_BESIDE = 8 /* that the tokenizer adds to a line */ };

/* What a line may give rise to. */
struct reader {
    const struct workload_options *options;
    struct workload *w;
    struct tokens tokens;
    int64_t line;
};

/* Address space for that many prompts and tokens. */
static size_t room_bytes(const struct workload_options *o, size_t tokens)
{
    return tokens * sizeof(int32_t) + (size_t)o->count * (sizeof(struct workload_prompt) + sizeof(int64_t)) +
           ((size_t)1 << 20);
}

static enum status take_room(struct workload *w, const struct workload_options *o, size_t tokens)
{
    size_t count = (size_t)o->count;

    TRY(arena_take_array(&w->arena, count, sizeof *w->prompts, "prompts", &w->prompts));
    TRY(arena_take_array(&w->arena, count, sizeof *w->arrivals, "arrivals", &w->arrivals));
    return arena_take_array(&w->arena, tokens, sizeof *w->ids, "tokens of prompts", &w->ids);
}

/* Gaps between arrivals are exponential: a Poisson process of `rate` events a second. */
static void make_arrivals(struct workload *w, const struct workload_options *o)
{
    double now = 0;

    for (int i = 1; i < w->count; i++) {
        if (isfinite(o->rate))
            now -= log1p(-sampler_uniform(o->seed, ARRIVALS, (uint64_t)i)) / o->rate;
        w->arrivals[i] = (int64_t)(now * 1e9);
    }
}

static enum status make_prompts(struct workload *w, const struct workload_options *o)
{
    size_t tokens = (size_t)o->count * (size_t)o->input;

    if ((int64_t)o->input + o->output > o->positions)
        return FAIL(STATUS_USAGE,
                    "--input-len %d and --output-len %d are more than the %d positions of a "
                    "request; see --max-model-len",
                    o->input, o->output, o->positions);
    TRY(arena_open(&w->arena, "the workload", room_bytes(o, tokens)));
    TRY(take_room(w, o, tokens));
    w->count = o->count;
    for (int i = 0; i < o->count; i++) {
        struct workload_prompt *p = &w->prompts[i];

        *p = (struct workload_prompt){.first = (int64_t)i * o->input, .input = o->input, .output = o->output};
        for (int j = 0; j < o->input; j++)
            w->ids[p->first + j] =
                (int32_t)(sampler_uniform(o->seed, (uint64_t)i, (uint64_t)j) * (double)o->vocabulary);
    }
    return STATUS_OK;
}

/* -- files --- */

static enum status add_text(struct reader *r, const char *text, size_t bytes)
{
    if (!r->options->tokenizer)
        return FAIL(STATUS_BAD_INPUT, "the model has no tokenizer, so only \"prompt_token_ids\" will do");
    return tokenizer_encode(r->options->tokenizer, text, bytes, TOKENIZER_ADD_SPECIAL, &r->tokens);
}

static enum status add_ids(struct reader *r, json_t *ids)
{
    for (size_t i = 0; i < json_array_size(ids); i++) {
        json_t *id = json_array_get(ids, i);

        if (!json_is_integer(id) || json_integer_value(id) < 0 ||
            json_integer_value(id) >= r->options->vocabulary)
            return FAIL(STATUS_BAD_INPUT, "\"prompt_token_ids\" must be whole numbers from 0 to %d",
                        r->options->vocabulary - 1);
        TRY(tokens_append(&r->tokens, (int32_t)json_integer_value(id)));
    }
    return STATUS_OK;
}

static enum status add_object(struct reader *r, const struct json *json, int *output)
{
    struct json_at root;
    json_t *text, *ids;

    TRY(json_get_root(json, &root));
    text = json_object_get(root.object, "prompt");
    ids = json_object_get(root.object, "prompt_token_ids");
    TRY(json_get_int(&root, "max_tokens", 1, INT_MAX, output));
    if (json_is_string(text) && !ids)
        return add_text(r, json_string_value(text), json_string_length(text));
    if (json_is_array(ids) && !text)
        return add_ids(r, ids);
    return FAIL(STATUS_BAD_INPUT, "it needs either \"prompt\", a text, or \"prompt_token_ids\", a list");
}

static enum status add_prompt(struct reader *r, const char *text, size_t bytes, int *output)
{
    struct json json = {0};
    enum status status;

    if (bytes == 0 || text[0] != '{')
        return add_text(r, text, bytes);
    TRY(json_open(&json, "the object", text, bytes, JSON_OPEN_NUL));
    status = add_object(r, &json, output);
    json_close(&json);
    return status;
}

static enum status read_line(struct reader *r, const char *text, size_t bytes)
{
    const struct workload_options *o = r->options;
    struct workload_prompt prompt = {.first = r->tokens.count, .output = o->output};
    enum status status = add_prompt(r, text, bytes, &prompt.output);

    prompt.input = r->tokens.count - (int)prompt.first;
    if (status == STATUS_OK && prompt.input == 0)
        status = FAIL(STATUS_BAD_INPUT, "the prompt has no tokens");
    if (status == STATUS_OK && (int64_t)prompt.input + prompt.output > o->positions)
        status = FAIL(STATUS_BAD_INPUT,
                      "%d tokens and an answer of %d are more than the %d positions of a request; see "
                      "--max-model-len",
                      prompt.input, prompt.output, o->positions);
    if (status != STATUS_OK)
        return status_prefix(status, "%s: line %lld: ", o->path, (long long)r->line);
    r->w->prompts[r->w->count++] = prompt;
    return STATUS_OK;
}

static enum status read_lines(struct reader *r, const char *text, size_t bytes)
{
    const char *end = text + bytes;

    while (text < end && r->w->count < r->options->count) {
        const char *stop = memchr(text, '\n', (size_t)(end - text));
        size_t length = (size_t)((stop ? stop : end) - text);
        bool carriage = length > 0 && text[length - 1] == '\r';

        r->line++;
        if (length > carriage)
            TRY(read_line(r, text, length - carriage));
        text += length + 1;
    }
    if (r->w->count == 0)
        return FAIL(STATUS_BAD_INPUT, "%s: there is no prompt in it", r->options->path);
    return STATUS_OK;
}

/* Prompts that the file does not have are its first ones once more. */
static void read_again(struct workload *w, int wanted)
{
    for (int once = w->count; w->count < wanted; w->count++)
        w->prompts[w->count] = w->prompts[w->count - once];
}

static enum status read_prompts(struct workload *w, const struct workload_options *o)
{
    struct reader reader = {.options = o, .w = w};
    struct file file = {0};
    size_t tokens, bytes;
    char *text;

    TRY(file_open(&file, o->path));
    bytes = (size_t)file.size;
    file_close(&file);
    if ((int64_t)bytes > FILE_BYTES)
        return FAIL(STATUS_BAD_INPUT, "%s: larger than %lld GiB", o->path, (long long)(FILE_BYTES >> 30));
    tokens = (UTF8_REPLACEMENT_BYTES + 1) * bytes + (size_t)o->count * TOKENS_BESIDE;
    if (tokens > INT_MAX)
        tokens = INT_MAX;
    TRY(arena_open(&w->arena, "the workload", bytes + room_bytes(o, tokens)));
    TRY(file_whole(&w->arena, o->path, (int64_t)bytes, &text, &bytes));
    TRY(take_room(w, o, tokens));
    reader.tokens = (struct tokens){.ids = w->ids, .capacity = (int)tokens};
    TRY(read_lines(&reader, text, bytes));
    read_again(w, o->count);
    return STATUS_OK;
}

enum status workload_open(struct workload *w, const struct workload_options *options)
{
    enum status status;

    *w = (struct workload){0};
    status = options->path ? read_prompts(w, options) : make_prompts(w, options);
    if (status != STATUS_OK) {
        workload_close(w);
        return status;
    }
    make_arrivals(w, options);
    for (int i = 0; i < w->count; i++) {
        w->input_tokens += w->prompts[i].input;
        w->output_tokens += w->prompts[i].output;
    }
    arena_seal(&w->arena);
    return STATUS_OK;
}

void workload_close(struct workload *w)
{
    arena_close(&w->arena);
    memset(w, 0, sizeof *w);
}
