/* reference.h - DeepSeek's rebalance, to the last bit
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * What all published figures are compared with, and one start of better planners. The rules are those of
 * `eplb.py` (github.com/deepseek-ai/EPLB) with its descending sort made stable: groups are packed onto nodes,
 * the node's busiest experts get the spare slots, slots are packed onto the node's ranks; all in single
 * precision. A rank may get two slots of one expert, which no placement that serves may have. */
#ifndef EPLB_REFERENCE_H
#define EPLB_REFERENCE_H

#include "engine/base/arena.h"
#include "engine/base/status.h"
#include "eplb/placement.h"

#include <stdint.h>

struct reference_memory;

struct reference {
    struct placement_shape shape;
    int32_t *expert;   /* [layers, slots] expert of a slot                           (phy2log) */
    int32_t *replicas; /* [layers, experts] slots of an expert                       (logcnt)  */
    int32_t *first;    /* [layers, experts + 1] into slot */
    int32_t *slot;     /* [layers, slots] slots of an expert, in order of creation   (log2phy) */
    struct reference_memory *memory;
};

/* Memory for plans of this shape; what cannot be planned is STATUS_USAGE, as placement_check says. */
enum status reference_take(struct reference *r, struct arena *arena, const struct placement_shape *shape);

/* weight [layers, experts]: load of each expert, finite and not negative. Fills r. */
enum status reference_plan(struct reference *r, const float *weight);

#endif
