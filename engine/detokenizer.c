/* detokenizer.c - tokens to text as they come: never half a character, stop strings found across tokens
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Bytes pass two gates. At the first, a character that is not complete waits in `tail`. At the second,
 * characters that may still become a stop string wait in `held`. */
#include "engine/detokenizer.h"
#include "engine/utf8.h"

#include <string.h>

enum status detokenizer_start(struct detokenizer *d, const struct tokenizer *t, const char *const *stops,
                              int stop_count, bool show_special)
{
    if (stop_count < 0 || stop_count > DETOKENIZER_STOP_LIMIT)
        return FAIL(STATUS_BAD_INPUT, "%d stop strings; there may be %d", stop_count, DETOKENIZER_STOP_LIMIT);
    for (int i = 0; i < stop_count; i++) {
        size_t bytes = strlen(stops[i]);

        if (bytes == 0 || bytes >= DETOKENIZER_STOP_BYTES)
            return FAIL(STATUS_BAD_INPUT, "stop string %d has %zu bytes; it must have 1 to %d", i + 1, bytes,
                        DETOKENIZER_STOP_BYTES - 1);
        if (!utf8_valid(stops[i], bytes))
            return FAIL(STATUS_BAD_INPUT, "stop string %d is not valid UTF-8", i + 1);
    }
    memset(d, 0, sizeof *d);
    d->tokenizer = t;
    d->stops = stops;
    d->stop_count = stop_count;
    d->show_special = show_special;
    return STATUS_OK;
}

void detokenizer_whole(struct detokenizer *d)
{
    tokenizer_strip(d->tokenizer, &d->strip);
}

/* Takes from `text`, whole characters, what the decoder strips; returns how many bytes are left. */
static size_t strip(struct detokenizer *d, char *text, size_t bytes)
{
    int count;
    const char *character = tokenizer_strip(d->tokenizer, &count);
    size_t length = strlen(character);
    size_t at = 0;

    for (; d->strip > 0 && at < bytes; at += length, d->strip--)
        if (bytes - at < length || memcmp(text + at, character, length) != 0) {
            d->strip = 0;
            break;
        }
    memmove(text, text + at, bytes - at);
    return bytes - at;
}

/* One push may show what was held, and a character for each byte of the tail and of the token. */
static size_t room(size_t token_bytes)
{
    return DETOKENIZER_STOP_BYTES +
           UTF8_REPLACEMENT_BYTES * (sizeof((struct detokenizer *)0)->tail + token_bytes);
}

size_t detokenizer_room(const struct tokenizer *t)
{
    return room(tokenizer_longest(t));
}

/* The first gate, one byte: appends what is decided now to out and returns its length. */
static size_t pass_byte(struct detokenizer *d, unsigned char byte, char *out)
{
    size_t written = 0;

    d->tail[d->tail_bytes++] = byte;
    while (d->tail_bytes > 0) {
        size_t length;
        enum utf8_kind kind = utf8_step((const char *)d->tail, (size_t)d->tail_bytes, &length);
        size_t shown = kind == UTF8_WHOLE ? length : UTF8_REPLACEMENT_BYTES;

        if (kind == UTF8_UNFINISHED)
            break;
        memcpy(out + written, kind == UTF8_WHOLE ? (const char *)d->tail : utf8_replacement, shown);
        written += shown;
        d->tail_bytes -= (int)length;
        memmove(d->tail, d->tail + length, (size_t)d->tail_bytes);
    }
    return written;
}

/* Where a stop string begins that ends exactly at text[end]; the longest of several; -1: none. */
static long stop_ending(const struct detokenizer *d, const char *text, size_t end)
{
    long begin = -1;

    for (int i = 0; i < d->stop_count; i++) {
        size_t bytes = strlen(d->stops[i]);

        if (bytes <= end && memcmp(text + end - bytes, d->stops[i], bytes) == 0 &&
            (begin < 0 || (long)(end - bytes) < begin))
            begin = (long)(end - bytes);
    }
    return begin;
}

/* How many bytes at the end of the text may still become a stop string. */
static size_t may_become_stop(const struct detokenizer *d, const char *text, size_t bytes)
{
    size_t longest = 0;

    for (int i = 0; i < d->stop_count; i++) {
        size_t most = strlen(d->stops[i]) - 1;

        for (size_t length = bytes < most ? bytes : most; length > longest; length--)
            if (memcmp(text + bytes - length, d->stops[i], length) == 0)
                longest = length;
    }
    return longest;
}

/* The second gate: text[0 ... bytes), of which the first `old` bytes were here before; returns how many may
 * be shown. The stop string that is complete first counts, so that it does not matter how the text came in
 * tokens. */
static size_t pass_text(struct detokenizer *d, const char *text, size_t old, size_t bytes)
{
    size_t hold;

    for (size_t end = old + 1; end <= bytes && d->quiet == 0; end++) {
        long begin = stop_ending(d, text, end);

        if (begin >= 0) {
            d->stopped = true;
            d->held_bytes = 0;
            return (size_t)begin;
        }
    }
    hold = may_become_stop(d, text, bytes);
    memcpy(d->held, text + bytes - hold, hold);
    d->held_bytes = (int)hold;
    return bytes - hold;
}

enum status detokenizer_push(struct detokenizer *d, int id, char *out, size_t capacity, size_t *bytes)
{
    size_t old = (size_t)d->held_bytes;
    size_t end = old;
    size_t length;
    bool special;
    const char *token = tokenizer_bytes(d->tokenizer, id, &length, &special);

    *bytes = 0;
    if (d->stopped)
        return STATUS_OK;
    if (special && !d->show_special) {
        d->quiet -= d->quiet > 0;
        return STATUS_OK;
    }
    if (capacity < room(length))
        return FAIL(STATUS_BUG, "room for %zu bytes of text, a token may need %zu", capacity, room(length));
    memcpy(out, d->held, old);
    for (size_t i = 0; i < length; i++)
        end += pass_byte(d, (unsigned char)token[i], out + end);
    end = old + strip(d, out + old, end - old);
    *bytes = pass_text(d, out, old, end);
    d->quiet -= d->quiet > 0;
    return STATUS_OK;
}

enum status detokenizer_finish(struct detokenizer *d, char *out, size_t capacity, size_t *bytes)
{
    size_t old = (size_t)d->held_bytes;
    size_t end = old;

    *bytes = 0;
    if (d->stopped)
        return STATUS_OK;
    if (capacity < room(0))
        return FAIL(STATUS_BUG, "room for %zu bytes of text, the end may need %zu", capacity, room(0));
    memcpy(out, d->held, old);
    if (d->tail_bytes > 0) { /* the beginning of a character: one maximal subpart */
        memcpy(out + end, utf8_replacement, UTF8_REPLACEMENT_BYTES);
        end += UTF8_REPLACEMENT_BYTES;
        d->tail_bytes = 0;
    }
    *bytes = pass_text(d, out, old, end);
    if (!d->stopped)
        *bytes = end;
    d->held_bytes = 0;
    return STATUS_OK;
}
