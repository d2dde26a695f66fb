/* meter.c - how evenly the ranks shared the experts' work, per layer and over time
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/meter.h"

#include <string.h>

enum status meter_open(struct meter *m, struct arena *arena, int layers, int ranks)
{
    size_t cells = (size_t)METER_SAMPLES * (size_t)ranks;

    *m = (struct meter){.layers = layers, .ranks = ranks, .last_layer = -1, .sample_steps = 1};
    TRY(arena_take_array(arena, (size_t)layers, sizeof *m->busiest, "rows of layers", &m->busiest));
    TRY(arena_take_array(arena, (size_t)layers, sizeof *m->rows, "rows of layers", &m->rows));
    TRY(arena_take_array(arena, (size_t)layers, sizeof *m->straggler, "times of layers", &m->straggler));
    TRY(arena_take_array(arena, cells, sizeof *m->rank_rows, "rows over time", &m->rank_rows));
    TRY(arena_take_array(arena, (size_t)ranks, sizeof *m->loads, "rows of ranks", &m->loads));
    return arena_take_array(arena, (size_t)ranks, sizeof *m->last, "rows of ranks", &m->last);
}

void meter_clear(struct meter *m)
{
    size_t layers = (size_t)m->layers;

    memset(m->busiest, 0, layers * sizeof *m->busiest);
    memset(m->rows, 0, layers * sizeof *m->rows);
    memset(m->straggler, 0, layers * sizeof *m->straggler);
    memset(m->rank_rows, 0, (size_t)METER_SAMPLES * (size_t)m->ranks * sizeof *m->rank_rows);
    memset(m->sample, 0, sizeof m->sample);
    m->all_busiest = m->all_rows = m->work_rows = m->work_ns = 0;
    m->crossed = m->crossed_direct = 0;
    m->samples = 0;
    m->sample_steps = 1;
    m->last_layer = -1;
}

/* The times that came with this layer's counts are those of the layer before. */
static void take_times(struct meter *m, const int32_t *notes)
{
    int64_t slowest = 0, sum = 0, rows = 0;

    for (int r = 0; r < m->ranks; r++) {
        slowest = notes[r] > slowest ? notes[r] : slowest;
        sum += notes[r];
        rows += m->last[r];
    }
    m->straggler[m->last_layer] += slowest - sum / m->ranks;
    m->work_ns += sum;
    m->work_rows += rows;
}

void meter_untimed(struct meter *m, const struct dispatch *d, const struct placement *p, int layer)
{
    int64_t *rank_rows = m->rank_rows + (ptrdiff_t)m->samples * m->ranks;
    struct meter_sample *sample = &m->sample[m->samples];
    int64_t busiest = 0, all = 0;

    memset(m->loads, 0, (size_t)m->ranks * sizeof *m->loads);
    for (int source = 0; source < m->ranks; source++) {
        const int32_t *counts = d->counts + (ptrdiff_t)source * p->slots;

        for (int r = 0; r < m->ranks; r++)
            for (int slot = p->rank_first[r]; slot < p->rank_first[r + 1]; slot++)
                m->loads[r] += counts[slot];
    }
    for (int r = 0; r < m->ranks; r++) {
        busiest = m->loads[r] > busiest ? m->loads[r] : busiest;
        all += m->loads[r];
        rank_rows[r] += m->loads[r];
        m->last[r] = m->loads[r];
    }
    m->busiest[layer] += busiest;
    m->rows[layer] += all;
    m->all_busiest += busiest;
    m->all_rows += all;
    sample->busiest += busiest;
    sample->rows += all;
    m->last_layer = -1;
}

void meter_layer(struct meter *m, const struct dispatch *d, const struct placement *p, int layer)
{
    if (m->last_layer >= 0)
        take_times(m, d->notes);
    meter_untimed(m, d, p, layer);
    m->last_layer = layer;
}

void meter_crossing(struct meter *m, int64_t crossed, int64_t direct)
{
    m->crossed += crossed;
    m->crossed_direct += direct;
}

static void add_sample(struct meter_sample *to, const struct meter_sample *s)
{
    to->steps += s->steps;
    to->busiest += s->busiest;
    to->rows += s->rows;
    to->moves += s->moves;
    to->bytes += s->bytes;
}

/* Half as many samples, of twice as many steps. */
static void join_neighbours(struct meter *m)
{
    for (int i = 0; i < METER_SAMPLES; i++) {
        struct meter_sample sample = m->sample[i];

        m->sample[i] = (struct meter_sample){0};
        add_sample(&m->sample[i / 2], &sample);
        for (int r = 0; r < m->ranks; r++) {
            int64_t rows = m->rank_rows[i * m->ranks + r];

            m->rank_rows[i * m->ranks + r] = 0;
            m->rank_rows[i / 2 * m->ranks + r] += rows;
        }
    }
    m->samples = METER_SAMPLES / 2;
    m->sample_steps *= 2;
}

void meter_step(struct meter *m, int64_t moves, int64_t bytes)
{
    struct meter_sample *sample = &m->sample[m->samples];

    sample->steps++;
    sample->moves += moves;
    sample->bytes += bytes;
    if (sample->steps < m->sample_steps)
        return;
    m->samples++;
    if (m->samples == METER_SAMPLES)
        join_neighbours(m);
}

double meter_imbalance(const struct meter *m, int layer)
{
    int64_t rows = layer < 0 ? m->all_rows : m->rows[layer];
    int64_t busiest = layer < 0 ? m->all_busiest : m->busiest[layer];

    return rows > 0 ? (double)busiest * m->ranks / (double)rows : 1.0;
}

double meter_row_ns(const struct meter *m)
{
    return m->work_rows > 0 ? (double)m->work_ns / (double)m->work_rows : 0;
}
