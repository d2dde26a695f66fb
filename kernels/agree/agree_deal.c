/* agree_deal.c - rows dealt out to ranks and grouped where they arrive, beside the reference and by their
 * promises
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels/agree/agree_deal.h"

#include <string.h>

/* Experts on ranks, some with several slots, some ranks with none; and what some rows choose. */
struct hand {
    int experts, slots, ranks, rows, choices, width, room, number, most_local;
    int32_t *first, *slot, *rank_first, *expert;
    float *x, *scale;
};

static struct hand draw_hand(void)
{
    struct hand h = {.experts = agree_between(1, 40),
                     .ranks = agree_between(1, 7),
                     .rows = agree_chance(10) ? 0 : agree_width(20),
                     .width = agree_width(70),
                     .number = agree_between(0, 5000)};
    int32_t *pick = agree_take((size_t)h.experts, sizeof *pick);

    h.slots = h.experts + agree_between(0, 12);
    h.choices = agree_between(1, h.experts < 8 ? h.experts : 8);
    h.first = agree_take((size_t)h.experts + 1, sizeof *h.first);
    h.slot = agree_take((size_t)h.slots, sizeof *h.slot);
    h.rank_first = agree_take((size_t)h.ranks + 1, sizeof *h.rank_first);
    h.expert = agree_take((size_t)(h.rows * h.choices), sizeof *h.expert);
    for (int s = 0; s < h.slots; s++)
        h.slot[s] = s;
    agree_shuffle(h.slot, h.slots);
    for (int e = 0; e < h.experts; e++)
        h.first[e + 1] = h.first[e] + 1;
    for (int more = h.slots - h.experts; more > 0; more--)
        for (int e = agree_between(0, h.experts - 1); e < h.experts; e++)
            h.first[e + 1]++;
    for (int r = 1; r < h.ranks; r++)
        h.rank_first[r] = agree_between(h.rank_first[r - 1], h.slots);
    h.rank_first[h.ranks] = h.slots;
    for (int r = 0; r < h.ranks; r++)
        if (h.rank_first[r + 1] - h.rank_first[r] > h.most_local)
            h.most_local = h.rank_first[r + 1] - h.rank_first[r];
    for (int e = 0; e < h.experts; e++)
        pick[e] = e;
    for (int t = 0; t < h.rows; t++) {
        agree_shuffle(pick, h.experts);
        memcpy(h.expert + (ptrdiff_t)t * h.choices, pick, (size_t)h.choices * sizeof *pick);
    }
    h.room = h.rows * (h.choices < h.most_local ? h.choices : h.most_local) + agree_between(0, 2);
    h.x = agree_random_rows(h.rows, h.width);
    h.scale = agree_chance(50) ? agree_random_rows(h.rows, h.choices) : NULL;
    return h;
}

static int32_t mark_at(const struct hand *h, const float *out, int row)
{
    int32_t mark;

    memcpy(&mark, out + (ptrdiff_t)row * deal_width(h->width) + deal_mark(h->width), sizeof mark);
    return mark;
}

/* Every choice lies in a place of its own at a rank that holds its expert, in the order of the choices, and
 * all other places are empty. */
static void check_hand(struct kernels *k, const struct hand *h, const float *out, const int32_t *place,
                       const int32_t *counts)
{
    int32_t *seen = agree_take((size_t)h->slots, sizeof *seen),
            *used = agree_take((size_t)h->ranks, sizeof *used);

    for (int i = 0; i < h->rows * h->choices; i++) {
        int rank = place[i] / (h->room > 0 ? h->room : 1), slot, at;

        agree_number(k, "the next place of its rank", place[i] - rank * h->room, used[rank]++);
        slot = h->rank_first[rank] + mark_at(h, out, place[i]);
        for (at = h->first[h->expert[i]]; at < h->first[h->expert[i] + 1] && h->slot[at] != slot;)
            at++;
        agree_number(k, "a slot of the expert", at < h->first[h->expert[i] + 1], true);
        seen[slot]++;
        for (int c = 0; c < h->width; c++) {
            float x = h->x[i / h->choices * h->width + c];

            agree_close(k, "a row that was dealt", i, c, out[(ptrdiff_t)place[i] * deal_width(h->width) + c],
                        h->scale ? x * h->scale[i] : x, 0.0);
        }
    }
    for (int s = 0; s < h->slots; s++)
        agree_number(k, "rows of a slot", counts[s], seen[s]);
    for (int row = 0; row < h->ranks * h->room; row++)
        if (row % h->room >= used[row / h->room])
            agree_number(k, "mark of an empty place", mark_at(h, out, row), -1);
}

/* By slot, in the order in which they arrived. */
static void check_groups(struct kernels *k, const struct hand *h, struct matrix arrived, const float *out)
{
    int next = 0, slots = h->most_local;
    int32_t *order_there = agree_numbers(k, NULL, (size_t)arrived.rows);
    int32_t *first_there = agree_numbers(k, NULL, (size_t)slots + 1);
    int32_t *order, *first;

    agree_ok(k, "group", k->group(k, arrived, h->width, slots, order_there, first_there));
    order = agree_bring(k, order_there, (size_t)arrived.rows);
    first = agree_bring(k, first_there, (size_t)slots + 1);
    for (int slot = 0; slot < slots; slot++) {
        agree_number(k, "where a slot begins", first[slot], next);
        for (int row = 0; row < arrived.rows; row++)
            if (mark_at(h, out, row) == slot)
                agree_number(k, "a row of a slot", order[next++], row);
    }
    agree_number(k, "rows of all slots", first[slots], next);
}

void agree_deal(struct kernels *reference, struct kernels *k)
{
    struct hand h = draw_hand();
    size_t choices = (size_t)(h.rows * h.choices);
    int32_t *place[2];

    agree_shape("[%d, %d], %d choices of %d experts in %d slots on %d ranks, room for %d", h.rows, h.width,
                h.choices, h.experts, h.slots, h.ranks, h.room);
    for (int i = 0; i < 2; i++) {
        struct kernels *backend = i == 0 ? reference : k;
        struct framed x = agree_framed(backend, h.rows, h.width, h.x);
        struct framed out = agree_framed(backend, h.ranks * h.room, deal_width(h.width), NULL);
        struct deal_table table = {.first = agree_numbers(backend, h.first, (size_t)h.experts + 1),
                                   .slot = agree_numbers(backend, h.slot, (size_t)h.slots),
                                   .rank_first = agree_numbers(backend, h.rank_first, (size_t)h.ranks + 1),
                                   .experts = h.experts,
                                   .slots = h.slots,
                                   .ranks = h.ranks};
        struct deal deal = {.out = out.view,
                            .x = x.view,
                            .expert = agree_numbers(backend, h.expert, choices),
                            .scale = h.scale ? agree_upload(backend, h.scale, choices) : NULL,
                            .table = &table,
                            .choices = h.choices,
                            .room = h.room,
                            .number = h.number,
                            .place = agree_numbers(backend, NULL, choices),
                            .counts = agree_numbers(backend, NULL, (size_t)h.slots)};
        float *content;

        agree_ok(backend, "deal", backend->deal(backend, &deal));
        content = agree_content(backend, &out);
        place[i] = agree_bring(backend, deal.place, choices);
        check_hand(backend, &h, content, place[i], agree_bring(backend, deal.counts, (size_t)h.slots));
        check_groups(backend, &h, out.view, content);
    }
    for (size_t i = 0; i < choices; i++)
        agree_number(k, "a place", place[1][i], place[0][i]);
}
