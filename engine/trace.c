/* trace.c - records what the router chose, step by step, in a file
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/trace.h"

#include "eplb/trace_read.h"

#include <errno.h>
#include <string.h>

enum { VARINT_BYTES = 10 };

static size_t write_varint(unsigned char *out, uint64_t value)
{
    size_t bytes = 0;

    for (; value > 127; value >>= 7)
        out[bytes++] = (unsigned char)(128 | (value & 127));
    out[bytes++] = (unsigned char)value;
    return bytes;
}

/* What cannot be written is told at the end: steps do not wait for it. */
static void put(struct trace *t, const void *bytes, size_t count)
{
    if (t->error == 0 && fwrite(bytes, 1, count, t->out) != count)
        t->error = errno ? errno : EIO;
}

enum status trace_open(struct trace *t, struct arena *arena, const char *path, int layers, int ranks,
                       int experts)
{
    size_t cells = (size_t)layers * (size_t)ranks * (size_t)experts;
    const uint32_t head[] = {TRACE_READ_VERSION, (uint32_t)layers, (uint32_t)ranks, (uint32_t)experts};
    struct trace open = {.path = path, .layers = layers, .ranks = ranks, .experts = experts};

    if (layers < 1 || cells > TRACE_READ_CELLS)
        return FAIL(STATUS_USAGE,
                    "--trace: %d layers with experts, %d ranks and %d experts cannot be recorded", layers,
                    ranks, experts);
    TRY(arena_take_array(arena, cells, sizeof *open.last, "the step before", &open.last));
    TRY(arena_take_array(arena, cells + (size_t)layers, VARINT_BYTES, "a step of a trace", &open.record));
    open.out = fopen(path, "we");
    if (!open.out)
        return FAIL(STATUS_IO, "--trace %s: %s", path, strerror(errno));
    put(&open, TRACE_READ_MAGIC, strlen(TRACE_READ_MAGIC));
    for (int i = 0; i < 4; i++) {
        unsigned char bytes[4] = {(unsigned char)head[i], (unsigned char)(head[i] >> 8),
                                  (unsigned char)(head[i] >> 16), (unsigned char)(head[i] >> 24)};

        put(&open, bytes, sizeof bytes);
    }
    *t = open;
    return STATUS_OK;
}

static void write_step(struct trace *t)
{
    unsigned char head[1 + VARINT_BYTES] = "S";

    put(t, head, 1 + write_varint(head + 1, t->used));
    put(t, t->record, t->used);
}

void trace_layer(struct trace *t, int layer, const int32_t *wanted)
{
    ptrdiff_t cells;
    int32_t *last;
    uint64_t same = 0;

    if (!t)
        return;
    cells = (ptrdiff_t)t->ranks * t->experts;
    last = t->last + layer * cells;
    if (layer == 0)
        t->used = 0;
    for (ptrdiff_t i = 0; i < cells; i++) {
        int64_t more = (int64_t)wanted[i] - last[i];

        if (more == 0) {
            same++;
            continue;
        }
        t->used += write_varint(t->record + t->used, same);
        t->used += write_varint(t->record + t->used, more < 0 ? 2 * (uint64_t)-more - 1 : 2 * (uint64_t)more);
        last[i] = wanted[i];
        same = 0;
    }
    if (same > 0)
        t->used += write_varint(t->record + t->used, same);
    if (layer == t->layers - 1)
        write_step(t);
}

enum status trace_close(struct trace *t)
{
    if (!t->out)
        return STATUS_OK;
    if (fclose(t->out) != 0 && t->error == 0)
        t->error = errno;
    t->out = NULL;
    if (t->error)
        return FAIL(STATUS_IO, "--trace %s: %s", t->path, strerror(t->error));
    return STATUS_OK;
}
