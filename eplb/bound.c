/* bound.c - what no placement can do better than
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "eplb/bound.h"

#include "eplb/groups.h"
#include "eplb/order.h"

enum { MOST_REPLICAS = 1 << 20, SUM_BITS = 61 };

struct bound {
    const struct plan_shape *shape;
    enum plan_levels levels; /* never auto */
    int nodes;               /* of the levels: 1 when they do not matter */
    int groups;              /* that stay on a node: single experts when the model has none */
    int32_t *heap;           /* [E] experts, the one with the largest share on top */
    int32_t *replicas;       /* [E] */
    uint64_t *sorted;        /* [E] loads, rising */
    uint64_t *other;         /* [E] for sorting */
    int64_t *group;          /* [groups] loads, falling once sorted */
    int32_t *room, *live;    /* [nodes] groups, ranks */
    int32_t *slots;          /* [nodes] that can be used */
    int32_t *node;           /* [groups] */
    struct groups search;
};

enum status bound_open(struct bound **out, struct arena *arena, const struct plan_shape *shape,
                       enum plan_levels levels)
{
    struct bound *b;
    size_t experts, groups, nodes = (size_t)plan_shape_nodes(shape);

    TRY(plan_shape_check(shape, levels));
    if (shape->rank_first[shape->ranks] > MOST_REPLICAS)
        return FAIL(STATUS_USAGE, "%d slots in a layer, at most %d can be planned",
                    shape->rank_first[shape->ranks], MOST_REPLICAS);
    experts = (size_t)shape->experts;
    TRY(arena_take(arena, sizeof *b, "bound", &b));
    b->shape = shape;
    b->levels = plan_shape_levels(shape, levels);
    b->nodes = b->levels == PLAN_HIERARCHICAL ? (int)nodes : 1;
    b->groups = shape->groups > 1 ? shape->groups : shape->experts;
    groups = (size_t)b->groups;
    TRY(arena_take_array(arena, experts, sizeof *b->heap, "experts by share", &b->heap));
    TRY(arena_take_array(arena, experts, sizeof *b->replicas, "replicas", &b->replicas));
    TRY(arena_take_array(arena, experts, sizeof *b->sorted, "loads", &b->sorted));
    TRY(arena_take_array(arena, experts, sizeof *b->other, "sorting", &b->other));
    TRY(arena_take_array(arena, groups, sizeof *b->group, "loads of groups", &b->group));
    TRY(arena_take_array(arena, nodes, sizeof *b->room, "groups of nodes", &b->room));
    TRY(arena_take_array(arena, nodes, sizeof *b->live, "ranks of nodes", &b->live));
    TRY(arena_take_array(arena, nodes, sizeof *b->slots, "slots of nodes", &b->slots));
    TRY(arena_take_array(arena, groups, sizeof *b->node, "nodes of groups", &b->node));
    b->search = (struct groups){.groups = b->groups, .nodes = b->nodes, .load = b->group, .room = b->room};
    b->search.live = b->live;
    TRY(arena_take_array(arena, nodes, sizeof *b->search.node_load, "loads of nodes", &b->search.node_load));
    TRY(arena_take_array(arena, nodes, sizeof *b->search.used, "groups of nodes", &b->search.used));
    TRY(arena_take_array(arena, groups, sizeof *b->search.trial, "nodes of groups", &b->search.trial));
    *out = b;
    return STATUS_OK;
}

/* load / replicas of a above that of b; the products stay below 2^60. */
static bool carries_more(const struct bound *b, const int64_t *load, int left, int right)
{
    return load[left] * b->replicas[right] > load[right] * b->replicas[left];
}

static void sink(struct bound *b, const int64_t *load, int count, int at)
{
    int32_t moved = b->heap[at];

    for (;;) {
        int child = 2 * at + 1;

        if (child >= count)
            break;
        if (child + 1 < count && carries_more(b, load, b->heap[child + 1], b->heap[child]))
            child++;
        if (!carries_more(b, load, b->heap[child], moved))
            break;
        b->heap[at] = b->heap[child];
        at = child;
    }
    b->heap[at] = moved;
}

static enum status check_loads(const int64_t *load, int experts)
{
    for (int e = 0; e < experts; e++) {
        if (load[e] < 0 || load[e] > BOUND_MOST)
            return FAIL(STATUS_BAD_INPUT, "load of expert %d is %lld, not in 0 ... %lld", e,
                        (long long)load[e], (long long)BOUND_MOST);
    }
    return STATUS_OK;
}

static double least_share(struct bound *b, const int64_t *load, int experts, int slots)
{
    for (int e = 0; e < experts; e++) {
        b->heap[e] = e;
        b->replicas[e] = 1;
    }
    for (int i = experts / 2 - 1; i >= 0; i--)
        sink(b, load, experts, i);
    for (int s = experts; s < slots; s++) {
        b->replicas[b->heap[0]]++;
        sink(b, load, experts, 0);
    }
    return (double)load[b->heap[0]] / (double)b->replicas[b->heap[0]];
}

enum status bound_share(struct bound *b, const int64_t *load, int experts, int slots, double *share)
{
    if (experts < 1 || experts > b->shape->experts || slots < experts || slots > MOST_REPLICAS)
        return FAIL(STATUS_BUG, "the share of %d experts in %d slots, made for %d experts", experts, slots,
                    b->shape->experts);
    TRY(check_loads(load, experts));
    *share = least_share(b, load, experts, slots);
    return STATUS_OK;
}

static double larger(double a, double b)
{
    return a > b ? a : b;
}

/* The search wants large groups first: it finds a good division early and cuts off the rest. */
static void sort_groups(struct bound *b)
{
    for (int g = 0; g < b->groups; g++)
        b->sorted[g] = (uint64_t)(INT64_MAX - b->group[g]);
    order_rising(b->sorted, b->other, b->groups);
    for (int g = 0; g < b->groups; g++)
        b->group[g] = INT64_MAX - (int64_t)b->sorted[g];
}

static int node_of(const struct bound *b, int rank)
{
    return b->nodes > 1 ? b->shape->rank_node[rank] : 0;
}

/* A rank holds each expert that may lie there once. */
static int useful_slots(const struct bound *b, int rank)
{
    int slots = plan_shape_slots(b->shape, rank);
    int homes = b->room[node_of(b, rank)] * (b->shape->experts / b->groups);

    return slots < homes ? slots : homes;
}

/* Live ranks, useful slots and groups of the nodes. */
static void count_nodes(struct bound *b)
{
    const struct plan_shape *shape = b->shape;

    for (int v = 0; v < b->nodes; v++) {
        b->live[v] = b->slots[v] = 0;
        b->room[v] = b->nodes > 1 ? plan_shape_homes(shape, v) / (shape->experts / b->groups) : b->groups;
    }
    for (int r = 0; r < shape->ranks; r++) {
        int v = b->nodes > 1 && shape->rank_node ? shape->rank_node[r] : 0,
            slots = plan_shape_slots(shape, r);
        int homes = b->room[v] * (shape->experts / b->groups);

        b->live[v] += slots > 0;
        b->slots[v] += slots < homes ? slots : homes;
    }
}

/* The least load of a live rank of the busiest node: exact for few groups, else the mean. Loads are made
 * finer, because the search rounds down. */
static double busiest_node(struct bound *b, int64_t total, int live)
{
    int shift = 0;

    if (b->groups > GROUPS_EXACT)
        return (double)total / live;
    while (total >> (SUM_BITS - 1 - shift) == 0 && shift < SUM_BITS - 1)
        shift++;
    for (int g = 0; g < b->groups; g++)
        b->group[g] <<= shift;
    return (double)groups_spread(&b->search, b->node) / (double)((int64_t)1 << shift);
}

/* The terms of groups that must stay on one node. */
static double bound_nodes(struct bound *b, const int64_t *load, int64_t total, int live)
{
    int size = b->shape->experts / b->groups, ranks = 0, spare = 0;
    double most = 0.0;

    for (int v = 0; v < b->nodes; v++) {
        ranks = b->live[v] > ranks ? b->live[v] : ranks;
        spare = b->slots[v] - b->room[v] * size > spare ? b->slots[v] - b->room[v] * size : spare;
    }
    for (int g = 0; g < b->groups; g++) {
        b->group[g] = 0;
        for (int i = 0; i < size; i++)
            b->group[g] += load[g * size + i];
        most = larger(most, (double)b->group[g] / ranks);
        most = larger(most, least_share(b, load + (ptrdiff_t)g * size, size, size + spare));
    }
    sort_groups(b);
    return larger(most, busiest_node(b, total, live));
}

/* Without spare slots: the largest load, and beside it at least the smallest ones. */
static double bound_company(struct bound *b, const int64_t *load)
{
    int experts = b->shape->experts, least = experts;
    int64_t company;

    for (int r = 0; r < b->shape->ranks; r++) {
        int slots = useful_slots(b, r);

        least = slots > 0 && slots < least ? slots : least;
    }
    for (int e = 0; e < experts; e++)
        b->sorted[e] = (uint64_t)load[e];
    order_rising(b->sorted, b->other, experts);
    company = (int64_t)b->sorted[experts - 1];
    for (int i = 0; i < least - 1; i++)
        company += (int64_t)b->sorted[i];
    return (double)company;
}

enum status bound_layer(struct bound *b, const int64_t *load, double *bound)
{
    const struct plan_shape *shape = b->shape;
    int live = 0, slots = 0;
    int64_t total = 0;
    double most;

    TRY(plan_shape_check(shape, b->levels)); /* ranks may be gone since */
    TRY(check_loads(load, shape->experts));
    count_nodes(b);
    for (int v = 0; v < b->nodes; v++) {
        live += b->live[v];
        slots += b->slots[v];
    }
    for (int e = 0; e < shape->experts; e++)
        total += load[e];
    most = (double)total / live;
    if (b->nodes > 1)
        most = larger(most, bound_nodes(b, load, total, live));
    else
        most = larger(most, least_share(b, load, shape->experts, slots));
    if (slots == shape->experts)
        most = larger(most, bound_company(b, load));
    *bound = most;
    return STATUS_OK;
}
