/* plan_pack.c - replicas for the experts of a site, and a first place for each
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "eplb/plan_pack.h"

#include "eplb/groups.h"
#include "eplb/order.h"

#include <string.h>

enum { OWNER_BITS = 20 };

/* Loads above owners, so that keys rise as loads fall and equal loads rise with their owners. Loads have 60
 * bits, keys 64: what is cut off is less than any load that matters (2^-44 of all). */
static uint64_t falling_key(int64_t load, int owner)
{
    return (uint64_t)(((int64_t)1 << 60) - load) >> 17 << OWNER_BITS | (uint64_t)owner;
}

static int owner_of(uint64_t key)
{
    return (int)(key & ((1 << OWNER_BITS) - 1));
}

static void count_homes(struct plan_layer *l, int size, int32_t *room, int32_t *live)
{
    for (int v = 0; v < l->nodes; v++) {
        room[v] = plan_shape_homes(l->shape, v) / size;
        live[v] = 0;
    }
    for (int r = 0; r < l->shape->ranks; r++)
        live[l->node[r]] += l->slots[r] > 0;
}

void plan_pack_homes(struct plan_layer *l)
{
    const struct plan_shape *shape = l->shape;
    int groups = shape->groups > 1 ? shape->groups : shape->experts, size = shape->experts / groups;
    struct groups g = {.groups = groups, .nodes = l->nodes};

    memset(l->home, 0, sizeof *l->home * (size_t)shape->experts);
    if (l->levels == PLAN_GLOBAL || l->nodes == 1)
        return;
    count_homes(l, size, l->pending, l->room);
    for (int i = 0; i < groups; i++) {
        int64_t load = 0;

        for (int e = i * size; e < (i + 1) * size; e++)
            load += l->load[e];
        l->key[i] = falling_key(load, i);
        l->group_load[i] = load;
    }
    order_rising(l->key, l->other, groups);
    for (int i = 0; i < groups; i++)
        l->sorted_load[i] = l->group_load[owner_of(l->key[i])];
    g.load = l->sorted_load;
    g.room = l->pending;
    g.live = l->room;
    g.node_load = l->node_load;
    g.used = l->used_groups;
    g.trial = l->trial;
    groups_spread(&g, l->heap);
    for (int i = 0; i < groups; i++) {
        int group = owner_of(l->key[i]);

        for (int e = group * size; e < (group + 1) * size; e++)
            l->home[e] = l->heap[i];
    }
}

void plan_pack_site(struct plan_layer *l, int node)
{
    l->ranks = 0;
    l->experts = 0;
    l->site_slots = 0;
    for (int e = 0; e < l->shape->experts; e++) {
        if (node < 0 || l->home[e] == node)
            l->expert[l->experts++] = e;
    }
    for (int r = 0; r < l->shape->ranks; r++) {
        if (l->slots[r] > 0 && (node < 0 || l->node[r] == node)) {
            l->rank[l->ranks++] = r;
            l->site_slots += l->slots[r] < l->experts ? l->slots[r] : l->experts;
        }
    }
}

/* Does a replica of `left` carry more than one of `right`? Loads are below 2^40 when not shifted. */
static bool carries_more(const struct plan_layer *l, int left, int right)
{
    int64_t a = (l->load[left] >> l->shift) * l->now.replicas[right];
    int64_t b = (l->load[right] >> l->shift) * l->now.replicas[left];

    return a != b ? a > b : left < right;
}

static void sink(struct plan_layer *l, int count, int at)
{
    int32_t moved = l->heap[at];

    for (;;) {
        int child = 2 * at + 1;

        if (child >= count)
            break;
        if (child + 1 < count && carries_more(l, l->heap[child + 1], l->heap[child]))
            child++;
        if (!carries_more(l, l->heap[child], moved))
            break;
        l->heap[at] = l->heap[child];
        at = child;
    }
    l->heap[at] = moved;
}

int64_t plan_pack_replicas(struct plan_layer *l)
{
    int count = l->experts;
    int64_t total = 0, most = 0;

    for (int i = 0; i < l->experts; i++) {
        l->heap[i] = l->expert[i];
        l->now.replicas[l->expert[i]] = 1;
        total += l->load[l->expert[i]];
    }
    for (int i = count / 2 - 1; i >= 0; i--)
        sink(l, count, i);
    for (int spare = l->site_slots - l->experts; spare > 0 && count > 0;) {
        int e = l->heap[0];

        if (l->now.replicas[e] == l->ranks) {
            l->heap[0] = l->heap[--count];
        } else {
            l->now.replicas[e]++;
            spare--;
        }
        if (count > 0)
            sink(l, count, 0);
    }
    for (int i = 0; i < l->experts; i++) {
        int e = l->expert[i];

        plan_state_share(l, e, l->now.replicas[e]);
        most = l->now.share[e] > most ? l->now.share[e] : most;
    }
    total = (total + l->ranks - 1) / l->ranks;
    return total > most ? total : most;
}

static void put(struct plan_layer *l, int expert, int rank)
{
    int at = l->shape->rank_first[rank];

    while (l->now.item[at] >= 0)
        at++;
    l->now.item[at] = expert;
    plan_state_flip(l, expert, rank);
    l->now.rank_load[rank] += l->now.share[expert];
    l->used[rank]++;
    l->doubles[rank] += l->now.replicas[expert] > 1;
    l->extras -= l->now.replicas[expert] > 1 && l->doubles[rank] == l->limit + 1;
    l->room[l->node[rank]]--;
    l->open_load[rank] = l->used[rank] < l->slots[rank] ? l->now.rank_load[rank] : INT64_MAX;
}

/* On spilling levels: is there a slot for this replica, those kept that experts need at home? */
static bool may_spill(const struct plan_layer *l, int expert, int rank, bool at_home, bool last)
{
    int node = l->node[rank];

    if (l->levels != PLAN_SPILL)
        return true;
    if (node == l->home[expert] && !at_home)
        return true;
    if (!at_home && last)
        return false;
    return l->room[node] > l->pending[node];
}

/* The lightest rank with room that does not hold the expert, -1: none. `limited`: replicated experts stay in
 * equal numbers. */
static int lightest_legal(const struct plan_layer *l, int expert, bool limited, bool at_home, bool last)
{
    int limit = limited ? l->limit + (l->extras > 0) : INT32_MAX, best = -1;

    for (int i = 0; i < l->ranks; i++) {
        int r = l->rank[i];

        if (l->used[r] < l->slots[r] && l->doubles[r] < limit &&
            (best < 0 || l->now.rank_load[r] < l->now.rank_load[best]) && !plan_state_holds(l, expert, r) &&
            may_spill(l, expert, r, at_home, last))
            best = r;
    }
    return best;
}

/* The same: as a rule the lightest of all with room will do, which is found much faster. */
static int lightest(const struct plan_layer *l, int expert, bool limited, bool at_home, bool last)
{
    int limit = limited ? l->limit + (l->extras > 0) : INT32_MAX, best = 0;
    int64_t least = INT64_MAX;

    for (int r = 0; r < l->shape->ranks; r++) {
        best = l->open_load[r] < least ? r : best;
        least = l->open_load[r] < least ? l->open_load[r] : least;
    }
    if (least < INT64_MAX && l->doubles[best] < limit && !plan_state_holds(l, expert, best) &&
        may_spill(l, expert, best, at_home, last))
        return best;
    return lightest_legal(l, expert, limited, at_home, last);
}

/* All ranks with room hold the expert: one that has none gives an item away to a rank with room and takes it.
 */
static bool exchange(struct plan_layer *l, int expert)
{
    for (int i = 0; i < l->ranks; i++) {
        int to = l->rank[i];

        if (l->used[to] == l->slots[to] || !may_spill(l, expert, to, true, false))
            continue;
        for (int j = 0; j < l->ranks; j++) {
            int from = l->rank[j];

            if (plan_state_holds(l, expert, from))
                continue;
            for (int at = l->shape->rank_first[from]; at < l->shape->rank_first[from + 1]; at++) {
                int given = l->now.item[at];

                if (given < 0 || plan_state_holds(l, given, to) || !plan_state_leaves(l, given, from, to))
                    continue;
                plan_state_flip(l, given, from);
                l->now.item[at] = -1;
                l->now.rank_load[from] -= l->now.share[given];
                l->used[from]--;
                l->doubles[from] -= l->now.replicas[given] > 1;
                l->room[l->node[from]]++;
                put(l, given, to);
                put(l, expert, from);
                return true;
            }
        }
    }
    return false;
}

static void put_replicas(struct plan_layer *l, int expert, bool limited)
{
    int wanted = l->now.replicas[expert], placed = 0;
    bool at_home = false;

    for (int i = 0; i < wanted; i++) {
        bool last = i == wanted - 1;
        int rank = lightest(l, expert, limited, at_home, last);

        if (rank < 0)
            rank = lightest(l, expert, false, at_home, last);
        if (rank >= 0)
            put(l, expert, rank);
        else if ((l->levels == PLAN_SPILL && !at_home) || !exchange(l, expert))
            continue;
        placed++;
        if (rank >= 0 && !at_home && l->levels == PLAN_SPILL && l->node[rank] == l->home[expert]) {
            at_home = true;
            l->pending[l->home[expert]]--;
        }
    }
    l->dropped |= placed < wanted;
}

void plan_pack_ranks(struct plan_layer *l)
{
    int doubles = 0;

    memset(l->used, 0, sizeof *l->used * (size_t)l->shape->ranks);
    memset(l->doubles, 0, sizeof *l->doubles * (size_t)l->shape->ranks);
    memset(l->pending, 0, sizeof *l->pending * (size_t)l->nodes);
    memset(l->room, 0, sizeof *l->room * (size_t)l->nodes);
    l->dropped = false;
    for (int r = 0; r < l->shape->ranks; r++)
        l->open_load[r] = INT64_MAX;
    for (int i = 0; i < l->ranks; i++) {
        int r = l->rank[i];

        l->now.rank_load[r] = 0;
        l->open_load[r] = 0;
        l->room[l->node[r]] += l->slots[r];
        memset(l->now.item + l->shape->rank_first[r], -1,
               sizeof *l->now.item * (size_t)(l->shape->rank_first[r + 1] - l->shape->rank_first[r]));
    }
    for (int i = 0; i < l->experts; i++) {
        int e = l->expert[i];

        memset(l->now.host + (ptrdiff_t)e * l->words, 0, sizeof *l->now.host * (size_t)l->words);
        l->pending[l->levels == PLAN_SPILL ? l->home[e] : 0]++;
        doubles += l->now.replicas[e] > 1 ? l->now.replicas[e] : 0;
        l->key[i] = falling_key(l->now.share[e], e);
    }
    l->limit = doubles / l->ranks;
    l->extras = doubles % l->ranks;
    order_rising(l->key, l->other, l->experts);
    for (int pass = l->alike ? 0 : 1; pass < 2; pass++) {
        for (int i = 0; i < l->experts; i++) {
            int e = owner_of(l->key[i]);

            if (l->alike && (l->now.replicas[e] > 1) != (pass == 0))
                continue;
            put_replicas(l, e, pass == 0);
        }
    }
    if (l->dropped)
        plan_state_rebuild(l);
}
