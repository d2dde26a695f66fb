/* share.c - how the rows of a step are divided among prompts
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/share.h"

#include "eplb/order.h"

enum status share_open(struct share *s, struct arena *arena, int most)
{
    *s = (struct share){.most = most};
    TRY(arena_take_array(arena, (size_t)most, sizeof *s->left, "rows that are left", &s->left));
    TRY(arena_take_array(arena, (size_t)most, sizeof *s->rows, "shares of rows", &s->rows));
    return arena_take_array(arena, 2 * (size_t)most, sizeof *s->key, "order of shares", &s->key);
}

/* Gives prompt i what it still can take of *rows. */
static void give(struct share *s, int i, int *rows)
{
    int more = s->left[i] - s->rows[i];

    if (more > *rows)
        more = *rows;
    s->rows[i] += more;
    *rows -= more;
}

void share_rows(struct share *s, int count, int budget)
{
    int in_order = budget - budget / 2;
    int rest;

    for (int i = 0; i < count; i++) {
        s->rows[i] = 0;
        give(s, i, &in_order);
        s->key[i] = (uint64_t)(uint32_t)s->left[i] << 32 | (uint32_t)i;
    }
    rest = budget / 2 + in_order;
    order_rising(s->key, s->key + count, count);
    for (int i = 0; i < count && rest > 0; i++)
        give(s, order_owner(s->key[i]), &rest);
}
