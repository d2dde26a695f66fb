/* plan_shape.h - what plans are made for, and whether it can work
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef PLAN_SHAPE_H
#define PLAN_SHAPE_H

#include "engine/base/status.h"

#include <stdbool.h>
#include <stdint.h>

#define PLAN_MOST ((int64_t)1 << 40) /* load of one expert in a layer */

/* What plans are made for. The arrays are the caller's and outlive the planner. */
struct plan_shape {
    int layers;
    int experts;
    int groups; /* of experts, consecutive and alike; 1 when the model has none */
    int ranks;
    const int32_t *rank_first; /* [ranks + 1] first slot of each rank; uneven is legal */
    const int32_t *rank_node;  /* [ranks] node of each rank, rising from 0 without gaps; NULL: one node */
    const bool *gone; /* [ranks] hold nothing in new plans; NULL: all live. May change between two plans */
};

/* Where replicas may lie. */
enum plan_levels {
    PLAN_AUTO,         /* hierarchical when the nodes divide the groups, else global, as DeepSeek does */
    PLAN_GLOBAL,       /* anywhere */
    PLAN_HIERARCHICAL, /* all replicas of a group, or without groups of an expert, on one node */
    PLAN_SPILL,        /* homes as there; one replica stays at home, the others lie anywhere */
};

/* Can this be planned for? What cannot is STATUS_USAGE: which number fails, and the nearest that works. */
enum status plan_shape_check(const struct plan_shape *shape, enum plan_levels levels);

/* The levels that PLAN_AUTO stands for; others stay. */
enum plan_levels plan_shape_levels(const struct plan_shape *shape, enum plan_levels levels);

/* Nodes of the shape; ranks may be on them in uneven numbers. */
int plan_shape_nodes(const struct plan_shape *shape);

/* Experts whose home is this node, on levels other than global: alike, but without groups in the proportion
 * of live slots. */
int plan_shape_homes(const struct plan_shape *shape, int node);

/* Slots of a rank that a plan may use: none when it is gone. */
int plan_shape_slots(const struct plan_shape *shape, int rank);

/* Live ranks with slots. */
int plan_shape_live(const struct plan_shape *shape);

#endif
