/* logsum.c - log(exp(a) + exp(b) + ...) over a vocabulary that is cut anywhere, always with the same bits
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/logsum.h"

#include <math.h>

void logsum_start(struct logsum *s, int chunk)
{
    s->next = chunk;
    s->count = 0;
}

static struct logsum_node add(struct logsum_node a, struct logsum_node b)
{
    double most = a.most > b.most ? a.most : b.most;

    if (most == -HUGE_VAL)
        return (struct logsum_node){.most = most, .sum = a.sum + b.sum}; /* 0, or a NaN that must stay */
    return (struct logsum_node){.most = most, .sum = a.sum * exp(a.most - most) + b.sum * exp(b.most - most)};
}

void logsum_push(struct logsum *s, int level, struct logsum_node node)
{
    s->next += 1 << level;
    /* A node joins the one before it when both are the halves of a larger one. */
    while (s->count > 0 && s->level[s->count - 1] == level && (s->next & ((2 << level) - 1)) == 0) {
        node = add(s->node[--s->count], node);
        level++;
    }
    s->node[s->count] = node;
    s->level[s->count++] = level;
}

int logsum_level(int chunk, int end)
{
    int level = 0;

    while ((chunk & ((2 << level) - 1)) == 0 && (2 << level) <= end - chunk)
        level++;
    return level;
}

int logsum_nodes(int first, int end)
{
    int nodes = 0;

    for (; first < end; first += 1 << logsum_level(first, end))
        nodes++;
    return nodes;
}

double logsum_value(const struct logsum *s)
{
    struct logsum_node all = {.most = -HUGE_VAL};

    /* The nodes of a range from 0 fall in size; the small ones first, in an order that the number of chunks
     * alone decides. */
    for (int i = s->count; i-- > 0;)
        all = add(s->node[i], all);
    return all.most + log(all.sum);
}
