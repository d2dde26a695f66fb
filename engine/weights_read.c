/* weights_read.c - one matrix or vector from the files into backend memory, by pieces
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/weights_read.h"

#include "engine/base/clock.h"
#include "engine/base/log.h"

#include <math.h>
#include <unistd.h>

enum { ROW_BLOCK = 64, SHOW_EVERY = 100 * 1000 * 1000 /* nanoseconds */ };

enum dtype weights_read_dtype(const struct weights_source *s)
{
    enum dtype dtype = s->part[0].tensor->dtype;

    for (int i = 1; i < s->parts; i++)
        if (s->part[i].tensor->dtype != dtype)
            return DTYPE_F32;
    return dtype;
}

enum status weights_read_take(struct weights_reader *r, size_t bytes, const char *what, void **out)
{
    void *memory;

    r->taken += kernels_piece_bytes(r->kernels, bytes);
    if (!r->reading || bytes == 0)
        return STATUS_OK;
    TRY(r->kernels->alloc(r->kernels, bytes, what, &memory));
    r->memory[r->memory_count++] = memory;
    *out = memory;
    return STATUS_OK;
}

static void show_progress(struct weights_reader *r)
{
    int64_t now = clock_now();
    double seconds = (double)(now - r->started) / 1e9;
    double rate = seconds > 0 ? (double)r->file_bytes / seconds : 0;

    if (!r->speaks || now - r->shown < SHOW_EVERY || rate <= 0)
        return;
    r->shown = now;
    log_progress(0, "loading weights: %.2f of %.2f GB, %.2f GB/s, %.0f s left", (double)r->file_bytes / 1e9,
                 (double)r->total / 1e9, rate / 1e9, (double)(r->total - r->file_bytes) / rate);
}

enum status weights_read_begin(struct weights_reader *r, size_t piece_bytes)
{
    size_t scales = r->scales_most * sizeof(float);

    if (piece_bytes == 0)
        piece_bytes = WEIGHTS_READ_PIECE;
    if (piece_bytes < scales)
        piece_bytes = scales; /* which come by the piece as well */
    TRY(arena_open(&r->scratch, "reading weights", piece_bytes + scales + ARENA_ALIGN));
    TRY(arena_take(&r->scratch, piece_bytes, "a piece of a matrix", &r->piece));
    TRY(arena_take(&r->scratch, scales, "scales of a matrix", &r->scales));
    r->piece_bytes = piece_bytes;
    r->total = r->file_bytes;
    r->file_bytes = 0;
    r->taken = 0;
    r->reading = true;
    r->started = clock_now();
    r->shown = r->started;
    return STATUS_OK;
}

void weights_read_end(struct weights_reader *r)
{
    arena_close(&r->scratch);
}

void weights_read_report(const struct weights_reader *r)
{
    double seconds = (double)(clock_now() - r->started) / 1e9;
    double megabytes = (double)r->file_bytes / 1e6;
    double rate = seconds > 0 ? megabytes / seconds : 0;

    if (!r->speaks)
        return;
    if (isatty(STDERR_FILENO))
        log_progress(1, "loaded weights: %.1f MB in %.1f s, %.0f MB/s", megabytes, seconds, rate);
    else
        log_line(LOG_INFO, "loaded weights: %.1f MB in %.1f s, %.0f MB/s", megabytes, seconds, rate);
}

/* Reads a rectangle into the walk's piece from byte `at` on, where it lies without gaps. */
static enum status read_piece(struct weights_reader *r, size_t at, const struct tensor *t,
                              const struct tensor_part *part)
{
    int64_t bytes = part->rows * part->columns * dtype_bits(t->dtype) / 8;

    if (at > r->piece_bytes || (size_t)bytes > r->piece_bytes - at)
        return FAIL(STATUS_BUG, "%s: a piece of tensor %s has %lld bytes, more than %zu", t->file->path,
                    t->name, (long long)bytes, r->piece_bytes - at);
    TRY(tensor_read(t, part, (char *)r->piece + at));
    r->file_bytes += bytes;
    show_progress(r);
    return STATUS_OK;
}

static size_t count_scales(const struct tensor *t)
{
    return (size_t)t->bytes * 8 / (size_t)dtype_bits(t->dtype);
}

/* All scales of a part as floats. */
static enum status read_scales(struct weights_reader *r, const struct weights_part *p)
{
    const struct tensor *t = p->scale.tensor;
    struct tensor_part whole = {.rows = t->dimensions > 1 ? t->shape[0] : 1,
                                .columns = t->dimensions > 0 ? t->shape[t->dimensions - 1] : 1};
    size_t count = count_scales(t);

    TRY(read_piece(r, 0, t, &whole));
    TRY(dtype_widen(r->scales, r->piece, t->dtype, count));
    for (size_t i = 0; i < count; i++)
        if (!(fabsf(r->scales[i]) < SCALE_MOST))
            return FAIL(
                STATUS_BAD_INPUT,
                "%s: number %zu of the scales %s is %g; only less than %g either way is possible: the "
                "file is damaged or not what it says",
                t->file->path, i, t->name, (double)r->scales[i], (double)SCALE_MOST);
    return STATUS_OK;
}

/* Scales of outputs first ... first + count - 1 to the front of the piece, as struct source has them; returns
 * their bytes. */
static size_t spread_scales(struct weights_reader *r, const struct weights_part *p, int inputs, int first,
                            int count)
{
    int each = scale_count(inputs);
    int columns = p->scale.columns < inputs ? (inputs - 1) / p->scale.columns + 1 : 1;
    float *to = r->piece;

    for (int row = first; row < first + count; row++) {
        const float *from = r->scales + (ptrdiff_t)(row / p->scale.rows) * columns;

        for (int i = 0; i < each; i++)
            *to++ = from[(ptrdiff_t)i * SCALE_INPUTS / p->scale.columns];
    }
    return (size_t)count * (size_t)each * sizeof *to;
}

/* Rows first ... first + count - 1 of a part into w at row `to`. */
static enum status fill_rows(struct weights_reader *r, struct weight *w, int to, const struct weights_part *p,
                             int first, int count)
{
    struct kernels *k = r->kernels;
    struct tensor_part part = {.plane = p->plane, .row = first, .rows = count, .columns = w->columns};
    size_t scale_bytes = p->scale.tensor ? spread_scales(r, p, w->columns, first, count) : 0;
    struct source source = {.data = (char *)r->piece + scale_bytes,
                            .scale = p->scale.tensor ? r->piece : NULL,
                            .dtype = p->tensor->dtype,
                            .rows = count,
                            .columns = w->columns,
                            .row_step = w->columns,
                            .column_step = 1};
    enum status status;

    if (p->input_first) {
        part = (struct tensor_part){.plane = p->plane, .rows = w->columns, .column = first, .columns = count};
        source.row_step = 1;
        source.column_step = count;
    }
    TRY(read_piece(r, scale_bytes, p->tensor, &part));
    if (p->scale.tensor && dtype_e4m3_nan(source.data, (size_t)count * (size_t)w->columns))
        return FAIL(STATUS_BAD_INPUT,
                    "%s: tensor %s holds the code of \"not a number\" among outputs %d to %d: the file is "
                    "damaged",
                    p->tensor->file->path, p->tensor->name, first, first + count - 1);
    status = k->weight_fill(k, w, to, &source);
    return status == STATUS_OK
               ? STATUS_OK
               : status_prefix(status, "%s: tensor %s: ", p->tensor->file->path, p->tensor->name);
}

/* As many rows at a time as fit, whole blocks of them where that is possible, so that backends that pack can.
 */
static int rows_at_once(const struct weights_reader *r, const struct weights_part *p, int inputs)
{
    size_t row = (size_t)inputs * (size_t)dtype_bits(p->tensor->dtype) / 8 +
                 (p->scale.tensor ? (size_t)scale_count(inputs) * sizeof(float) : 0);
    size_t fit = r->piece_bytes / (row > 0 ? row : 1);

    if (fit >= (size_t)p->count)
        return p->count;
    if (fit > ROW_BLOCK)
        fit -= fit % ROW_BLOCK;
    return fit > 0 ? (int)fit : 1;
}

static void count_part_scales(struct weights_reader *r, const struct weights_part *p)
{
    if (!p->scale.tensor || p->count == 0)
        return;
    r->file_bytes += p->scale.tensor->bytes;
    if (count_scales(p->scale.tensor) > r->scales_most)
        r->scales_most = count_scales(p->scale.tensor);
}

enum status weights_read_fill(struct weights_reader *r, struct weight *w, const struct weights_source *s)
{
    int to = 0;

    for (int i = 0; i < s->parts; i++) {
        const struct weights_part *p = &s->part[i];
        int step = rows_at_once(r, p, s->inputs);

        if (!r->reading) {
            r->file_bytes += (int64_t)p->count * s->inputs * dtype_bits(p->tensor->dtype) / 8;
            count_part_scales(r, p);
            continue;
        }
        if (p->scale.tensor && p->count > 0)
            TRY(read_scales(r, p));
        for (int done = 0; done < p->count; done += step) {
            int count = p->count - done < step ? p->count - done : step;

            TRY(fill_rows(r, w, to + done, p, p->first + done, count));
        }
        to += p->count;
    }
    return STATUS_OK;
}

static int count_rows(const struct weights_source *s)
{
    int rows = 0;

    for (int i = 0; i < s->parts; i++)
        rows += s->part[i].count;
    return rows;
}

enum status weights_read_matrix(struct weights_reader *r, struct weight *w, const struct weights_source *s,
                                const char *what)
{
    const struct tensor *t = s->part[0].tensor;
    struct kernels *k = r->kernels;
    struct weight planned = {0};
    enum status status = k->weight_plan(k, &planned, weights_read_dtype(s), count_rows(s), s->inputs);

    if (status != STATUS_OK)
        return status_prefix(status, "%s: tensor %s: ", t->file->path, t->name);
    TRY(weights_read_take(r, planned.bytes, what, &planned.data));
    TRY(weights_read_fill(r, &planned, s));
    *w = planned;
    return STATUS_OK;
}

enum status weights_read_vector(struct weights_reader *r, float **out, const struct weights_source *s,
                                const char *what)
{
    struct kernels *k = r->kernels;
    size_t bytes = (size_t)count_rows(s) * sizeof(float);
    float *wide = NULL;
    void *data = NULL;
    int to = 0;

    TRY(weights_read_take(r, bytes, what, &data));
    for (int i = 0; i < s->parts; i++)
        r->file_bytes +=
            r->reading ? 0 : (int64_t)s->part[i].count * dtype_bits(s->part[i].tensor->dtype) / 8;
    if (!r->reading || bytes == 0)
        return STATUS_OK;
    /* The piece takes the file's numbers in front and the floats behind; vectors are far smaller than half of
     * it. */
    wide = (float *)r->piece + r->piece_bytes / 2 / sizeof(float);
    for (int i = 0; i < s->parts; i++) {
        const struct weights_part *p = &s->part[i];
        struct tensor_part part = {.rows = 1, .column = p->first, .columns = p->count};

        TRY(read_piece(r, 0, p->tensor, &part));
        TRY(dtype_widen(wide + to, r->piece, p->tensor->dtype, (size_t)p->count));
        to += p->count;
    }
    TRY(k->upload(k, data, wide, bytes));
    TRY(k->wait(k));
    *out = data;
    return STATUS_OK;
}
