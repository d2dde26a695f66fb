/* trace.c - records what the router chose, step by step, in a file
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/trace.h"

#include "eplb/trace_read.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#define ROUTES_MAGIC "SWYROUTE"

enum { VARINT_BYTES = 10, ROUTES_VERSION = 1 };

static size_t write_varint(unsigned char *out, uint64_t value)
{
    size_t bytes = 0;

    for (; value > 127; value >>= 7)
        out[bytes++] = (unsigned char)(128 | (value & 127));
    out[bytes++] = (unsigned char)value;
    return bytes;
}

/* What cannot be written is told at the end: steps do not wait for it. */
static void put(struct trace *t, FILE *out, const void *bytes, size_t count)
{
    if (t->error == 0 && fwrite(bytes, 1, count, out) != count)
        t->error = errno ? errno : EIO;
}

/* The lowest byte first, on any machine. */
static void put_number(struct trace *t, FILE *out, uint32_t value, int bytes)
{
    unsigned char byte[4];

    for (int i = 0; i < bytes; i++)
        byte[i] = (unsigned char)(value >> 8 * i);
    put(t, out, byte, (size_t)bytes);
}

static void put_head(struct trace *t, FILE *out, const char *magic, const uint32_t *numbers, int count)
{
    put(t, out, magic, strlen(magic));
    for (int i = 0; i < count; i++)
        put_number(t, out, numbers[i], 4);
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
    put_head(&open, open.out, TRACE_READ_MAGIC, head, sizeof head / sizeof head[0]);
    *t = open;
    return STATUS_OK;
}

enum status trace_routes(struct trace *t, const char *path, int rank, int layers, int experts, int choices)
{
    const uint32_t head[] = {ROUTES_VERSION, (uint32_t)layers, (uint32_t)rank, (uint32_t)experts,
                             (uint32_t)choices};
    char name[PATH_MAX];

    if (experts > UINT16_MAX)
        return FAIL(STATUS_USAGE, "--trace-routes: %d experts are more than 2 bytes can tell apart", experts);
    if (snprintf(name, sizeof name, "%s.routes.%d", path, rank) >= (int)sizeof name)
        return FAIL(STATUS_IO, "--trace %.80s...: the path is too long", path);
    t->routes = fopen(name, "we");
    if (!t->routes)
        return FAIL(STATUS_IO, "--trace-routes: %s: %s", name, strerror(errno));
    t->path = path;
    t->choices = choices;
    put_head(t, t->routes, ROUTES_MAGIC, head, sizeof head / sizeof head[0]);
    return STATUS_OK;
}

static void write_step(struct trace *t)
{
    unsigned char head[1 + VARINT_BYTES] = "S";

    put(t, t->out, head, 1 + write_varint(head + 1, t->used));
    put(t, t->out, t->record, t->used);
}

static void add_counts(struct trace *t, int layer, const int32_t *wanted)
{
    ptrdiff_t cells = (ptrdiff_t)t->ranks * t->experts;
    int32_t *last = t->last + layer * cells;
    uint64_t same = 0;

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

void trace_layer(struct trace *t, int layer, const int32_t *wanted, const int32_t *expert, int rows)
{
    if (!t)
        return;
    if (t->out)
        add_counts(t, layer, wanted);
    if (!t->routes)
        return;
    put_number(t, t->routes, (uint32_t)rows, 4);
    for (ptrdiff_t i = 0; i < (ptrdiff_t)rows * t->choices; i++)
        put_number(t, t->routes, (uint32_t)expert[i], 2);
}

static void close_file(struct trace *t, FILE **out)
{
    if (*out && fclose(*out) != 0 && t->error == 0)
        t->error = errno;
    *out = NULL;
}

enum status trace_close(struct trace *t)
{
    close_file(t, &t->out);
    close_file(t, &t->routes);
    if (t->error)
        return FAIL(STATUS_IO, "--trace %s: %s", t->path, strerror(t->error));
    return STATUS_OK;
}
