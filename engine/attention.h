/* attention.h - the attention block of a layer over the ranks of a group
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * gather normed rows - q, k, v of own heads - turn - append to the cache - attend - gather head outputs - own
 * columns of the output projection - return columns to the owners - add. */
#ifndef ATTENTION_H
#define ATTENTION_H

#include "engine/config.h"
#include "engine/kv_cache.h"
#include "engine/step.h"
#include "engine/weights.h"

struct attention_block {
    const struct config *config;
    const struct weights *weights;
    struct rotation rope, no_rope; /* of layers with and without rotary embedding */
    int32_t *kv_of;                /* [own heads] */
    struct matrix qkv;             /* [max rows, (own heads + 2 own kv heads) * W] */
    struct range new_keys;         /* of own key-value heads, those that no earlier part holds */
    int *key_widths;               /* [T] new_keys.count of each part; whole-width norms only */
    struct matrix squares;         /* [max rows, own heads]; whole-width norms only, as the next two */
    struct matrix key_squares;     /* [max rows, new keys] */
    struct matrix all_squares;     /* [max rows, H] */
    struct matrix heads;           /* [max rows, own heads * W] */
    struct matrix joined;          /* [max rows, H * W]; T > 1 only */
    struct matrix columns;         /* [max rows, own columns of D] */
    struct matrix returned;        /* [own rows, D]; T > 1 only */
};

enum status attention_open(struct attention_block *a, struct arena *arena, const struct config *c,
                           const struct weights *w, const struct step *s);

/* x[own rows, D] += attention(normed[own rows, D]); collective over the group. */
enum status attention_forward(struct attention_block *a, struct step *s, const struct kv_cache *kv, int layer,
                              struct matrix x, struct matrix normed);

#endif
