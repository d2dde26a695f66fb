/* embedding.c - token rows from the ranks that hold them to the ranks that own the rows of the step
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/embedding.h"

#include <string.h>

enum status embedding_open(struct embedding *e, struct arena *arena, const struct config *c,
                           const struct weights *w, const struct step *s)
{
    size_t ranks = (size_t)s->grid->ranks;

    *e = (struct embedding){.config = c, .weights = w};
    TRY(arena_take_array(arena, (size_t)s->max_rows, sizeof *e->tokens, "tokens to embed", &e->tokens));
    TRY(arena_take_array(arena, (size_t)s->max_rows, sizeof *e->place, "places of embedded rows", &e->place));
    TRY(arena_take_array(arena, ranks, sizeof *e->cursor, "cursors of sources", &e->cursor));
    TRY(arena_take_array(arena, ranks * ranks, sizeof *e->bytes, "sizes of exchanges", &e->bytes));
    return step_matrix(s->kernels, s->max_rows, c->width, "embedded rows", &e->sent);
}

/* The rank whose slice of the vocabulary holds a token. */
static int holder(const struct embedding *e, int ranks, int32_t token)
{
    int low = 0;
    int high = ranks - 1;

    while (low < high) {
        int middle = (low + high + 1) / 2;

        if (weights_vocabulary(e->config, ranks, middle).first <= token)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

/* Every rank derives all counts from the batch; what this rank sends is listed by destination, then row. */
static int plan_rows(struct embedding *e, const struct step *s, const struct batch *b)
{
    const struct grid *g = s->grid;
    size_t row_bytes = (size_t)e->config->width * sizeof(float);
    int sent = 0;

    memset(e->bytes, 0, (size_t)g->ranks * (size_t)g->ranks * sizeof *e->bytes);
    for (int owner = 0; owner < g->ranks; owner++) {
        struct range group = batch_group_rows(b, owner / g->tensor);
        struct range own = grid_rows(g, group.count, owner % g->tensor);

        for (int i = 0; i < own.count; i++) {
            int32_t token = b->tokens[group.first + own.first + i];
            int from = holder(e, g->ranks, token);

            e->bytes[from * g->ranks + owner] += row_bytes;
            if (from == g->rank)
                e->tokens[sent++] = token;
        }
    }
    return sent;
}

/* Which arrival each own row is: arrivals stand by source, within a source by row. */
static void place_rows(struct embedding *e, const struct step *s, const struct batch *b)
{
    const struct grid *g = s->grid;
    size_t row_bytes = (size_t)e->config->width * sizeof(float);
    int32_t next = 0;

    for (int from = 0; from < g->ranks; from++) {
        e->cursor[from] = next;
        next += (int32_t)(e->bytes[from * g->ranks + g->rank] / row_bytes);
    }
    for (int i = 0; i < s->own.count; i++)
        e->place[i] = e->cursor[holder(e, g->ranks, b->tokens[s->first + s->own.first + i])]++;
}

enum status embedding_forward(struct embedding *e, struct step *s, const struct batch *b, struct matrix x)
{
    struct kernels *k = s->kernels;
    int first = e->weights->vocabulary.first;
    struct matrix arrived = {.rows = s->own.count, .columns = e->config->width, .stride = e->config->width};
    const void *arrivals;
    int sent;

    for (int row = 0; row < b->row_count; row++)
        if (b->tokens[row] < 0 || b->tokens[row] >= e->config->vocabulary)
            return FAIL(STATUS_BUG, "row %d of the batch is token %d, the vocabulary has %d", row,
                        b->tokens[row], e->config->vocabulary);
    if (s->grid->ranks == 1)
        return k->embed(k, x, &e->weights->embedding, b->tokens, first);

    sent = plan_rows(e, s, b);
    place_rows(e, s, b);
    if (sent > 0)
        TRY(k->embed(k, matrix_top(e->sent, sent), &e->weights->embedding, e->tokens, first));
    TRY(s->grid->rows->exchange(s->grid->rows, e->sent.data, e->bytes, &arrivals));
    if (s->own.count == 0)
        return STATUS_OK;
    arrived.data = (float *)(uintptr_t)arrivals;
    return k->gather(k, x, arrived, e->place, NULL);
}
