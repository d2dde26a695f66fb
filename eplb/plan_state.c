/* plan_state.c - a layer while it is planned: who holds what, and what that weighs
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "eplb/plan_state.h"

#include <string.h>

/* All loads together stay below 2^LOAD_BITS, and so do the sums that a search tries. */
enum { LOAD_BITS = 60, MOST_SHIFT = 30 };

static enum status open_state(struct plan_state *s, struct arena *arena, size_t experts, size_t slots,
                              size_t ranks, size_t words)
{
    unsigned char *at;

    s->bytes =
        (ranks + 3 * experts + experts * words) * sizeof(int64_t) + (slots + experts) * sizeof(int32_t);
    TRY(arena_take(arena, s->bytes, "plan of a layer", &s->memory));
    at = s->memory;
    s->rank_load = (void *)at;
    at += ranks * sizeof(int64_t);
    s->share = (void *)at;
    at += experts * sizeof(int64_t);
    s->more = (void *)at;
    at += experts * sizeof(int64_t);
    s->less = (void *)at;
    at += experts * sizeof(int64_t);
    s->host = (void *)at;
    at += experts * words * sizeof(uint64_t);
    s->item = (void *)at;
    at += slots * sizeof(int32_t);
    s->replicas = (void *)at;
    return STATUS_OK;
}

enum status plan_state_open(struct plan_layer *l, struct arena *arena, const struct plan_shape *shape)
{
    size_t experts = (size_t)shape->experts, ranks = (size_t)shape->ranks;
    size_t slots = (size_t)shape->rank_first[shape->ranks], nodes = (size_t)plan_shape_nodes(shape);
    size_t words = (ranks + 63) / 64, keys = slots > experts ? slots : experts;
    struct plan_state *states[] = {&l->now, &l->best, &l->start};

    *l = (struct plan_layer){.shape = shape, .nodes = (int)nodes, .words = (int)words};
    for (size_t i = 0; i < sizeof states / sizeof *states; i++)
        TRY(open_state(states[i], arena, experts, slots, ranks, words));
    TRY(arena_take_array(arena, experts, sizeof *l->load, "loads", &l->load));
    TRY(arena_take_array(arena, experts, sizeof *l->home, "homes", &l->home));
    TRY(arena_take_array(arena, nodes * words, sizeof *l->node_ranks, "ranks of nodes", &l->node_ranks));
    TRY(arena_take_array(arena, ranks, sizeof *l->slots, "slots of ranks", &l->slots));
    TRY(arena_take_array(arena, ranks, sizeof *l->node, "nodes of ranks", &l->node));
    TRY(arena_take_array(arena, ranks, sizeof *l->rank, "ranks of a site", &l->rank));
    TRY(arena_take_array(arena, experts, sizeof *l->expert, "experts of a site", &l->expert));
    TRY(arena_take_array(arena, keys, sizeof *l->key, "sorting", &l->key));
    TRY(arena_take_array(arena, keys, sizeof *l->other, "sorting", &l->other));
    TRY(arena_take_array(arena, experts, sizeof *l->heap, "experts by share", &l->heap));
    TRY(arena_take_array(arena, ranks, sizeof *l->used, "used slots", &l->used));
    TRY(arena_take_array(arena, ranks, sizeof *l->open_load, "ranks with room", &l->open_load));
    TRY(arena_take_array(arena, ranks, sizeof *l->doubles, "slots of replicated experts", &l->doubles));
    TRY(arena_take_array(arena, nodes, sizeof *l->pending, "experts without a home", &l->pending));
    TRY(arena_take_array(arena, nodes, sizeof *l->room, "room of nodes", &l->room));
    TRY(arena_take_array(arena, experts, sizeof *l->group_load, "loads of groups", &l->group_load));
    TRY(arena_take_array(arena, experts, sizeof *l->sorted_load, "loads of groups", &l->sorted_load));
    TRY(arena_take_array(arena, nodes, sizeof *l->node_load, "loads of nodes", &l->node_load));
    TRY(arena_take_array(arena, nodes, sizeof *l->used_groups, "groups of nodes", &l->used_groups));
    TRY(arena_take_array(arena, experts, sizeof *l->trial, "nodes of groups", &l->trial));
    for (int r = 0; r < shape->ranks; r++)
        l->node[r] = shape->rank_node ? shape->rank_node[r] : 0;
    return STATUS_OK;
}

enum status plan_state_load(struct plan_layer *l, const int64_t *load)
{
    const struct plan_shape *shape = l->shape;
    int64_t total = 0;

    for (int e = 0; e < shape->experts; e++) {
        if (load[e] < 0 || load[e] > PLAN_MOST)
            return FAIL(STATUS_BAD_INPUT, "load of expert %d is %lld, not in 0 ... %lld", e,
                        (long long)load[e], (long long)PLAN_MOST);
        total += load[e];
    }
    l->shift = 0;
    while (l->shift < MOST_SHIFT && total >> (LOAD_BITS - 1 - l->shift) == 0)
        l->shift++;
    for (int e = 0; e < shape->experts; e++)
        l->load[e] = load[e] << l->shift;
    memset(l->now.memory, 0, l->now.bytes);
    memset(l->now.item, -1, sizeof *l->now.item * (size_t)shape->rank_first[shape->ranks]);
    memset(l->node_ranks, 0, sizeof *l->node_ranks * (size_t)l->nodes * (size_t)l->words);
    for (int r = 0; r < shape->ranks; r++) {
        l->slots[r] = plan_shape_slots(shape, r);
        l->node_ranks[l->node[r] * l->words + r / 64] |= (uint64_t)1 << (r % 64);
    }
    return STATUS_OK;
}

void plan_state_share(struct plan_layer *l, int expert, int replicas)
{
    l->now.replicas[expert] = replicas;
    l->now.share[expert] = l->load[expert] / replicas;
    l->now.more[expert] = l->load[expert] / (replicas + 1);
    l->now.less[expert] = replicas > 1 ? l->load[expert] / (replicas - 1) : INT64_MAX;
}

bool plan_state_leaves(const struct plan_layer *l, int expert, int from, int to)
{
    const uint64_t *home = l->node_ranks + (ptrdiff_t)l->home[expert] * l->words;
    const uint64_t *host = l->now.host + (ptrdiff_t)expert * l->words;
    int there = 0;

    if (l->levels != PLAN_SPILL || l->node[from] != l->home[expert])
        return true;
    if (to >= 0 && l->node[to] == l->home[expert])
        return true;
    for (int w = 0; w < l->words; w++)
        there += __builtin_popcountll(host[w] & home[w]);
    return there > 1;
}

void plan_state_rebuild(struct plan_layer *l)
{
    struct plan_state *s = &l->now;

    for (int i = 0; i < l->experts; i++) {
        s->replicas[l->expert[i]] = 0;
        memset(s->host + (ptrdiff_t)l->expert[i] * l->words, 0, sizeof *s->host * (size_t)l->words);
    }
    for (int i = 0; i < l->ranks; i++) {
        int r = l->rank[i];

        for (int at = l->shape->rank_first[r]; at < l->shape->rank_first[r + 1]; at++) {
            if (s->item[at] < 0)
                continue;
            s->replicas[s->item[at]]++;
            plan_state_flip(l, s->item[at], r);
        }
    }
    for (int i = 0; i < l->experts; i++)
        plan_state_share(l, l->expert[i], s->replicas[l->expert[i]]);
    for (int i = 0; i < l->ranks; i++) {
        int r = l->rank[i];

        s->rank_load[r] = 0;
        for (int at = l->shape->rank_first[r]; at < l->shape->rank_first[r + 1]; at++)
            s->rank_load[r] += s->item[at] < 0 ? 0 : s->share[s->item[at]];
    }
}

int64_t plan_state_most(const struct plan_layer *l)
{
    int64_t most = 0;

    for (int i = 0; i < l->ranks; i++) {
        if (l->now.rank_load[l->rank[i]] > most)
            most = l->now.rank_load[l->rank[i]];
    }
    return most;
}
