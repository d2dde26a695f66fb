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

    /* of this case; an expert stands on a rank once in its list of hosts */
    const int32_t *expert, *rank_first;
    const int32_t *from, *end; /* [E] of the list of an expert in host */
    const int32_t *host;       /* [slots] slots of experts, grouped by expert */
    const int64_t *demand;
    int64_t *flow;   /* [slots], the caller's */
    int32_t *rank;   /* [slots] */
    int32_t *active; /* [E] experts with demand and several hosts, large demands first */
    int actives;
    int32_t *several;       /* [slots] slots of such experts, by rank */
    int32_t *several_first; /* [P + 1] */
    int64_t *left;          /* [E] demand without a slot yet */
    int64_t *room;          /* [P] below the ceiling */
    int64_t ceiling;

    /* of a search */
    int32_t *expert_level, *rank_level;   /* steps from demand without a slot; -1: not reached */
    int32_t *expert_cursor, *rank_cursor; /* edges before these are used up */
    int32_t *queue;                       /* [E + P] experts, then E + rank */
    bool *cut;                            /* [P] the last certificate */

    /* lists made here, and sorting */
    int32_t *own_first, *own_end, *own_host; /* [E + 1], [E], [slots] */
    uint64_t *key, *other;                   /* [E] */
    int64_t *trial;                          /* [slots] */
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
    TRY(arena_take_array(arena, e, sizeof *f->active, "experts to share", &f->active));
    TRY(arena_take_array(arena, s, sizeof *f->several, "slots to share", &f->several));
    TRY(arena_take_array(arena, p + 1, sizeof *f->several_first, "slots to share", &f->several_first));
    TRY(arena_take_array(arena, e, sizeof *f->left, "demand left", &f->left));
    TRY(arena_take_array(arena, p, sizeof *f->room, "room of ranks", &f->room));
    TRY(arena_take_array(arena, e + 1, sizeof *f->own_first, "hosts of experts", &f->own_first));
    TRY(arena_take_array(arena, e, sizeof *f->own_end, "ends of hosts", &f->own_end));
    TRY(arena_take_array(arena, s, sizeof *f->own_host, "hosts", &f->own_host));
    TRY(arena_take_array(arena, s, sizeof *f->trial, "flow", &f->trial));
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
    return STATUS_OK;
}

/* The hosts of every expert, in slot order, each rank once. */
static void list_hosts(struct flow *f)
{
    int32_t at = 0;

    memset(f->own_first, 0, sizeof *f->own_first * ((size_t)f->experts + 1));
    for (int s = 0; s < f->slots; s++) {
        if (f->expert[s] >= 0)
            f->own_first[f->expert[s] + 1]++;
    }
    for (int e = 0; e < f->experts; e++) {
        at += f->own_first[e + 1];
        f->own_first[e + 1] = at;
        f->own_end[e] = f->own_first[e];
    }
    for (int s = 0; s < f->slots; s++) {
        int e = f->expert[s], last;

        if (e < 0)
            continue;
        last = f->own_end[e];
        if (last == f->own_first[e] || f->rank[f->own_host[last - 1]] != f->rank[s])
            f->own_host[f->own_end[e]++] = s;
    }
    f->from = f->own_first;
    f->end = f->own_end;
    f->host = f->own_host;
}

/* Experts with one host are settled; the others are listed. */
static enum status settle(struct flow *f, int64_t *total)
{
    memset(f->flow, 0, sizeof *f->flow * (size_t)f->slots);
    memset(f->room, 0, sizeof *f->room * (size_t)f->ranks);
    f->actives = 0;
    *total = 0;
    for (int e = 0; e < f->experts; e++) {
        int64_t demand = f->demand[e];
        int hosts = f->end[e] - f->from[e], only;

        if (demand == 0)
            continue;
        if (demand < 0 || demand > FLOW_MOST)
            return FAIL(STATUS_BUG, "demand of expert %d is %lld", e, (long long)demand);
        if (hosts == 0)
            return FAIL(STATUS_BUG, "expert %d has %lld rows and no slot", e, (long long)demand);
        *total += demand;
        if (hosts > 1) {
            f->left[e] = demand;
            f->key[f->actives++] = (uint64_t)(FLOW_MOST - demand) << EXPERT_BITS | (uint64_t)e;
            continue;
        }
        only = f->host[f->from[e]];
        f->flow[only] = demand;
        f->room[f->rank[only]] -= demand;
    }
    return STATUS_OK;
}

/* The ceiling starts at what settled experts and the mean demand. The cut of that: the busiest rank of those,
 * or all ranks. */
static void start_ceiling(struct flow *f, int64_t total)
{
    int64_t base;
    int busiest = 0;

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

/* Most of the flow at once: large demands first, each where most room is. How much is left. */
static int64_t pour(struct flow *f)
{
    int64_t rest = 0;

    order_rising(f->key, f->other, f->actives);
    for (int i = 0; i < f->actives; i++) {
        int e = (int)(f->key[i] & ((1 << EXPERT_BITS) - 1));
        int64_t left = f->left[e];

        f->active[i] = e;
        while (left > 0) {
            int best = f->host[f->from[e]];
            int64_t most = f->room[f->rank[best]], rows;

            for (int h = f->from[e] + 1; h < f->end[e]; h++) {
                int64_t room = f->room[f->rank[f->host[h]]];

                best = room > most ? f->host[h] : best;
                most = room > most ? room : most;
            }
            rows = left < most ? left : most;
            if (rows <= 0)
                break;
            f->flow[best] += rows;
            f->room[f->rank[best]] -= rows;
            left -= rows;
        }
        f->left[e] = left;
        rest += left;
    }
    return rest;
}

/* The slots whose rows can go elsewhere. */
static void list_several(struct flow *f)
{
    int count = 0, s = 0;

    for (int i = 0; i < f->experts; i++)
        f->expert_level[i] = -2; /* not to be shared */
    for (int i = 0; i < f->actives; i++)
        f->expert_level[f->active[i]] = -1;
    for (int r = 0; r < f->ranks; r++) {
        f->several_first[r] = count;
        for (; s < f->rank_first[r + 1]; s++) {
            f->several[count] = s;
            count += f->expert[s] >= 0 && f->expert_level[f->expert[s]] == -1;
        }
    }
    f->several_first[f->ranks] = count;
}

/* Levels from all demand without a slot; true when a rank with room is reached. */
static bool find_levels(struct flow *f)
{
    int head = 0, tail = 0;
    bool found = false;

    for (int r = 0; r < f->ranks; r++) {
        f->rank_level[r] = -1;
        f->rank_cursor[r] = f->several_first[r];
    }
    for (int i = 0; i < f->actives; i++) {
        int e = f->active[i];

        f->expert_level[e] = f->left[e] > 0 ? 0 : -1;
        f->expert_cursor[e] = f->from[e];
        if (f->left[e] > 0)
            f->queue[tail++] = e;
    }
    while (head < tail) {
        int at = f->queue[head++];

        if (at < f->experts) {
            for (int h = f->from[at]; h < f->end[at]; h++) {
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
        for (int i = f->several_first[at]; i < f->several_first[at + 1]; i++) {
            int s = f->several[i], e = f->expert[s];

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
    for (; taken < rows && f->rank_cursor[r] < f->several_first[r + 1]; f->rank_cursor[r]++) {
        int s = f->several[f->rank_cursor[r]], e = f->expert[s];
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

    for (; f->expert_cursor[e] < f->end[e]; f->expert_cursor[e]++) {
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

/* Shares out what is left as far as the ceiling lets it; how much it does not. */
static int64_t augment(struct flow *f, int64_t rest)
{
    while (rest > 0 && find_levels(f)) {
        for (int i = 0; i < f->actives; i++) {
            int e = f->active[i];
            int64_t placed = f->left[e] > 0 ? push_expert(f, e, f->left[e]) : 0;

            f->left[e] -= placed;
            rest -= placed;
        }
    }
    return rest;
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
        int h = f->from[e];

        while (h < f->end[e] && f->cut[f->rank[f->host[h]]])
            h++;
        if (h == f->end[e])
            inside += f->demand[e];
    }
    higher = (inside + ranks - 1) / ranks;
    if (higher <= f->ceiling)
        higher = f->ceiling + 1;
    for (int r = 0; r < f->ranks; r++)
        f->room[r] += higher - f->ceiling;
    f->ceiling = higher;
}

/* The case with its lists of hosts; f->flow is written. */
static enum status solve(struct flow *f)
{
    int64_t total, rest;

    TRY(settle(f, &total));
    start_ceiling(f, total);
    rest = pour(f);
    if (rest > 0)
        list_several(f);
    while ((rest = augment(f, rest)) > 0)
        raise_ceiling(f);
    return STATUS_OK;
}

static void rank_slots(struct flow *f)
{
    for (int r = 0; r < f->ranks; r++) {
        for (int s = f->rank_first[r]; s < f->rank_first[r + 1]; s++)
            f->rank[s] = r;
    }
}

enum status flow_split(struct flow *f, const int32_t *expert, const int32_t *rank_first,
                       const int64_t *demand, int64_t *quota, bool *cut, int64_t *most)
{
    f->expert = expert;
    f->rank_first = rank_first;
    f->demand = demand;
    f->flow = f->trial;
    TRY(check_case(f));
    rank_slots(f);
    list_hosts(f);
    TRY(solve(f));
    memcpy(quota, f->flow, sizeof *quota * (size_t)f->slots);
    if (cut)
        memcpy(cut, f->cut, sizeof *cut * (size_t)f->ranks);
    *most = f->ceiling;
    return STATUS_OK;
}

enum status flow_layer(struct flow *f, const struct placement *p, int layer, const int64_t *demand,
                       int64_t *quota, int64_t *most)
{
    const int32_t *first = p->first + (ptrdiff_t)layer * (p->experts + 1);

    if (p->experts != f->experts || p->slots != f->slots || p->ranks != f->ranks)
        return FAIL(STATUS_BUG, "a flow of %d experts in %d slots on %d ranks, made for %d, %d and %d",
                    p->experts, p->slots, p->ranks, f->experts, f->slots, f->ranks);
    f->expert = p->expert + (ptrdiff_t)layer * p->slots;
    f->rank_first = p->rank_first;
    f->demand = demand;
    f->flow = quota;
    f->from = first;
    f->end = first + 1;
    f->host = p->replica + (ptrdiff_t)layer * p->slots;
    rank_slots(f);
    TRY(solve(f));
    *most = f->ceiling;
    return STATUS_OK;
}
