/* planned.h - a plan by any policy, in one form, and how good it is
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * For tools that compare policies. Unlike a placement that serves, a plan of the reference may hold two slots
 * of an expert on a rank, and its lists of slots are in the order of creation. */
#ifndef PLANNED_H
#define PLANNED_H

#include "eplb/plan.h"
#include "eplb/problem.h"

enum planned_policy { PLANNED_REFERENCE, PLANNED_BALANCED, PLANNED_INCREMENTAL, PLANNED_SPILL };

struct planned_options {
    enum planned_policy policy;
    enum plan_levels levels;
    enum plan_split split;
    int tolerance; /* millionths */
    int kicks;
    uint64_t seed;
    int layer_moves; /* most of an incremental plan, in each layer */
};

struct planned {
    struct placement_shape shape;
    int32_t *rank_first; /* [ranks + 1] */
    int32_t *rank_node;  /* [ranks] */
    int32_t *expert;     /* [layers, slots] expert of a slot, -1: empty */
    int32_t *replicas;   /* [layers, experts] */
    int32_t *first;      /* [layers, experts + 1] into slot */
    int32_t *slot;       /* [layers, slots] slots of an expert */
};

/* Where a policy's replicas lie when `levels` is asked for: those of incremental anywhere, those of spill too
 * when the nodes do not divide the groups. */
enum plan_levels planned_levels(const struct placement_shape *shape, enum planned_policy policy,
                                enum plan_levels levels);

/* incremental starts from the problem's previous placement, which must be there. */
enum status planned_make(struct planned *out, struct arena *arena, const struct problem *problem,
                         const struct planned_options *options);

/* A placement that is given: map [layers, slots], as problem_check_map wants it. */
enum status planned_take(struct planned *out, struct arena *arena, const struct placement_shape *shape,
                         const int32_t *map);

/* One slot for each expert, shared out in order; slots beside those are empty. */
enum status planned_plain(struct planned *out, struct arena *arena, const struct placement_shape *shape);

/* Without the second slots of an expert on a rank, for what needs a placement that serves. */
enum status planned_placement(const struct planned *p, struct arena *arena, struct placement *out);

/* Of one layer. Loads as multiples of the mean over ranks, 1 without load. */
struct planned_layer {
    double even;   /* the busiest rank when replicas share alike: the imbalance */
    double flow;   /* when they share in the best way */
    double bound;  /* no placement is below; on the levels that are given */
    double expert; /* the busiest replica, as a multiple of the mean over experts */
    int active;    /* experts on the rank that has most of them, when as few replicas as can be are used */
};

/* load [layers, experts]; layer [layers]. */
enum status planned_judge(const struct planned *p, struct arena *arena, const int64_t *load,
                          enum plan_levels levels, struct planned_layer *layer);

/* What no placement of the shape can be below, as a multiple of the mean over ranks: bound [layers]. */
enum status planned_bound(const struct placement_shape *shape, struct arena *arena, const int64_t *load,
                          enum plan_levels levels, double *bound);

/* What one layer's experts get by an even split: work [ranks]. */
void planned_even(const struct planned *p, const int64_t *load, int layer, double *work);

/* Slots of each layer that get an expert which their rank did not have: moves [layers]. */
enum status planned_moves(const struct planned *from, const struct planned *to, struct arena *arena,
                          int *moves);

#endif
