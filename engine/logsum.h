/* logsum.h - log(exp(a) + exp(b) + ...) over a vocabulary that is cut anywhere, always with the same bits
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Ids stand in chunks of SOFTMAX_CHUNK, whose sums a backend makes (kernels' softmax), and the chunks are the
 * leaves of one fixed binary tree: node (level l, chunk c), c a multiple of 2^l, covers the chunks c ... c +
 * 2^l - 1. A node is the sum of its two halves, a leaf its chunk's sum, so its bits depend on nothing but its
 * logits. Whoever holds a range of chunks sends the few largest nodes that lie wholly in it (at most two of
 * each level), and whoever gets the nodes of all ranges joins them into the same tree, wherever the cuts
 * were. So a sum is finished over ranks without one of them adding in an order of its own.
 *
 *     logsum_start      a range that begins at this chunk
 *     logsum_push       its chunks, or nodes that others have made, in rising order
 *     logsum_value      the sum of a range that begins at chunk 0 */
#ifndef LOGSUM_H
#define LOGSUM_H

enum { LOGSUM_NODES = 64 };

/* exp(most) * sum, all ids' terms being at most exp(most). */
struct logsum_node {
    double most;
    double sum;
};

/* The largest nodes of a range so far, in rising order. */
struct logsum {
    int next; /* chunk behind the range */
    int count;
    struct logsum_node node[LOGSUM_NODES];
    int level[LOGSUM_NODES];
};

void logsum_start(struct logsum *s, int chunk);

/* The next node, of this level (a chunk is of level 0); it must begin at a multiple of its own size. */
void logsum_push(struct logsum *s, int level, struct logsum_node node);

/* The level of the largest node that begins at `chunk` and ends no later than `end`: the nodes of a range
 * one by one. */
int logsum_level(int chunk, int end);

/* How many nodes chunks first ... end - 1 make. */
int logsum_nodes(int first, int end);

/* The logarithm of the sum; NaN when a logit was none, or not finite above. -inf: nothing, or all were. */
double logsum_value(const struct logsum *s);

#endif
