/* cpu_experts.h - rows through the experts they were sent to
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef CPU_EXPERTS_H
#define CPU_EXPERTS_H

#include "kernels/cpu/cpu_path.h"

/* Stages of cpu_path.h. Every thread takes the same share of columns of every expert that has rows, so that
 * threads are equally busy whatever the router chose. */
void cpu_experts_gate_up(const void *job, int part, int parts);
void cpu_experts_down(const void *job, int part, int parts);

#endif
