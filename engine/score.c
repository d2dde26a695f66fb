/* score.c - how unlikely the model finds given tokens, without moving a logit
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/score.h"

#include "engine/head.h"
#include "engine/logsum.h"

#include <math.h>
#include <string.h>

enum { TILE_ROWS = 128 };

/* The chunks of a rank's slice. */
static struct range chunks_of(const struct config *c, int ranks, int rank)
{
    struct range ids = weights_vocabulary(c, ranks, rank);

    return (struct range){.first = ids.first / SOFTMAX_CHUNK, .count = softmax_chunk_count(ids.count)};
}

/* A row from a rank is the target's logit, where this rank has it, and the nodes of its slice. */
static enum status plan_messages(struct score *s, struct arena *arena, const struct grid *g)
{
    size_t all = 0;
    int fit;

    TRY(arena_take_array(arena, (size_t)g->ranks, sizeof *s->row_bytes, "sizes of scores", &s->row_bytes));
    TRY(arena_take_array(arena, (size_t)g->ranks, sizeof *s->bytes, "sizes of messages", &s->bytes));
    for (int rank = 0; rank < g->ranks; rank++) {
        struct range chunks = chunks_of(s->config, g->ranks, rank);
        int nodes = logsum_nodes(chunks.first, chunks.first + chunks.count);

        s->row_bytes[rank] = sizeof(double) + (size_t)nodes * sizeof(struct logsum_node);
        all += s->row_bytes[rank];
    }
    fit = (int)(head_message_bytes(s->config) / all);
    s->tile = fit < 1 ? 1 : fit < s->tile ? fit : s->tile;
    return arena_take_array(arena, (size_t)s->tile, s->row_bytes[g->rank], "a message of scores",
                            &s->message);
}

enum status score_open(struct score *s, struct arena *arena, const struct config *c, const struct weights *w,
                       const struct step *step)
{
    size_t rows = (size_t)step->max_rows;
    int slice = w->vocabulary.count > 0 ? w->vocabulary.count : 1;
    size_t chunks = (size_t)softmax_chunk_count(slice);

    *s = (struct score){.config = c, .weights = w};
    s->tile = step->max_rows < TILE_ROWS ? step->max_rows : TILE_ROWS;
    if (w->vocabulary.count > 0 && w->vocabulary.first % SOFTMAX_CHUNK != 0)
        return FAIL(STATUS_BUG, "a slice of the vocabulary begins at id %d, inside a chunk of %d",
                    w->vocabulary.first, SOFTMAX_CHUNK);
    TRY(plan_messages(s, arena, step->grid));
    TRY(wanted_open(&s->gathered, arena, c, w, step, s->tile));
    TRY(arena_take_array(arena, (size_t)s->tile * chunks, sizeof *s->chunk, "sums of logits", &s->chunk));
    TRY(arena_take_array(arena, (size_t)s->tile, sizeof *s->column, "columns of targets", &s->column));
    TRY(arena_take_array(arena, (size_t)s->tile, sizeof *s->logit, "logits of targets", &s->logit));
    TRY(arena_take_array(arena, rows, sizeof *s->targets, "targets of a step", &s->targets));
    TRY(arena_take_array(arena, rows, sizeof *s->rows, "rows with a target", &s->rows));
    return step_matrix(step->kernels, s->tile, slice, "logits of a slice", &s->logits);
}

/* All ranks learn the targets of rank 0. *count rows have one. */
static enum status share_targets(struct score *s, struct comm *world, const struct batch *b,
                                 const int32_t *targets, int *count)
{
    size_t wanted = (size_t)b->row_count * sizeof *targets;
    size_t bytes = wanted;
    const void *message;

    TRY(world->broadcast(world, 0, targets, &bytes, &message));
    if (bytes != wanted)
        return FAIL(STATUS_BUG, "targets of %zu bytes for a step of %d rows", bytes, b->row_count);
    memcpy(s->targets, message, bytes);
    *count = 0;
    for (int row = 0; row < b->row_count; row++) {
        if (s->targets[row] >= s->config->vocabulary)
            return FAIL(STATUS_BUG, "target %d of row %d is beyond the vocabulary of %d", s->targets[row],
                        row, s->config->vocabulary);
        if (s->targets[row] >= 0)
            s->rows[(*count)++] = row;
    }
    return STATUS_OK;
}

/* The sums of this rank's slice for a tile of rows, and their targets' logits where they lie in it. */
static enum status sum_slice(struct score *s, struct kernels *k, const int32_t *rows, int count)
{
    struct range ids = s->weights->vocabulary;

    for (int i = 0; i < count; i++) {
        int32_t column = s->targets[rows[i]] - ids.first;

        s->column[i] = column < 0 || column >= ids.count ? -1 : column;
    }
    return k->softmax(k, &(struct softmax_chunks){.logits = matrix_top(s->logits, count),
                                                  .column = s->column,
                                                  .chunk = s->chunk,
                                                  .logit = s->logit});
}

/* What this rank knows of row i of a tile, at `out`. */
static void write_row(const struct score *s, int i, unsigned char *out)
{
    struct range ids = s->weights->vocabulary;
    int count = softmax_chunk_count(ids.count);
    double logit = ids.count > 0 ? (double)s->logit[i] : 0;
    struct logsum sum;

    logsum_start(&sum, ids.first / SOFTMAX_CHUNK);
    for (int c = 0; c < count; c++) {
        struct softmax_chunk chunk = s->chunk[(ptrdiff_t)i * count + c];

        logsum_push(&sum, 0, (struct logsum_node){.most = chunk.most, .sum = chunk.sum});
    }
    memcpy(out, &logit, sizeof logit);
    memcpy(out + sizeof logit, sum.node, (size_t)sum.count * sizeof *sum.node);
}

/* Row `row` of a tile from what all ranks sent. */
static double join_row(const struct score *s, const struct grid *g, const unsigned char *all, int row,
                       int32_t target)
{
    struct logsum sum;
    double logit = 0;

    logsum_start(&sum, 0);
    for (int rank = 0; rank < g->ranks; rank++) {
        const unsigned char *at = all + (size_t)row * s->row_bytes[rank];
        struct range chunks = chunks_of(s->config, g->ranks, rank);
        int chunk = target / SOFTMAX_CHUNK;

        if (chunk >= chunks.first && chunk < chunks.first + chunks.count)
            memcpy(&logit, at, sizeof logit);
        at += sizeof logit;
        for (int end = chunks.first + chunks.count; chunks.first < end; at += sizeof(struct logsum_node)) {
            int level = logsum_level(chunks.first, end);
            struct logsum_node node;

            memcpy(&node, at, sizeof node);
            logsum_push(&sum, level, node);
            chunks.first += 1 << level;
        }
        all += s->bytes[rank];
    }
    return logsum_value(&sum) - logit;
}

/* Rows first ... first + count - 1 of those with a target. */
static enum status score_tile(struct score *s, struct step *step, const struct batch *b, struct matrix x,
                              struct range tile, double *nats)
{
    const struct grid *g = step->grid;
    struct kernels *k = step->kernels;
    const int32_t *rows = s->rows + tile.first;
    struct matrix all;
    const void *sums;

    TRY(wanted_gather(&s->gathered, step, b, x, rows, tile.count, &all));
    if (s->weights->vocabulary.count > 0) {
        TRY(k->multiply(k, matrix_top(s->logits, tile.count), all, &s->weights->head, NULL));
        TRY(sum_slice(s, k, rows, tile.count));
    }
    for (int i = 0; i < tile.count; i++)
        write_row(s, i, s->message + (size_t)i * s->row_bytes[g->rank]);
    for (int rank = 0; rank < g->ranks; rank++)
        s->bytes[rank] = (size_t)tile.count * s->row_bytes[rank];
    TRY(g->world->gather(g->world, 0, s->message, s->bytes, &sums));
    if (g->rank != 0)
        return STATUS_OK;
    for (int i = 0; i < tile.count; i++) {
        double value = join_row(s, g, sums, i, s->targets[rows[i]]);

        if (!isfinite(value))
            return FAIL(STATUS_BAD_INPUT,
                        "the model's logits are no finite numbers: are the weights damaged?");
        nats[rows[i]] = value;
    }
    return STATUS_OK;
}

enum status score_forward(struct score *s, struct step *step, const struct batch *b, struct matrix x,
                          const int32_t *targets, double *nats)
{
    int count;

    TRY(share_targets(s, step->grid->world, b, targets, &count));
    for (struct range tile = {0}; tile.first < count; tile.first += tile.count) {
        tile.count = count - tile.first < s->tile ? count - tile.first : s->tile;
        TRY(score_tile(s, step, b, x, tile, nats));
    }
    return STATUS_OK;
}
