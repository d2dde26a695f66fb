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
};

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
    for (int kind = 0; kind < LOAD_KINDS; kind++)
        TRY(arena_take_array(arena, cells, sizeof *l->average[kind], "average loads", &l->average[kind]));
    *out = l;
    return STATUS_OK;
}

void load_clear(struct load *l)
{
    l->batch = 0;
    for (int kind = 0; kind < LOAD_KINDS; kind++) {
        l->seen[kind] = 0;
        memset(l->average[kind], 0, (size_t)l->layers * (size_t)l->experts * sizeof *l->average[kind]);
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
    memset(rows_of(l, l->batch), 0, (size_t)l->layers * (size_t)l->experts * sizeof *l->rows);
}

void load_add(struct load *l, int layer, const int32_t *wanted, int ranks)
{
    enum load_kind kind = (enum load_kind)l->kind[l->batch % l->window];
    int32_t *rows = rows_of(l, l->batch) + (ptrdiff_t)layer * l->experts;
    int64_t *average = l->average[kind] + (ptrdiff_t)layer * l->experts;
    int64_t share = l->seen[kind] > 1 ? EWMA_SHARE : LOAD_EWMA_ONE; /* the first batch is the average */

    for (int r = 0; r < ranks; r++, wanted += l->experts) {
        for (int e = 0; e < l->experts; e++)
            rows[e] += wanted[e];
    }
    for (int e = 0; e < l->experts; e++)
        average[e] += ((int64_t)rows[e] * LOAD_EWMA_ONE - average[e]) * share / LOAD_EWMA_ONE;
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

const int64_t *load_average(const struct load *l, enum load_kind kind)
{
    return l->average[kind];
}
