/* bound.c - what no placement can do better than
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "eplb/bound.h"

#include "eplb/order.h"

enum { EXACT_GROUPS = 12, MOST_REPLICAS = 1 << 20 };

struct bound {
    struct placement_shape shape;
    int groups, nodes; /* of the branch taken */
    int32_t *heap;     /* [E] experts, the one with the largest share on top */
    int32_t *replicas; /* [E] */
    uint64_t *sorted;  /* [E] loads, rising */
    uint64_t *other;   /* [E] for sorting */
    int64_t *group;    /* [groups] loads, falling once sorted */
};

/* Groups to nodes, tried one after the other. */
struct search {
    const int64_t *group; /* falling */
    int groups, nodes, room;
    int64_t load[EXACT_GROUPS];
    int used[EXACT_GROUPS];
    int64_t best, floor; /* nothing below floor exists: stop there */
};

enum status bound_open(struct bound **out, struct arena *arena, const struct placement_shape *shape)
{
    struct bound *b;
    size_t experts;

    TRY(placement_check(shape));
    if (shape->slots > MOST_REPLICAS)
        return FAIL(STATUS_USAGE, "%d slots in a layer, at most %d can be planned", shape->slots,
                    MOST_REPLICAS);
    experts = (size_t)shape->experts;
    TRY(arena_take(arena, sizeof *b, "bound", &b));
    b->shape = *shape;
    b->groups = shape->groups % shape->nodes ? 1 : shape->groups;
    b->nodes = shape->groups % shape->nodes ? 1 : shape->nodes;
    TRY(arena_take_array(arena, experts, sizeof *b->heap, "experts by share", &b->heap));
    TRY(arena_take_array(arena, experts, sizeof *b->replicas, "replicas", &b->replicas));
    TRY(arena_take_array(arena, experts, sizeof *b->sorted, "loads", &b->sorted));
    TRY(arena_take_array(arena, experts, sizeof *b->other, "sorting", &b->other));
    TRY(arena_take_array(arena, (size_t)b->groups, sizeof *b->group, "loads of groups", &b->group));
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
    if (experts < 1 || experts > b->shape.experts || slots < experts || slots > MOST_REPLICAS)
        return FAIL(STATUS_BUG, "the share of %d experts in %d slots, made for %d experts", experts, slots,
                    b->shape.experts);
    TRY(check_loads(load, experts));
    *share = least_share(b, load, experts, slots);
    return STATUS_OK;
}

/* Nodes alike in load and number are tried once. */
static void try_group(struct search *s, int g, int64_t busiest)
{
    if (busiest >= s->best || s->best <= s->floor)
        return;
    if (g == s->groups) {
        s->best = busiest;
        return;
    }
    for (int node = 0; node < s->nodes; node++) {
        bool seen = s->used[node] == s->room;
        int64_t load = s->load[node] + s->group[g];

        for (int other = 0; other < node; other++)
            seen |= s->load[other] == s->load[node] && s->used[other] == s->used[node];
        if (seen)
            continue;
        s->load[node] = load;
        s->used[node]++;
        try_group(s, g + 1, load > busiest ? load : busiest);
        s->load[node] -= s->group[g];
        s->used[node]--;
    }
}

/* The least load of the busiest node: exact for few groups, else the mean. */
static double busiest_node(const struct bound *b, int64_t total)
{
    struct search s = {
        .group = b->group, .groups = b->groups, .nodes = b->nodes, .room = b->groups / b->nodes};

    if (b->groups > EXACT_GROUPS)
        return (double)total / b->nodes;
    s.best = INT64_MAX;
    s.floor = (total + b->nodes - 1) / b->nodes;
    try_group(&s, 0, 0);
    return (double)s.best;
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

/* The terms of groups that must stay on one node. */
static double bound_nodes(struct bound *b, const int64_t *load, int64_t total)
{
    int size = b->shape.experts / b->groups, per_node = b->shape.ranks / b->nodes;
    int spare = (b->shape.slots - b->shape.experts) / b->nodes;
    double most = 0.0;

    for (int g = 0; g < b->groups; g++) {
        b->group[g] = 0;
        for (int i = 0; i < size; i++)
            b->group[g] += load[g * size + i];
        most = larger(most, (double)b->group[g] / per_node);
        most = larger(most, least_share(b, load + (ptrdiff_t)g * size, size, size + spare));
    }
    sort_groups(b);
    return larger(most, busiest_node(b, total) / per_node);
}

enum status bound_layer(struct bound *b, const int64_t *load, double *bound)
{
    const struct placement_shape *shape = &b->shape;
    int64_t total = 0, company;
    double most;

    TRY(check_loads(load, shape->experts));
    for (int e = 0; e < shape->experts; e++)
        total += load[e];
    most = (double)total / shape->ranks;
    if (b->nodes > 1)
        most = larger(most, bound_nodes(b, load, total));
    else
        most = larger(most, least_share(b, load, shape->experts, shape->slots));
    if (shape->slots == shape->experts) {
        for (int e = 0; e < shape->experts; e++)
            b->sorted[e] = (uint64_t)load[e];
        order_rising(b->sorted, b->other, shape->experts);
        company = (int64_t)b->sorted[shape->experts - 1];
        for (int i = 0; i < shape->slots / shape->ranks - 1; i++)
            company += (int64_t)b->sorted[i];
        most = larger(most, (double)company);
    }
    *bound = most;
    return STATUS_OK;
}
