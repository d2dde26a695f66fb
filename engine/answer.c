/* answer.c - answers as lines of JSON: new tokens as they come, and the whole of each request at its end
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/answer.h"

#include "engine/json_text.h"
#include "engine/utf8.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { BUFFER_BYTES = 1 << 18, PIECE_BYTES = 1 << 10, SHORT_BYTES = 128 };

static const double LEAST_LOGPROB = -9999.0; /* JSON has no minus infinity; vLLM's server says this, too */

/* What is out of the request in a place of the scheduler's store. */
struct answer_stream {
    int64_t request; /* its number + 1; 0: none */
    struct detokenizer text;
    int shown; /* tokens, the prompt's counted */
};

struct answer_error {
    int64_t before; /* number of the request that it precedes */
    char id[REQUEST_ID_BYTES];
    char text[ANSWER_ERROR_BYTES];
};

enum status answer_open(struct answer *a, struct arena *arena, const struct answer_options *options,
                        const struct tokenizer *t, int capacity)
{
    *a = (struct answer){.options = *options, .tokenizer = t, .room_bytes = t ? detokenizer_room(t) : 1};
    TRY(arena_take_array(arena, (size_t)capacity, sizeof *a->streams, "streams of answers", &a->streams));
    TRY(arena_take_array(arena, ANSWER_HELD, sizeof *a->held, "errors that wait", &a->held));
    TRY(arena_take(arena, a->room_bytes, "text of a token", &a->room));
    return arena_take(arena, BUFFER_BYTES, "lines of answers", &a->buffer);
}

/* -- bytes -- */

static enum status flush(struct answer *a)
{
    size_t done = 0;

    while (done < a->used) {
        ssize_t written = write(a->options.output, a->buffer + done, a->used - done);

        if (written < 0 && errno != EINTR)
            return FAIL(STATUS_IO, "writing answers to stdout: %s", strerror(errno));
        done += written > 0 ? (size_t)written : 0;
    }
    a->used = 0;
    return STATUS_OK;
}

static enum status put_bytes(struct answer *a, const char *bytes, size_t count)
{
    if (a->used + count > BUFFER_BYTES)
        TRY(flush(a));
    memcpy(a->buffer + a->used, bytes, count);
    a->used += count;
    return STATUS_OK;
}

static enum status put(struct answer *a, const char *text)
{
    return put_bytes(a, text, strlen(text));
}

static enum status put_format(struct answer *a, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* At most SHORT_BYTES - 1. */
static enum status put_format(struct answer *a, const char *format, ...)
{
    char text[SHORT_BYTES];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return put(a, text);
}

/* Inside of quotes. */
static enum status put_text(struct answer *a, const char *text, size_t bytes)
{
    char escaped[JSON_TEXT_GROWTH * PIECE_BYTES];

    for (size_t at = 0; at < bytes; at += PIECE_BYTES)
        TRY(put_bytes(
            a, escaped,
            json_text_escape(escaped, text + at, bytes - at < PIECE_BYTES ? bytes - at : PIECE_BYTES)));
    return STATUS_OK;
}

/* -- parts of a line -- */

static enum status put_head(struct answer *a, const struct request *r)
{
    if (r->options.id)
        TRY(put_format(a, "{\"id\": "));
    TRY(r->options.id ? put(a, r->options.id) : put_format(a, "{\"id\": %" PRId64, r->number));
    return r->options.copies > 1 ? put_format(a, ", \"index\": %d", r->options.index) : STATUS_OK;
}

/* A stop token is not text. */
static bool is_text(const struct request *r, int position)
{
    bool stopped_by_id = r->state == REQUEST_FINISHED && r->finish == FINISH_STOP && !r->text.stopped;

    return !(stopped_by_id && position == r->count - 1);
}

/* , "text": of the tokens from `first` on, as the stream d shows them; with what it held back at the end. */
static enum status put_tokens_text(struct answer *a, const struct request *r, struct detokenizer *d,
                                   int first)
{
    size_t bytes;

    if (!a->tokenizer)
        return put(a, ", \"text\": null");
    TRY(put(a, ", \"text\": \""));
    for (int i = first; i < r->count; i++) {
        if (!is_text(r, i))
            continue;
        TRY(detokenizer_push(d, r->tokens[i], a->room, a->room_bytes, &bytes));
        TRY(put_text(a, a->room, bytes));
    }
    if (r->state == REQUEST_FINISHED) {
        TRY(detokenizer_finish(d, a->room, a->room_bytes, &bytes));
        TRY(put_text(a, a->room, bytes));
    }
    return put(a, "\"");
}

static enum status put_ids(struct answer *a, const struct request *r, int first)
{
    TRY(put(a, ", \"token_ids\": ["));
    for (int i = first; i < r->count; i++)
        TRY(put_format(a, "%s%" PRId32, i > first ? ", " : "", r->tokens[i]));
    return put(a, "]");
}

static enum status put_logprob(struct answer *a, float logprob)
{
    return put_format(a, "%.9g", fmax((double)logprob, LEAST_LOGPROB));
}

/* {"token_id", "logprob", "top": [[id, logprob], ...]} */
static enum status put_choices(struct answer *a, const struct request *r, int position)
{
    int count;
    const struct request_choice *choice = request_choices(r, position, &count);

    TRY(put_format(a, "{\"token_id\": %" PRId32 ", \"logprob\": ", choice[0].token));
    TRY(put_logprob(a, choice[0].logprob));
    TRY(put(a, ", \"top\": ["));
    for (int i = 1; i < count; i++) {
        TRY(put_format(a, "%s[%" PRId32 ", ", i > 1 ? ", " : "", choice[i].token));
        TRY(put_logprob(a, choice[i].logprob));
        TRY(put(a, "]"));
    }
    return put(a, "]}");
}

/* Nothing stands before the first token of a prompt that could predict it. */
static enum status put_logprobs(struct answer *a, const struct request *r)
{
    const struct request_options *o = &r->options;

    TRY(put(a, o->logprobs.wanted ? ", \"logprobs\": [" : ", \"logprobs\": null"));
    for (int i = r->prompt; o->logprobs.wanted && i < r->count; i++) {
        TRY(put(a, i > r->prompt ? ", " : ""));
        TRY(put_choices(a, r, i));
    }
    TRY(put(a, o->logprobs.wanted ? "]" : ""));
    TRY(put(a, o->prompt_logprobs.wanted ? ", \"prompt_logprobs\": [null" : ", \"prompt_logprobs\": null"));
    for (int i = 1; o->prompt_logprobs.wanted && i < r->measured; i++) {
        TRY(put(a, ", "));
        TRY(put_choices(a, r, i));
    }
    return put(a, o->prompt_logprobs.wanted ? "]" : "");
}

/* -- lines -- */

static const char *finish_name(enum request_finish finish)
{
    switch (finish) {
    case FINISH_STOP:
        return "stop";
    case FINISH_LENGTH:
        return "length";
    case FINISH_CANCELLED:
        return "cancelled";
    case FINISH_NONE:
    case FINISH_ERROR:
        break;
    }
    return "error";
}

static enum status put_last_line(struct answer *a, const struct request *r)
{
    struct detokenizer whole;

    if (a->tokenizer) {
        TRY(detokenizer_start(&whole, a->tokenizer, r->options.stops, r->options.stop_count, false));
        whole.quiet = r->options.min_tokens;
    }
    TRY(put_head(a, r));
    TRY(put_format(a, ", \"finish_reason\": \"%s\"", finish_name(r->finish)));
    TRY(put_tokens_text(a, r, &whole, r->prompt));
    TRY(put_ids(a, r, r->prompt));
    TRY(put_logprobs(a, r));
    return put_format(a,
                      ", \"usage\": {\"prompt_tokens\": %d, \"completion_tokens\": %d, \"cached_tokens\": "
                      "%d}}\n",
                      r->prompt, r->count - r->prompt, r->cached);
}

static enum status put_new_line(struct answer *a, const struct request *r, struct answer_stream *stream)
{
    bool held;

    if (stream->request != r->number + 1) {
        *stream = (struct answer_stream){.request = r->number + 1, .shown = r->prompt};
        if (a->tokenizer)
            TRY(detokenizer_start(&stream->text, a->tokenizer, r->options.stops, r->options.stop_count,
                                  false));
        stream->text.quiet = r->options.min_tokens;
    }
    held = r->state == REQUEST_FINISHED && stream->text.held_bytes + stream->text.tail_bytes > 0;
    if (stream->shown == r->count && !held)
        return STATUS_OK;
    TRY(put_head(a, r));
    TRY(put_tokens_text(a, r, &stream->text, stream->shown));
    TRY(put_ids(a, r, stream->shown));
    stream->shown = r->count;
    return put(a, "}\n");
}

static enum status put_error(struct answer *a, const char *id, const char *text)
{
    char repaired[UTF8_REPLACEMENT_BYTES * ANSWER_ERROR_BYTES];
    size_t bytes = strlen(text);

    bytes = utf8_repair(repaired, text, bytes < ANSWER_ERROR_BYTES ? bytes : ANSWER_ERROR_BYTES);
    TRY(put(a, "{\"id\": "));
    TRY(put(a, id));
    TRY(put(a, ", \"finish_reason\": \"error\", \"error\": \""));
    TRY(put_text(a, repaired, bytes));
    return put(a, "\"}\n");
}

/* Errors that stand before request `number`. */
static enum status put_held(struct answer *a, int64_t number)
{
    int out = 0;

    for (; out < a->held_count && a->held[out].before <= number; out++)
        TRY(put_error(a, a->held[out].id, a->held[out].text));
    a->held_count -= out;
    if (out > 0)
        memmove(a->held, a->held + out, (size_t)a->held_count * sizeof *a->held);
    return STATUS_OK;
}

bool answer_has_room(const struct answer *a)
{
    return a->held_count < ANSWER_HELD;
}

enum status answer_refuse(struct answer *a, const struct scheduler *s, const char *id, const char *text)
{
    struct answer_error *held = &a->held[a->held_count];

    if (!a->options.ordered) {
        TRY(put_error(a, id, text));
        return flush(a);
    }
    if (!answer_has_room(a))
        return FAIL(STATUS_BUG, "more than %d errors wait for their turn", ANSWER_HELD);
    held->before = s->added;
    snprintf(held->id, sizeof held->id, "%s", id);
    snprintf(held->text, sizeof held->text, "%s", text);
    a->held_count++;
    return STATUS_OK;
}

enum status answer_show(struct answer *a, struct scheduler *s)
{
    struct request *next;

    for (struct request *r = scheduler_oldest(s); r; r = next) {
        next = r->newer;
        TRY(put_held(a, r->number));
        if (!a->options.whole)
            TRY(put_new_line(a, r, &a->streams[r - s->store]));
        if (r->state != REQUEST_FINISHED && a->options.ordered)
            break;
        if (r->state != REQUEST_FINISHED)
            continue;
        TRY(put_last_line(a, r));
        if (a->each)
            a->each(a->context, r);
        scheduler_drop(s, r);
    }
    if (!scheduler_oldest(s))
        TRY(put_held(a, s->added));
    return flush(a);
}
