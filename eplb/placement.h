/* placement.h - which slot of which rank holds which expert
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * An expert is what the router picks, a slot is where its weights lie, a replica is one of several slots of
 * an expert. Slots are numbered over all ranks, those of rank 0 first. Layers here are layers with experts,
 * counted from 0. */
#ifndef PLACEMENT_H
#define PLACEMENT_H

#include "engine/base/arena.h"
#include "engine/base/status.h"

#include <stdint.h>

/* Sizes that a planner works with. */
struct placement_shape {
    int layers;
    int experts; /* E */
    int slots;   /* R, per layer over all ranks */
    int groups;  /* of experts, consecutive; 1 when the model has none */
    int nodes;
    int ranks; /* P, over all nodes, as many slots on each */
};

/* Can this shape be planned for: E slots at least, and whatever must divide does? Each message names the
 * number that fails and the nearest that works. Groups that the nodes do not divide are legal: planners then
 * take all ranks as one node. STATUS_USAGE. */
enum status placement_check(const struct placement_shape *shape);

struct placement {
    int layers;
    int experts;
    int slots; /* per layer, over all ranks */
    int ranks;
    int32_t *rank_first; /* [ranks + 1] first slot of each rank; uneven is legal */
    int32_t *expert;     /* [layers, slots] expert of a slot; -1: empty */
    int32_t *first;      /* [layers, experts + 1] into replica */
    int32_t *replica;    /* [layers, slots] slots of an expert, grouped by expert, rising */
    uint64_t version;

    int block_ranks; /* consecutive ranks that share a copy of the expert set: a block */
    int32_t *near;   /* [layers, blocks, experts] into replica: the first of the block, else of all */
    int32_t *seen;   /* [experts] for placement_index */
};

/* Memory for a placement of these sizes; all slots empty, slots shared out evenly over the ranks. */
enum status placement_open(struct placement *p, struct arena *arena, int layers, int experts, int slots,
                           int ranks);

/* The same sizes and slots of ranks as another; all slots empty. */
enum status placement_like(struct placement *p, struct arena *arena, const struct placement *like);

/* `copies` copies of the expert set, each shared out evenly, in order, over ranks / copies consecutive ranks.
 */
enum status placement_spread(struct placement *p, struct arena *arena, int layers, int experts, int ranks,
                             int copies);

/* One copy of the expert set and `redundant` slots more, shared out evenly over the ranks: each holds
 * consecutive experts first, as placement_spread does, then copies of the experts that follow, from expert 0
 * on over all ranks. A slot for which a rank finds no expert that it lacks stays empty. */
enum status placement_redundant(struct placement *p, struct arena *arena, int layers, int experts,
                                int redundant, int ranks);

/* Rebuild first, replica and near from expert and rank_first; every expert must have a slot, no rank two
 * slots of one expert. What is wrong is STATUS_BAD_INPUT, and nothing is changed then. */
enum status placement_index(struct placement *p);

/* The same for one layer that has changed since. */
enum status placement_index_layer(struct placement *p, int layer);

/* Of sizes, experts and slots of all layers: two placements with one hash place alike. */
uint64_t placement_hash(const struct placement *p);

/* The rank that holds a slot. */
int placement_rank(const struct placement *p, int slot);

/* slot[i] = a slot of expert[i] for `count` choices made at rank `rank`: one of its own if it has one, else
 * of the ranks that share its copy, else the first. Deterministic, and without effect on results. */
void placement_choose(const struct placement *p, int layer, int rank, const int32_t *expert, int32_t *slot,
                      int count);

#endif
