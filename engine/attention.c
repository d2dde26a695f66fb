/* attention.c - the attention block of a layer over the ranks of a group
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/attention.h"

static void describe_rotations(struct attention_block *a)
{
    const struct config *c = a->config;

    a->rope = (struct rotation){.frequency = c->frequency,
                                .rotated = c->rotated,
                                .interleaved = c->rope_interleaved,
                                .attention_factor = c->rope_attention_factor,
                                .norm_after = c->qk_norm == QK_NORM_HEAD_AFTER_ROPE_WEIGHTLESS,
                                .norm_epsilon = c->norm_epsilon};
    a->no_rope = (struct rotation){.attention_factor = 1};
    if (c->temperature_tuning) {
        a->no_rope.temperature_scale = c->temperature_scale;
        a->no_rope.temperature_floor = c->temperature_floor;
    }
}

enum status attention_open(struct attention_block *a, struct arena *arena, const struct config *c,
                           const struct weights *w, const struct step *s)
{
    int heads = w->heads.count;
    int per_kv = c->heads / c->kv_heads;
    int most_own = grid_rows(s->grid, s->max_rows, 0).count;

    *a = (struct attention_block){.config = c, .weights = w};
    describe_rotations(a);
    TRY(arena_take_array(arena, (size_t)heads, sizeof *a->kv_of, "heads", &a->kv_of));
    for (int h = 0; h < heads; h++)
        a->kv_of[h] = (w->heads.first + h) / per_kv - w->kv_heads.first;
    TRY(kernels_matrix(s->kernels, s->max_rows, (heads + 2 * w->kv_heads.count) * c->head_width,
                       "queries, keys, values", &a->qkv));
    TRY(step_matrix(s->kernels, s->max_rows, heads * c->head_width, "attention of heads", &a->heads));
    TRY(step_matrix(s->kernels, s->max_rows, w->columns.count, "columns of the output projection",
                    &a->columns));
    if (s->grid->tensor == 1)
        return STATUS_OK;
    TRY(kernels_matrix(s->kernels, s->max_rows, c->heads * c->head_width, "attention of all heads",
                       &a->joined));
    return kernels_matrix(s->kernels, most_own, c->width, "attention of own rows", &a->returned);
}

/* heads[rows, own heads * W] from all normed rows of the group. */
static enum status attend_heads(struct attention_block *a, struct step *s, const struct kv_cache *kv,
                                int layer, struct matrix rows)
{
    const struct config *c = a->config;
    const struct config_layer *kind = &c->layer[layer];
    const struct weights_layer *w = &a->weights->layer[layer];
    struct kernels *k = s->kernels;
    int query_columns = a->weights->heads.count * c->head_width;
    int key_columns = a->weights->kv_heads.count * c->head_width;
    struct matrix qkv = matrix_top(a->qkv, s->rows);
    struct matrix queries = matrix_columns(qkv, 0, query_columns);
    struct matrix keys = matrix_columns(qkv, query_columns, key_columns);
    struct matrix values = matrix_columns(qkv, query_columns + key_columns, key_columns);
    struct attention attention = {.out = matrix_top(a->heads, s->rows),
                                  .queries = queries,
                                  .cache = kv->layer[layer],
                                  .spans = s->spans,
                                  .span_count = s->span_count,
                                  .heads = a->weights->heads.count,
                                  .kv_of = a->kv_of,
                                  .scale = c->attention_scale,
                                  .mask = kind->mask,
                                  .mask_size = kind->mask_size};
    struct rotation rotation = kind->rope ? a->rope : a->no_rope;

    rotation.query_gain = w->query_norm;
    rotation.key_gain = w->key_norm;
    TRY(k->multiply(k, qkv, rows, &w->qkv, w->qkv_bias));
    TRY(k->rotate(k, queries, keys, &rotation, c->head_width, s->positions));
    TRY(k->append(k, kv->layer[layer], keys, values, s->spans, s->span_count));
    return k->attend(k, &attention);
}

enum status attention_forward(struct attention_block *a, struct step *s, const struct kv_cache *kv, int layer,
                              struct matrix x, struct matrix normed)
{
    const struct config *c = a->config;
    const struct weights_layer *w = &a->weights->layer[layer];
    struct kernels *k = s->kernels;
    struct matrix columns = matrix_top(a->columns, s->rows);
    struct matrix rows, heads, result;

    if (s->rows == 0)
        return STATUS_OK; /* no request of this group is in the batch: its ranks all know */
    TRY(step_gather_rows(s, normed, &rows));
    TRY(attend_heads(a, s, kv, layer, rows));
    TRY(step_gather_columns(s, matrix_top(a->heads, s->rows), c->heads, c->head_width, a->joined, &heads));
    TRY(k->multiply(k, columns, heads, &w->out, w->out_bias));
    TRY(step_return_columns(s, columns, c->width, a->returned, &result));
    return k->add(k, x, result);
}
