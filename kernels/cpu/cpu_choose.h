/* cpu_choose.h - the largest of a row: experts of a token, candidates for the next
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Both are stages of cpu_path.h. */
#ifndef CPU_CHOOSE_H
#define CPU_CHOOSE_H

#include "kernels/cpu/cpu_path.h"

void cpu_choose_route(const void *job, int part, int parts);
void cpu_choose_candidates(const void *job, int part, int parts);

#endif
