/* head.c - logits of the rows that want them, from all ranks to rank 0
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/head.h"

#include <string.h>

static const size_t ROUND_BYTES = (size_t)4 << 20;

/* How many of a rank's candidates travel: no more than it has ids with a token. */
static int candidates_of(const struct head *h, int ranks, int rank, int keep)
{
    struct range slice = weights_vocabulary(h->config, ranks, rank);
    int ids = h->id_limit - slice.first;

    ids = ids < 0 ? 0 : ids < slice.count ? ids : slice.count;
    return keep < ids ? keep : ids;
}

/* Floats of one wanted row from a rank: its slice of the logits, or candidates and their ids. */
static size_t row_floats(const struct head *h, int ranks, int rank, int keep)
{
    if (keep == 0)
        return (size_t)weights_vocabulary(h->config, ranks, rank).count;
    return 2 * (size_t)candidates_of(h, ranks, rank, keep);
}

size_t head_message_bytes(const struct config *c)
{
    size_t row = (size_t)c->vocabulary * sizeof(float);

    return row > ROUND_BYTES ? row : ROUND_BYTES;
}

enum status head_open(struct head *h, struct arena *arena, const struct config *c, const struct weights *w,
                      const struct step *s, int max_wanted)
{
    size_t wanted = (size_t)max_wanted;
    int slice = w->vocabulary.count > 0 ? w->vocabulary.count : 1;

    *h = (struct head){.config = c, .weights = w, .max_wanted = max_wanted, .id_limit = c->vocabulary};
    h->message_floats = head_message_bytes(c) / sizeof(float);
    TRY(arena_take_array(arena, wanted, sizeof *h->wanted, "wanted rows", &h->wanted));
    TRY(arena_take_array(arena, wanted, sizeof *h->keep, "candidates of wanted rows", &h->keep));
    TRY(arena_take_array(arena, wanted * HEAD_KEEP, sizeof *h->found, "candidates of a slice", &h->found));
    TRY(arena_take_array(arena, wanted * HEAD_KEEP, sizeof *h->columns, "columns of candidates",
                         &h->columns));
    TRY(arena_take_array(arena, h->message_floats, sizeof *h->message, "a message of logits", &h->message));
    TRY(arena_take_array(arena, (size_t)s->grid->ranks, sizeof *h->bytes, "sizes of messages", &h->bytes));
    TRY(arena_take_array(arena, (size_t)s->grid->ranks, sizeof *h->cursor, "cursors of sources", &h->cursor));
    TRY(wanted_open(&h->gathered, arena, c, w, s, max_wanted));
    TRY(step_matrix(s->kernels, max_wanted, slice, "logits of a slice", &h->logits));
    if (s->grid->rank != 0)
        return STATUS_OK;
    TRY(arena_take_array(arena, wanted, sizeof *h->results, "results", &h->results));
    TRY(arena_take_array(arena, wanted * (size_t)c->vocabulary, sizeof *h->values, "logits", &h->values));
    return arena_take_array(arena, wanted * HEAD_KEEP, sizeof *h->ids, "candidates", &h->ids);
}

void head_limit(struct head *h, int limit)
{
    h->id_limit = limit;
}

/* Lists the wanted rows of the batch with their candidates. */
static enum status list_wanted(struct head *h, const struct batch *b, int *count)
{
    int next = 0;

    *count = batch_wanted(b, NULL);
    if (*count > h->max_wanted)
        return FAIL(STATUS_BUG, "%d rows want logits, there is room for %d", *count, h->max_wanted);
    batch_wanted(b, h->wanted);
    for (int i = 0; i < b->piece_count; i++) {
        const struct batch_piece *piece = &b->pieces[i];
        bool few = piece->want == BATCH_WANT_CANDIDATES || piece->want == BATCH_WANT_EACH;
        int rows = batch_piece_wanted(piece);

        if (few && (piece->keep < (piece->want == BATCH_WANT_CANDIDATES) || piece->keep > HEAD_KEEP))
            return FAIL(STATUS_BUG, "%d candidates wanted, at most %d can be had", piece->keep, HEAD_KEEP);
        for (int row = 0; row < rows; row++)
            h->keep[next++] = few ? piece->keep : 0;
    }
    return STATUS_OK;
}

/* Candidates of this rank in rows first ... end - 1, in one call, for which a device is waited for once: as
 * many for each as any of them wants, *kept, as fewer are the first of more. */
static enum status find_candidates(struct head *h, struct step *s, int first, int end, int *kept)
{
    struct kernels *k = s->kernels;
    struct range slice = h->weights->vocabulary;
    int ids = h->id_limit - slice.first, most = 0;

    for (int i = first; i < end; i++)
        most = h->keep[i] > most ? h->keep[i] : most;
    *kept = candidates_of(h, s->grid->ranks, s->grid->rank, most);
    if (*kept == 0)
        return STATUS_OK;
    return k->candidates(
        k,
        matrix_columns(matrix_rows(h->logits, first, end - first), 0, ids < slice.count ? ids : slice.count),
        *kept, h->found, h->columns);
}

/* `keep` of the candidates that one row has, and the ids they stand for. */
static void write_candidates(const struct head *h, const float *found, const int32_t *columns, int keep,
                             float *out)
{
    memcpy(out, found, (size_t)keep * sizeof *out);
    for (int j = 0; j < keep; j++) {
        int32_t id = columns[j] + h->weights->vocabulary.first;

        memcpy(out + keep + j, &id, sizeof id);
    }
}

/* Whole rows first ... of those up to `end` that follow each other, at `out`; *next is behind the last. */
static enum status write_whole(struct head *h, struct step *s, int first, int end, float *out, int *next)
{
    struct kernels *k = s->kernels;
    size_t slice = (size_t)h->logits.stride; /* rows have no gaps */
    int i = first;

    while (i < end && h->keep[i] == 0)
        i++;
    *next = i;
    if (h->weights->vocabulary.count == 0)
        return STATUS_OK;
    return k->download(k, out, matrix_rows(h->logits, first, 1).data,
                       (size_t)(i - first) * slice * sizeof *out);
}

/* This rank's part of wanted rows first ... end - 1 into its message. */
static enum status write_rows(struct head *h, struct step *s, int first, int end)
{
    int ranks = s->grid->ranks, rank = s->grid->rank, kept = 0;
    float *out = h->message;

    TRY(find_candidates(h, s, first, end, &kept));
    for (int i = first, next; i < end; i = next) {
        next = i + 1;
        if (h->keep[i] == 0)
            TRY(write_whole(h, s, i, end, out, &next));
        else
            write_candidates(h, h->found + (ptrdiff_t)(i - first) * kept,
                             h->columns + (ptrdiff_t)(i - first) * kept,
                             candidates_of(h, ranks, rank, h->keep[i]), out);
        out += (size_t)(next - i) * row_floats(h, ranks, rank, h->keep[i]);
    }
    return STATUS_OK;
}

/* Merges the candidates of all ranks: each list falls, ranks rise with ids, so on ties the earlier rank wins.
 */
static void merge_candidates(struct head *h, const struct grid *g, int i)
{
    float *values = h->values + (size_t)i * (size_t)h->config->vocabulary;
    int32_t *ids = h->ids + (size_t)i * HEAD_KEEP;
    int taken = 0;

    for (int rank = 0; rank < g->ranks; rank++) {
        int keep = candidates_of(h, g->ranks, rank, h->keep[i]);
        const float *theirs = h->cursor[rank];
        const void *their_ids = theirs + keep;

        for (int j = 0; j < keep; j++) {
            int at = taken;
            int32_t id;

            memcpy(&id, (const char *)their_ids + (size_t)j * sizeof id, sizeof id);
            while (at > 0 && !(values[at - 1] >= theirs[j]))
                at--;
            if (at >= h->keep[i])
                continue;
            taken += taken < h->keep[i];
            memmove(values + at + 1, values + at, (size_t)(taken - 1 - at) * sizeof *values);
            memmove(ids + at + 1, ids + at, (size_t)(taken - 1 - at) * sizeof *ids);
            values[at] = theirs[j];
            ids[at] = id;
        }
        h->cursor[rank] += 2 * keep;
    }
    h->results[i] = (struct head_result){.count = taken, .values = values, .ids = ids};
}

static void join_logits(struct head *h, const struct grid *g, int i)
{
    float *values = h->values + (size_t)i * (size_t)h->config->vocabulary;

    for (int rank = 0; rank < g->ranks; rank++) {
        struct range slice = weights_vocabulary(h->config, g->ranks, rank);

        memcpy(values + slice.first, h->cursor[rank], (size_t)slice.count * sizeof *values);
        h->cursor[rank] += slice.count;
    }
    h->results[i] = (struct head_result){.count = h->config->vocabulary, .values = values};
}

/* Rows first ... end - 1 of the wanted ones travel to rank 0. */
static enum status send_round(struct head *h, struct step *s, int first, int end)
{
    const struct grid *g = s->grid;
    const void *all;
    const float *next;

    for (int rank = 0; rank < g->ranks; rank++) {
        h->bytes[rank] = 0;
        for (int i = first; i < end; i++)
            h->bytes[rank] += row_floats(h, g->ranks, rank, h->keep[i]) * sizeof(float);
    }
    TRY(write_rows(h, s, first, end));
    TRY(g->world->gather(g->world, 0, h->message, h->bytes, &all));
    if (g->rank != 0)
        return STATUS_OK;
    next = all;
    for (int rank = 0; rank < g->ranks; rank++) {
        h->cursor[rank] = next;
        next += h->bytes[rank] / sizeof(float);
    }
    for (int i = first; i < end; i++) {
        if (h->keep[i] == 0)
            join_logits(h, g, i);
        else
            merge_candidates(h, g, i);
    }
    return STATUS_OK;
}

enum status head_forward(struct head *h, struct step *s, const struct batch *b, struct matrix x)
{
    struct kernels *k = s->kernels;
    struct matrix all;
    int count;

    h->result_count = 0;
    TRY(list_wanted(h, b, &count));
    if (count == 0)
        return STATUS_OK;
    TRY(wanted_gather(&h->gathered, s, b, x, h->wanted, count, &all));
    if (h->weights->vocabulary.count > 0)
        TRY(k->multiply(k, matrix_top(h->logits, count), all, &h->weights->head, NULL));

    /* A round holds whole rows, and no more of them than rank 0 can receive at once. */
    for (int first = 0, end; first < count; first = end) {
        size_t floats = 0;

        for (end = first; end < count; end++) {
            size_t more = 0;

            for (int rank = 0; rank < s->grid->ranks; rank++)
                more += row_floats(h, s->grid->ranks, rank, h->keep[end]);
            if (end > first && floats + more > h->message_floats)
                break;
            floats += more;
        }
        TRY(send_round(h, s, first, end));
    }
    h->result_count = count;
    return STATUS_OK;
}
