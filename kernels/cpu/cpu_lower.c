/* cpu_lower.c - experts at lower precision: inputs rounded to BF16, two of them for one
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cpu/cpu_lower.h"

#include "engine/base/range.h"

/* -- rounding --- */

/* Pairs of BF16 numbers; an odd width ends in a pair whose second is zero. */
static void round_row(float *to, const float *from, int width)
{
    uint16_t *pairs = (uint16_t *)(void *)to;

    for (int k = 0; k < width; k += LANES) {
        int count = width - k < LANES ? width - k : LANES;
        __m256i numbers = (__m256i)_mm512_cvtneps_pbh(lanes_load_part(from + k, count).v);

        _mm256_mask_storeu_epi16(pairs + k, lanes_mask((count + 1) / 2 * 2), numbers);
    }
}

void cpu_lower_inputs(const void *job, int part, int parts)
{
    const struct expert_batch *b = job;

    for (int s = 0; s < b->slots; s++) {
        struct range rows = range_share(b->first[s + 1] - b->first[s], parts, part);
        const int32_t *order = b->order + b->first[s] + rows.first;

        for (int n = 0; n < rows.count && cpu_lower_takes(b, &b->gate_up[s]); n++)
            round_row(cpu_row(b->out, order[n]), cpu_row(b->x, order[n]), b->x.columns);
    }
}

void cpu_lower_inner(const void *job, int part, int parts)
{
    const struct expert_batch *b = job;

    for (int s = 0; s < b->slots; s++) {
        struct range rows = range_share(b->first[s + 1] - b->first[s], parts, part);
        int width = b->down[s].columns;

        for (int n = 0; n < rows.count && cpu_lower_takes(b, &b->down[s]); n++) {
            float *row = cpu_row(b->scratch, b->first[s] + rows.first + n);

            round_row(row + width, row, width);
        }
    }
}

/* -- multiplying --- */

LANES_INLINE __m512bh tile_line(const char *line)
{
    return (__m512bh)_mm512_loadu_si512(line);
}

LANES_INLINE __m512bh tile_pair(const float *pair)
{
    return (__m512bh)_mm512_set1_ps(*pair);
}

LANES_INLINE void tile_run(const struct cpu_tile *t, int rows, int panels)
{
    struct lanes sum[TILE_ROWS][TILE_PANELS];

    cpu_tile_begin(sum, t, rows, panels);
    for (int k = 0; k < t->inner; k++) {
        ptrdiff_t line = (ptrdiff_t)k * PANEL_LINE;
        __m512bh weight[TILE_PANELS];

        LANES_UNROLL
        for (int p = 0; p < TILE_PANELS; p++)
            if (p < panels) {
                if (rows > 1) /* as in cpu_multiply.c */
                    __builtin_prefetch((const char *)t->panel[p] + t->ahead + line, 0, 2);
                weight[p] = tile_line((const char *)t->panel[p] + line);
            }
        LANES_UNROLL
        for (int r = 0; r < TILE_ROWS; r++)
            if (r < rows) {
                __m512bh input = tile_pair(t->x[r] + k);

                LANES_UNROLL
                for (int p = 0; p < TILE_PANELS; p++)
                    if (p < panels)
                        sum[r][p].v = _mm512_dpbf16_ps(sum[r][p].v, input, weight[p]);
            }
    }
    cpu_tile_end(sum, t, rows, panels);
}

#define TILE(rows, panels)                                                                                   \
    static void tile_##rows##_##panels(const struct cpu_tile *t)                                             \
    {                                                                                                        \
        tile_run(t, rows, panels);                                                                           \
    }

TILES_OF(TILE)

#define TILE_ENTRY(rows, panels) [rows][panels] = tile_##rows##_##panels,

static void (*const tiles[TILE_ROWS + 1][TILE_PANELS + 1])(const struct cpu_tile *t) = {TILES_OF(TILE_ENTRY)};

void cpu_lower_tile(const struct cpu_tile *tile, int rows, int panels)
{
    tiles[rows][panels](tile);
}
