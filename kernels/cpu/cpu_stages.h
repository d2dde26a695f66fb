/* cpu_stages.h - the entries of the cpu backend: check, decide how many threads, run
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef CPU_STAGES_H
#define CPU_STAGES_H

#include "kernels/cpu/cpu_path.h"
#include "kernels/cpu/cpu_pool.h"
#include "kernels/host.h"

struct cpu {
    struct kernels table; /* first, so that a pointer to the table is one to this */
    struct host_memory memory;
    struct cpu_pool pool;
    const struct cpu_stages *stages;
    char name[48];
};

/* Sets the entries from weight_plan to draft. */
void cpu_stages_enter(struct kernels *table);

#endif
