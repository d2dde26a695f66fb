/* printer.c - answers in input order, token by token
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/printer.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum status printer_open(struct printer *p, struct arena *arena, int output, const struct tokenizer *t,
                         int ring)
{
    *p = (struct printer){.output = output, .tokenizer = t, .turn = -1, .ring = ring};
    p->room_bytes = detokenizer_room(t);
    TRY(arena_take(arena, p->room_bytes, "text of a token", &p->room));
    return arena_take_array(arena, (size_t)ring, sizeof *p->blank, "empty answers", &p->blank);
}

void printer_blank(struct printer *p, int64_t number)
{
    p->blank[number % p->ring]++;
}

static enum status write_all(int descriptor, const char *bytes, size_t count)
{
    while (count > 0) {
        ssize_t written = write(descriptor, bytes, count);

        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return FAIL(STATUS_IO, "writing answers to stdout: %s", strerror(errno));
        bytes += written;
        count -= (size_t)written;
    }
    return STATUS_OK;
}

/* The newlines of prompts that were refused before request `number`. */
static enum status write_blanks(struct printer *p, int64_t number)
{
    int *blank = &p->blank[number % p->ring];

    for (; *blank > 0; --*blank)
        TRY(write_all(p->output, "\n", 1));
    return STATUS_OK;
}

static enum status begin(struct printer *p, const struct request *r)
{
    TRY(write_blanks(p, r->number));
    TRY(detokenizer_start(&p->text, p->tokenizer, r->options.stops, r->options.stop_count, false));
    p->text.quiet = r->options.min_tokens;
    p->turn = r->number;
    p->printed = r->prompt;
    return STATUS_OK;
}

/* What is new of the request whose turn it is. A stop token is not text. */
static enum status write_new(struct printer *p, const struct request *r)
{
    bool stopped_by_id = r->state == REQUEST_FINISHED && r->finish == FINISH_STOP && !r->text.stopped;
    size_t bytes;

    for (; p->printed < r->count; p->printed++) {
        int32_t token = r->tokens[p->printed];

        if (p->each)
            p->each(p->context, token);
        if (stopped_by_id && p->printed == r->count - 1)
            continue;
        TRY(detokenizer_push(&p->text, token, p->room, p->room_bytes, &bytes));
        TRY(write_all(p->output, p->room, bytes));
    }
    return STATUS_OK;
}

static enum status finish(struct printer *p)
{
    size_t bytes;

    TRY(detokenizer_finish(&p->text, p->room, p->room_bytes, &bytes));
    TRY(write_all(p->output, p->room, bytes));
    p->turn = -1;
    return write_all(p->output, "\n", 1);
}

enum status printer_show(struct printer *p, struct scheduler *s)
{
    struct request *r;

    while ((r = scheduler_oldest(s)) != NULL) {
        if (p->turn != r->number)
            TRY(begin(p, r));
        TRY(write_new(p, r));
        if (r->state != REQUEST_FINISHED)
            return STATUS_OK;
        TRY(finish(p));
        scheduler_drop(s, r);
    }
    return write_blanks(p, s->added);
}
