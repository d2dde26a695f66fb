/* node_map.h - which ranks of a group share a node
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Nodes are numbered by their lowest rank; a node's ranks have an index in the order of their ranks. */
#ifndef NODE_MAP_H
#define NODE_MAP_H

#include "engine/base/arena.h"
#include "engine/base/status.h"

struct node_map {
    int rank; /* of this process */
    int size;
    int nodes;
    int mine;     /* the node of this process */
    int *node;    /* [size] of each rank */
    int *index;   /* [size] of each rank on its node */
    int *count;   /* [nodes] ranks */
    int *first;   /* [nodes] where its ranks begin in `members` */
    int *members; /* [size] the ranks of node 0, of node 1, ... */
};

/* leader [size]: the lowest rank of each rank's node. */
enum status node_map_open(struct node_map *map, struct arena *arena, int rank, int size, const int *leader);

/* The rank with this index on a node; indices beyond its last begin anew. */
int node_map_rank(const struct node_map *map, int node, int index);

#endif
