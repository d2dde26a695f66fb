/* order.c - sorting numbers with their owners, without taking memory
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "eplb/order.h"

#include <string.h>

static void merge(uint64_t *out, const uint64_t *left, int lefts, const uint64_t *right, int rights)
{
    int l = 0, r = 0;

    while (l < lefts && r < rights) {
        if (left[l] <= right[r]) {
            out[l + r] = left[l];
            l++;
        } else {
            out[l + r] = right[r];
            r++;
        }
    }
    memcpy(out + l + r, left + l, (size_t)(lefts - l) * sizeof *out);
    memcpy(out + lefts + r, right + r, (size_t)(rights - r) * sizeof *out);
}

void order_rising(uint64_t *key, uint64_t *other, int count)
{
    uint64_t *from = key, *to = other;

    for (int run = 1; run < count; run *= 2) {
        uint64_t *swap = from;

        for (int at = 0; at < count; at += 2 * run) {
            int lefts = count - at < run ? count - at : run;
            int rights = count - at - lefts < run ? count - at - lefts : run;

            merge(to + at, from + at, lefts, from + at + lefts, rights);
        }
        from = to;
        to = swap;
    }
    if (from != key)
        memcpy(key, from, (size_t)count * sizeof *key);
}

void order_sink(uint64_t *heap, int count, int at)
{
    uint64_t moved = heap[at];

    for (;;) {
        int child = 2 * at + 1;

        if (child >= count)
            break;
        child += child + 1 < count && heap[child + 1] < heap[child];
        if (heap[child] >= moved)
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = moved;
}
