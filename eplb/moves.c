/* moves.c - from one placement to the next: which slot gets which expert from where
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "eplb/moves.h"

#include <string.h>

enum status moves_alike(const struct placement *a, const struct placement *b)
{
    if (a->layers != b->layers || a->experts != b->experts || a->slots != b->slots || a->ranks != b->ranks ||
        memcmp(a->rank_first, b->rank_first, sizeof *a->rank_first * ((size_t)a->ranks + 1)) != 0)
        return FAIL(STATUS_BUG, "two placements of other sizes: no moves lead from one to the other");
    return STATUS_OK;
}

/* The slot from `first` up to `end` that holds an expert, -1: none. */
static int find_expert(const int32_t *expert, int first, int end, int wanted)
{
    for (int s = first; s < end; s++) {
        if (expert[s] == wanted)
            return s;
    }
    return -1;
}

/* Cycles are followed until each expert that was here stands where it stood. */
static void keep_rank(const int32_t *before, int32_t *after, int first, int end)
{
    for (int s = first; s < end; s++) {
        while (after[s] >= 0 && after[s] != before[s]) {
            int stood = find_expert(before, first, end, after[s]);
            int32_t other;

            if (stood < 0)
                break;
            other = after[stood];
            after[stood] = after[s];
            after[s] = other;
        }
    }
}

enum status moves_keep(const struct placement *previous, struct placement *next)
{
    TRY(moves_alike(previous, next));
    for (int layer = 0; layer < next->layers; layer++) {
        for (int r = 0; r < next->ranks; r++)
            keep_rank(previous->expert + (ptrdiff_t)layer * previous->slots,
                      next->expert + (ptrdiff_t)layer * next->slots, next->rank_first[r],
                      next->rank_first[r + 1]);
    }
    return placement_index(next);
}

static int node_of(const int32_t *rank_node, int rank)
{
    return rank_node ? rank_node[rank] : 0;
}

struct sources {
    const struct placement *previous;
    const int32_t *rank_node;
    const bool *gone;
    const struct move *list; /* of this layer */
    int count;
};

static int times_asked(const struct sources *s, int rank)
{
    int times = 0;

    for (int i = 0; i < s->count; i++)
        times += s->list[i].source >= 0 && placement_rank(s->previous, s->list[i].source) == rank;
    return times;
}

/* Same rank, else same node, else anywhere; among those, the rank that sends least so far. */
static int find_source(const struct sources *s, int layer, int expert, int to)
{
    const struct placement *p = s->previous;
    const int32_t *first = p->first + (ptrdiff_t)layer * (p->experts + 1);
    const int32_t *replica = p->replica + (ptrdiff_t)layer * p->slots;
    int best = -1, best_far = 0, best_asked = 0;

    for (int i = first[expert]; i < first[expert + 1]; i++) {
        int rank = placement_rank(p, replica[i]), asked;
        int far = rank == to ? 0 : node_of(s->rank_node, rank) == node_of(s->rank_node, to) ? 1 : 2;

        if ((s->gone && s->gone[rank]) || (best >= 0 && far > best_far))
            continue;
        asked = times_asked(s, rank);
        if (best >= 0 && far == best_far && asked >= best_asked)
            continue;
        best = replica[i];
        best_far = far;
        best_asked = asked;
    }
    return best;
}

enum status moves_list(const struct placement *previous, const struct placement *next,
                       const int32_t *rank_node, const bool *gone, struct move *list, int capacity,
                       int *count)
{
    int moves = 0;

    TRY(moves_alike(previous, next));
    for (int layer = 0; layer < next->layers; layer++) {
        const int32_t *before = previous->expert + (ptrdiff_t)layer * previous->slots;
        const int32_t *after = next->expert + (ptrdiff_t)layer * next->slots;
        struct sources sources = {
            .previous = previous, .rank_node = rank_node, .gone = gone, .list = list + moves};

        for (int s = 0; s < next->slots; s++) {
            if (after[s] == before[s])
                continue;
            if (moves == capacity)
                return FAIL(STATUS_BUG, "more than %d moves from one placement to the next", capacity);
            list[moves] = (struct move){.layer = layer, .slot = s, .expert = after[s], .source = -1};
            if (after[s] >= 0)
                list[moves].source = find_source(&sources, layer, after[s], placement_rank(next, s));
            moves++;
            sources.count++;
        }
    }
    *count = moves;
    return STATUS_OK;
}

bool moves_shared(const struct placement *p, const int32_t *share, int layer, int expert, int rank)
{
    const int32_t *first = p->first + (ptrdiff_t)layer * (p->experts + 1);
    const int32_t *replica = p->replica + (ptrdiff_t)layer * p->slots;

    for (int i = first[expert]; share && i < first[expert + 1]; i++)
        if (share[placement_rank(p, replica[i])] == share[rank])
            return true;
    return false;
}

int moves_sent(const struct placement *previous, const struct placement *next, const int32_t *share)
{
    int sent = 0;

    for (int layer = 0; layer < next->layers; layer++) {
        const int32_t *before = previous->expert + (ptrdiff_t)layer * previous->slots;
        const int32_t *after = next->expert + (ptrdiff_t)layer * next->slots;

        for (int s = 0; s < next->slots; s++) {
            bool first = true;
            int rank;

            if (after[s] == before[s] || (share && after[s] < 0))
                continue;
            rank = placement_rank(next, s);
            for (int other = 0; share && other < s; other++)
                first =
                    first && (after[other] != after[s] || share[placement_rank(next, other)] != share[rank]);
            sent += first && !(share && moves_shared(previous, share, layer, after[s], rank));
        }
    }
    return sent;
}
