/* budget_nearest.h - the nearest settings that fit, when a plan does not
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef BUDGET_NEAREST_H
#define BUDGET_NEAREST_H

#include "engine/budget.h"

/* Each alone makes the plan fit, the others as they are; 0: it cannot, or there is no need. */
struct budget_nearest {
    int ranks;           /* more of them, with as much memory each */
    int nodes;           /* that so many ranks lie on, as many on each as before */
    int tensor;          /* --tensor-parallel-size */
    int rows;            /* --max-num-batched-tokens */
    int positions;       /* --max-model-len */
    size_t cache_memory; /* --kv-cache-memory */
    size_t memory;       /* bytes for each rank */
};

enum { BUDGET_RANKS_MOST = 4096 }; /* no more are tried */

enum status budget_nearest(struct budget_nearest *out, const struct engine *read, const struct budget *b);

#endif
