/* groups.h - groups of experts to nodes, so that the busiest node has as little to do as can be
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef GROUPS_H
#define GROUPS_H

#include <stdint.h>

enum { GROUPS_EXACT = 12 }; /* groups up to which the best way is found for certain */

struct groups {
    int groups, nodes;
    const int64_t *load; /* [groups] falling */
    const int32_t *room; /* [nodes] groups that each node gets; their sum is all */
    const int32_t *live; /* [nodes] ranks that share the load of each */
    int64_t *node_load;  /* [nodes] workspace */
    int32_t *used;       /* [nodes] workspace */
    int32_t *trial;      /* [groups] workspace */
};

/* node [groups] of each group. Returns the load of the busiest node for each of its live ranks, rounded down;
 * a node without them gets no load if that can be. */
int64_t groups_spread(const struct groups *g, int32_t *node);

#endif
