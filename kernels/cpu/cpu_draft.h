/* cpu_draft.h - tokens that a sequence may go on with, looked up in itself
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * A stage of cpu_path.h. */
#ifndef CPU_DRAFT_H
#define CPU_DRAFT_H

#include "kernels/cpu/cpu_path.h"

void cpu_draft(const void *job, int part, int parts);

#endif
