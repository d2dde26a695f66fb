/* places.c - which place of a node's memory holds which expert, where its ranks share one copy of each
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "eplb/places.h"

#include <stdbool.h>

int places_count(const struct placement *p, const int32_t *member, int ranks)
{
    int slots = 0;

    for (int i = 0; i < ranks; i++)
        slots += p->rank_first[member[i] + 1] - p->rank_first[member[i]];
    return slots < p->experts ? slots : p->experts;
}

size_t places_bytes(const struct placement *p, const struct places_shape *shape)
{
    size_t places = (size_t)p->layers * (size_t)places_count(p, shape->member, shape->ranks);
    size_t rooms = (size_t)shape->ranks * (size_t)shape->rooms;

    return (2 * places + rooms) * sizeof(int32_t) + (size_t)3 * ARENA_ALIGN;
}

enum status places_open(struct places *s, struct arena *arena, const struct placement *p,
                        const struct places_shape *shape)
{
    int count = places_count(p, shape->member, shape->ranks), places = p->layers * count;
    int rooms = shape->ranks * shape->rooms;

    *s = (struct places){.shape = *shape, .layers = p->layers, .count = count};
    TRY(arena_take_array(arena, (size_t)places, sizeof *s->piece, "places of experts", &s->piece));
    TRY(arena_take_array(arena, (size_t)places, sizeof *s->expert, "places of experts", &s->expert));
    TRY(arena_take_array(arena, (size_t)rooms, sizeof *s->room, "rooms for experts", &s->room));
    for (int i = 0; i < places; i++) {
        s->piece[i] = i;
        s->expert[i] = -1;
    }
    for (int i = 0; i < rooms; i++)
        s->room[i] = places + i;
    return STATUS_OK;
}

struct range places_share(const struct places *s, int index)
{
    return range_share(s->count, s->shape.ranks, index);
}

int places_pieces(const struct places *s)
{
    return s->layers * s->count + s->shape.ranks * s->shape.rooms;
}

int places_home(const struct places *s, int piece)
{
    int places = s->layers * s->count;

    if (piece < places)
        return range_part(s->count, s->shape.ranks, piece % s->count);
    return (piece - places) / s->shape.rooms;
}

static int find_place(const struct places *s, int layer, int expert)
{
    for (int i = 0; i < s->count; i++)
        if (s->expert[(ptrdiff_t)layer * s->count + i] == expert)
            return i;
    return -1;
}

int places_find(const struct places *s, int layer, int expert)
{
    int place = find_place(s, layer, expert);

    return place < 0 ? -1 : s->piece[(ptrdiff_t)layer * s->count + place];
}

/* Slots of the node that hold an expert. */
static int slots_of(const struct places *s, const struct placement *p, int layer, int expert)
{
    int slots = 0;

    for (int i = 0; i < s->shape.ranks; i++) {
        int rank = s->shape.member[i];

        for (int slot = p->rank_first[rank]; slot < p->rank_first[rank + 1]; slot++)
            slots += p->expert[(ptrdiff_t)layer * p->slots + slot] == expert;
    }
    return slots;
}

/* A free place of the rank with this index; without one -1, or any other unless `only`. */
static int free_place(const struct places *s, int layer, int index, bool only)
{
    int other = -1;

    for (int i = 0; i < s->count; i++) {
        ptrdiff_t at = (ptrdiff_t)layer * s->count + i;

        if (s->expert[at] >= 0)
            continue;
        if (places_home(s, s->piece[at]) == index)
            return i;
        other = other < 0 ? i : other;
    }
    return only ? -1 : other;
}

/* First experts that one rank alone has, then copies where a rank that has them still brings places, then the
 * rest wherever there are some. */
enum status places_fill(struct places *s, const struct placement *p, int layer)
{
    for (int turn = 0; turn < 3; turn++) {
        for (int i = 0; i < s->shape.ranks; i++) {
            int rank = s->shape.member[i];

            for (int slot = p->rank_first[rank]; slot < p->rank_first[rank + 1]; slot++) {
                int expert = p->expert[(ptrdiff_t)layer * p->slots + slot], place;

                if (expert < 0 || find_place(s, layer, expert) >= 0 ||
                    (turn == 0 && slots_of(s, p, layer, expert) > 1))
                    continue;
                place = free_place(s, layer, i, turn < 2);
                if (place >= 0)
                    s->expert[(ptrdiff_t)layer * s->count + place] = expert;
                else if (turn == 2)
                    return FAIL(STATUS_BUG, "no place for expert %d of layer %d", expert, layer);
            }
        }
    }
    return STATUS_OK;
}

/* The room's piece becomes that of a free place, whose piece becomes the room. */
static enum status take_arrival(struct places *s, int layer, const struct places_arrival *a)
{
    int32_t *room = &s->room[(ptrdiff_t)a->index * s->shape.rooms + a->room];
    int place = free_place(s, layer, a->index, false);
    int32_t piece = *room;
    ptrdiff_t at;

    if (place < 0)
        return FAIL(STATUS_BUG, "no place for expert %d of layer %d, which has arrived", a->expert, layer);
    at = (ptrdiff_t)layer * s->count + place;
    *room = s->piece[at];
    s->piece[at] = piece;
    s->expert[at] = a->expert;
    return STATUS_OK;
}

static enum status check_node(const struct places *s, const struct placement *p, int layer)
{
    for (int i = 0; i < s->shape.ranks; i++) {
        int rank = s->shape.member[i];

        for (int slot = p->rank_first[rank]; slot < p->rank_first[rank + 1]; slot++) {
            int expert = p->expert[(ptrdiff_t)layer * p->slots + slot];

            if (expert >= 0 && find_place(s, layer, expert) < 0)
                return FAIL(STATUS_BUG, "expert %d of layer %d is in slot %d and nowhere in memory", expert,
                            layer, slot);
        }
    }
    return STATUS_OK;
}

enum status places_commit(struct places *s, const struct placement *p, int layer,
                          const struct places_arrival *arrival, int arrivals)
{
    for (int i = 0; i < s->count; i++) {
        int32_t *expert = &s->expert[(ptrdiff_t)layer * s->count + i];

        if (*expert >= 0 && slots_of(s, p, layer, *expert) == 0)
            *expert = -1;
    }
    for (int i = 0; i < arrivals; i++)
        TRY(take_arrival(s, layer, &arrival[i]));
    return check_node(s, p, layer);
}
