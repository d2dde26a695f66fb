/* cpu_attend.h - attention over keys and values in pages
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * The law: a row goes through the pages that it sees by rising position, one page at a time (online softmax);
 * sums run over the 16 positions of a page in order. That other rows and heads pass by the same page changes
 * none of it. */
#ifndef CPU_ATTEND_H
#define CPU_ATTEND_H

#include "kernels/cpu/cpu_path.h"

/* Queries (rows times heads of one key-value head) that pass by a page together, at most. */
enum { ATTEND_QUERIES = 64, ATTEND_ROWS = 16 };

/* The first position that a query at `position` sees. */
static inline int cpu_attend_first(const struct attention *a, int position)
{
    if (a->mask == MASK_CHUNK)
        return position - position % a->mask_size;
    if (a->mask == MASK_WINDOW && position >= a->mask_size)
        return position - a->mask_size + 1;
    return 0;
}

/* A stage of cpu_path.h: threads take (rows, key-value head) after each other. */
void cpu_attend(const void *job, int part, int parts);

#endif
