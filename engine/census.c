/* census.c - how many numbers a model has, and in which formats its files hold them
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/census.h"

/* A block of gate, up [F, D] and down [D, F]. */
static int64_t block(const struct config *c, int inner)
{
    return 3 * (int64_t)inner * c->width;
}

static int64_t attention(const struct config *c)
{
    int64_t queries = (int64_t)c->heads * c->head_width;
    int64_t keys = (int64_t)c->kv_heads * c->head_width;
    int64_t count = (queries + 2 * keys + queries) * c->width;

    if (c->attention_bias_qkv)
        count += queries + 2 * keys;
    if (c->attention_bias_out)
        count += c->width;
    if (c->qk_norm == QK_NORM_HEAD_BEFORE_ROPE)
        count += 2 * (int64_t)c->head_width;
    if (c->qk_norm == QK_NORM_WHOLE_BEFORE_ROPE)
        count += queries + keys;
    return count;
}

void census_take(struct census *out, const struct config *c, const struct tensor_set *set)
{
    int64_t table = (int64_t)c->vocabulary * c->width;
    int64_t beside = table * (c->tied ? 1 : 2) + c->width;
    int64_t experts = 0, chosen = 0;

    for (int i = 0; i < c->layers; i++) {
        beside += attention(c) + 2 * (int64_t)c->width;
        if (!c->layer[i].experts) {
            beside += block(c, c->dense_width);
            continue;
        }
        beside += (int64_t)c->experts * (c->width + (c->route_bias ? 1 : 0)) + block(c, c->shared_width);
        experts += c->experts * block(c, c->expert_width);
        chosen += c->choices * block(c, c->expert_width);
    }
    *out = (struct census){.parameters = beside + experts, .active = beside + chosen, .bytes = set->bytes};
    for (int i = 0; i < set->count; i++)
        out->of_dtype[set->by_name[i]->dtype] += set->by_name[i]->bytes;
}
