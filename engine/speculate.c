/* speculate.c - drafts of what requests will say next, out of what they have said (rank 0 only)
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/speculate.h"

#include <string.h>

enum { FOUND = 1 + DRAFT_TOKENS_MOST };

enum status speculate_open(struct speculate *s, struct arena *arena, struct kernels *k,
                           const struct speculate_options *options, int slots, int positions)
{
    size_t count = (size_t)slots, bytes = count * (size_t)positions * sizeof(int32_t);
    void *history;

    if (options->drafts < 1 || options->drafts > DRAFT_TOKENS_MOST)
        return FAIL(STATUS_BUG, "speculation with %d drafts, at most %d", options->drafts, DRAFT_TOKENS_MOST);
    *s = (struct speculate){.options = *options, .kernels = k, .slots = slots, .positions = positions};
    TRY(arena_take_array(arena, count, sizeof *s->owner, "owners of histories", &s->owner));
    TRY(arena_take_array(arena, count, sizeof *s->known, "lengths of histories", &s->known));
    TRY(arena_take_array(arena, count, sizeof *s->asked, "requests for drafts", &s->asked));
    TRY(arena_take_array(arena, count * FOUND, sizeof *s->found, "drafts", &s->found));
    TRY(k->alloc(k, bytes, "histories of requests", &history));
    s->history = history;
    for (int slot = 0; slot < slots; slot++)
        s->owner[slot] = -1;
    return STATUS_OK;
}

enum status speculate_ask(struct speculate *s, int slot, int64_t number, const int32_t *tokens, int count,
                          int most)
{
    struct kernels *k = s->kernels;
    struct draft_sequence *next;
    int *known = &s->known[slot];

    if (s->looked)
        s->count = 0;
    s->looked = false;
    if (s->count == s->slots || count > s->positions)
        return FAIL(STATUS_BUG, "drafts for request %d of %d, of %d tokens", s->count, s->slots, count);
    if (s->owner[slot] != number)
        *known = 0;
    s->owner[slot] = number;
    if (count - *known > DRAFT_ADDED_MOST) { /* a prompt: its tokens do not travel with the others */
        int more = count - *known - DRAFT_ADDED_MOST;

        TRY(k->upload(k, s->history + (ptrdiff_t)slot * s->positions + *known, tokens + *known,
                      (size_t)more * sizeof *tokens));
        *known += more;
    }
    next = &s->asked[s->count++];
    *next = (struct draft_sequence){.row = slot, .known = *known, .added = count - *known, .most = most};
    memcpy(next->tokens, tokens + *known, (size_t)next->added * sizeof *tokens);
    *known = count;
    return STATUS_OK;
}

enum status speculate_look(struct speculate *s)
{
    const struct draft draft = {.history = s->history,
                                .rows = s->slots,
                                .stride = s->positions,
                                .sequences = s->asked,
                                .count = s->count,
                                .shortest = s->options.shortest,
                                .longest = s->options.longest,
                                .found = s->found};

    s->looked = true;
    return s->kernels->draft(s->kernels, &draft);
}

const int32_t *speculate_drafts(const struct speculate *s, int index, int *count)
{
    const int32_t *found = s->found + (ptrdiff_t)index * FOUND;

    *count = found[0];
    return found + 1;
}
