/* cpu_multiply.h - rows times packed weights
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * The law: one chain of multiply-adds per output, along k from 0, whatever the tile, the block or the thread.
 * Tiles differ in how many rows and columns they carry side by side, blocks of k put the sums down and take
 * them up again. */
#ifndef CPU_MULTIPLY_H
#define CPU_MULTIPLY_H

#include "kernels/cpu/cpu_tile.h"

/* out = x W^T + bias for this tile; 1 <= rows <= TILE_ROWS, 1 <= panels <= cpu_tile_panels(rows). */
void cpu_multiply_tile(const struct cpu_tile *tile, enum dtype format, int rows, int panels);

/* The columns of panels first_panel ... of a product. */
void cpu_multiply_columns(const struct cpu_product *p, int first_panel, int panels);

/* A stage of cpu_path.h. */
void cpu_multiply(const void *job, int part, int parts);

#endif
