/* weights_node.c - the memory of a node's experts, of which its ranks share one copy each
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/weights_node.h"

/* The ranks that share with this one into member [P]; returns their number. */
static int find_members(const struct grid *g, int32_t *member)
{
    int count = 0;

    for (int r = 0; r < g->ranks; r++)
        if (g->share->node[r] == g->share->node[g->rank])
            member[count++] = r;
    return count;
}

size_t weights_node_arena_bytes(const struct grid *g, const struct placement *p)
{
    size_t ranks = (size_t)g->ranks, pieces;

    if (!g->share)
        return 0;
    pieces = (size_t)p->layers * (size_t)p->experts + ranks * (size_t)g->share->rooms;
    return ranks * sizeof(int32_t) + pieces * (sizeof(struct weights_piece) + 2 * sizeof(int32_t)) +
           (size_t)8 * ARENA_ALIGN;
}

enum status weights_node_open(struct weights_node *n, struct arena *arena, const struct grid *g,
                              const struct placement *p)
{
    struct places_shape shape = {0};

    *n = (struct weights_node){.share = g->share};
    if (!g->share)
        return STATUS_OK;
    TRY(arena_take_array(arena, (size_t)g->ranks, sizeof *n->member, "ranks of the node", &n->member));
    shape.member = n->member;
    shape.ranks = find_members(g, n->member);
    shape.rooms = g->share->rooms;
    while (n->member[n->index] != g->rank)
        n->index++;
    TRY(places_open(&n->places, arena, p, &shape));
    TRY(arena_take_array(arena, (size_t)places_pieces(&n->places), sizeof *n->at, "places of experts",
                         &n->at));
    for (int layer = 0; layer < p->layers; layer++)
        TRY(places_fill(&n->places, p, layer));
    return STATUS_OK;
}

int weights_node_places(const struct grid *g, const struct placement *p)
{
    int slots = 0, ranks = 0, index = 0;

    for (int r = 0; r < g->ranks; r++) {
        if (g->share->node[r] != g->share->node[g->rank])
            continue;
        slots += p->rank_first[r + 1] - p->rank_first[r];
        index += r < g->rank;
        ranks++;
    }
    return range_share(slots < p->experts ? slots : p->experts, ranks, index).count;
}

void weights_node_begin(struct weights_node *n)
{
    n->column = 0;
    n->bytes = 0;
}

/* `bytes` behind the start of what the rank with this index gave. */
static void *address(const struct weights_node *n, int index, size_t bytes)
{
    char *part = n->share->part ? n->share->part[n->member[index]] : NULL;

    return part ? part + bytes : NULL;
}

size_t weights_node_lay(struct weights_node *n, int layer, bool down, size_t size)
{
    size_t own = (size_t)places_share(&n->places, n->index).count * size;

    for (int rank = 0; rank < n->places.shape.ranks; rank++) {
        struct range share = places_share(&n->places, rank);
        size_t before = (size_t)share.count * n->column;

        for (int i = 0; i < share.count; i++) {
            struct weights_piece *at = &n->at[(ptrdiff_t)layer * n->places.count + share.first + i];

            *(down ? &at->down : &at->gate_up) = address(n, rank, before + (size_t)i * size);
        }
    }
    n->column += size;
    n->bytes += own;
    return own;
}

size_t weights_node_lay_rooms(struct weights_node *n, size_t gate_up, size_t down)
{
    int rooms = n->places.shape.rooms, first = n->places.layers * n->places.count;
    size_t own = (size_t)rooms * (gate_up + down);

    for (int rank = 0; rank < n->places.shape.ranks; rank++) {
        size_t before = (size_t)places_share(&n->places, rank).count * n->column;

        for (int i = 0; i < rooms; i++) {
            size_t from = before + (size_t)i * (gate_up + down);

            n->at[first + rank * rooms + i] = (struct weights_piece){
                .gate_up = address(n, rank, from), .down = address(n, rank, from + gate_up)};
        }
    }
    n->bytes += own;
    return own;
}

struct weights_piece weights_node_expert(const struct weights_node *n, int layer, int expert)
{
    int piece = expert < 0 ? n->places.piece[(ptrdiff_t)layer * n->places.count]
                           : places_find(&n->places, layer, expert);

    return n->at[piece];
}

struct weights_piece weights_node_room(const struct weights_node *n, int room)
{
    return n->at[n->places.room[(ptrdiff_t)n->index * n->places.shape.rooms + room]];
}
