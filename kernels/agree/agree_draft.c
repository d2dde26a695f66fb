/* agree_draft.c - drafts beside the reference
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels/agree/agree_draft.h"

#include <string.h>

/* Sequences of few different tokens, so that n-grams come again, some of them out of a repeated phrase; each
 * grows from call to call. */
struct talk {
    int rows, stride, tokens, shortest, longest;
    int32_t *text; /* [rows, stride] */
    int32_t *row;  /* [rows] where each lies in the history */
    int *known;    /* [rows] */
};

static struct talk draw_talk(void)
{
    struct talk t = {.rows = agree_between(1, 6),
                     .stride = agree_chance(30) ? agree_between(600, 1200) : agree_between(1, 100),
                     .tokens = agree_between(1, 8),
                     .shortest = agree_between(1, 4)};

    t.longest = t.shortest + agree_between(0, 4);
    t.text = agree_take((size_t)t.rows * (size_t)t.stride, sizeof *t.text);
    t.row = agree_take((size_t)t.rows, sizeof *t.row);
    t.known = agree_take((size_t)t.rows, sizeof *t.known);
    for (int r = 0; r < t.rows; r++) {
        int period = agree_between(1, 60);
        bool phrase = agree_chance(60);

        t.row[r] = r;
        t.known[r] = agree_between(0, t.stride);
        for (int i = 0; i < t.stride; i++) {
            int32_t *at = &t.text[(ptrdiff_t)r * t.stride + i];

            *at = phrase && i >= period && !agree_chance(3) ? at[-period] : agree_between(0, t.tokens);
        }
    }
    agree_shuffle(t.row, t.rows);
    return t;
}

/* The next tokens of the first `count` sequences. */
static void draw_sequences(struct talk *t, struct draft_sequence *s, int count)
{
    for (int i = 0; i < count; i++) {
        int left = t->stride - t->known[i];

        s[i] = (struct draft_sequence){
            .row = t->row[i],
            .known = t->known[i],
            .added = agree_between(0, left < DRAFT_ADDED_MOST ? left : DRAFT_ADDED_MOST),
            .most = agree_between(0, DRAFT_TOKENS_MOST)};
        memcpy(s[i].tokens, t->text + (ptrdiff_t)i * t->stride + s[i].known,
               (size_t)s[i].added * sizeof *s[i].tokens);
        t->known[i] += s[i].added;
    }
}

static int32_t *upload_history(struct kernels *k, const struct talk *t)
{
    int32_t *history = agree_numbers(k, NULL, (size_t)t->rows * (size_t)t->stride);

    for (int i = 0; i < t->rows; i++)
        agree_ok(k, "upload",
                 k->upload(k, history + (ptrdiff_t)t->row[i] * t->stride, t->text + (ptrdiff_t)i * t->stride,
                           (size_t)t->known[i] * sizeof *history));
    return history;
}

void agree_draft(struct kernels *reference, struct kernels *k)
{
    struct talk t = draw_talk();
    int32_t *history[2] = {upload_history(reference, &t), upload_history(k, &t)};
    size_t most = (size_t)t.rows * (1 + DRAFT_TOKENS_MOST), all = (size_t)t.rows * (size_t)t.stride;
    struct draft_sequence *sequences = agree_take((size_t)t.rows, sizeof *sequences);
    int32_t *found[2] = {agree_take(most, sizeof *found[0]), agree_take(most, sizeof *found[1])};

    for (int call = 0; call < 3; call++) {
        int count = agree_between(0, t.rows);

        draw_sequences(&t, sequences, count);
        agree_shape("%d of %d sequences of up to %d tokens, n-grams of %d to %d", count, t.rows, t.stride,
                    t.shortest, t.longest);
        for (int i = 0; i < 2; i++) {
            struct kernels *backend = i == 0 ? reference : k;
            struct draft draft = {.history = history[i],
                                  .rows = t.rows,
                                  .stride = t.stride,
                                  .sequences = sequences,
                                  .count = count,
                                  .shortest = t.shortest,
                                  .longest = t.longest,
                                  .found = found[i]};

            agree_ok(backend, "draft", backend->draft(backend, &draft));
        }
        for (int i = 0; i < count; i++)
            for (int j = 0; j <= found[0][i * (1 + DRAFT_TOKENS_MOST)]; j++)
                agree_number(k, j == 0 ? "drafts of a sequence" : "a draft",
                             found[1][i * (1 + DRAFT_TOKENS_MOST) + j],
                             found[0][i * (1 + DRAFT_TOKENS_MOST) + j]);
    }
    for (int i = 0; i < 2; i++)
        found[i] = agree_bring(i == 0 ? reference : k, history[i], all);
    for (size_t i = 0; i < all; i++)
        agree_number(k, "a token of the history", found[1][i], found[0][i]);
}
