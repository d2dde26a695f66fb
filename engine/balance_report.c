/* balance_report.c - what the balancer saw and did, as text and as JSON
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/balance_report.h"

#include <stdio.h>

void balance_report_text(const struct balance *b, char *text, size_t bytes)
{
    const struct migrate *m = &b->migrate;
    const struct steer_figures *f = &b->steer.figures;
    char state[48], moved[96], gain[96] = "";

    text[0] = '\0';
    if (!b->experts)
        return;
    steer_describe(&b->steer, state, sizeof state);
    if (f->kept > 0)
        snprintf(gain, sizeof gain, ", gain %.1f ms promised and %.1f ms measured", f->promised_ms,
                 f->kept_ms);
    if (m->grid->share && m->bytes == 0)
        snprintf(moved, sizeof moved, "%lld experts re-mapped, 0 bytes moved", (long long)m->committed);
    else if (m->grid->share)
        snprintf(moved, sizeof moved, "%lld experts re-mapped, %lld moved (%.2f MiB, %.1f ms)",
                 (long long)m->mapped, (long long)(m->committed - m->mapped), (double)m->bytes / 1048576,
                 (double)m->nanoseconds * 1e-6);
    else
        snprintf(moved, sizeof moved, "%lld experts moved (%.2f MiB, %.1f ms)", (long long)m->committed,
                 (double)m->bytes / 1048576, (double)m->nanoseconds * 1e-6);
    snprintf(text, bytes, "%s, %lld dropped, %lld of %lld plans were worth it%s; %s", moved,
             (long long)m->dropped, (long long)f->accepted, (long long)f->plans, gain, state);
}

/* Appends; a value that could not be made fails the whole. */
static bool append(json_t *list, json_t *value)
{
    return value && json_array_append_new(list, value) == 0;
}

static json_t *layers_of(const struct balance *b)
{
    const struct meter *m = b->meter;
    json_t *list = json_array();
    bool good = list != NULL;

    for (int layer = 0; good && layer < m->layers; layer++)
        good = append(list, json_pack("{s:i, s:f, s:f}", "layer", b->model_layer[layer], "imbalance",
                                      meter_imbalance(m, layer), "straggler_ms",
                                      (double)m->straggler[layer] * 1e-6));
    if (good)
        return list;
    json_decref(list);
    return NULL;
}

static json_t *sample_of(const struct meter *m, int i)
{
    const struct meter_sample *s = &m->sample[i];
    json_t *rows = json_array();
    bool good = rows != NULL;

    for (int r = 0; good && r < m->ranks; r++)
        good = append(rows, json_integer(m->rank_rows[(ptrdiff_t)i * m->ranks + r]));
    if (!good) {
        json_decref(rows);
        return NULL;
    }
    return json_pack("{s:I, s:f, s:I, s:I, s:o}", "steps", (json_int_t)s->steps, "imbalance",
                     s->rows > 0 ? (double)s->busiest * m->ranks / (double)s->rows : 1.0, "moves",
                     (json_int_t)s->moves, "bytes", (json_int_t)s->bytes, "rank_rows", rows);
}

static json_t *samples_of(const struct meter *m)
{
    json_t *list = json_array();
    bool good = list != NULL;

    for (int i = 0; good && i <= m->samples && i < METER_SAMPLES; i++)
        if (m->sample[i].steps > 0)
            good = append(list, sample_of(m, i));
    if (good)
        return list;
    json_decref(list);
    return NULL;
}

enum status balance_report_work(const struct balance *b, json_t **out)
{
    json_t *layers, *samples;

    *out = NULL;
    if (!b->meter)
        return STATUS_OK;
    layers = layers_of(b);
    samples = samples_of(b->meter);
    if (layers && samples)
        *out = json_pack("{s:f, s:f, s:o, s:o}", "imbalance", meter_imbalance(b->meter, -1), "row_ns",
                         meter_row_ns(b->meter), "layers", layers, "samples", samples);
    if (*out)
        return STATUS_OK;
    json_decref(layers);
    json_decref(samples);
    return FAIL(STATUS_NO_MEMORY, "no memory for the statistics of the experts");
}

/* Rows of each expert in a batch of this kind, by layer: the moving average. */
static json_t *load_of(const struct balance *b, enum load_kind kind)
{
    const int64_t *average = load_average(b->steer.load, kind);
    const struct placement *p = b->placement;
    json_t *list = json_array();
    bool good = list != NULL;

    for (int layer = 0; good && layer < p->layers; layer++) {
        json_t *row = json_array();

        good = append(list, row);
        for (int e = 0; good && e < p->experts; e++)
            good = append(row, json_real((double)average[layer * p->experts + e] / LOAD_EWMA_ONE));
    }
    if (good)
        return list;
    json_decref(list);
    return NULL;
}

/* Rank 0 alone has counted. */
static enum status add_load(const struct balance *b, json_t *all)
{
    json_t *prefill, *decode;

    if (!b->steer.load)
        return STATUS_OK;
    prefill = load_of(b, LOAD_PREFILL);
    decode = load_of(b, LOAD_DECODE);
    if (json_object_set_new(all, "load_prefill", prefill) != 0 ||
        json_object_set_new(all, "load_decode", decode) != 0)
        return FAIL(STATUS_NO_MEMORY, "no memory for the statistics of the balancer");
    return STATUS_OK;
}

enum status balance_report_moves(const struct balance *b, json_t **out)
{
    const struct migrate *m = &b->migrate;
    const struct steer_figures *f = &b->steer.figures;
    char state[48];

    *out = NULL;
    if (!b->experts)
        return STATUS_OK;
    steer_describe(&b->steer, state, sizeof state);
    *out = json_pack("{s:i, s:i, s:i, s:i, s:i, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:I, s:f, s:f, "
                     "s:f, s:f, s:s}",
                     "slots", b->placement->slots, "redundant", b->placement->slots - b->placement->experts,
                     "window_size", b->options.steer.window, "step_interval", b->options.steer.interval,
                     "staging", m->staging, "shared", m->grid->share != NULL, "placement_version",
                     (json_int_t)b->placement->version, "plans", (json_int_t)f->plans, "accepted",
                     (json_int_t)f->accepted, "moves", (json_int_t)m->committed, "remapped",
                     (json_int_t)m->mapped, "dropped", (json_int_t)m->dropped, "bytes", (json_int_t)m->bytes,
                     "move_ms", (double)m->nanoseconds * 1e-6, "move_waits", (json_int_t)m->waits,
                     "promised_imbalance", f->promised, "measured_imbalance", f->kept, "promised_gain_ms",
                     f->promised_ms, "measured_gain_ms", f->kept_ms, "state", state);
    if (!*out)
        return FAIL(STATUS_NO_MEMORY, "no memory for the statistics of the balancer");
    return add_load(b, *out);
}
