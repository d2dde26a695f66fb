/* moves.h - from one placement to the next: which slot gets which expert from where
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef MOVES_H
#define MOVES_H

#include "engine/base/arena.h"
#include "engine/base/status.h"
#include "eplb/placement.h"

#include <stdbool.h>
#include <stdint.h>

struct move {
    int32_t layer;
    int32_t slot;   /* that gets `expert` */
    int32_t expert; /* -1: the slot becomes empty */
    int32_t source; /* slot of the previous placement that holds it: on the same rank, else the same node,
                       else anywhere, the least asked rank first; -1: only in the model's files, or empty */
};

/* STATUS_BUG unless both have the same sizes and slots of ranks. */
enum status moves_alike(const struct placement *a, const struct placement *b);

/* Experts that stay on their rank keep their slots; the set of experts of each rank stays. Both placements
 * have the same sizes and slots of ranks; `next` is indexed again. */
enum status moves_keep(const struct placement *previous, struct placement *next);

/* Slots that hold something else than before, by layer and slot. Ranks that are gone are no sources.
 *
 *     rank_node  [ranks] or NULL: one node        gone  [ranks] or NULL: all live
 *     list       [capacity]; more moves than that are STATUS_BUG */
enum status moves_list(const struct placement *previous, const struct placement *next,
                       const int32_t *rank_node, const bool *gone, struct move *list, int capacity,
                       int *count);

/* Is an expert of this layer on some rank that shares its memory with `rank`? share [ranks]: equal numbers
 * for ranks that share one copy of each expert; NULL: none do, and so it is not. */
bool moves_shared(const struct placement *p, const int32_t *share, int layer, int expert, int rank);

/* Experts that must be sent from rank to rank on the way to `next`: slots that hold something else, where
 * ranks share (as above) only those of experts that nobody there has had, each once. */
int moves_sent(const struct placement *previous, const struct placement *next, const int32_t *share);

#endif
