/* moves_group.h - moves that are made together, so that every expert always has a slot
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Between two placements a list of moves is made group by group. A group is the least that leaves a legal
 * placement behind: often one move; two for a swap; a cycle of them where it must be. Where ranks share, also
 * what brings an expert back to those that it is taken from, as it would have to be sent again. Several such
 * sets share a group while staging lasts. Between groups the placement serves. */
#ifndef MOVES_GROUP_H
#define MOVES_GROUP_H

#include "engine/base/arena.h"
#include "engine/base/status.h"
#include "eplb/moves.h"
#include "eplb/placement.h"

#include <stdbool.h>

struct moves_group {
    int staging;              /* experts that a rank can take in at a time */
    int capacity;             /* moves in a group */
    const int32_t *rank_node; /* [ranks], not owned; NULL: one node */
    const int32_t *share;     /* [ranks], not owned: as for moves_shared; what is not sent needs no staging */

    int32_t *expert; /* [slots] of one layer, as a set of moves would leave it */
    int32_t *copies; /* [experts] there */
    int32_t *last;   /* [experts] slot of the ranks looked at so far that has the expert; -1: none */
    int32_t *taken;  /* [ranks] staging in use */
    bool *chosen;    /* [list_capacity] moves of the set */
    int list_capacity;
};

enum status moves_group_open(struct moves_group *g, struct arena *arena, const struct placement *like,
                             int staging, int capacity, int list_capacity);

/* Picks the next group from list [count], whose moves lead from `present` (as it is by now) to a legal
 * placement; done [count] marks those made before. The picked ones come to out [capacity] and are marked too;
 * a source that holds another expert by now is replaced, by one on the same node where there is one. *picked
 * is 0 when all is done. Moves that can never be made, because they need more staging than there is, are
 * marked and counted in *given_up. */
void moves_group_next(struct moves_group *g, const struct placement *present, const struct move *list,
                      bool *done, int count, struct move *out, int *picked, int *given_up);

#endif
