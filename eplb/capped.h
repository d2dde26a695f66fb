/* capped.h - batches routed under a ceiling for every rank, while replicas come and go
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Several batches share one placement. For each, as many rows as can be are routed so that no rank has more
 * than its ceiling; the rest shows how far the placement is from the ceiling, and what a change of it gains
 * is what it routes of the rest. The flow of before stays, so trying a change is cheap. */
#ifndef CAPPED_H
#define CAPPED_H

#include "engine/base/arena.h"
#include "engine/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Rows of one batch; one piece of memory, so that they can be kept and put back. */
struct capped_batch {
    int64_t *flow; /* [slots] rows routed to a slot */
    int64_t *left; /* [E] rows without a slot */
    int64_t *room; /* [P] below the ceiling */
    int64_t rest;  /* sum of left */
    int64_t ceiling;
    const int64_t *demand; /* [E] */
    uint64_t *reached;     /* [words] ranks that the rest reaches: all full */
    size_t bytes;          /* of flow, left and room */
};

struct capped {
    int experts, slots, ranks, words;
    int batches;
    const int32_t *rank; /* [slots] */
    int32_t *item;       /* [slots] expert of a slot, -1: empty or not to be used */
    int32_t *replicas;   /* [E] */
    uint64_t *host;      /* [E, words] ranks that hold an expert */
    int32_t *slot_at;    /* [E, P] the slot in which a rank holds an expert; only where it does */
    int32_t *rank_first; /* [P + 1] */
    struct capped_batch *batch;
    int64_t *kept; /* a batch put by */
    int64_t kept_rest;

    /* of a search */
    int32_t *from_expert; /* [P] that reached a rank */
    int32_t *from_rank;   /* [E] that reached an expert, -1: has rows left */
    int32_t *queue;       /* [E] */
    uint64_t *seen;       /* [words of E] */
};

enum status capped_open(struct capped *c, struct arena *arena, int experts, const int32_t *rank_first,
                        int ranks, int batches);

/* The item of a slot becomes another (-1: none), in the placement only: no rows are moved. */
void capped_set(struct capped *c, int slot, int expert);

/* Routes batch b from nothing: demand [E] stays the caller's. */
void capped_start(struct capped *c, int b, const int64_t *demand, int64_t ceiling);

/* Takes the rows off a slot, before its item changes. */
void capped_release(struct capped *c, int b, int slot);

/* Routes as much of the rest as can be. */
void capped_route(struct capped *c, int b);

/* Puts the rows of a batch by, and back; one at a time. */
void capped_keep(struct capped *c, int b);
void capped_restore(struct capped *c, int b);

static inline bool capped_holds(const struct capped *c, int expert, int rank)
{
    return c->host[(ptrdiff_t)expert * c->words + rank / 64] >> (rank % 64) & 1;
}

static inline bool capped_reached(const struct capped *c, int b, int rank)
{
    return c->batch[b].reached[rank / 64] >> (rank % 64) & 1;
}

/* Are all hosts of an expert among the ranks that the rest of a batch reaches? */
static inline bool capped_inside(const struct capped *c, int b, int expert)
{
    const uint64_t *host = c->host + (ptrdiff_t)expert * c->words;
    uint64_t outside = 0;

    for (int w = 0; w < c->words; w++)
        outside |= host[w] & ~c->batch[b].reached[w];
    return outside == 0;
}

#endif
