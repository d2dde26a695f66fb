/* cpu_table.h - the stages of each instruction path, one table per path
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef CPU_TABLE_H
#define CPU_TABLE_H

#include "kernels/cpu/cpu_path.h"

extern const struct cpu_stages cpu_table_portable;
#ifdef __x86_64__
extern const struct cpu_stages cpu_table_avx2;
extern const struct cpu_stages cpu_table_avx512;
#endif

#endif
