/* model.h - one step of the model on all ranks: a batch in, candidates or logits at rank 0 out
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef MODEL_H
#define MODEL_H

#include "engine/attention.h"
#include "engine/balance.h"
#include "engine/block.h"
#include "engine/embedding.h"
#include "engine/experts.h"
#include "engine/head.h"
#include "engine/kv_cache.h"
#include "engine/recorder.h"
#include "engine/step.h"

struct model {
    const struct config *config;
    struct grid *grid;
    struct kernels *kernels;
    const struct weights *weights;
    struct kv_cache *kv;
    struct step step;
    struct recorder recorder;
    struct embedding embedding;
    struct attention_block attention;
    struct experts experts;  /* unused in a model without experts */
    struct block dense;      /* unused in a model without dense layers */
    struct head head;        /* results of the last forward at rank 0 */
    struct matrix x;         /* [own rows, D] the residual stream */
    struct matrix normed;    /* [own rows, D] */
    int64_t decode_layers;   /* of steps in which every sequence has one row, and ... */
    int64_t decode_waits;    /* ... times the host has waited for the backend in them */
    int64_t decode_steps;    /* such steps, and ... */
    int64_t result_waits;    /* ... times the host has waited for their results */
    struct balance *balance; /* begins and ends every step; NULL: nothing does */
};

/* What the engine is made for: the limits that its buffers are sized by. */
struct model_limits {
    int rows;      /* tokens in a batch */
    int pieces;    /* sequences in a batch */
    int wanted;    /* rows of a batch that can want logits */
    int positions; /* of the longest sequence */
    bool eager;    /* no step is recorded and replayed */
    struct experts_ways ways;
};

/* The most that one call of the world's and of the group's comm must deliver to a rank. */
void model_message_bytes(const struct config *c, const struct grid *g, const struct placement *p,
                         const struct model_limits *limits, size_t *world, size_t *group);

enum status model_open(struct model *m, struct arena *arena, const struct config *c, struct grid *g,
                       const struct weights *w, struct kv_cache *kv, struct placement *p,
                       const struct model_limits *limits);
void model_close(struct model *m);

/* Collective over the world: applies the batch to the cache and runs it through all layers and the head. */
enum status model_forward(struct model *m, const struct batch *b);

/* How often the host of this rank has waited for its backend in a layer of a step that only decodes, and for
 * the results of such a step. */
double model_waits(const struct model *m);
double model_result_waits(const struct model *m);

#endif
