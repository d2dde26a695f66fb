/* wanted.c - rows that want logits: after the final norm, on every rank
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/wanted.h"

enum status wanted_open(struct wanted *w, struct arena *arena, const struct config *c,
                        const struct weights *weights, const struct step *s, int most)
{
    int own = grid_rows(s->grid, s->max_rows, 0).count;

    *w = (struct wanted){.config = c, .weights = weights};
    TRY(arena_take_array(arena, (size_t)own, sizeof *w->mine, "own wanted rows", &w->mine));
    TRY(arena_take_array(arena, (size_t)s->grid->ranks, sizeof *w->bytes, "sizes of wanted rows", &w->bytes));
    return step_matrix(s->kernels, own < most ? own : most, c->width, "normed rows of the head", &w->normed);
}

enum status wanted_gather(struct wanted *w, struct step *s, const struct batch *b, struct matrix x,
                          const int32_t *rows, int count, struct matrix *all)
{
    const struct grid *g = s->grid;
    struct kernels *k = s->kernels;
    size_t row_bytes = (size_t)w->config->width * sizeof(float);
    struct matrix normed;
    const void *gathered;
    int mine = 0;
    int next = 0;

    /* Ranks follow each other as their rows do, so what is gathered by rank stands in batch order. */
    for (int rank = 0; rank < g->ranks; rank++) {
        struct range group = batch_group_rows(b, rank / g->tensor);
        struct range own = grid_rows(g, group.count, rank % g->tensor);
        int end = group.first + own.first + own.count;

        w->bytes[rank] = 0;
        for (; next < count && rows[next] < end; next++) {
            w->bytes[rank] += row_bytes;
            if (rank == g->rank)
                w->mine[mine++] = rows[next] - group.first - own.first;
        }
    }
    normed = matrix_top(w->normed, mine);
    if (mine > 0) {
        TRY(k->gather(k, normed, x, w->mine, NULL));
        TRY(k->rms_norm(k, normed, normed, w->weights->final_norm, w->config->norm_epsilon));
    }
    TRY(g->rows->all_gather(g->rows, normed.data, w->bytes, &gathered));
    *all = (struct matrix){.data = (float *)(uintptr_t)gathered,
                           .rows = count,
                           .columns = w->config->width,
                           .stride = w->config->width};
    return STATUS_OK;
}
