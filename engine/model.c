/* model.c - one step of the model on all ranks: a batch in, candidates or logits at rank 0 out
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/model.h"

#include "comm/watch.h"

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

void model_message_bytes(const struct config *c, const struct grid *g, const struct placement *p,
                         const struct model_limits *limits, size_t *world, size_t *group)
{
    size_t rows = (size_t)limits->rows;
    size_t row_bytes = (size_t)c->width * sizeof(float);
    size_t widest = (size_t)c->width;
    size_t choices = c->choices > 0 ? (size_t)c->choices : 1;
    size_t pages = (size_t)batch_new_pages(limits->rows, limits->pieces) +
                   (size_t)batch_found_pages(limits->rows, limits->positions);
    size_t most;

    most = larger(rows * choices * row_bytes, head_message_bytes(c));
    most = larger(most, (size_t)limits->wanted * row_bytes);
    most = larger(most, (size_t)g->ranks * (DISPATCH_COHORTS * (size_t)p->experts + 1) * sizeof(int32_t));
    most = larger(most, (size_t)p->slots * sizeof(int32_t));
    if (dispatch_wants_nodes(limits->ways.dispatch, limits->ways.rank_node, c->choices))
        most = larger(most, node_once_message_bytes(g->ranks, limits->rows, c->choices));
    most = larger(most, batch_message_bytes(limits->pieces, limits->rows, (int)pages));
    *world = most;

    widest = larger(widest, (size_t)c->heads * (size_t)c->head_width);
    widest = larger(widest, (size_t)c->dense_width);
    widest = larger(widest, (size_t)c->shared_width);
    *group = rows * widest * sizeof(float);
}

enum status model_open(struct model *m, struct arena *arena, const struct config *c, struct grid *g,
                       const struct weights *w, struct kv_cache *kv, struct placement *p,
                       const struct model_limits *limits)
{
    struct kernels *k = w->kernels;
    int own = grid_rows(g, limits->rows, 0).count;

    *m = (struct model){.config = c, .grid = g, .kernels = k, .weights = w, .kv = kv};
    TRY(step_open(&m->step, arena, g, k, limits->rows));
    TRY(embedding_open(&m->embedding, arena, c, w, &m->step));
    TRY(attention_open(&m->attention, arena, c, w, &m->step));
    if (c->expert_layers > 0)
        TRY(experts_open(&m->experts, arena, c, w, p, &m->step, &limits->ways));
    if (c->expert_layers < c->layers)
        TRY(block_open(&m->dense, &m->step, c->width, c->dense_width));
    TRY(head_open(&m->head, arena, c, w, &m->step, limits->wanted));
    recorder_open(&m->recorder, c, &m->step, limits->positions, limits->eager);
    TRY(step_matrix(k, own, c->width, "the residual stream", &m->x));
    return step_matrix(k, own, c->width, "normed rows", &m->normed);
}

void model_close(struct model *m)
{
    if (m->config && m->config->expert_layers > 0)
        experts_close(&m->experts);
    *m = (struct model){0}; /* matrices belong to the kernels, arrays to the arena */
}

static enum status layer_forward(struct model *m, int layer, struct matrix x, struct matrix normed)
{
    const struct config *c = m->config;
    const struct weights_layer *w = &m->weights->layer[layer];
    struct kernels *k = m->kernels;
    struct matrix result;

    watch_enter(WATCH_ATTENTION, layer);
    TRY(k->rms_norm(k, normed, x, w->attention_norm, c->norm_epsilon));
    TRY(attention_forward(&m->attention, &m->step, m->kv, layer, x, normed));
    TRY(k->rms_norm(k, normed, x, w->feed_norm, c->norm_epsilon));
    if (c->layer[layer].experts)
        return experts_forward(&m->experts, &m->step, layer, x, normed);
    watch_enter(WATCH_EXPERTS, layer);
    TRY(block_forward(&m->dense, &m->step, &w->dense, normed, &result));
    return k->add(k, x, result);
}

static enum status queue_layers(struct model *m, struct matrix x, struct matrix normed)
{
    for (int layer = 0; layer < m->config->layers; layer++)
        TRY(layer_forward(m, layer, x, normed));
    return STATUS_OK;
}

/* All layers, queued or replayed, counting how often the host waits in a step that only decodes. */
static enum status layers_forward(struct model *m, const struct batch *b, struct matrix x,
                                  struct matrix normed)
{
    bool experts = m->config->expert_layers > 0;
    int64_t before = m->kernels->waits;
    enum status status = STATUS_OK;
    enum recording_way way;

    watch_enter(WATCH_LAYERS, -1);
    TRY(recorder_begin(&m->recorder, &m->step, b, experts ? m->experts.placement : NULL,
                       experts && m->experts.fixed.room == 0, &way));
    if (way != RECORDING_AGAIN)
        status = queue_layers(m, x, normed);
    if (way == RECORDING_NEW) {
        watch_enter(WATCH_LAYERS, -1);
        status = m->kernels->recorded(m->kernels, status);
    }
    TRY(status);
    if (batch_decodes(b)) {
        m->decode_layers += m->config->layers;
        m->decode_waits += m->kernels->waits - before;
    }
    return STATUS_OK;
}

double model_waits(const struct model *m)
{
    return m->decode_layers > 0 ? (double)m->decode_waits / (double)m->decode_layers : 0;
}

double model_result_waits(const struct model *m)
{
    return m->decode_steps > 0 ? (double)m->result_waits / (double)m->decode_steps : 0;
}

static enum status results_forward(struct model *m, const struct batch *b, struct matrix x)
{
    int64_t before = m->kernels->waits;

    watch_enter(WATCH_HEAD, -1);
    TRY(head_forward(&m->head, &m->step, b, x));
    if (batch_decodes(b)) {
        m->decode_steps++;
        m->result_waits += m->kernels->waits - before;
    }
    return STATUS_OK;
}

enum status model_forward(struct model *m, const struct batch *b)
{
    struct matrix x, normed;

    if (m->balance)
        TRY(balance_begin(m->balance, b));
    TRY(kv_cache_apply(m->kv, b, m->grid->my_group));
    TRY(step_begin(&m->step, b, m->kv));
    x = matrix_top(m->x, m->step.own.count);
    normed = matrix_top(m->normed, m->step.own.count);

    if (m->config->expert_layers > 0)
        TRY(experts_begin(&m->experts, &m->step, b));
    watch_enter(WATCH_EMBED, -1);
    TRY(embedding_forward(&m->embedding, &m->step, b, x));
    TRY(layers_forward(m, b, x, normed));
    TRY(results_forward(m, b, x));
    if (m->config->expert_layers > 0)
        TRY(experts_end(&m->experts));
    if (m->balance)
        balance_end(m->balance);
    return STATUS_OK;
}
