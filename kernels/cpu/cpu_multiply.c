/* cpu_multiply.c - rows times packed weights
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cpu/cpu_multiply.h"

#include "engine/base/range.h"
#include "kernels/cpu/cpu_e4m3.h"
#include "kernels/cpu/cpu_lower.h"

/* A block of rows and k stays in the second level of the cache (96 * 1024 floats) while all panels pass by;
 * below SHORT rows the whole width does. All are multiples of every tile height. */
enum { BLOCK_ROWS = 96, BLOCK_INNER = 1024, SHORT = 24 };

/* What follows is a template: the tile functions below call it with constants. */

/* The weights of number k, one panel after the other: how to read them. */
enum read { READ_F32, READ_EVEN, READ_ODD, READ_E4M3 /* the first of four; the others follow */ };

/* Reads at panel + line; F8_E4M3 with the scales at panel. */
LANES_INLINE struct lanes tile_weight(const char *panel, ptrdiff_t line, enum read read)
{
    if (read == READ_F32)
        return lanes_load((const float *)(const void *)(panel + line));
    if (read >= READ_E4M3)
        return lanes_e4m3(panel + line, (int)read - (int)READ_E4M3,
                          lanes_load((const float *)(const void *)panel));
    return read == READ_EVEN ? lanes_even(panel + line) : lanes_odd(panel + line);
}

/* Number k of all rows and panels; what there are fewer of, weights or inputs, stays in registers. */
LANES_INLINE void tile_step(struct lanes sum[TILE_ROWS][TILE_PANELS], const struct cpu_tile *t,
                            const char *const panel[TILE_PANELS], ptrdiff_t line, enum read read, int k,
                            int rows, int panels)
{
    struct lanes weight[TILE_PANELS];

    if (rows <= 3 || panels == 1) {
        LANES_UNROLL
        for (int p = 0; p < TILE_PANELS; p++)
            if (p < panels) {
                struct lanes one = tile_weight(panel[p], line, read);

                LANES_UNROLL
                for (int r = 0; r < TILE_ROWS; r++)
                    if (r < rows)
                        sum[r][p] = lanes_fma(lanes_set(t->x[r][k]), one, sum[r][p]);
            }
        return;
    }
    LANES_UNROLL
    for (int p = 0; p < TILE_PANELS; p++)
        if (p < panels)
            weight[p] = tile_weight(panel[p], line, read);
    LANES_UNROLL
    for (int r = 0; r < TILE_ROWS; r++)
        if (r < rows) {
            struct lanes input = lanes_set(t->x[r][k]);

            LANES_UNROLL
            for (int p = 0; p < TILE_PANELS; p++)
                if (p < panels)
                    sum[r][p] = lanes_fma(input, weight[p], sum[r][p]);
        }
}

/* The numbers below one line of scales after the other. */
LANES_INLINE void tile_inner_e4m3(struct lanes sum[TILE_ROWS][TILE_PANELS], const struct cpu_tile *t,
                                  int rows, int panels)
{
    const char *panel[TILE_PANELS];

    LANES_UNROLL
    for (int p = 0; p < TILE_PANELS; p++)
        if (p < panels)
            panel[p] = t->panel[p];
    for (int first = 0; first < t->inner; first += SCALE_INPUTS) {
        int end = t->inner - first < SCALE_INPUTS ? t->inner : first + SCALE_INPUTS;
        ptrdiff_t line = PANEL_LINE;
        int k = first;

        for (; k + 3 < end; k += 4, line += PANEL_LINE) {
            LANES_UNROLL
            for (int p = 0; p < TILE_PANELS; p++)
                if (p < panels && rows > 1)
                    __builtin_prefetch(panel[p] + t->ahead + line, 0, 2);
            LANES_UNROLL
            for (int n = 0; n < 4; n++)
                tile_step(sum, t, panel, line, (enum read)(READ_E4M3 + n), k + n, rows, panels);
        }
        for (int n = 0; k < end; k++, n++)
            tile_step(sum, t, panel, line, (enum read)(READ_E4M3 + n), k, rows, panels);
        LANES_UNROLL
        for (int p = 0; p < TILE_PANELS; p++)
            if (p < panels)
                panel[p] += line;
    }
}

LANES_INLINE void tile_inner(struct lanes sum[TILE_ROWS][TILE_PANELS], const struct cpu_tile *t,
                             enum dtype format, int rows, int panels)
{
    const char *panel[TILE_PANELS];
    ptrdiff_t ahead = t->ahead;

    LANES_UNROLL
    for (int p = 0; p < TILE_PANELS; p++)
        if (p < panels)
            panel[p] = t->panel[p];
    if (format == DTYPE_F32) {
        for (int k = 0; k < t->inner; k++)
            tile_step(sum, t, panel, (ptrdiff_t)k * PANEL_LINE, READ_F32, k, rows, panels);
        return;
    }
    for (int k = 0; k + 1 < t->inner; k += 2) {
        ptrdiff_t line = (ptrdiff_t)k * (PANEL_LINE / 2);

        /* Asks for the next panels while these are multiplied: otherwise a few rows wait for memory between
         * two panels (4 to 6 rows are a third slower). One row needs no help, its panels stream. */
        LANES_UNROLL
        for (int p = 0; p < TILE_PANELS; p++)
            if (p < panels && rows > 1)
                __builtin_prefetch(panel[p] + ahead + line, 0, 2);
        tile_step(sum, t, panel, line, READ_EVEN, k, rows, panels);
        tile_step(sum, t, panel, line, READ_ODD, k + 1, rows, panels);
    }
    if (t->inner % 2 != 0) {
        int k = t->inner - 1;

        tile_step(sum, t, panel, (ptrdiff_t)k * (PANEL_LINE / 2), READ_EVEN, k, rows, panels);
    }
}

LANES_INLINE void tile_run(const struct cpu_tile *t, enum dtype format, int rows, int panels)
{
    struct lanes sum[TILE_ROWS][TILE_PANELS];

    cpu_tile_begin(sum, t, rows, panels);
    if (format == DTYPE_F8_E4M3)
        tile_inner_e4m3(sum, t, rows, panels);
    else
        tile_inner(sum, t, format, rows, panels);
    cpu_tile_end(sum, t, rows, panels);
}

/* One function for each height and width: BF16, F32 and F8_E4M3. */
#define TILE(rows, panels)                                                                                   \
    static void tile_bf16_##rows##_##panels(const struct cpu_tile *t)                                        \
    {                                                                                                        \
        tile_run(t, DTYPE_BF16, rows, panels);                                                               \
    }                                                                                                        \
    static void tile_f32_##rows##_##panels(const struct cpu_tile *t)                                         \
    {                                                                                                        \
        tile_run(t, DTYPE_F32, rows, panels);                                                                \
    }                                                                                                        \
    static void tile_e4m3_##rows##_##panels(const struct cpu_tile *t)                                        \
    {                                                                                                        \
        tile_run(t, DTYPE_F8_E4M3, rows, panels);                                                            \
    }

TILES_OF(TILE)

#define TILE_ENTRY(rows, panels)                                                                             \
    [rows][panels] = {tile_bf16_##rows##_##panels, tile_f32_##rows##_##panels, tile_e4m3_##rows##_##panels},

static void (*const tiles[TILE_ROWS + 1][TILE_PANELS + 1][3])(const struct cpu_tile *t) = {
    TILES_OF(TILE_ENTRY)};

void cpu_multiply_tile(const struct cpu_tile *tile, enum dtype format, int rows, int panels)
{
    tiles[rows][panels][format == DTYPE_F32 ? 1 : format == DTYPE_F8_E4M3 ? 2 : 0](tile);
}

/* Part of a product: some rows, panels and numbers of k. */
struct block {
    int first_row, rows;
    int first_panel, panels;
    int first_inner, inner;
};

/* One tile: `rows` rows of the block from its row `row` on, `panels` panels from `panel` on. */
static void block_tile(const struct cpu_product *p, const struct block *b, struct range rows,
                       struct range panels)
{
    int column = panels.first * PANEL_COLUMNS;
    int left = p->w->rows - column;
    bool last = b->first_inner + b->inner == p->w->columns;
    int first_input = p->lower ? b->first_inner / 2 : b->first_inner;
    struct cpu_tile t = {.carry = b->first_inner > 0};
    size_t whole = panel_bytes(p->w->format, p->w->columns);
    const char *first = (const char *)p->w->data + panel_bytes(p->w->format, b->first_inner);

    t.inner = p->lower ? (b->inner + 1) / 2 : b->inner;
    t.ahead = (ptrdiff_t)panels.count * (ptrdiff_t)whole;
    t.columns = left < panels.count * PANEL_COLUMNS ? left : panels.count * PANEL_COLUMNS;
    t.bias = p->bias && last ? p->bias + column : NULL;
    for (int r = 0; r < rows.count; r++) {
        int n = b->first_row + rows.first + r;

        t.x[r] = cpu_row(p->x, p->x_row ? p->x_row[n] : n) + first_input;
        t.out[r] = cpu_row(p->out, p->out_row ? p->out_row[n] : n) + column;
    }
    for (int i = 0; i < panels.count; i++)
        t.panel[i] = first + (size_t)(panels.first + i) * whole;
#if defined(__AVX512F__)
    if (p->lower) {
        cpu_lower_tile(&t, rows.count, panels.count);
        return;
    }
#endif
    cpu_multiply_tile(&t, p->w->format, rows.count, panels.count);
}

/* All rows pass by a few panels, which stay in the first level of the cache, before the next panels come. */
static void block_multiply(const struct cpu_product *p, const struct block *b)
{
    int tiles_high = (b->rows + TILE_ROWS - 1) / TILE_ROWS;
    int widest = cpu_tile_panels(range_share(b->rows, tiles_high, 0).count);
    int groups = (b->panels + widest - 1) / widest;

    for (int g = 0; g < groups; g++) {
        struct range panels = range_share(b->panels, groups, g);

        panels.first += b->first_panel;
        for (int i = 0; i < tiles_high; i++)
            block_tile(p, b, range_share(b->rows, tiles_high, i), panels);
    }
}

void cpu_multiply_columns(const struct cpu_product *p, int first_panel, int panels)
{
    int inner = p->w->columns;
    int blocks = p->rows > SHORT ? (inner + BLOCK_INNER - 1) / BLOCK_INNER : 1;
    int even = p->w->format == DTYPE_F8_E4M3 ? SCALE_INPUTS : 2; /* where a panel can be cut */
    int step = blocks > 1 ? ((inner + blocks - 1) / blocks + even - 1) / even * even : inner;

    for (int row = 0; row < p->rows && panels > 0; row += BLOCK_ROWS) {
        int first = 0;

        do {
            struct block b = {
                .first_row = row, .first_panel = first_panel, .panels = panels, .first_inner = first};

            b.rows = p->rows - row < BLOCK_ROWS ? p->rows - row : BLOCK_ROWS;
            b.inner = inner - first < step ? inner - first : step;
            block_multiply(p, &b);
            first += b.inner;
        } while (first < inner);
    }
}

/* Threads share the columns; the rows, where there are many rows and few columns. */
void cpu_multiply(const void *job, int part, int parts)
{
    const struct cpu_product *p = job;
    int panels = panel_count(p->w->rows);
    struct range share;

    if (panels % parts != 0 && panels < 8 * parts && p->rows >= parts * 2 * TILE_ROWS) {
        struct cpu_product mine = *p;

        share = range_share(p->rows, parts, part);
        mine.rows = share.count;
        mine.x = matrix_rows(p->x, share.first, share.count);
        mine.out = matrix_rows(p->out, share.first, share.count);
        cpu_multiply_columns(&mine, 0, panels);
        return;
    }
    share = range_share(panels, parts, part);
    cpu_multiply_columns(p, share.first, share.count);
}
