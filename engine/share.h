/* share.h - how the rows of a step are divided among prompts
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Half of the rows, rounded up, go to prompts in their order, as far as they reach; the others to those that
 * have least left. So the first prompt is never slower than half the
 * speed it would have alone, and a short one need not wait for long ones before it. */
#ifndef SHARE_H
#define SHARE_H

#include "engine/base/arena.h"

#include <stdint.h>

struct share {
    int *left;     /* [most] rows that each could take, in order; written by the caller */
    int *rows;     /* [most] what each gets; written by share_rows */
    uint64_t *key; /* [2 * most] for sorting */
    int most;
};

enum status share_open(struct share *s, struct arena *arena, int most);

/* Divides `budget` rows among the first `count`. */
void share_rows(struct share *s, int count, int budget);

#endif
