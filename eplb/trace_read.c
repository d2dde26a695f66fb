/* trace_read.c - recorded steps: which experts the rows of every rank went to
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "eplb/trace_read.h"

#include <string.h>

/* -- files of --trace --- */

static enum status read_varint(struct trace_read *t, const unsigned char *end, uint64_t *out)
{
    uint64_t value = 0;

    for (int shift = 0; t->at < end && shift < 63; shift += 7) {
        unsigned char byte = *t->at++;

        value |= (uint64_t)(byte & 127) << shift;
        if (!(byte & 128)) {
            *out = value;
            return STATUS_OK;
        }
    }
    return FAIL(STATUS_BAD_INPUT,
                "step %d of the trace ends in the middle of a number, or the number is too large", t->steps);
}

static uint32_t head_number(const unsigned char *head, int index)
{
    const unsigned char *at = head + strlen(TRACE_READ_MAGIC) + 4 * index;

    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static enum status read_head(struct trace_read *t)
{
    uint32_t number[4];

    if (t->end - t->at < TRACE_READ_HEAD)
        return FAIL(STATUS_BAD_INPUT, "the trace ends in its head, of %d bytes", TRACE_READ_HEAD);
    for (int i = 0; i < 4; i++)
        number[i] = head_number(t->at, i);
    if (number[0] != TRACE_READ_VERSION)
        return FAIL(STATUS_BAD_INPUT, "the trace is of version %u, %d can be read", number[0],
                    TRACE_READ_VERSION);
    if (number[1] < 1 || number[1] > TRACE_READ_LAYERS || number[3] < 1 || number[3] > TRACE_READ_EXPERTS ||
        number[2] < 1 || (uint64_t)number[1] * number[2] * number[3] > TRACE_READ_CELLS)
        return FAIL(STATUS_BAD_INPUT,
                    "the trace says %u layers, %u ranks and %u experts, which cannot be read", number[1],
                    number[2], number[3]);
    t->layers = (int)number[1];
    t->ranks = (int)number[2];
    t->experts = (int)number[3];
    t->at += TRACE_READ_HEAD;
    return STATUS_OK;
}

static enum status read_layer(struct trace_read *t, const unsigned char *end, int layer)
{
    uint64_t cells = (uint64_t)t->ranks * (uint64_t)t->experts, at = 0, gap = 0, bits = 0;
    int32_t *rows = t->rows + (ptrdiff_t)layer * t->ranks * t->experts;

    while (at < cells) {
        int64_t value;

        TRY(read_varint(t, end, &gap));
        if (gap > cells - at)
            return FAIL(STATUS_BAD_INPUT, "step %d, layer %d of the trace has more than %llu counts",
                        t->steps, layer, (unsigned long long)cells);
        at += gap;
        if (at == cells)
            return STATUS_OK;
        TRY(read_varint(t, end, &bits));
        value = rows[at] + ((int64_t)(bits >> 1) ^ -(int64_t)(bits & 1));
        if (bits > UINT32_MAX || value < 0 || value > TRACE_READ_MOST)
            return FAIL(STATUS_BAD_INPUT,
                        "step %d, layer %d of the trace has a count that is not in 0 ... %d", t->steps, layer,
                        TRACE_READ_MOST);
        rows[at++] = (int32_t)value;
    }
    return STATUS_OK;
}

static enum status next_record(struct trace_read *t)
{
    const unsigned char *end;
    uint64_t bytes = 0;

    if (*t->at++ != 'S')
        return FAIL(STATUS_BAD_INPUT, "step %d of the trace does not begin as a step", t->steps);
    TRY(read_varint(t, t->end, &bytes));
    if (bytes > (uint64_t)(t->end - t->at))
        return FAIL(STATUS_BAD_INPUT, "the trace ends in the middle of step %d", t->steps);
    end = t->at + bytes;
    for (int i = 0; i < t->layers; i++)
        TRY(read_layer(t, end, i));
    if (t->at != end)
        return FAIL(STATUS_BAD_INPUT, "step %d of the trace is longer than its counts", t->steps);
    return STATUS_OK;
}

/* -- text --- */

/* Goes to the next line with something in it, whose end is *stop; false at the end. */
static bool next_line(struct trace_read *t, const unsigned char **stop)
{
    while (t->at < t->end) {
        const unsigned char *end = memchr(t->at, '\n', (size_t)(t->end - t->at));

        *stop = end ? end : t->end;
        t->line++;
        if (*stop > t->at && *t->at != '#' && *t->at != '\r')
            return true;
        t->at = end ? end + 1 : t->end;
    }
    return false;
}

/* A whole number and what stands behind it: a comma, or the line's end (*last). */
static enum status read_number(struct trace_read *t, const unsigned char *end, bool *last, int64_t *out)
{
    int64_t value = 0;
    int digits = 0;

    while (t->at < end && *t->at == ' ')
        t->at++;
    for (; t->at < end && *t->at >= '0' && *t->at <= '9' && value <= TRACE_READ_MOST; digits++)
        value = value * 10 + (*t->at++ - '0');
    while (t->at < end && (*t->at == ' ' || *t->at == '\r'))
        t->at++;
    *last = t->at == end;
    if (digits == 0 || value > TRACE_READ_MOST || (!*last && *t->at++ != ','))
        return FAIL(
            STATUS_BAD_INPUT,
            "line %d: whole numbers from 0 to %d with commas between are wanted: batch, layer and a count "
            "for each expert",
            t->line, TRACE_READ_MOST);
    *out = value;
    return STATUS_OK;
}

/* Batch and layer that a line begins with. */
static enum status read_place(struct trace_read *t, const unsigned char *end, int64_t place[2])
{
    bool last;

    for (int i = 0; i < 2; i++) {
        TRY(read_number(t, end, &last, &place[i]));
        if (last)
            return FAIL(STATUS_BAD_INPUT, "line %d has no counts", t->line);
    }
    return STATUS_OK;
}

/* The layers and experts of the first batch. */
static enum status measure_text(struct trace_read *t)
{
    const unsigned char *start = t->at, *end;
    int64_t first = 0, place[2], value;

    t->ranks = 1;
    for (; next_line(t, &end); t->at = end < t->end ? end + 1 : end) {
        int experts = 0;
        bool last = false;

        TRY(read_place(t, end, place));
        if (t->layers > 0 && place[0] != first)
            break;
        while (!last) {
            TRY(read_number(t, end, &last, &value));
            if (++experts > TRACE_READ_EXPERTS)
                return FAIL(STATUS_BAD_INPUT, "line %d has more than %d counts", t->line, TRACE_READ_EXPERTS);
        }
        if (t->layers == TRACE_READ_LAYERS || (t->layers > 0 && experts != t->experts))
            return FAIL(STATUS_BAD_INPUT,
                        "line %d: %d counts, or more layers than %d; the first line has %d counts", t->line,
                        experts, TRACE_READ_LAYERS, t->experts);
        first = place[0];
        t->experts = experts;
        t->layer[t->layers++] = (int32_t)place[1];
        if ((int64_t)t->layers * experts > TRACE_READ_CELLS)
            return FAIL(STATUS_BAD_INPUT, "a batch has more than %d counts", TRACE_READ_CELLS);
    }
    if (t->layers == 0)
        return FAIL(STATUS_BAD_INPUT, "there is no batch in the trace");
    t->at = start;
    t->line = 0;
    return STATUS_OK;
}

static enum status next_batch(struct trace_read *t, bool *more)
{
    const unsigned char *end;
    int64_t batch = 0, place[2], value;

    for (int i = 0; i < t->layers; i++) {
        bool last = false;

        if (!next_line(t, &end)) {
            *more = false;
            return i == 0 ? STATUS_OK
                          : FAIL(STATUS_BAD_INPUT, "the last batch has %d of %d layers", i, t->layers);
        }
        TRY(read_place(t, end, place));
        if (place[1] != t->layer[i] || (i > 0 && place[0] != batch))
            return FAIL(STATUS_BAD_INPUT,
                        "line %d: batch %lld, layer %lld stands where layer %d of a batch is due", t->line,
                        (long long)place[0], (long long)place[1], t->layer[i]);
        batch = place[0];
        for (int e = 0; e < t->experts; e++) {
            if (last)
                return FAIL(STATUS_BAD_INPUT, "line %d has %d counts, not %d", t->line, e, t->experts);
            TRY(read_number(t, end, &last, &value));
            t->rows[(ptrdiff_t)i * t->experts + e] = (int32_t)value;
        }
        if (!last)
            return FAIL(STATUS_BAD_INPUT, "line %d has more than %d counts", t->line, t->experts);
        t->at = end < t->end ? end + 1 : end;
    }
    *more = true;
    return STATUS_OK;
}

/* -- both --- */

enum status trace_read_open(struct trace_read *t, struct arena *arena, const void *bytes, size_t count)
{
    *t = (struct trace_read){.at = bytes, .end = (const unsigned char *)bytes + count};
    t->text =
        count < strlen(TRACE_READ_MAGIC) || memcmp(bytes, TRACE_READ_MAGIC, strlen(TRACE_READ_MAGIC)) != 0;
    if (t->text) {
        TRY(arena_take_array(arena, TRACE_READ_LAYERS, sizeof *t->layer, "layers of a trace", &t->layer));
        TRY(measure_text(t));
    } else {
        TRY(read_head(t));
    }
    return arena_take_array(arena, (size_t)t->layers * (size_t)t->ranks * (size_t)t->experts, sizeof *t->rows,
                            "a step of a trace", &t->rows);
}

enum status trace_read_next(struct trace_read *t, bool *more)
{
    t->steps++;
    if (t->text)
        return next_batch(t, more);
    *more = t->at < t->end;
    return *more ? next_record(t) : STATUS_OK;
}
