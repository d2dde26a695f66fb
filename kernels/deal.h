/* deal.h - rows dealt out to ranks, and grouped where they arrive, for backends on the processor
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Few numbers and no sums: plain loops serve every such backend. What they do is said in kernels/kernels.h.
 */
#ifndef DEAL_H
#define DEAL_H

#include "kernels/kernels.h"

/* Can this be dealt at all? All backends ask. */
enum status deal_check(const struct deal *d);

enum status deal_rows(struct kernels *k, const struct deal *d);

enum status deal_group(struct kernels *k, struct matrix arrivals, int width, int slots, int32_t *order,
                       int32_t *first);

#endif
