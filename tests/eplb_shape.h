/* eplb_shape.h - shapes to plan for: those of the known answers, and random ones
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EPLB_SHAPE_H
#define EPLB_SHAPE_H

#include "eplb/plan_shape.h"
#include "eplb_gold.h"

enum { EPLB_RANKS = 1024 };

static int32_t eplb_rank_first[EPLB_RANKS + 1], eplb_rank_node[EPLB_RANKS];
static bool eplb_gone[EPLB_RANKS];
static uint64_t eplb_seed = 1;

static inline int eplb_below(int n)
{
    eplb_seed = eplb_seed * 6364136223846793005u + 1442695040888963407u;
    return (int)((eplb_seed >> 33) % (uint64_t)n);
}

/* Even, as DeepSeek has them. */
static inline struct plan_shape eplb_even_shape(const struct placement_shape *s)
{
    struct plan_shape shape = {.layers = s->layers,
                               .experts = s->experts,
                               .groups = s->groups,
                               .ranks = s->ranks,
                               .rank_first = eplb_rank_first,
                               .rank_node = eplb_rank_node};

    for (int r = 0; r <= s->ranks; r++)
        eplb_rank_first[r] = s->slots / s->ranks * r;
    for (int r = 0; r < s->ranks; r++)
        eplb_rank_node[r] = r / ((s->ranks + s->nodes - 1) / s->nodes);
    if (s->groups % s->nodes) {
        shape.rank_node = NULL;
        shape.groups = 1;
    }
    return shape;
}

/* Uneven slots, ranks without any, ranks that are gone, nodes of uneven size, with groups or without. Most
 * can work. */
static inline struct plan_shape eplb_random_shape(void)
{
    int nodes = 1 + eplb_below(3), size = 1 + eplb_below(6);
    struct plan_shape shape = {.layers = 1 + eplb_below(2),
                               .groups = eplb_below(2) ? nodes * (1 + eplb_below(3)) : 1,
                               .ranks = nodes + eplb_below(9),
                               .rank_first = eplb_rank_first,
                               .rank_node = eplb_rank_node};
    int per_rank, slots = 0;

    shape.experts = shape.groups * size + (shape.groups == 1 ? eplb_below(20) : 0);
    per_rank = (shape.experts + shape.ranks - 1) / shape.ranks + eplb_below(4);
    for (int r = 0; r < shape.ranks; r++) {
        eplb_rank_first[r] = slots;
        eplb_rank_node[r] = r < nodes ? r : 0;
        eplb_gone[r] = false;
        slots += eplb_below(4) ? per_rank : eplb_below(per_rank + 3);
    }
    eplb_rank_first[shape.ranks] = slots;
    for (int r = 0; r < shape.ranks; r++)
        eplb_rank_node[r] = (int32_t)((int64_t)r * nodes / shape.ranks);
    if (eplb_below(3) == 0) {
        eplb_gone[eplb_below(shape.ranks)] = true;
        shape.gone = eplb_gone;
    }
    if (nodes == 1 && eplb_below(2))
        shape.rank_node = NULL;
    return shape;
}

/* Zeros, ties, one hot expert, large numbers. */
static inline void eplb_random_load(int64_t *load, int count)
{
    int kind = eplb_below(6), shift = eplb_below(8) == 0 ? 30 : 0;

    for (int i = 0; i < count; i++) {
        int64_t rows = kind == 0 ? 0 : kind == 1 ? 7 : eplb_below(kind == 2 ? 4 : 1000);

        load[i] = (kind == 3 && eplb_below(count) == 0 ? 1000 * rows : rows) << shift;
        if (load[i] > PLAN_MOST)
            load[i] = PLAN_MOST;
    }
}

#endif
