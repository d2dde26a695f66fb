/* flow.c - the best split of a batch over the replicas: the busiest rank has as little to do as can be
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * A maximum flow from experts to the ranks that host them (Dinic: shortest paths first), at a ceiling for the
 * ranks. When some demand finds no way, the ranks that it reaches are all full and hold only what nobody else
 * can hold, so the ceiling rises to their mean (Newton's step on whole numbers) and the flow goes on from
 * where it is. */
#include "eplb/flow.h"

#include "eplb/order.h"

#include <string.h>

enum { EXPERT_BITS = 21 }; /* above them 42 bits hold any demand, and the sum of all fits into 63 */

struct flow {
    int experts, slots, ranks;

    /* of this case */
    const int32_t *expert;
    const int32_t *rank_first;
    const int64_t *demand;
    int32_t *rank;   /* [slots] */
    int32_t *first;  /* [E + 1] into host */
    int32_t *host;   /* [slots] slots of an expert, one on each rank, grouped by expert */
    int32_t *next;   /* [E] where the list of an expert ends while it grows */
    int64_t *left;   /* [E] demand without a slot yet */
    int64_t *room;   /* [P] below the ceiling */
    int64_t *flow;   /* [slots] */
    uint64_t *key;   /* [E] for sorting */
    uint64_t *other; /* [E] likewise */
    int64_t ceiling;

    /* of a search */
    int32_t *expert_level, *rank_level;   /* steps from demand without a slot; -1: not reached */
    int32_t *expert_cursor, *rank_cursor; /* edges before these are used up */
    int32_t *queue;                       /* [E + P] experts, then E + rank */
    bool *cut;                            /* [P] the last certificate */
};

enum status flow_open(struct flow **out, struct arena *arena, int experts, int slots, int ranks)
{
    struct flow *f;
    size_t e = (size_t)experts, s = (size_t)slots, p = (size_t)ranks;

    if (experts < 1 || experts >= 1 << EXPERT_BITS || slots < 1 || ranks < 1)
        return FAIL(STATUS_BUG, "a flow of %d experts in %d slots on %d ranks", experts, slots, ranks);
    TRY(arena_take(arena, sizeof *f, "flow", &f));
    f->experts = experts;
    f->slots = slots;
    f->ranks = ranks;
    TRY(arena_take_array(arena, s, sizeof *f->rank, "ranks of slots", &f->rank));
    TRY(arena_take_array(arena, e + 1, sizeof *f->first, "hosts of experts", &f->first));
    TRY(arena_take_array(arena, s, sizeof *f->host, "hosts", &f->host));
    TRY(arena_take_array(arena, e, sizeof *f->next, "ends of hosts", &f->next));
    TRY(arena_take_array(arena, e, sizeof *f->left, "demand left", &f->left));
    TRY(arena_take_array(arena, p, sizeof *f->room, "room of ranks", &f->room));
    TRY(arena_take_array(arena, s, sizeof *f->flow, "flow", &f->flow));
    TRY(arena_take_array(arena, e, sizeof *f->key, "sorting", &f->key));
    TRY(arena_take_array(arena, e, sizeof *f->other, "sorting", &f->other));
    TRY(arena_take_array(arena, e, sizeof *f->expert_level, "levels of experts", &f->expert_level));
    TRY(arena_take_array(arena, p, sizeof *f->rank_level, "levels of ranks", &f->rank_level));
    TRY(arena_take_array(arena, e, sizeof *f->expert_cursor, "cursors of experts", &f->expert_cursor));
    TRY(arena_take_array(arena, p, sizeof *f->rank_cursor, "cursors of ranks", &f->rank_cursor));
    TRY(arena_take_array(arena, e + p, sizeof *f->queue, "queue", &f->queue));
    TRY(arena_take_array(arena, p, sizeof *f->cut, "cut", &f->cut));
    *out = f;
    return STATUS_OK;
}

static enum status check_case(const struct flow *f)
{
    if (f->rank_first[0] != 0 || f->rank_first[f->ranks] != f->slots)
        return FAIL(STATUS_BUG, "the ranks hold slots %d to %d of %d", f->rank_first[0],
                    f->rank_first[f->ranks], f->slots);
    for (int r = 0; r < f->ranks; r++) {
        if (f->rank_first[r + 1] < f->rank_first[r])
            return FAIL(STATUS_BUG, "rank %d begins at slot %d, the rank before at slot %d", r + 1,
                        f->rank_first[r + 1], f->rank_first[r]);
    }
    for (int s = 0; s < f->slots; s++) {
        if (f->expert[s] < -1 || f->expert[s] >= f->experts)
            return FAIL(STATUS_BUG, "slot %d holds expert %d of %d", s, f->expert[s], f->experts);
    }
    for (int e = 0; e < f->experts; e++) {
        if (f->demand[e] < 0 || f->demand[e] > FLOW_MOST)
            return FAIL(STATUS_BUG, "demand of expert %d is %lld", e, (long long)f->demand[e]);
    }
    return STATUS_OK;
}

/* The hosts of every expert, in slot order, each rank once. */
static enum status list_hosts(struct flow *f)
{
    int32_t at = 0;

    memset(f->first, 0, sizeof *f->first * ((size_t)f->experts + 1));
    for (int s = 0; s < f->slots; s++) {
        if (f->expert[s] >= 0)
            f->first[f->expert[s] + 1]++;
    }
    for (int e = 0; e < f->experts; e++) {
        at += f->first[e + 1];
        f->first[e + 1] = at;
        f->next[e] = f->first[e];
        if (f->demand[e] > 0 && f->first[e] == at)
            return FAIL(STATUS_BUG, "expert %d has %lld rows and no slot", e, (long long)f->demand[e]);
    }
    for (int r = 0; r < f->ranks; r++) {
        for (int s = f->rank_first[r]; s < f->rank_first[r + 1]; s++) {
            int e = f->expert[s];

            f->rank[s] = r;
            if (e >= 0 && (f->next[e] == f->first[e] || f->rank[f->host[f->next[e] - 1]] != r))
                f->host[f->next[e]++] = s;
        }
    }
    return STATUS_OK;
}

/* Experts with one host are settled; the ceiling starts at what they and the mean demand. The cut of that:
 * the busiest of those hosts, or all ranks. */
static void start_flow(struct flow *f)
{
    int64_t total = 0, base = 0;
    int busiest = 0;

    memset(f->flow, 0, sizeof *f->flow * (size_t)f->slots);
    memset(f->room, 0, sizeof *f->room * (size_t)f->ranks);
    for (int e = 0; e < f->experts; e++) {
        total += f->demand[e];
        f->left[e] = f->demand[e];
        if (f->demand[e] == 0 || f->next[e] - f->first[e] != 1)
            continue;
        f->flow[f->host[f->first[e]]] = f->demand[e];
        f->room[f->rank[f->host[f->first[e]]]] -= f->demand[e];
        f->left[e] = 0;
    }
    for (int r = 0; r < f->ranks; r++) {
        if (f->room[r] < f->room[busiest])
            busiest = r;
    }
    base = -f->room[busiest];
    f->ceiling = (total + f->ranks - 1) / f->ranks;
    memset(f->cut, base <= f->ceiling, sizeof *f->cut * (size_t)f->ranks);
    f->cut[busiest] = true;
    if (base > f->ceiling)
        f->ceiling = base;
    for (int r = 0; r < f->ranks; r++)
        f->room[r] += f->ceiling;
}

/* Most of the flow at once: large demands first, each where most room is. */
static void pour(struct flow *f)
{
    int count = 0;

    for (int e = 0; e < f->experts; e++) {
        if (f->left[e] > 0)
            f->key[count++] = (uint64_t)(FLOW_MOST - f->left[e]) << EXPERT_BITS | (uint64_t)e;
    }
    order_rising(f->key, f->other, count);
    for (int i = 0; i < count; i++) {
        int e = (int)(f->key[i] & ((1 << EXPERT_BITS) - 1));

        while (f->left[e] > 0) {
            int best = f->host[f->first[e]];
            int64_t rows;

            for (int h = f->first[e] + 1; h < f->next[e]; h++) {
                if (f->room[f->rank[f->host[h]]] > f->room[f->rank[best]])
                    best = f->host[h];
            }
            rows = f->left[e] < f->room[f->rank[best]] ? f->left[e] : f->room[f->rank[best]];
            if (rows <= 0)
                break;
            f->flow[best] += rows;
            f->room[f->rank[best]] -= rows;
            f->left[e] -= rows;
        }
    }
}

/* Levels from all demand without a slot; true when a rank with room is reached. */
static bool find_levels(struct flow *f)
{
    int head = 0, tail = 0;
    bool found = false;

    for (int r = 0; r < f->ranks; r++) {
        f->rank_level[r] = -1;
        f->rank_cursor[r] = f->rank_first[r];
    }
    for (int e = 0; e < f->experts; e++) {
        f->expert_level[e] = f->left[e] > 0 ? 0 : -1;
        f->expert_cursor[e] = f->first[e];
        if (f->left[e] > 0)
            f->queue[tail++] = e;
    }
    while (head < tail) {
        int at = f->queue[head++];

        if (at < f->experts) {
            for (int h = f->first[at]; h < f->next[at]; h++) {
                int r = f->rank[f->host[h]];

                if (f->rank_level[r] >= 0)
                    continue;
                f->rank_level[r] = f->expert_level[at] + 1;
                f->queue[tail++] = f->experts + r;
                found |= f->room[r] > 0;
            }
            continue;
        }
        at -= f->experts;
        for (int s = f->rank_first[at]; s < f->rank_first[at + 1]; s++) {
            int e = f->expert[s];

            if (f->flow[s] == 0 || f->expert_level[e] >= 0)
                continue;
            f->expert_level[e] = f->rank_level[at] + 1;
            f->queue[tail++] = e;
        }
    }
    return found;
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t push_expert(struct flow *f, int e, int64_t rows);

/* Takes up to `rows` at rank r: into its room, else by sending rows of other experts to their other hosts. */
static int64_t push_rank(struct flow *f, int r, int64_t rows)
{
    int64_t taken = least(rows, f->room[r]);

    f->room[r] -= taken;
    for (; taken < rows && f->rank_cursor[r] < f->rank_first[r + 1]; f->rank_cursor[r]++) {
        int s = f->rank_cursor[r], e = f->expert[s];
        int64_t moved;

        if (f->flow[s] == 0 || f->expert_level[e] != f->rank_level[r] + 1)
            continue;
        moved = push_expert(f, e, least(rows - taken, f->flow[s]));
        f->flow[s] -= moved;
        taken += moved;
        if (taken == rows)
            break;
    }
    return taken;
}

/* Depth is at most two steps for each rank: levels rise along a path. */
static int64_t push_expert(struct flow *f, int e, int64_t rows)
{
    int64_t placed = 0;

    for (; f->expert_cursor[e] < f->next[e]; f->expert_cursor[e]++) {
        int s = f->host[f->expert_cursor[e]];
        int64_t taken;

        if (f->rank_level[f->rank[s]] != f->expert_level[e] + 1)
            continue;
        taken = push_rank(f, f->rank[s], rows - placed);
        f->flow[s] += taken;
        placed += taken;
        if (placed == rows)
            break;
    }
    return placed;
}

static void augment(struct flow *f)
{
    while (find_levels(f)) {
        for (int e = 0; e < f->experts; e++) {
            if (f->left[e] > 0)
                f->left[e] -= push_expert(f, e, f->left[e]);
        }
    }
}

/* The ranks that demand without a slot still reaches can only share what they have: the ceiling rises to
 * their mean. */
static void raise_ceiling(struct flow *f)
{
    int64_t inside = 0, ranks = 0, higher;

    for (int r = 0; r < f->ranks; r++) {
        f->cut[r] = f->rank_level[r] >= 0;
        ranks += f->cut[r];
    }
    for (int e = 0; e < f->experts; e++) {
        int h = f->first[e];

        while (h < f->next[e] && f->cut[f->rank[f->host[h]]])
            h++;
        if (h == f->next[e])
            inside += f->demand[e];
    }
    higher = (inside + ranks - 1) / ranks;
    if (higher <= f->ceiling)
        higher = f->ceiling + 1;
    for (int r = 0; r < f->ranks; r++)
        f->room[r] += higher - f->ceiling;
    f->ceiling = higher;
}

static bool unplaced(const struct flow *f)
{
    for (int e = 0; e < f->experts; e++) {
        if (f->left[e] > 0)
            return true;
    }
    return false;
}

enum status flow_split(struct flow *f, const int32_t *expert, const int32_t *rank_first,
                       const int64_t *demand, int64_t *quota, bool *cut, int64_t *most)
{
    f->expert = expert;
    f->rank_first = rank_first;
    f->demand = demand;
    TRY(check_case(f));
    TRY(list_hosts(f));
    start_flow(f);
    pour(f);
    while (unplaced(f)) {
        augment(f);
        if (unplaced(f))
            raise_ceiling(f);
    }
    memcpy(quota, f->flow, sizeof *quota * (size_t)f->slots);
    if (cut)
        memcpy(cut, f->cut, sizeof *cut * (size_t)f->ranks);
    *most = f->ceiling;
    return STATUS_OK;
}
