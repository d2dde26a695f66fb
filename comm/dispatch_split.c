/* dispatch_split.c - what was planned for a layer's rows, shared out over its two cohorts
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "comm/dispatch_split.h"

#include <string.h>

/* Slots take the expert's rows one after another. Of the first n of its `all` rows, n * part / all are the
 * first cohort's, so that its rows and the other's run out together. */
static void split_expert(const int32_t *replica, int replicas, int64_t all, int64_t part,
                         const int32_t *counts, int32_t *one)
{
    int64_t passed = 0, taken = 0;

    for (int i = 0; i < replicas; i++) {
        int64_t until;

        passed += counts[replica[i]];
        until = passed * part / all;
        one[replica[i]] = (int32_t)(until - taken);
        taken = until;
    }
}

void dispatch_split(const struct placement *p, int layer, const int32_t *wanted, const int32_t *first,
                    const int32_t *counts, int32_t *one)
{
    const int32_t *from = p->first + (ptrdiff_t)layer * (p->experts + 1);
    const int32_t *replica = p->replica + (ptrdiff_t)layer * p->slots;

    memset(one, 0, (size_t)p->ranks * (size_t)p->slots * sizeof *one);
    for (int r = 0; r < p->ranks; r++)
        for (int e = 0; e < p->experts; e++) {
            ptrdiff_t at = (ptrdiff_t)r * p->experts + e, slots = (ptrdiff_t)r * p->slots;

            if (wanted[at] > 0)
                split_expert(replica + from[e], from[e + 1] - from[e], wanted[at], first[at], counts + slots,
                             one + slots);
        }
}
