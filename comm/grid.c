/* grid.c - which ranks work together: D data groups of T tensor ranks, experts over all
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "comm/grid.h"

#include <stdio.h>
#include <string.h>

/* The divisors of `ranks` next to `wanted`, below and above, in words. */
static void nearest(char *text, size_t size, int ranks, int wanted)
{
    int below = 0, above = 0;

    for (int d = 1; d <= ranks; d++) {
        if (ranks % d)
            continue;
        if (d < wanted)
            below = d;
        else if (!above)
            above = d;
    }
    if (below && above)
        snprintf(text, size, "%d or %d", below, above);
    else
        snprintf(text, size, "%d", below ? below : above);
}

static enum status check_divisor(const char *option, int wanted, int ranks, const char *why)
{
    char fits[32];

    if (wanted >= 1 && wanted <= ranks && ranks % wanted == 0)
        return STATUS_OK;
    nearest(fits, sizeof fits, ranks, wanted);
    return FAIL(STATUS_USAGE, "%s %d does not divide %d rank%s %s: use %s, or another number of ranks",
                option, wanted, ranks, ranks == 1 ? "" : "s", why, fits);
}

enum status grid_check(int ranks, int tensor, int expert_ranks)
{
    if (ranks < 1)
        return FAIL(STATUS_BUG, "a grid of %d ranks", ranks);
    if (tensor != 0)
        TRY(check_divisor("--tensor-parallel-size", tensor, ranks, "into equal groups"));
    if (expert_ranks != 0)
        TRY(check_divisor("--expert-parallel-size", expert_ranks, ranks, "into equal copies of the experts"));
    return STATUS_OK;
}

enum status grid_shape(struct grid *g, int ranks, int rank, int tensor, int expert_ranks)
{
    TRY(grid_check(ranks, tensor, expert_ranks));
    if (rank < 0 || rank >= ranks)
        return FAIL(STATUS_BUG, "rank %d of %d", rank, ranks);
    memset(g, 0, sizeof *g);
    g->ranks = ranks;
    g->rank = rank;
    g->tensor = tensor ? tensor : 1;
    g->groups = ranks / g->tensor;
    g->my_group = rank / g->tensor;
    g->my_part = rank % g->tensor;
    g->expert_ranks = expert_ranks ? expert_ranks : ranks;
    return STATUS_OK;
}

enum status grid_open(struct grid *g, struct comm *world, struct comm *group, int tensor, int expert_ranks)
{
    struct grid shape;

    TRY(grid_shape(&shape, world->size, world->rank, tensor, expert_ranks));
    if (group->size != shape.tensor || group->rank != shape.my_part)
        return FAIL(STATUS_BUG, "rank %d is %d of %d in its group, the grid says %d of %d", shape.rank,
                    group->rank, group->size, shape.my_part, shape.tensor);
    shape.world = world;
    shape.group = group;
    shape.rows = world;
    shape.group_rows = group;
    *g = shape;
    return STATUS_OK;
}

struct range grid_rows(const struct grid *g, int rows, int part)
{
    return range_share(rows, g->tensor, part);
}
