/* cpu_weight.c - packing weights into panels
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cpu/cpu_weight.h"

#include "engine/base/range.h"
#include "kernels/cpu/cpu_path.h"

#include <string.h>

/* Inputs of a transposed source that are read side by side: few enough for the cache when they lie 4096 bytes
 * apart. */
enum { STRIPE = 8 };

#define WORDS uint32_t __attribute__((vector_size(16)))

enum status cpu_weight_plan(struct weight *w, enum dtype dtype, int rows, int columns)
{
    enum dtype format = dtype == DTYPE_BF16 || dtype == DTYPE_F8_E4M3 ? dtype : DTYPE_F32;
    size_t bytes;

    TRY(kernels_check_dtype(dtype));
    if (rows < 0 || columns < 0)
        return FAIL(STATUS_BUG, "a weight of %d rows and %d columns", rows, columns);
    if (__builtin_mul_overflow((size_t)panel_count(rows), panel_bytes(format, columns), &bytes))
        return FAIL(STATUS_NO_MEMORY, "a weight of %d rows and %d columns is too large", rows, columns);
    w->bytes = bytes;
    w->rows = rows;
    w->columns = columns;
    w->format = format;
    return STATUS_OK;
}

enum status cpu_weight_check(const struct weight *w, int first_row, const struct source *part)
{
    if (part->columns != w->columns || first_row < 0 || part->rows < 0 || part->rows > w->rows - first_row)
        return FAIL(STATUS_BUG, "rows [%d, %d] put at row %d of a weight [%d, %d]", part->rows, part->columns,
                    first_row, w->rows, w->columns);
    TRY(kernels_check_dtype(part->dtype));
    if (w->format != DTYPE_F32 && part->dtype != w->format)
        return FAIL(STATUS_BUG, "%s numbers put into a %s weight", dtype_name(part->dtype),
                    dtype_name(w->format));
    if (part->dtype == DTYPE_F8_E4M3 && !part->scale)
        return FAIL(STATUS_BUG, "F8_E4M3 numbers without scales");
    return STATUS_OK;
}

static uint16_t read_short(const char *from)
{
    uint16_t value;

    memcpy(&value, from, sizeof value);
    return value;
}

/* One panel's share of a fill: lanes of the panel, and where their first number lies in the source. */
struct piece {
    char *panel;
    const char *from;
    const float *scale; /* of the first lane */
    int scales;         /* of each lane */
    struct range lanes;
    ptrdiff_t row_step, column_step; /* bytes */
};

static struct piece piece_of(const struct cpu_fill *f, int panel)
{
    const struct source *s = f->part;
    ptrdiff_t element = dtype_bits(s->dtype) / 8;
    int first = panel * PANEL_COLUMNS;
    int end = first + PANEL_COLUMNS;
    int from = first > f->first_row ? first : f->first_row;
    struct piece piece = {.row_step = s->row_step * element, .column_step = s->column_step * element};

    if (end > f->first_row + s->rows)
        end = f->first_row + s->rows;
    piece.panel = (char *)f->w->data + (size_t)panel * panel_bytes(f->w->format, f->w->columns);
    piece.from = (const char *)s->data + (from - f->first_row) * piece.row_step;
    piece.scales = scale_count(s->columns);
    piece.scale = s->scale ? s->scale + (ptrdiff_t)(from - f->first_row) * piece.scales : NULL;
    piece.lanes = (struct range){.first = from - first, .count = end - from};
    return piece;
}

/* BF16: the line of numbers k and k + 1; `pair`: there is a k + 1. */
static void fill_line_bf16(const struct piece *p, int k, bool pair)
{
    uint32_t *line = (uint32_t *)(void *)(p->panel + (ptrdiff_t)(k / 2) * PANEL_LINE) + p->lanes.first;
    const char *even = p->from + k * p->column_step;
    const char *odd = even + p->column_step;

    if (pair && p->row_step == 2 && p->lanes.count == PANEL_COLUMNS) {
        for (int i = 0; i < PANEL_COLUMNS; i++)
            line[i] = read_short(even + 2 * i) | (uint32_t)read_short(odd + 2 * i) << 16;
        return;
    }
    for (int i = 0; i < p->lanes.count; i++) {
        uint32_t high = pair ? read_short(odd + i * p->row_step) : 0u;

        line[i] = read_short(even + i * p->row_step) | high << 16;
    }
}

/* F8_E4M3: the line of numbers k ... k + count - 1. */
static void fill_line_e4m3(const struct piece *p, int k, int count)
{
    char *line = p->panel + panel_e4m3_line(k) + (ptrdiff_t)p->lanes.first * 4;
    const char *from = p->from + k * p->column_step;

    for (int i = 0; i < p->lanes.count; i++, from += p->row_step)
        for (int n = 0; n < count; n++)
            line[4 * i + n] = from[n * p->column_step];
}

/* F8_E4M3: the scales of numbers first ... end - 1. */
static void fill_scales(const struct piece *p, int first, int end)
{
    for (int k = (first + SCALE_INPUTS - 1) / SCALE_INPUTS * SCALE_INPUTS; k < end; k += SCALE_INPUTS) {
        float *line = (float *)(void *)(p->panel + panel_e4m3_line(k) - PANEL_LINE) + p->lanes.first;

        for (int i = 0; i < p->lanes.count; i++)
            line[i] = p->scale[(ptrdiff_t)i * p->scales + k / SCALE_INPUTS] * E4M3_UNIT;
    }
}

/* F32: the line of number k. */
static void fill_line_f32(const struct piece *p, int k, enum dtype dtype)
{
    float *line = (float *)(void *)(p->panel + (ptrdiff_t)k * PANEL_LINE) + p->lanes.first;
    const char *from = p->from + k * p->column_step;

    for (int i = 0; i < p->lanes.count; i++, from += p->row_step) {
        if (dtype == DTYPE_F32)
            memcpy(&line[i], from, sizeof *line);
        else if (dtype == DTYPE_F8_E4M3)
            line[i] = dtype_from_e4m3(*(const uint8_t *)from) *
                      p->scale[(ptrdiff_t)i * p->scales + k / SCALE_INPUTS];
        else
            line[i] =
                dtype == DTYPE_BF16 ? dtype_from_bf16(read_short(from)) : dtype_from_f16(read_short(from));
    }
}

/* Four whole lines from four words (numbers of F32, pairs of BF16, fours of F8_E4M3) of each of 16 rows. */
static void turn_lines(char *lines, const char *from, ptrdiff_t row_step)
{
    for (int lane = 0; lane < PANEL_COLUMNS; lane += 4, from += 4 * row_step) {
        WORDS row[4], low[2], high[2], turned[4];

        for (int i = 0; i < 4; i++)
            memcpy(&row[i], from + i * row_step, sizeof row[i]);
        for (int i = 0; i < 2; i++) {
            low[i] = __builtin_shufflevector(row[i], row[i + 2], 0, 4, 1, 5);
            high[i] = __builtin_shufflevector(row[i], row[i + 2], 2, 6, 3, 7);
        }
        turned[0] = __builtin_shufflevector(low[0], low[1], 0, 4, 1, 5);
        turned[1] = __builtin_shufflevector(low[0], low[1], 2, 6, 3, 7);
        turned[2] = __builtin_shufflevector(high[0], high[1], 0, 4, 1, 5);
        turned[3] = __builtin_shufflevector(high[0], high[1], 2, 6, 3, 7);
        for (int i = 0; i < 4; i++)
            memcpy(lines + i * PANEL_LINE + lane * 4, &turned[i], sizeof turned[i]);
    }
}

/* Lines of one panel for k = first ... end - 1; first is a multiple of four. */
static void fill_lines(const struct cpu_fill *f, int panel, int first, int end)
{
    enum dtype format = f->w->format;
    struct piece piece = piece_of(f, panel);
    int numbers = format == DTYPE_F8_E4M3 ? 4 : format == DTYPE_BF16 ? 2 : 1; /* in a line and column */
    ptrdiff_t element = dtype_bits(f->part->dtype) / 8;
    int k = first;

    if (format == DTYPE_F8_E4M3)
        fill_scales(&piece, first, end);
    if (f->part->column_step == 1 && piece.lanes.count == PANEL_COLUMNS && numbers * element == 4)
        for (; k + 4 * numbers <= end; k += 4 * numbers)
            turn_lines(piece.panel + (format == DTYPE_F8_E4M3 ? panel_e4m3_line(k)
                                                              : (ptrdiff_t)(k / numbers) * PANEL_LINE),
                       piece.from + k * element, piece.row_step);
    for (; k < end; k += numbers) {
        if (format == DTYPE_F8_E4M3)
            fill_line_e4m3(&piece, k, end - k < 4 ? end - k : 4);
        else if (format == DTYPE_BF16)
            fill_line_bf16(&piece, k, k + 1 < end);
        else
            fill_line_f32(&piece, k, f->part->dtype);
    }
}

void cpu_weight_fill(const void *job, int part, int parts)
{
    const struct cpu_fill *f = job;
    int first_panel = f->first_row / PANEL_COLUMNS;
    int panels = f->part->rows > 0 ? (f->first_row + f->part->rows - 1) / PANEL_COLUMNS - first_panel + 1 : 0;
    int inner = f->w->columns;
    bool transposed = f->part->row_step == 1 && f->part->column_step != 1;
    struct range share = range_share(transposed ? (inner + STRIPE - 1) / STRIPE : panels, parts, part);

    if (!transposed) {
        for (int p = share.first; p < share.first + share.count; p++)
            fill_lines(f, first_panel + p, 0, inner);
        return;
    }
    for (int k = share.first * STRIPE; k < (share.first + share.count) * STRIPE && k < inner; k += STRIPE)
        for (int p = 0; p < panels; p++)
            fill_lines(f, first_panel + p, k, k + STRIPE < inner ? k + STRIPE : inner);
}
