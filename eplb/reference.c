/* reference.c - DeepSeek's rebalance, to the last bit
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "eplb/reference.h"

#include "eplb/order.h"

#include <math.h>

struct reference_memory {
    int groups, nodes; /* of the branch taken */
    uint64_t *key;     /* [R] what is sorted */
    uint64_t *heap;    /* [R] of packs or experts; the second half of sorting before */
    float *sum;        /* [packs] */
    int32_t *used;     /* [packs] items in each */
    float *weight;     /* [R] of groups, then of slots */
    float *quotient;   /* [E] load of one replica */
    int32_t *pack;     /* [R] pack of an item */
    int32_t *place;    /* [R] its place in the pack */
    int32_t *order;    /* [E] experts in node order */
    int32_t *owner;    /* [R] expert of a slot in the order of creation, by its number in its node */
    int32_t *number;   /* [R] its replica number */
    int32_t *position; /* [R] the slot it became */
    int32_t *count;    /* [E / nodes] replicas */
};

enum status reference_take(struct reference *r, struct arena *arena, const struct placement_shape *shape)
{
    struct reference open = {.shape = *shape};
    struct reference_memory *m;
    size_t layers, experts, slots;

    TRY(placement_check(shape));
    layers = (size_t)shape->layers;
    experts = (size_t)shape->experts;
    slots = (size_t)shape->slots;
    TRY(arena_take(arena, sizeof *m, "reference planner", &m));
    m->groups = shape->groups % shape->nodes ? 1 : shape->groups;
    m->nodes = shape->groups % shape->nodes ? 1 : shape->nodes;
    TRY(arena_take_array(arena, layers * slots, sizeof(int32_t), "experts of slots", &open.expert));
    TRY(arena_take_array(arena, layers * experts, sizeof(int32_t), "replica counts", &open.replicas));
    TRY(arena_take_array(arena, layers * (experts + 1), sizeof(int32_t), "replica lists", &open.first));
    TRY(arena_take_array(arena, layers * slots, sizeof(int32_t), "slots of experts", &open.slot));
    TRY(arena_take_array(arena, slots, sizeof(uint64_t), "sorting", &m->key));
    TRY(arena_take_array(arena, slots, sizeof(uint64_t), "packs by sum", &m->heap));
    TRY(arena_take_array(arena, slots, sizeof(float), "pack sums", &m->sum));
    TRY(arena_take_array(arena, slots, sizeof(int32_t), "pack sizes", &m->used));
    TRY(arena_take_array(arena, slots, sizeof(float), "weights", &m->weight));
    TRY(arena_take_array(arena, experts, sizeof(float), "replica loads", &m->quotient));
    TRY(arena_take_array(arena, slots, sizeof(int32_t), "packs", &m->pack));
    TRY(arena_take_array(arena, slots, sizeof(int32_t), "places", &m->place));
    TRY(arena_take_array(arena, experts, sizeof(int32_t), "node order", &m->order));
    TRY(arena_take_array(arena, slots, sizeof(int32_t), "owners", &m->owner));
    TRY(arena_take_array(arena, slots, sizeof(int32_t), "replica numbers", &m->number));
    TRY(arena_take_array(arena, slots, sizeof(int32_t), "positions", &m->position));
    TRY(arena_take_array(arena, experts, sizeof(int32_t), "replicas", &m->count));
    open.memory = m;
    *r = open;
    return STATUS_OK;
}

/* Items in falling order, equal ones by rising number, go to the pack with the least sum that has room. One
 * item each: no sorting, item i to pack i. */
static void pack_items(struct reference_memory *m, const float *weight, int count, int packs)
{
    int room = count / packs, open = packs;

    for (int i = 0; i < count; i++) {
        m->pack[i] = i;
        m->place[i] = 0;
        m->key[i] = order_key_falling(weight[i], i);
    }
    if (room == 1)
        return;
    order_rising(m->key, m->heap, count);
    for (int p = 0; p < packs; p++) {
        m->sum[p] = 0.0f;
        m->used[p] = 0;
        m->heap[p] = order_key(0.0f, p);
    }
    for (int i = 0; i < count; i++) {
        int item = order_owner(m->key[i]), pack = order_owner(m->heap[0]);

        m->pack[item] = pack;
        m->place[item] = m->used[pack]++;
        m->sum[pack] += weight[item];
        m->heap[0] = m->used[pack] < room ? order_key(m->sum[pack], pack) : m->heap[--open];
        if (open > 0)
            order_sink(m->heap, open, 0);
    }
}

/* Groups to nodes; m->order becomes the experts node by node, group by group. */
static void order_experts(struct reference_memory *m, const struct placement_shape *shape,
                          const float *weight)
{
    int size = shape->experts / m->groups, per_node = m->groups / m->nodes;

    for (int g = 0; g < m->groups; g++) {
        m->weight[g] = 0.0f;
        for (int i = 0; i < size; i++)
            m->weight[g] += weight[g * size + i];
    }
    pack_items(m, m->weight, m->groups, m->nodes);
    for (int e = 0; e < shape->experts; e++) {
        int g = e / size;

        m->order[(m->pack[g] * per_node + m->place[g]) * size + e % size] = e;
    }
}

/* Spare slots, one by one, to the expert whose replicas carry most. `order` holds the node's experts. */
static void replicate(struct reference_memory *m, const int32_t *order, int experts, int slots,
                      const float *weight, int32_t *owner, int32_t *number)
{
    for (int i = 0; i < experts; i++) {
        owner[i] = i;
        number[i] = 0;
        m->count[i] = 1;
        m->quotient[i] = weight[order[i]];
        m->heap[i] = order_key_falling(m->quotient[i], i);
    }
    for (int i = experts / 2 - 1; i >= 0; i--)
        order_sink(m->heap, experts, i);
    for (int s = experts; s < slots; s++) {
        int busiest = order_owner(m->heap[0]);

        owner[s] = busiest;
        number[s] = m->count[busiest]++;
        m->quotient[busiest] = weight[order[busiest]] / (float)m->count[busiest];
        m->heap[0] = order_key_falling(m->quotient[busiest], busiest);
        order_sink(m->heap, experts, 0);
    }
}

/* Slots of one node to its ranks. */
static void place_node(struct reference *r, int layer, int node, const float *weight)
{
    struct reference_memory *m = r->memory;
    const struct placement_shape *shape = &r->shape;
    int experts = shape->experts / m->nodes, slots = shape->slots / m->nodes, first = node * slots;
    int per_rank = shape->slots / shape->ranks;
    const int32_t *order = m->order + node * experts;
    int32_t *expert = r->expert + (ptrdiff_t)layer * shape->slots;
    int32_t *replicas = r->replicas + (ptrdiff_t)layer * shape->experts;

    replicate(m, order, experts, slots, weight, m->owner + first, m->number + first);
    for (int s = 0; s < slots; s++)
        m->weight[s] = m->quotient[m->owner[first + s]];
    pack_items(m, m->weight, slots, shape->ranks / m->nodes);
    for (int s = 0; s < slots; s++) {
        m->position[first + s] = first + m->pack[s] * per_rank + m->place[s];
        expert[m->position[first + s]] = order[m->owner[first + s]];
    }
    for (int i = 0; i < experts; i++)
        replicas[order[i]] = m->count[i];
}

/* The slots of every expert, in the order of their creation. */
static void list_slots(struct reference *r, int layer)
{
    const struct reference_memory *m = r->memory;
    int experts = r->shape.experts, slots = r->shape.slots / m->nodes;
    const int32_t *replicas = r->replicas + (ptrdiff_t)layer * experts;
    const int32_t *expert = r->expert + (ptrdiff_t)layer * r->shape.slots;
    int32_t *first = r->first + (ptrdiff_t)layer * (experts + 1);
    int32_t *slot = r->slot + (ptrdiff_t)layer * r->shape.slots;

    first[0] = 0;
    for (int e = 0; e < experts; e++)
        first[e + 1] = first[e] + replicas[e];
    for (int i = 0; i < slots * m->nodes; i++)
        slot[first[expert[m->position[i]]] + m->number[i]] = m->position[i];
}

static void plan_layer(struct reference *r, int layer, const float *weight)
{
    order_experts(r->memory, &r->shape, weight);
    for (int node = 0; node < r->memory->nodes; node++)
        place_node(r, layer, node, weight);
    list_slots(r, layer);
}

enum status reference_plan(struct reference *r, const float *weight)
{
    for (int layer = 0; layer < r->shape.layers; layer++) {
        for (int e = 0; e < r->shape.experts; e++) {
            float load = weight[(ptrdiff_t)layer * r->shape.experts + e];

            if (!isfinite(load) || load < 0.0f)
                return FAIL(STATUS_BAD_INPUT, "load of expert %d in layer %d is %g", e, layer, (double)load);
        }
    }
    for (int layer = 0; layer < r->shape.layers; layer++)
        plan_layer(r, layer, weight + (ptrdiff_t)layer * r->shape.experts);
    return STATUS_OK;
}
