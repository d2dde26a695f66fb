/* places.h - which place of a node's memory holds which expert, where its ranks share one copy of each
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * In every layer the node has `count` places: as many as experts can differ there. Each rank brings its share
 * of them, and beside them `rooms` for experts that arrive from other nodes. A place and a room are a piece
 * of memory each; when an arrival is taken, they swap pieces.
 *
 * A free place is always there for an arrival. Between two commits the places hold the experts D that the
 * node's slots have. A commit leads to D', and first frees the places of D without D'. Then |D and D'| are
 * held, and |D' without D| arrivals look for places: together |D'|, which is no more than `count`, because D'
 * has no more experts than there are, nor than the node has slots. Before the commit arrivals lie in rooms,
 * and nobody takes in more at a time than it has rooms; so no place is written that a slot points to.
 *
 * All ranks of a node make the same calls with the same placements, so their books are equal and nothing is
 * sent. Pure: no memory of experts is touched here. */
#ifndef PLACES_H
#define PLACES_H

#include "engine/base/arena.h"
#include "engine/base/range.h"
#include "engine/base/status.h"
#include "eplb/placement.h"

#include <stdint.h>

struct places_shape {
    const int32_t *member; /* [ranks] those of the node, rising; not owned */
    int ranks;
    int rooms; /* of each rank */
};

struct places {
    struct places_shape shape;
    int layers;
    int count;       /* per layer, of all ranks of the node */
    int32_t *piece;  /* [layers, count] of each place */
    int32_t *expert; /* [layers, count] in it; -1: none */
    int32_t *room;   /* [ranks, rooms] piece of each */
};

/* An expert that lies in a room. */
struct places_arrival {
    int32_t expert;
    int index; /* of the rank that it came to, on the node */
    int room;  /* of that rank */
};

/* Places per layer of a node with these ranks; only sizes count, not which expert lies where. */
int places_count(const struct placement *p, const int32_t *member, int ranks);

/* All places are empty; place i has piece layer * count + i, and rooms have those behind all places. */
enum status places_open(struct places *s, struct arena *arena, const struct placement *p,
                        const struct places_shape *shape);

/* Bytes that places_open takes. */
size_t places_bytes(const struct placement *p, const struct places_shape *shape);

/* Places that the rank with this index brings, in each layer. */
struct range places_share(const struct places *s, int index);

/* Pieces of all places and rooms; the index of the rank that brings one. */
int places_pieces(const struct places *s);
int places_home(const struct places *s, int piece);

/* The experts of the node's slots in a layer get places, each once, with a rank that has it as far as that
 * rank brings places enough. */
enum status places_fill(struct places *s, const struct placement *p, int layer);

/* The piece that holds an expert; -1: the node has none. */
int places_find(const struct places *s, int layer, int expert);

/* From the placement before to `p`: places whose expert no slot of the node has any more become free, and
 * arrivals get one each, of their own rank where it has one. Every expert of the node's slots has a place
 * then. STATUS_BUG: an expert is neither there nor among the arrivals. */
enum status places_commit(struct places *s, const struct placement *p, int layer,
                          const struct places_arrival *arrival, int arrivals);

#endif
