/* groups.c - groups of experts to nodes, so that the busiest node has as little to do as can be
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "eplb/groups.h"

#include <stdbool.h>
#include <string.h>

struct search {
    const struct groups *g;
    int32_t *node;       /* the best so far */
    int64_t best, floor; /* nothing below floor exists: stop there */
};

static int64_t per_rank(const struct groups *g, int node, int64_t load)
{
    return load / (g->live[node] > 0 ? g->live[node] : 1);
}

static bool alike(const struct groups *g, int a, int b)
{
    return g->node_load[a] == g->node_load[b] && g->room[a] - g->used[a] == g->room[b] - g->used[b] &&
           g->live[a] == g->live[b];
}

/* Nodes alike in load, room and ranks are tried once. */
static void try_group(struct search *s, int group, int64_t busiest)
{
    const struct groups *g = s->g;

    if (busiest >= s->best || s->best <= s->floor)
        return;
    if (group == g->groups) {
        s->best = busiest;
        memcpy(s->node, g->trial, sizeof *s->node * (size_t)g->groups);
        return;
    }
    for (int node = 0; node < g->nodes; node++) {
        bool seen = g->used[node] == g->room[node];
        int64_t here;

        for (int other = 0; other < node && !seen; other++)
            seen = alike(g, node, other);
        if (seen)
            continue;
        g->node_load[node] += g->load[group];
        g->used[node]++;
        g->trial[group] = node;
        here = per_rank(g, node, g->node_load[node]);
        try_group(s, group + 1, here > busiest ? here : busiest);
        g->node_load[node] -= g->load[group];
        g->used[node]--;
    }
}

/* Heavy groups first, each to the node that is least busy with it and has room. */
static void deal(const struct groups *g, int32_t *node)
{
    for (int i = 0; i < g->groups; i++) {
        int best = -1;

        for (int v = 0; v < g->nodes; v++) {
            if (g->used[v] < g->room[v] &&
                (best < 0 || per_rank(g, v, g->node_load[v] + g->load[i]) <
                                 per_rank(g, best, g->node_load[best] + g->load[i])))
                best = v;
        }
        node[i] = best;
        g->used[best]++;
        g->node_load[best] += g->load[i];
    }
}

static int busiest_node(const struct groups *g)
{
    int busiest = 0;

    for (int v = 1; v < g->nodes; v++) {
        if (per_rank(g, v, g->node_load[v]) > per_rank(g, busiest, g->node_load[busiest]))
            busiest = v;
    }
    return busiest;
}

/* The swap of a group of the busiest node that leaves the least; false when none helps. */
static bool swap_best(const struct groups *g, int32_t *node)
{
    int m = busiest_node(g), from = -1, with = -1;
    int64_t best = per_rank(g, m, g->node_load[m]);

    for (int a = 0; a < g->groups; a++) {
        if (node[a] != m)
            continue;
        for (int b = 0; b < g->groups; b++) {
            int64_t less = g->load[a] - g->load[b], here, there;

            if (node[b] == m || less <= 0)
                continue;
            here = per_rank(g, m, g->node_load[m] - less);
            there = per_rank(g, node[b], g->node_load[node[b]] + less);
            here = here > there ? here : there;
            if (here < best) {
                best = here;
                from = a;
                with = b;
            }
        }
    }
    if (from < 0)
        return false;
    g->node_load[m] -= g->load[from] - g->load[with];
    g->node_load[node[with]] += g->load[from] - g->load[with];
    node[from] = node[with];
    node[with] = m;
    return true;
}

int64_t groups_spread(const struct groups *g, int32_t *node)
{
    struct search s = {.g = g, .node = node, .best = INT64_MAX};
    int64_t total = 0, ranks = 0;
    int m;

    memset(g->node_load, 0, sizeof *g->node_load * (size_t)g->nodes);
    memset(g->used, 0, sizeof *g->used * (size_t)g->nodes);
    if (g->groups <= GROUPS_EXACT) {
        for (int i = 0; i < g->groups; i++)
            total += g->load[i];
        for (int v = 0; v < g->nodes; v++)
            ranks += g->live[v] > 0 ? g->live[v] : 1;
        s.floor = total / ranks;
        try_group(&s, 0, 0);
        return s.best;
    }
    deal(g, node);
    for (int round = 0; round < 4 * g->groups && swap_best(g, node); round++)
        ;
    m = busiest_node(g);
    return per_rank(g, m, g->node_load[m]);
}
