/* cpu.h - the fast backend for processors: packed weights, vectors, threads
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * One instruction path is chosen when the backend opens (by CPUID, XGETBV and the caller's limit). Each path
 * obeys the law. AVX2 and AVX-512 add in the same order with the same instructions and give the same bytes,
 * the portable path does not; so all ranks open the same one. */
#ifndef CPU_H
#define CPU_H

#include "kernels/kernels.h"

enum cpu_path { CPU_PORTABLE, CPU_AVX2, CPU_AVX512 };

/* The best path of this machine; rising order, so ranks agree on the least of theirs. */
enum cpu_path cpu_best_path(void);

const char *cpu_path_name(enum cpu_path path); /* "portable", "avx2", "avx512" */

/* `threads` >= 1 work on every entry (this one included); they are started here and sleep between steps.
 * `pinned` lists a processor number for each thread, or is NULL. A path the machine does not have is
 * STATUS_UNAVAILABLE. */
enum status cpu_open(enum cpu_path path, int threads, const int *pinned, struct kernels **out);

#endif
