/* relabel.c - which rank takes which part of a new placement, so that fewest experts move
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "eplb/relabel.h"

#include "eplb/moves.h"

#include <limits.h>
#include <string.h>

/* Ranks that may stand for each other, and the matching of the parts of a plan with them. Parts and ranks are
 * counted from 1; rank 0 is where the path for a new part begins. */
struct match {
    int count;                  /* of them */
    int32_t *member;            /* [P] */
    int32_t *cost;              /* [count, count] experts that a rank would get with a part */
    int32_t *part;              /* [count + 1] that a rank has; 0: none */
    int32_t *before;            /* [count + 1] the rank before it on the way of a search */
    int32_t *of_part, *of_rank; /* [count + 1] potentials: no cost is below their sum */
    int32_t *least;             /* [count + 1] above their sum, over the parts that were reached */
    bool *reached;              /* [count + 1] ranks */
    int32_t *on;                /* [E] the last rank seen with an expert */
    int32_t *kept;              /* [slots] of a layer, as it was planned */
};

static enum status open_match(struct match *m, struct arena *arena, const struct placement *p)
{
    size_t ranks = (size_t)p->ranks, all = ranks + 1;

    *m = (struct match){0};
    TRY(arena_take_array(arena, ranks, sizeof *m->member, "ranks alike", &m->member));
    TRY(arena_take_array(arena, ranks * ranks, sizeof *m->cost, "moves of pairs of ranks", &m->cost));
    TRY(arena_take_array(arena, all, sizeof *m->part, "parts of a plan", &m->part));
    TRY(arena_take_array(arena, all, sizeof *m->before, "ways of a search", &m->before));
    TRY(arena_take_array(arena, all, sizeof *m->of_part, "potentials", &m->of_part));
    TRY(arena_take_array(arena, all, sizeof *m->of_rank, "potentials", &m->of_rank));
    TRY(arena_take_array(arena, all, sizeof *m->least, "distances", &m->least));
    TRY(arena_take_array(arena, all, sizeof *m->reached, "ranks reached", &m->reached));
    TRY(arena_take_array(arena, (size_t)p->experts, sizeof *m->on, "experts of ranks", &m->on));
    return arena_take_array(arena, (size_t)p->slots, sizeof *m->kept, "slots of a layer", &m->kept);
}

static int slots_of(const struct placement *p, int rank)
{
    return p->rank_first[rank + 1] - p->rank_first[rank];
}

static bool alike(const struct placement *p, const int32_t *rank_node, int a, int b)
{
    return slots_of(p, a) == slots_of(p, b) && (!rank_node || rank_node[a] == rank_node[b]);
}

/* All that are like `first`, unless a lower rank is. */
static void find_members(struct match *m, const struct placement *p, const int32_t *rank_node, int first)
{
    m->count = 0;
    for (int r = 0; r < p->ranks; r++) {
        if (!alike(p, rank_node, first, r))
            continue;
        if (r < first) {
            m->count = 0;
            return;
        }
        m->member[m->count++] = r;
    }
}

static void count_costs(struct match *m, const struct placement *previous, const int32_t *planned, int layer)
{
    const int32_t *had = previous->expert + (ptrdiff_t)layer * previous->slots;
    const int32_t *first = previous->rank_first;

    for (int e = 0; e < previous->experts; e++)
        m->on[e] = -1;
    for (int j = 0; j < m->count; j++) {
        int rank = m->member[j];

        for (int s = first[rank]; s < first[rank + 1]; s++)
            if (had[s] >= 0)
                m->on[had[s]] = rank;
        for (int i = 0; i < m->count; i++) {
            int32_t cost = 0;

            for (int s = first[m->member[i]]; s < first[m->member[i] + 1]; s++)
                cost += planned[s] >= 0 && m->on[planned[s]] != rank;
            m->cost[(ptrdiff_t)i * m->count + j] = cost;
        }
    }
}

/* The rank that is nearest to those reached, which `rank` was the last of; its distance becomes 0. */
static int next_rank(struct match *m, int rank)
{
    int part = m->part[rank], nearest = 0;
    int32_t step = INT_MAX;

    for (int j = 1; j <= m->count; j++) {
        int32_t over;

        if (m->reached[j])
            continue;
        over = m->cost[(ptrdiff_t)(part - 1) * m->count + j - 1] - m->of_part[part] - m->of_rank[j];
        if (over < m->least[j]) {
            m->least[j] = over;
            m->before[j] = rank;
        }
        if (m->least[j] < step) {
            step = m->least[j];
            nearest = j;
        }
    }
    for (int j = 0; j <= m->count; j++) {
        if (m->reached[j]) {
            m->of_part[m->part[j]] += step;
            m->of_rank[j] -= step;
        } else {
            m->least[j] -= step;
        }
    }
    return nearest;
}

/* One more part gets a rank; those on the way to a free rank change theirs. */
static void place_part(struct match *m, int part)
{
    int rank = 0;

    m->part[0] = part;
    for (int j = 0; j <= m->count; j++) {
        m->least[j] = INT_MAX;
        m->reached[j] = false;
    }
    while (m->part[rank] != 0) {
        m->reached[rank] = true;
        rank = next_rank(m, rank);
    }
    while (rank != 0) {
        m->part[rank] = m->part[m->before[rank]];
        rank = m->before[rank];
    }
}

static void match_parts(struct match *m)
{
    size_t bytes = ((size_t)m->count + 1) * sizeof *m->part;

    memset(m->part, 0, bytes);
    memset(m->of_part, 0, bytes);
    memset(m->of_rank, 0, bytes);
    for (int part = 1; part <= m->count; part++)
        place_part(m, part);
}

static void relabel_layer(struct match *m, const struct placement *previous, struct placement *next,
                          const int32_t *rank_node, int layer)
{
    int32_t *expert = next->expert + (ptrdiff_t)layer * next->slots;

    memcpy(m->kept, expert, (size_t)next->slots * sizeof *expert);
    for (int rank = 0; rank < next->ranks; rank++) {
        find_members(m, next, rank_node, rank);
        if (m->count < 2)
            continue;
        count_costs(m, previous, m->kept, layer);
        match_parts(m);
        for (int j = 1; j <= m->count; j++) {
            int to = m->member[j - 1], from = m->member[m->part[j] - 1];

            memcpy(expert + next->rank_first[to], m->kept + next->rank_first[from],
                   (size_t)slots_of(next, to) * sizeof *expert);
        }
    }
}

enum status relabel_ranks(const struct placement *previous, struct placement *next, const int32_t *rank_node,
                          struct arena *arena)
{
    struct match m;

    TRY(moves_alike(previous, next));
    TRY(open_match(&m, arena, next));
    for (int layer = 0; layer < next->layers; layer++)
        relabel_layer(&m, previous, next, rank_node, layer);
    return moves_keep(previous, next);
}
