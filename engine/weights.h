/* weights.h - the slices of a model that one rank holds
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Matrices are split by output column, experts whole. Which tensor has which name is the family's
 * description; what is split how stands here once for all families. A rank reads only the bytes it holds. */
#ifndef WEIGHTS_H
#define WEIGHTS_H

#include "comm/grid.h"
#include "engine/base/arena.h"
#include "engine/config.h"
#include "engine/safetensors.h"
#include "engine/weights_node.h"
#include "eplb/placement.h"
#include "kernels/kernels.h"

/* Gate and up of one block, [2F', D]: F' gate rows, then F' up rows; down [D', F]. F' and D' are this rank's
 * share. */
struct weights_block {
    struct weight gate_up;
    struct weight down;
};

struct weights_layer {
    float *attention_norm;            /* [D], backend memory */
    struct weight qkv;                /* [own heads * W + 2 * own kv heads * W, D]: q rows, k rows, v rows */
    float *qkv_bias;                  /* the same rows; NULL: none */
    struct weight out;                /* [own D columns, H * W] */
    float *out_bias;                  /* [own D columns]; NULL: none */
    float *query_norm, *key_norm;     /* [W], or own heads * W; NULL: none */
    float *feed_norm;                 /* [D] */
    struct weights_block dense;       /* dense layers */
    struct weights_block shared;      /* shared expert; rows == 0: none */
    struct weight router;             /* [E, D] */
    float *route_bias;                /* [E]; NULL: none */
    struct weight *gate_up;           /* [own slots] [2F, D] */
    struct weight *down;              /* [own slots] [D, F] */
    size_t gate_up_bytes, down_bytes; /* of each slot, here and on all ranks */
};

struct weights {
    struct kernels *kernels;
    struct range heads;                         /* query heads of this rank */
    struct range kv_heads;                      /* key-value heads it needs */
    struct range columns;                       /* of D, for out and down projections */
    struct range dense_columns, shared_columns; /* of F */
    struct range vocabulary;                    /* rows of embedding and head */
    struct weight embedding;                    /* [own vocabulary rows, D] */
    struct weight head;                         /* the same rows; the embedding itself when tied */
    float *final_norm;                          /* [D] */
    struct weights_layer *layer;                /* [layers] */
    struct weights_node node;                   /* where experts lie that ranks share */
    size_t bytes;                               /* of all weights on this rank */
    void **memory;                              /* [memory_count] what the backend gave */
    int memory_count;
    struct arena arena; /* the structures above */
};

/* Which heads, columns, vocabulary this rank holds; needs no tensors. */
enum status weights_share(struct weights *w, const struct config *c, const struct grid *g);

/* The key-value heads that part `part` of the group needs for its query heads. */
struct range weights_kv_heads(const struct config *c, const struct grid *g, int part);

/* Bytes that weights_open will take on this rank, from tensor headers alone, and those of them that this rank
 * gives as shared memory of its node. STATUS_USAGE: layers differ in the size of their experts, and some
 * would have to come from other nodes into shared memory. */
enum status weights_plan(size_t *bytes, size_t *shared, const struct config *c, const struct grid *g,
                         const struct placement *p, const struct tensor_set *set, struct kernels *k);

/* One slot of an expert, of any rank. */
struct weights_slot {
    size_t gate_up, down; /* bytes, the most of all layers */
    bool alike;           /* every layer takes so much */
};

/* From tensor headers alone, as weights_plan. */
enum status weights_slot_plan(struct weights_slot *slot, const struct config *c, const struct grid *g,
                              const struct placement *p, const struct tensor_set *set, struct kernels *k);

/* Reads and prepares everything this rank holds. Missing tensors, wrong shapes and formats are named with
 * file and tensor. Rank 0 shows progress. */
enum status weights_open(struct weights *w, const struct config *c, const struct grid *g,
                         const struct placement *p, const struct tensor_set *set, struct kernels *k);
void weights_close(struct weights *w);

/* Where ranks share experts: `p` is the placement from now on; the slots of this rank in a layer (of those
 * with experts; of all layers the one at l) point to where their experts lie. */
enum status weights_commit(struct weights *w, struct weights_layer *l, const struct grid *g,
                           const struct placement *p, int layer, const struct places_arrival *arrival,
                           int arrivals);

/* The vocabulary rows of rank `rank`: whole chunks of 32 ids, so that small vocabularies split too. */
struct range weights_vocabulary(const struct config *c, int ranks, int rank);

#endif
