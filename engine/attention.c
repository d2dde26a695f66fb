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

/* A norm over all heads: each rank adds the squares of its own, and all add the sums in head order. A key
 * head that several ranks hold is sent by the first of them. */
static enum status open_whole_norm(struct attention_block *a, struct arena *arena, const struct step *s)
{
    const struct config *c = a->config;
    struct kernels *k = s->kernels;
    int sent = 0;

    TRY(arena_take_array(arena, (size_t)s->grid->tensor, sizeof *a->key_widths, "key heads of parts",
                         &a->key_widths));
    for (int p = 0; p < s->grid->tensor; p++) {
        struct range kv = weights_kv_heads(c, s->grid, p);
        int end = kv.first + kv.count;
        int first = kv.first > sent ? kv.first : sent;

        a->key_widths[p] = end > first ? end - first : 0;
        if (p == s->grid->my_part)
            a->new_keys = (struct range){.first = a->key_widths[p] > 0 ? first - kv.first : 0,
                                         .count = a->key_widths[p]};
        sent = end > sent ? end : sent;
    }
    TRY(step_matrix(k, s->max_rows, a->weights->heads.count, "squares of queries", &a->squares));
    TRY(step_matrix(k, s->max_rows, a->new_keys.count, "squares of keys", &a->key_squares));
    return kernels_matrix(k, s->max_rows, c->heads, "squares of all heads", &a->all_squares);
}

static enum status norm_whole(struct attention_block *a, struct step *s, int layer, struct matrix queries,
                              struct matrix keys)
{
    const struct config *c = a->config;
    const struct weights_layer *w = &a->weights->layer[layer];
    struct kernels *k = s->kernels;
    struct matrix squares = matrix_top(a->squares, s->rows);
    struct matrix key_squares = matrix_top(a->key_squares, s->rows);
    struct matrix new_keys =
        matrix_columns(keys, a->new_keys.first * c->head_width, a->new_keys.count * c->head_width);
    struct matrix all;

    TRY(k->squares(k, squares, queries, c->head_width));
    TRY(k->squares(k, key_squares, new_keys, c->head_width));
    TRY(step_gather_columns(s, squares, c->heads, 1, a->all_squares, &all));
    TRY(k->norm_by(k, queries, all, c->heads * c->head_width, w->query_norm, c->norm_epsilon));
    for (int p = 0; p < s->grid->tensor; p++)
        s->widths[p] = a->key_widths[p];
    TRY(step_gather_widths(s, key_squares, c->kv_heads, a->all_squares, &all));
    return k->norm_by(k, keys, all, c->kv_heads * c->head_width, w->key_norm, c->norm_epsilon);
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
    if (c->qk_norm == QK_NORM_WHOLE_BEFORE_ROPE)
        TRY(open_whole_norm(a, arena, s));
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

    if (c->qk_norm == QK_NORM_HEAD_BEFORE_ROPE) {
        rotation.query_gain = w->query_norm;
        rotation.key_gain = w->key_norm;
    }
    TRY(k->multiply(k, qkv, rows, &w->qkv, w->qkv_bias));
    if (c->qk_norm == QK_NORM_WHOLE_BEFORE_ROPE)
        TRY(norm_whole(a, s, layer, queries, keys));
    if (c->clip_qkv > 0)
        TRY(k->clamp(k, qkv, c->clip_qkv));
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
