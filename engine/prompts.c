/* prompts.c - prompts from a descriptor, one a line or all as one, without ever blocking a step
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/prompts.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

enum status prompts_open(struct prompts *p, struct arena *arena, int descriptor, enum prompts_form form)
{
    *p = (struct prompts){.descriptor = descriptor, .form = form, .limit = PROMPTS_LIMIT};
    return arena_take(arena, p->limit + 2, "the longest prompt", &p->buffer);
}

/* Reads what is there now, waiting at most `milliseconds` for the first byte. */
static enum status read_some(struct prompts *p, int milliseconds, bool *got)
{
    struct pollfd ready = {.fd = p->descriptor, .events = POLLIN};
    ssize_t count;
    int changed;

    *got = false;
    if (p->start > 0) {
        memmove(p->buffer, p->buffer + p->start, p->used - p->start);
        p->used -= p->start;
        p->searched -= p->start;
        p->start = 0;
    }
    changed = poll(&ready, 1, milliseconds);
    if (changed < 0 && errno != EINTR)
        return FAIL(STATUS_IO, "waiting for prompts: %s", strerror(errno));
    if (changed <= 0)
        return STATUS_OK;
    count = read(p->descriptor, p->buffer + p->used, p->limit + 1 - p->used);
    if (count < 0 && (errno == EINTR || errno == EAGAIN))
        return STATUS_OK;
    if (count < 0 && errno == EBADF)
        count = 0; /* a closed stdin is an empty one */
    if (count < 0)
        return FAIL(STATUS_IO, "reading prompts: %s", strerror(errno));
    p->ended = count == 0;
    p->used += (size_t)count;
    *got = true;
    return STATUS_OK;
}

/* A line that has ended, or the rest at the end of the input. */
static bool take_line(struct prompts *p, const char **text, size_t *bytes)
{
    char *from = p->buffer + p->start;
    char *end = memchr(p->buffer + p->searched, '\n', p->used - p->searched);
    size_t length;

    p->searched = p->used;
    if (!end && !(p->ended && p->used > p->start))
        return false;
    length = end ? (size_t)(end - from) : p->used - p->start;
    p->start = p->searched = end ? (size_t)(end + 1 - p->buffer) : p->used;
    if (length > 0 && from[length - 1] == '\r')
        length--;
    from[length] = '\0';
    *text = from;
    *bytes = length;
    return true;
}

static bool take_text(struct prompts *p, const char **text, size_t *bytes)
{
    if (!p->ended || p->line > 0)
        return false;
    *text = p->buffer;
    *bytes = p->used;
    p->buffer[p->used] = '\0';
    p->start = p->searched = p->used;
    return true;
}

enum status prompts_next(struct prompts *p, int milliseconds, enum prompts_event *event, const char **text,
                         size_t *bytes)
{
    bool got = true;

    for (;;) {
        bool whole = p->form == PROMPTS_LINES ? take_line(p, text, bytes) : take_text(p, text, bytes);

        if (whole) {
            bool skipped = p->skipping;

            p->line++;
            p->skipping = false;
            *event = skipped ? PROMPTS_TOO_LONG : PROMPTS_ONE;
            return STATUS_OK;
        }
        if (p->ended || !got) {
            *event = p->ended ? PROMPTS_END : PROMPTS_NOTHING;
            return STATUS_OK;
        }
        if (p->used - p->start >
            p->limit) { /* keep one byte: the line is not empty, and its end is still to come */
            p->skipping = true;
            p->used = p->start + 1;
            p->searched = p->used;
        }
        TRY(read_some(p, milliseconds, &got));
        milliseconds = 0;
    }
}
