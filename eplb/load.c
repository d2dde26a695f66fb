/* load.c - how many rows each expert was asked for lately
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "eplb/load.h"

#include <string.h>

struct load {
    int layers, experts, window;
    int64_t batch;                /* of the present one, from 1 on */
    int32_t *rows;                /* [window, layers, experts] */
    int32_t *kind;                /* [window] */
    int64_t *average[LOAD_KINDS]; /* [layers, experts] */
    int64_t seen[LOAD_KINDS];     /* batches of each kind */
    int64_t *half[2][LOAD_KINDS]; /* likewise, of batches with even and odd numbers */
    int64_t half_seen[2][LOAD_KINDS];
};

enum { STRETCHES = 2 };

static const int64_t EWMA_SHARE = (int64_t)(LOAD_EWMA_SHARE * LOAD_EWMA_ONE);

enum status load_open(struct load **out, struct arena *arena, int layers, int experts, int window)
{
    size_t cells = (size_t)layers * (size_t)experts;
    struct load *l;

    if (layers < 1 || experts < 1 || window < 1)
        return FAIL(STATUS_BUG, "the load of %d layers of %d experts over %d batches", layers, experts,
                    window);
    TRY(arena_take(arena, sizeof *l, "the load", &l));
    *l = (struct load){.layers = layers, .experts = experts, .window = window};
    TRY(arena_take_array(arena, (size_t)window * cells, sizeof *l->rows, "the window of loads", &l->rows));
    TRY(arena_take_array(arena, (size_t)window, sizeof *l->kind, "kinds of batches", &l->kind));
    for (int kind = 0; kind < LOAD_KINDS; kind++) {
        TRY(arena_take_array(arena, cells, sizeof *l->average[kind], "average loads", &l->average[kind]));
        for (int odd = 0; odd < 2; odd++)
            TRY(arena_take_array(arena, cells, sizeof *l->half[odd][kind], "average loads",
                                 &l->half[odd][kind]));
    }
    *out = l;
    return STATUS_OK;
}

void load_clear(struct load *l)
{
    l->batch = 0;
    for (int kind = 0; kind < LOAD_KINDS; kind++) {
        size_t bytes = (size_t)l->layers * (size_t)l->experts * sizeof *l->average[kind];

        l->seen[kind] = l->half_seen[0][kind] = l->half_seen[1][kind] = 0;
        memset(l->average[kind], 0, bytes);
        memset(l->half[0][kind], 0, bytes);
        memset(l->half[1][kind], 0, bytes);
    }
}

static int32_t *rows_of(const struct load *l, int64_t batch)
{
    return l->rows + (batch % l->window) * l->layers * l->experts;
}

void load_begin(struct load *l, enum load_kind kind)
{
    l->batch++;
    l->kind[l->batch % l->window] = (int32_t)kind;
    l->seen[kind]++;
    l->half_seen[l->batch % 2][kind]++;
    memset(rows_of(l, l->batch), 0, (size_t)l->layers * (size_t)l->experts * sizeof *l->rows);
}

/* The first batch is the average. */
static void average_in(int64_t *average, const int32_t *rows, int experts, int64_t seen)
{
    int64_t share = seen > 1 ? EWMA_SHARE : LOAD_EWMA_ONE;

    for (int e = 0; e < experts; e++)
        average[e] += ((int64_t)rows[e] * LOAD_EWMA_ONE - average[e]) * share / LOAD_EWMA_ONE;
}

void load_add(struct load *l, int layer, const int32_t *wanted, int ranks)
{
    enum load_kind kind = (enum load_kind)l->kind[l->batch % l->window];
    ptrdiff_t at = (ptrdiff_t)layer * l->experts;
    int32_t *rows = rows_of(l, l->batch) + at;
    int odd = (int)(l->batch % 2);

    for (int r = 0; r < ranks; r++, wanted += l->experts) {
        for (int e = 0; e < l->experts; e++)
            rows[e] += wanted[e];
    }
    average_in(l->average[kind] + at, rows, l->experts, l->seen[kind]);
    average_in(l->half[odd][kind] + at, rows, l->experts, l->half_seen[odd][kind]);
}

int load_batches(const struct load *l)
{
    return l->batch < l->window ? (int)l->batch : l->window;
}

void load_sum(const struct load *l, const struct load_choice *choice, int64_t *sum, int *batches)
{
    int cells = l->layers * l->experts, count = load_batches(l);
    int from = count * choice->part / choice->parts, to = count * (choice->part + 1) / choice->parts;

    memset(sum, 0, sizeof *sum * (size_t)cells);
    *batches = 0;
    for (int age = from; age < to; age++) {
        int64_t batch = l->batch - age;
        const int32_t *rows = rows_of(l, batch);

        if (l->kind[batch % l->window] != (int32_t)choice->kind || age % 2 != choice->phase)
            continue;
        for (int i = 0; i < cells; i++)
            sum[i] += rows[i];
        ++*batches;
    }
}

/* Batches of the window that are of a kind and a phase. */
static int count_batches(const struct load *l, enum load_kind kind, int phase)
{
    int count = 0;

    for (int age = phase; age < load_batches(l); age += 2)
        count += l->kind[(l->batch - age) % l->window] == (int32_t)kind;
    return count;
}

static void add_stretches(const struct load *l, enum load_kind kind, int phase, int64_t *sums, int *count,
                          int *batches)
{
    for (int part = 0; part < STRETCHES; part++) {
        struct load_choice choice = {.kind = kind, .phase = phase, .part = part, .parts = STRETCHES};
        int found;

        load_sum(l, &choice, sums + (ptrdiff_t)*count * l->layers * l->experts, &found);
        *batches += found;
        *count += found > 0;
    }
}

static void add_average(const struct load *l, enum load_kind kind, int phase, int64_t *sums, int *count,
                        int *batches)
{
    const int64_t *average = l->half[(l->batch + phase) % 2][kind];
    int found = count_batches(l, kind, phase);

    if (found == 0)
        return;
    sums += (ptrdiff_t)*count * l->layers * l->experts;
    for (int i = 0; i < l->layers * l->experts; i++)
        sums[i] = (average[i] * found + LOAD_EWMA_ONE / 2) / LOAD_EWMA_ONE;
    *batches += found;
    ++*count;
}

/* Batches that are added of those that are there. */
static int lesser(int count, int most)
{
    return count < most ? count : most;
}

/* The kind with most batches for each one that is taken weighs 1, so that rows stay those of real batches. */
static void add_last(const struct load *l, enum load_kind kind, int phase, int64_t *sums, int *count,
                     int *batches)
{
    int64_t found = count_batches(l, kind, phase), others = count_batches(l, !kind, phase);
    int64_t taken = lesser((int)found, LOAD_LAST_BATCHES),
            taken_others = lesser((int)others, LOAD_LAST_BATCHES);
    int64_t part = found * taken_others, whole = others * taken;

    if (part >= whole)
        part = whole = 1;
    for (int age = phase, left = (int)taken; left > 0; age += 2) {
        int64_t batch = l->batch - age, *out = sums + (ptrdiff_t)*count * l->layers * l->experts;
        const int32_t *rows = rows_of(l, batch);

        if (l->kind[batch % l->window] != (int32_t)kind)
            continue;
        for (int i = 0; i < l->layers * l->experts; i++)
            out[i] = rows[i] * part / whole;
        ++*count;
        left--;
    }
    *batches += (int)((taken * part + whole / 2) / whole);
}

void load_scenarios(const struct load *l, enum load_way way, int phase, int64_t *sums, int *count,
                    int *batches)
{
    *count = *batches = 0;
    for (int kind = 0; kind < LOAD_KINDS; kind++) {
        if (way == LOAD_LAST)
            add_last(l, (enum load_kind)kind, phase, sums, count, batches);
        else if (way == LOAD_WINDOW)
            add_stretches(l, (enum load_kind)kind, phase, sums, count, batches);
        else
            add_average(l, (enum load_kind)kind, phase, sums, count, batches);
    }
    *batches = *count > 0 && *batches == 0 ? 1 : *batches;
}

const int64_t *load_average(const struct load *l, enum load_kind kind)
{
    return l->average[kind];
}
