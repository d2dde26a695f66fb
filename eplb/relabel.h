/* relabel.h - which rank takes which part of a new placement, so that fewest experts move
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * A plan from scratch does not care which of two ranks gets which set of experts. Who has a placement already
 * does: a set goes where most of it lies. */
#ifndef RELABEL_H
#define RELABEL_H

#include "engine/base/arena.h"
#include "engine/base/status.h"
#include "eplb/placement.h"

#include <stdint.h>

/* Gives each rank the experts of another in `next`, of the same node and with as many slots, so that the
 * ranks together get as few experts as can be that they do not have in `previous`: the cheapest matching,
 * layer by layer (Kuhn 1955, with Munkres's potentials). Experts that stay keep their slots. Both placements
 * have the same sizes and slots of ranks; `next` is indexed again. Takes what it needs from the arena: a
 * number for each pair of ranks.
 *
 *     rank_node  [ranks] or NULL: one node */
enum status relabel_ranks(const struct placement *previous, struct placement *next, const int32_t *rank_node,
                          struct arena *arena);

#endif
