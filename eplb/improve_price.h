/* improve_price.h - what steps to a better placement cost: slots that change, and experts that must be sent
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Every slot that gets another expert is a move. Where ranks share memory, an expert that one of them had at
 * first need not be sent to the others: their slots just point to it. */
#ifndef IMPROVE_PRICE_H
#define IMPROVE_PRICE_H

#include "engine/base/arena.h"
#include "engine/base/status.h"
#include "eplb/capped.h"

#include <stdbool.h>
#include <stdint.h>

struct improve_price {
    const struct capped *capped; /* the placement as it stands */
    int32_t *present;            /* [slots] what they held at first */
    uint64_t *had;               /* [E, words] ranks that held an expert at first */
    uint64_t *mates;             /* [P, words] ranks that share memory with a rank, itself among them */
    bool shares;                 /* do any? */
};

enum status improve_price_open(struct improve_price *p, struct arena *arena, const struct capped *capped);

/* share [ranks] as for moves_shared, or NULL. */
void improve_price_share(struct improve_price *p, const int32_t *share);

/* The placement as it stands is the first one. */
void improve_price_start(struct improve_price *p);

/* Slots that hold something else than at first. */
int improve_price_moves(const struct improve_price *p);

/* Those whose expert must be sent; where ranks share, once to all that share. */
int improve_price_sent(const struct improve_price *p);

/* Experts that must be sent beside those, when slot [count] get expert [count]. */
int improve_price_step(const struct improve_price *p, const int32_t *slot, const int32_t *expert, int count);

#endif
