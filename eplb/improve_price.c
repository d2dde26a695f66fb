/* improve_price.c - what steps to a better placement cost: slots that change, and experts that must be sent
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "eplb/improve_price.h"

#include <string.h>

enum status improve_price_open(struct improve_price *p, struct arena *arena, const struct capped *capped)
{
    size_t slots = (size_t)capped->slots, words = (size_t)capped->words;

    *p = (struct improve_price){.capped = capped};
    TRY(arena_take_array(arena, slots, sizeof *p->present, "present placement", &p->present));
    TRY(arena_take_array(arena, (size_t)capped->experts * words, sizeof *p->had, "hosts at first", &p->had));
    return arena_take_array(arena, (size_t)capped->ranks * words, sizeof *p->mates, "ranks that share",
                            &p->mates);
}

void improve_price_share(struct improve_price *p, const int32_t *share)
{
    int ranks = p->capped->ranks, words = p->capped->words;

    memset(p->mates, 0, sizeof *p->mates * (size_t)ranks * (size_t)words);
    p->shares = share != NULL;
    for (int r = 0; share && r < ranks; r++)
        for (int other = 0; other < ranks; other++)
            if (share[other] == share[r])
                p->mates[(ptrdiff_t)r * words + other / 64] |= (uint64_t)1 << (other % 64);
}

void improve_price_start(struct improve_price *p)
{
    const struct capped *c = p->capped;

    memcpy(p->present, c->item, sizeof *p->present * (size_t)c->slots);
    memcpy(p->had, c->host, sizeof *p->had * (size_t)c->experts * (size_t)c->words);
}

/* The lowest rank of those that share memory with `rank` among the hosts [E, words] of an expert; -1: none.
 */
static int first_mate(const struct improve_price *p, const uint64_t *hosts, int expert, int rank)
{
    int words = p->capped->words;

    for (int w = 0; w < words; w++) {
        uint64_t both = hosts[(ptrdiff_t)expert * words + w] & p->mates[(ptrdiff_t)rank * words + w];

        if (both)
            return w * 64 + __builtin_ctzll(both);
    }
    return -1;
}

int improve_price_moves(const struct improve_price *p)
{
    int moves = 0;

    for (int s = 0; s < p->capped->slots; s++)
        moves += p->capped->item[s] != p->present[s];
    return moves;
}

int improve_price_sent(const struct improve_price *p)
{
    const struct capped *c = p->capped;
    int sent = 0;

    if (!p->shares)
        return improve_price_moves(p);
    for (int s = 0; s < c->slots; s++) {
        int e = c->item[s], rank = c->rank[s];

        if (e >= 0 && e != p->present[s])
            sent += first_mate(p, p->had, e, rank) < 0 && first_mate(p, c->host, e, rank) == rank;
    }
    return sent;
}

int improve_price_step(const struct improve_price *p, const int32_t *slot, const int32_t *expert, int count)
{
    int price = 0;

    for (int i = 0; i < count; i++) {
        int rank = p->capped->rank[slot[i]];

        price +=
            first_mate(p, p->had, expert[i], rank) < 0 && first_mate(p, p->capped->host, expert[i], rank) < 0;
    }
    return price;
}
