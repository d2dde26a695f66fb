/* plan_shape.c - what plans are made for, and whether it can work
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "eplb/plan_shape.h"

static int node_of(const struct plan_shape *shape, int rank)
{
    return shape->rank_node ? shape->rank_node[rank] : 0;
}

int plan_shape_nodes(const struct plan_shape *shape)
{
    return node_of(shape, shape->ranks - 1) + 1;
}

int plan_shape_slots(const struct plan_shape *shape, int rank)
{
    if (shape->gone && shape->gone[rank])
        return 0;
    return shape->rank_first[rank + 1] - shape->rank_first[rank];
}

int plan_shape_live(const struct plan_shape *shape)
{
    int live = 0;

    for (int r = 0; r < shape->ranks; r++)
        live += plan_shape_slots(shape, r) > 0;
    return live;
}

enum plan_levels plan_shape_levels(const struct plan_shape *shape, enum plan_levels levels)
{
    if (levels != PLAN_AUTO)
        return levels;
    return shape->groups % plan_shape_nodes(shape) ? PLAN_GLOBAL : PLAN_HIERARCHICAL;
}

static enum status check_ranks(const struct plan_shape *shape)
{
    if (shape->rank_first[0] != 0)
        return FAIL(STATUS_USAGE, "the slots of rank 0 begin at %d, not at 0", shape->rank_first[0]);
    for (int r = 0; r < shape->ranks; r++) {
        int node = node_of(shape, r), before = r ? node_of(shape, r - 1) : 0;

        if (shape->rank_first[r + 1] < shape->rank_first[r])
            return FAIL(STATUS_USAGE, "rank %d has %d slots; none may have less than 0", r,
                        shape->rank_first[r + 1] - shape->rank_first[r]);
        if (node != before && node != before + 1)
            return FAIL(STATUS_USAGE,
                        "rank %d is on node %d and the rank before on node %d: number the nodes"
                        " from 0, without gaps, in the order of ranks",
                        r, node, before);
    }
    return STATUS_OK;
}

static int live_slots(const struct plan_shape *shape, int before_node)
{
    int slots = 0;

    for (int r = 0; r < shape->ranks && node_of(shape, r) < before_node; r++)
        slots += plan_shape_slots(shape, r);
    return slots;
}

int plan_shape_homes(const struct plan_shape *shape, int node)
{
    int nodes = plan_shape_nodes(shape);
    int64_t all = live_slots(shape, nodes), from = live_slots(shape, node), to = live_slots(shape, node + 1);

    if (shape->groups > 1)
        return shape->experts / nodes;
    return (int)(shape->experts * to / all - shape->experts * from / all);
}

/* The numbers next to `number` that divide `of`. */
static int divisor(int of, int number, int step)
{
    while (number > 0 && number <= of && of % number)
        number += step;
    return number < 1 ? 1 : number > of ? of : number;
}

static enum status check_nodes(const struct plan_shape *shape)
{
    int nodes = plan_shape_nodes(shape);

    if (shape->groups > 1 && shape->groups % nodes)
        return FAIL(STATUS_USAGE,
                    "%d groups of experts do not share %d nodes alike: use %d or %d nodes, or plan globally",
                    shape->groups, nodes, divisor(shape->groups, nodes, -1),
                    divisor(shape->groups, nodes, 1));
    for (int node = 0; node < nodes; node++) {
        int slots = live_slots(shape, node + 1) - live_slots(shape, node);
        int homes = plan_shape_homes(shape, node);

        if (slots < homes)
            return FAIL(
                STATUS_USAGE,
                "node %d has %d live slots for the %d experts whose home it is: add %d there, or plan "
                "globally",
                node, slots, homes, homes - slots);
    }
    return STATUS_OK;
}

/* A rank holds an expert once, so slots beyond the number of experts are of no use. */
static enum status check_slots(const struct plan_shape *shape)
{
    int useful = 0, live = 0;

    for (int r = 0; r < shape->ranks; r++) {
        int slots = plan_shape_slots(shape, r);

        useful += slots < shape->experts ? slots : shape->experts;
        live += slots > 0;
    }
    if (live == 0)
        return FAIL(STATUS_USAGE, "none of the %d ranks is live and has slots: one is needed at least",
                    shape->ranks);
    if (useful < shape->experts)
        return FAIL(STATUS_USAGE,
                    "%d slots on %d live ranks cannot hold %d experts: use %d slots at least, %d on each of "
                    "these ranks",
                    useful, live, shape->experts, (shape->experts + live - 1) / live * live,
                    (shape->experts + live - 1) / live);
    return STATUS_OK;
}

enum status plan_shape_check(const struct plan_shape *shape, enum plan_levels levels)
{
    if (shape->layers < 1 || shape->experts < 1 || shape->groups < 1 || shape->ranks < 1)
        return FAIL(STATUS_USAGE, "%d layers, %d experts, %d groups, %d ranks: none may be below 1",
                    shape->layers, shape->experts, shape->groups, shape->ranks);
    TRY(check_ranks(shape));
    TRY(check_slots(shape));
    if (plan_shape_levels(shape, levels) == PLAN_GLOBAL)
        return STATUS_OK;
    if (shape->experts % shape->groups)
        return FAIL(STATUS_USAGE, "%d experts do not form %d equal groups: use %d or %d groups",
                    shape->experts, shape->groups, divisor(shape->experts, shape->groups, -1),
                    divisor(shape->experts, shape->groups, 1));
    return check_nodes(shape);
}
