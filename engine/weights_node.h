/* weights_node.h - the memory of a node's experts, of which its ranks share one copy each
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Every rank of the node gives a part of shared memory (struct grid_share): its share of the places of each
 * layer and half, layer after layer, then its rooms. eplb/places says which place holds which expert; here is
 * where it lies. A rank reads and prepares the experts of its own part, so the others may use them only once
 * all have read; later only rooms are written, by the rank whose rooms they are. */
#ifndef WEIGHTS_NODE_H
#define WEIGHTS_NODE_H

#include "comm/grid.h"
#include "engine/base/arena.h"
#include "eplb/places.h"

#include <stdbool.h>

/* Memory for one expert. */
struct weights_piece {
    void *gate_up, *down;
};

struct weights_node {
    const struct grid_share *share; /* NULL: each rank has experts of its own */
    struct places places;
    int32_t *member;          /* [ranks of the node] */
    int index;                /* of this rank among them */
    struct weights_piece *at; /* [pieces]; while nothing is given: as if a part began at NULL */
    size_t column;            /* bytes of one place in all layers and halves laid out so far */
    size_t bytes;             /* of this rank's part so far */
};

/* Bytes of the arena that weights_node_open takes; 0 where nothing is shared. */
size_t weights_node_arena_bytes(const struct grid *g, const struct placement *p);

/* Where experts lie at the start. */
enum status weights_node_open(struct weights_node *n, struct arena *arena, const struct grid *g,
                              const struct placement *p);

/* Places per layer that this rank brings. */
int weights_node_places(const struct grid *g, const struct placement *p);

/* Before each pass over all weights: nothing is laid out. */
void weights_node_begin(struct weights_node *n);

/* Places of `size` bytes each for gate and up, or down, of a layer; in the order of layers, the same in every
 * pass. Returns what this rank's part grows by. */
size_t weights_node_lay(struct weights_node *n, int layer, bool down, size_t size);

/* Behind all of them the rooms, for experts of so many bytes. */
size_t weights_node_lay_rooms(struct weights_node *n, size_t gate_up, size_t down);

/* Where an expert of the node lies; an empty slot (-1) shares the first place of the layer, so that it too
 * has memory of its shape. */
struct weights_piece weights_node_expert(const struct weights_node *n, int layer, int expert);

/* Room number `room` of this rank. */
struct weights_piece weights_node_room(const struct weights_node *n, int room);

#endif
