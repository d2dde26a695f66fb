/* moves_group.c - moves that are made together, so that every expert always has a slot
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "eplb/moves_group.h"

#include <string.h>

enum status moves_group_open(struct moves_group *g, struct arena *arena, const struct placement *like,
                             int staging, int capacity, int list_capacity)
{
    if (staging < 1 || capacity < 1 || list_capacity < 1)
        return FAIL(STATUS_BUG, "groups of %d moves with staging for %d, of %d in all", capacity, staging,
                    list_capacity);
    *g = (struct moves_group){.staging = staging, .capacity = capacity, .list_capacity = list_capacity};
    TRY(arena_take_array(arena, (size_t)like->slots, sizeof *g->expert, "slots of a layer", &g->expert));
    TRY(arena_take_array(arena, (size_t)like->experts, sizeof *g->copies, "copies of experts", &g->copies));
    TRY(arena_take_array(arena, (size_t)like->experts, sizeof *g->last, "last slots", &g->last));
    TRY(arena_take_array(arena, (size_t)like->ranks, sizeof *g->taken, "staging of ranks", &g->taken));
    return arena_take_array(arena, (size_t)list_capacity, sizeof *g->chosen, "moves of a set", &g->chosen);
}

/* A move of this layer that is neither made nor chosen, and brings `expert` (or any, -1) to `slot` (or any,
 * -1). */
static int find_move(const struct moves_group *g, const struct move *list, const bool *done, int count,
                     int layer, int expert, int slot)
{
    for (int i = 0; i < count; i++)
        if (!done[i] && !g->chosen[i] && list[i].layer == layer && (expert < 0 || list[i].expert == expert) &&
            (slot < 0 || list[i].slot == slot))
            return i;
    return -1;
}

/* The layer as the chosen moves leave it. */
static void apply_chosen(struct moves_group *g, const struct placement *p, const struct move *list, int count,
                         int layer)
{
    memcpy(g->expert, p->expert + (ptrdiff_t)layer * p->slots, (size_t)p->slots * sizeof *g->expert);
    for (int i = 0; i < count; i++)
        if (g->chosen[i])
            g->expert[list[i].slot] = list[i].expert;
    memset(g->copies, 0, (size_t)p->experts * sizeof *g->copies);
    for (int s = 0; s < p->slots; s++)
        if (g->expert[s] >= 0)
            g->copies[g->expert[s]]++;
}

/* Do ranks that share memory with `rank` have the expert after the chosen moves? */
static bool keeps(const struct moves_group *g, const struct placement *p, int expert, int rank)
{
    for (int s = 0; s < p->slots; s++)
        if (g->expert[s] == expert && g->share[placement_rank(p, s)] == g->share[rank])
            return true;
    return false;
}

/* The chosen moves take an expert from ranks that share it, and a later move would send it to them again:
 * that move; -1: there is none. */
static int next_lost(const struct moves_group *g, const struct placement *p, const struct move *list,
                     const bool *done, int count, int layer)
{
    for (int i = 0; i < count; i++) {
        int had = p->expert[(ptrdiff_t)layer * p->slots + list[i].slot], rank;

        if (!g->chosen[i] || had < 0)
            continue;
        rank = placement_rank(p, list[i].slot);
        if (keeps(g, p, had, rank))
            continue;
        for (int j = 0; j < count; j++)
            if (!done[j] && !g->chosen[j] && list[j].layer == layer && list[j].expert == had &&
                g->share[placement_rank(p, list[j].slot)] == g->share[rank])
                return j;
    }
    return -1;
}

/* What is illegal after the chosen moves, and the move that would mend it; -1: all is legal. -2: nothing
 * mends. */
static int next_needed(struct moves_group *g, const struct placement *p, const struct move *list,
                       const bool *done, int count, int layer)
{
    apply_chosen(g, p, list, count, layer);
    for (int e = 0; e < p->experts; e++) {
        int move = g->copies[e] > 0 ? -1 : find_move(g, list, done, count, layer, e, -1);

        if (g->copies[e] == 0)
            return move >= 0 ? move : -2;
    }
    for (int e = 0; e < p->experts; e++)
        g->last[e] = -1;
    for (int r = 0; r < p->ranks; r++) {
        for (int s = p->rank_first[r]; s < p->rank_first[r + 1]; s++) {
            int e = g->expert[s], other = e >= 0 ? g->last[e] : -1, move;

            if (e >= 0)
                g->last[e] = s;
            if (other < p->rank_first[r]) /* also one of a rank before */
                continue;
            move = find_move(g, list, done, count, layer, -1, other); /* one of the two slots is left */
            if (move < 0)
                move = find_move(g, list, done, count, layer, -1, s);
            return move >= 0 ? move : -2;
        }
    }
    return -1;
}

/* Chooses move `first` and all that must go with it; false when that leads nowhere. With `keep`, also those
 * that spare sending an expert to where it is already. */
static bool close_set(struct moves_group *g, const struct placement *p, const struct move *list,
                      const bool *done, int count, int first, bool keep)
{
    int move = first, layer = list[first].layer;

    memset(g->chosen, 0, (size_t)count * sizeof *g->chosen);
    while (move >= 0) {
        g->chosen[move] = true;
        move = next_needed(g, p, list, done, count, layer);
        if (move == -1 && keep)
            move = next_lost(g, p, list, done, count, layer);
    }
    return move == -1;
}

/* Must a rank take this expert in? Where another rank of its node does so too in the same group, one would be
 * enough; it then has staging to spare. */
static bool is_sent(const struct moves_group *g, const struct placement *p, const struct move *m)
{
    return m->expert >= 0 && !moves_shared(p, g->share, m->layer, m->expert, placement_rank(p, m->slot));
}

/* Is there staging and room for the chosen moves beside those that are in the group already? */
static bool fits(const struct moves_group *g, const struct placement *p, const struct move *list, int count,
                 int picked, const int32_t *taken)
{
    for (int i = 0; i < count; i++) {
        int rank = placement_rank(p, list[i].slot), here = taken[rank];

        if (!g->chosen[i])
            continue;
        picked++;
        for (int j = 0; j <= i; j++)
            here += g->chosen[j] && placement_rank(p, list[j].slot) == rank && is_sent(g, p, &list[j]);
        if (here > g->staging || picked > g->capacity)
            return false;
    }
    return true;
}

/* A slot that holds the expert now. */
static int32_t source_now(const struct moves_group *g, const struct placement *p, const struct move *m)
{
    const int32_t *first = p->first + (ptrdiff_t)m->layer * (p->experts + 1);
    const int32_t *replica = p->replica + (ptrdiff_t)m->layer * p->slots;

    if (m->expert < 0)
        return -1;
    if (m->source >= 0 && p->expert[(ptrdiff_t)m->layer * p->slots + m->source] == m->expert)
        return m->source;
    for (int i = first[m->expert]; g->rank_node && i < first[m->expert + 1]; i++)
        if (g->rank_node[placement_rank(p, replica[i])] == g->rank_node[placement_rank(p, m->slot)])
            return replica[i];
    return replica[first[m->expert]];
}

static void pick(struct moves_group *g, const struct placement *p, const struct move *list, bool *done,
                 int count, struct move *out, int *picked)
{
    for (int i = 0; i < count; i++) {
        if (!g->chosen[i])
            continue;
        done[i] = true;
        if (is_sent(g, p, &list[i]))
            g->taken[placement_rank(p, list[i].slot)]++;
        out[*picked] = list[i];
        out[(*picked)++].source = source_now(g, p, &list[i]);
    }
}

/* A layer has one set in a group at most: the second would start from what the first leaves. */
static bool has_layer(const struct move *out, int picked, int layer)
{
    for (int i = 0; i < picked; i++)
        if (out[i].layer == layer)
            return true;
    return false;
}

/* Move `first` and what goes with it, when there is room for it beside what is picked. What would spare bytes
 * stays out only where even a group of its own cannot hold it. */
static bool choose_set(struct moves_group *g, const struct placement *p, const struct move *list,
                       const bool *done, int count, int first, int picked)
{
    for (int keep = g->share != NULL; keep >= 0; keep--) {
        if (close_set(g, p, list, done, count, first, keep) && fits(g, p, list, count, picked, g->taken))
            return true;
        if (picked > 0)
            return false;
    }
    return false;
}

void moves_group_next(struct moves_group *g, const struct placement *present, const struct move *list,
                      bool *done, int count, struct move *out, int *picked, int *given_up)
{
    *picked = 0;
    *given_up = 0;
    memset(g->taken, 0, (size_t)present->ranks * sizeof *g->taken);
    for (int i = 0; i < count && *picked < g->capacity; i++) {
        if (done[i] || has_layer(out, *picked, list[i].layer))
            continue;
        if (choose_set(g, present, list, done, count, i, *picked)) {
            pick(g, present, list, done, count, out, picked);
        } else if (*picked == 0) { /* alone in a group, and still too much */
            done[i] = true;
            ++*given_up;
        }
    }
}
