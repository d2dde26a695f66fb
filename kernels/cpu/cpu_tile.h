/* cpu_tile.h - some rows of some panels, multiplied side by side: what every kind of product shares
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * A tile holds its sums in registers while k passes. The functions are templates: they are called with
 * constants for rows and panels, one function for each height and width. */
#ifndef CPU_TILE_H
#define CPU_TILE_H

#include "kernels/cpu/cpu_path.h"
#include "kernels/cpu/cpu_vector.h"

/* The largest tile has TILE_ROWS rows of one (AVX-512: two) panels; lower tiles take more panels, at most
 * TILE_PANELS. Twelve or so sums in flight hide the latency of a multiply-add and leave registers for the
 * operands. */
#if defined(__AVX512F__)
enum { TILE_ROWS = 12, TILE_PANELS = 8 };
#elif defined(__AVX2__)
enum { TILE_ROWS = 6, TILE_PANELS = 4 };
#else
enum { TILE_ROWS = 3, TILE_PANELS = 2 };
#endif

struct cpu_tile {
    const float *x[TILE_ROWS];      /* where each row starts; lowered: pairs of BF16 numbers */
    float *out[TILE_ROWS];          /* where its first column goes */
    const void *panel[TILE_PANELS]; /* where each panel starts */
    const float *bias;              /* of the first column; NULL: none */
    ptrdiff_t ahead; /* bytes from each panel to the one that comes next in its place; 0: unknown */
    int inner;       /* numbers of k, of F8_E4M3 from a multiple of SCALE_INPUTS on; lowered: pairs */
    int columns;     /* that are stored, in all panels together */
    bool carry;      /* sums go on from what stands in out */
};

/* Panels that a tile of this many rows takes at most. */
static inline int cpu_tile_panels(int rows)
{
    return rows == 1 ? TILE_PANELS : rows <= 3 ? (TILE_PANELS + 1) / 2 : (TILE_PANELS + 3) / 4;
}

#define TILES_2(T, rows) T(rows, 1) T(rows, 2)
#define TILES_4(T, rows) TILES_2(T, rows) T(rows, 3) T(rows, 4)
#define TILES_8(T, rows) TILES_4(T, rows) T(rows, 5) T(rows, 6) T(rows, 7) T(rows, 8)

/* T(rows, panels) for each tile there is. */
#if defined(__AVX512F__)
#define TILES_LOW(T) TILES_8(T, 1) TILES_4(T, 2) TILES_4(T, 3) TILES_2(T, 4) TILES_2(T, 5) TILES_2(T, 6)
#define TILES_HIGH(T) TILES_2(T, 7) TILES_2(T, 8) TILES_2(T, 9) TILES_2(T, 10) TILES_2(T, 11) TILES_2(T, 12)
#define TILES_OF(T) TILES_LOW(T) TILES_HIGH(T)
#elif defined(__AVX2__)
#define TILES_OF(T) TILES_4(T, 1) TILES_2(T, 2) TILES_2(T, 3) T(4, 1) T(5, 1) T(6, 1)
#else
#define TILES_OF(T) TILES_2(T, 1) T(2, 1) T(3, 1)
#endif

/* Loops over rows and panels run to the full bound with a condition inside, so that every compiler has
 * dissolved them before it gives the sums to registers (clang takes up loops of one round too late). */

/* Sums begin at zero, or at what stands in out. */
LANES_INLINE void cpu_tile_begin(struct lanes sum[TILE_ROWS][TILE_PANELS], const struct cpu_tile *t, int rows,
                                 int panels)
{
    LANES_UNROLL
    for (int r = 0; r < TILE_ROWS; r++)
        if (r < rows) {
            LANES_UNROLL
            for (int p = 0; p < TILE_PANELS; p++)
                if (p < panels) {
                    int left = t->columns - p * LANES;

                    sum[r][p] = !t->carry       ? lanes_set(0.0f)
                                : left >= LANES ? lanes_load(t->out[r] + p * LANES)
                                                : lanes_load_part(t->out[r] + p * LANES, left > 0 ? left : 0);
                }
        }
}

/* Sums go to out, the bias with them. */
LANES_INLINE void cpu_tile_end(struct lanes sum[TILE_ROWS][TILE_PANELS], const struct cpu_tile *t, int rows,
                               int panels)
{
    LANES_UNROLL
    for (int p = 0; p < TILE_PANELS; p++)
        if (p < panels) {
            int left = t->columns - p * LANES;
            int kept = left >= LANES ? LANES : left > 0 ? left : 0;

            LANES_UNROLL
            for (int r = 0; r < TILE_ROWS; r++)
                if (r < rows) {
                    struct lanes value = sum[r][p];

                    if (t->bias)
                        value = lanes_add(value, lanes_load_part(t->bias + p * LANES, kept));
                    if (kept == LANES)
                        lanes_store(t->out[r] + p * LANES, value);
                    else
                        lanes_store_part(t->out[r] + p * LANES, value, kept);
                }
        }
}

#endif
