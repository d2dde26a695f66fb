/* node_map.c - which ranks of a group share a node
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "comm/node_map.h"

enum status node_map_open(struct node_map *map, struct arena *arena, int rank, int size, const int *leader)
{
    int **const arrays[] = {&map->node, &map->index, &map->count, &map->first, &map->members};
    int at = 0;

    map->rank = rank;
    map->size = size;
    map->nodes = 0;
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        TRY(arena_take_array(arena, (size_t)size, sizeof(int), "the map of nodes", arrays[i]));
    for (int r = 0; r < size; r++) {
        map->node[r] = leader[r] == r ? map->nodes++ : map->node[leader[r]];
        map->index[r] = map->count[map->node[r]]++;
    }
    for (int n = 0; n < map->nodes; n++) {
        map->first[n] = at;
        at += map->count[n];
    }
    for (int r = 0; r < size; r++)
        map->members[map->first[map->node[r]] + map->index[r]] = r;
    map->mine = map->node[rank];
    return STATUS_OK;
}

int node_map_rank(const struct node_map *map, int node, int index)
{
    return map->members[map->first[node] + index % map->count[node]];
}
