/* range.h - dividing things that stand in a row among parts as evenly as possible
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Ranks share columns, heads, experts and vocabulary by this one rule, threads share columns by it. */
#ifndef RANGE_H
#define RANGE_H

struct range {
    int first;
    int count;
};

/* Part `part` of `parts` of 0 ... things - 1: contiguous, sizes differ by at most one, the larger parts
 * first. */
static inline struct range range_share(int things, int parts, int part)
{
    int small = things / parts;
    int larger = things % parts;
    struct range share = {.first = part * small + (part < larger ? part : larger),
                          .count = small + (part < larger)};

    return share;
}

/* The part that holds `thing`, the inverse of range_share. */
static inline int range_part(int things, int parts, int thing)
{
    int small = things / parts;
    int larger = things % parts;
    int border = larger * (small + 1);

    return thing < border ? thing / (small + 1) : larger + (thing - border) / small;
}

#endif
