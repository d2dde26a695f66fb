/* cpu_rows.h - stages that turn each row by itself: embed, norm, rotate, store, move and add rows
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * All are stages of cpu_path.h. */
#ifndef CPU_ROWS_H
#define CPU_ROWS_H

#include "kernels/cpu/cpu_path.h"

void cpu_rows_embed(const void *job, int part, int parts);
void cpu_rows_norm(const void *job, int part, int parts);
void cpu_rows_rotate(const void *job, int part, int parts);
void cpu_rows_append(const void *job, int part, int parts);
void cpu_rows_gather(const void *job, int part, int parts);
void cpu_rows_activate(const void *job, int part, int parts);
void cpu_rows_add(const void *job, int part, int parts);
void cpu_rows_join(const void *job, int part, int parts);
void cpu_rows_combine(const void *job, int part, int parts);

#endif
