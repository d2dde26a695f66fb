/* cpu_multiply.h - rows times packed weights
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * The law: one chain of multiply-adds per output, along k from 0, whatever the tile, the block or the thread.
 * Tiles differ in how many rows and columns they carry side by side, blocks of k put the sums down and take
 * them up again. */
#ifndef CPU_MULTIPLY_H
#define CPU_MULTIPLY_H

#include "kernels/cpu/cpu_path.h"

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
    const float *x[TILE_ROWS];      /* where each row starts */
    float *out[TILE_ROWS];          /* where its first column goes */
    const void *panel[TILE_PANELS]; /* where each panel starts */
    const float *bias;              /* of the first column; NULL: none */
    ptrdiff_t ahead; /* bytes from each panel to the one that comes next in its place; 0: unknown */
    int inner;       /* numbers of k, of F8_E4M3 from a multiple of SCALE_INPUTS on */
    int columns;     /* that are stored, in all panels together */
    bool carry;      /* sums go on from what stands in out */
};

/* Panels that a tile of this many rows takes at most. */
static inline int cpu_tile_panels(int rows)
{
    return rows == 1 ? TILE_PANELS : rows <= 3 ? (TILE_PANELS + 1) / 2 : (TILE_PANELS + 3) / 4;
}

/* out = x W^T + bias for this tile; 1 <= rows <= TILE_ROWS, 1 <= panels <= cpu_tile_panels(rows). */
void cpu_multiply_tile(const struct cpu_tile *tile, enum dtype format, int rows, int panels);

/* The columns of panels first_panel ... of a product. */
void cpu_multiply_columns(const struct cpu_product *p, int first_panel, int panels);

/* A stage of cpu_path.h. */
void cpu_multiply(const void *job, int part, int parts);

#endif
