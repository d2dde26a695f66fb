/* cpu_weight.h - packing weights into panels
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef CPU_WEIGHT_H
#define CPU_WEIGHT_H

#include "kernels/kernels.h"

/* Size and format of a packed weight, as weight_plan of kernels.h: BF16 and F8_E4M3 stay what they are, F16
 * and F32 become F32. */
enum status cpu_weight_plan(struct weight *w, enum dtype dtype, int rows, int columns);

/* Do these rows fit the weight? */
enum status cpu_weight_check(const struct weight *w, int first_row, const struct source *part);

struct cpu_fill {
    struct weight *w;
    int first_row;
    const struct source *part;
};

/* A stage (struct cpu_fill). Memory is read in the order in which it lies: threads share the panels, or,
 * where the source is transposed, the inputs. */
void cpu_weight_fill(const void *job, int part, int parts);

#endif
