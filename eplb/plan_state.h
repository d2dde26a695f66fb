/* plan_state.h - a layer while it is planned: who holds what, and what that weighs
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * A site is the part that is planned by itself: all live ranks and experts, or those of a node. */
#ifndef PLAN_STATE_H
#define PLAN_STATE_H

#include "engine/base/arena.h"
#include "engine/base/status.h"
#include "eplb/plan_shape.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What changes with every step of a plan: one piece of memory, so that it can be kept and put back. */
struct plan_state {
    void *memory;
    size_t bytes;
    int64_t *rank_load; /* [P] sum of shares */
    int64_t *share;     /* [E] of one replica */
    int64_t *more;      /* [E] the same with one more replica */
    int64_t *less;      /* [E] with one less; of a single replica: INT64_MAX */
    uint64_t *host;     /* [E, words] bit r: rank r holds a replica */
    int32_t *item;      /* [R] expert of a slot, -1: empty */
    int32_t *replicas;  /* [E] */
};

struct plan_layer {
    const struct plan_shape *shape;
    enum plan_levels levels; /* never auto */
    int nodes;
    int words;  /* of a set of ranks */
    bool alike; /* slots of replicated experts stay where they are in number */
    bool gaps;  /* slots may stay empty */
    struct plan_state now, best, start;

    int64_t *load;        /* [E] in units that leave fractions for the shares */
    int shift;            /* load = rows << shift */
    int32_t *home;        /* [E] node */
    uint64_t *node_ranks; /* [nodes, words] */
    int32_t *slots;       /* [P] usable: none when gone */
    int32_t *node;        /* [P] */

    /* the site */
    int32_t *rank;   /* [P] */
    int32_t *expert; /* [E] */
    int ranks, experts;
    int site_slots; /* that can be used: an expert is on a rank once */

    /* sorting and packing */
    uint64_t *key, *other; /* [max(E, R)] */
    int32_t *heap;         /* [E] */
    int32_t *used;         /* [P] slots */
    int64_t *open_load;    /* [P] of ranks with free slots; INT64_MAX: no rank of the site, or full */
    int32_t *doubles;      /* [P] slots of replicated experts */
    int32_t *pending;      /* [nodes] experts without a replica at home */
    int32_t *room;         /* [nodes] free slots */
    int limit, extras;     /* of doubles: each rank's share, and ranks that may have one more */
    bool dropped;          /* some replicas found no place */

    /* homes */
    int64_t *group_load, *sorted_load; /* [E] */
    int64_t *node_load;                /* [nodes] */
    int32_t *used_groups;              /* [nodes] */
    int32_t *trial;                    /* [E] */
    uint64_t random;
};

enum status plan_state_open(struct plan_layer *l, struct arena *arena, const struct plan_shape *shape);

/* Takes the loads of a layer; no replicas, no items. */
enum status plan_state_load(struct plan_layer *l, const int64_t *load);

static inline bool plan_state_holds(const struct plan_layer *l, int expert, int rank)
{
    return l->now.host[(ptrdiff_t)expert * l->words + rank / 64] >> (rank % 64) & 1;
}

static inline void plan_state_flip(struct plan_layer *l, int expert, int rank)
{
    l->now.host[(ptrdiff_t)expert * l->words + rank / 64] ^= (uint64_t)1 << (rank % 64);
}

/* Shares for `replicas` replicas of an expert; loads of ranks are not touched. */
void plan_state_share(struct plan_layer *l, int expert, int replicas);

/* May a replica leave rank `from`, another coming to rank `to` (-1: none)? On spilling levels one stays at
 * home. */
bool plan_state_leaves(const struct plan_layer *l, int expert, int from, int to);

/* Host sets, replicas, shares and loads of the site from its items. */
void plan_state_rebuild(struct plan_layer *l);

/* Load of the busiest rank of the site. */
int64_t plan_state_most(const struct plan_layer *l);

static inline void plan_state_copy(struct plan_state *to, const struct plan_state *from)
{
    __builtin_memcpy(to->memory, from->memory, from->bytes);
}

#endif
