/* scheduler.c - which requests run, and what each step computes (rank 0 only)
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/scheduler.h"

#include "engine/base/clock.h"

enum { RING_PER_SEQUENCE = 2 }; /* finished requests may wait for their turn to be printed while others run */

static int pages_for(int positions)
{
    return (positions + PAGE_ROWS - 1) / PAGE_ROWS;
}

static enum status open_pages(struct scheduler *s, struct arena *arena)
{
    const struct scheduler_limits *l = &s->limits;
    size_t groups = (size_t)l->groups;

    TRY(arena_take_array(arena, groups * (size_t)l->pages_per_group, sizeof *s->free_pages, "free pages",
                         &s->free_pages));
    TRY(arena_take_array(arena, groups, sizeof *s->free_count, "free pages of groups", &s->free_count));
    TRY(arena_take_array(arena, groups, sizeof *s->reserved, "reserved pages of groups", &s->reserved));
    TRY(arena_take_array(arena, groups, sizeof *s->load, "load of groups", &s->load));
    for (int g = 0; g < l->groups; g++) {
        s->free_count[g] = l->pages_per_group;
        for (int i = 0; i < l->pages_per_group; i++) /* the lowest number on top */
            s->free_pages[(size_t)g * (size_t)l->pages_per_group + (size_t)i] = l->pages_per_group - 1 - i;
    }
    return STATUS_OK;
}

enum status scheduler_open(struct scheduler *s, struct arena *arena, const struct scheduler_limits *limits,
                           const struct tokenizer *tokenizer, const int *stop_ids, int stop_count)
{
    size_t sequences = (size_t)limits->sequences;

    *s = (struct scheduler){.limits = *limits};
    TRY(request_ground_open(&s->ground, arena, limits->vocabulary, tokenizer, stop_ids, stop_count));
    s->ring_size = RING_PER_SEQUENCE * limits->sequences;
    TRY(arena_take_array(arena, (size_t)s->ring_size, sizeof *s->ring, "requests", &s->ring));
    TRY(arena_take_array(arena, sequences, sizeof(void *), "running requests", &s->running));
    TRY(arena_take_array(arena, sequences, sizeof *s->take, "rows of requests", &s->take));
    for (int i = 0; i < s->ring_size; i++) {
        TRY(arena_take_array(arena, (size_t)limits->positions, sizeof(int32_t), "tokens of requests",
                             &s->ring[i].tokens));
        TRY(arena_take_array(arena, (size_t)pages_for(limits->positions), sizeof(int32_t),
                             "pages of requests", &s->ring[i].pages));
    }
    return open_pages(s, arena);
}

bool scheduler_has_room(const struct scheduler *s)
{
    return s->tail - s->head < s->ring_size;
}

struct tokens scheduler_prompt(struct scheduler *s)
{
    return (struct tokens){.ids = s->ring[s->tail % s->ring_size].tokens, .capacity = s->limits.positions};
}

enum status scheduler_add(struct scheduler *s, int count, const struct request_options *options)
{
    struct request *r = &s->ring[s->tail % s->ring_size];

    TRY(request_start(r, &s->ground, s->tail, count, s->limits.positions, options));
    if (pages_for(r->most) > s->limits.pages_per_group)
        return FAIL(STATUS_BAD_INPUT,
                    "%d tokens of prompt and %d of answer can never fit: the key-value cache holds %d; raise "
                    "--kv-cache-memory or lower --max-tokens",
                    count, r->most - count, s->limits.pages_per_group * PAGE_ROWS);
    s->tail++;
    return STATUS_OK;
}

/* The group with the fewest requests that can promise `pages`; -1: none. */
static int choose_group(const struct scheduler *s, int pages)
{
    int best = -1;

    for (int g = 0; g < s->limits.groups; g++)
        if (s->free_count[g] - s->reserved[g] >= pages && (best < 0 || s->load[g] < s->load[best]))
            best = g;
    return best;
}

/* Starts waiting requests in order; the first that finds no room keeps the later ones waiting, so nobody
 * starves. */
static void admit_waiting(struct scheduler *s)
{
    while (s->admit < s->tail && s->running_count < s->limits.sequences) {
        struct request *r = &s->ring[s->admit % s->ring_size];
        int group = choose_group(s, pages_for(r->most));
        int slot = 0;

        if (group < 0)
            return;
        while (s->running[slot])
            slot++;
        s->running[slot] = r;
        s->running_count++;
        s->reserved[group] += pages_for(r->most);
        s->load[group]++;
        r->slot = slot;
        r->group = group;
        r->state = REQUEST_RUNNING;
        s->admit++;
    }
}

/* Rows of each running request in this step: decodes first, then prompts, oldest first. */
static void share_budget(struct scheduler *s)
{
    int budget = s->limits.rows;

    for (int slot = 0; slot < s->limits.sequences; slot++) {
        const struct request *r = s->running[slot];

        s->take[slot] = r && r->count - r->computed == 1 && budget > 0;
        budget -= s->take[slot];
    }
    for (int64_t number = s->head; number < s->admit && budget > 0; number++) {
        const struct request *r = &s->ring[number % s->ring_size];
        int left = r->count - r->computed;

        if (r->state != REQUEST_RUNNING || left == 1)
            continue;
        s->take[r->slot] = left < budget ? left : budget;
        budget -= s->take[r->slot];
    }
}

static enum status add_piece(struct scheduler *s, struct batch *b, struct request *r, int rows)
{
    int needed = pages_for(r->computed + rows) - r->page_count;
    struct batch_piece *piece = &b->pieces[b->piece_count];

    if (b->piece_count == b->max_pieces || b->row_count + rows > b->max_rows ||
        b->page_count + needed > b->max_pages)
        return FAIL(STATUS_BUG, "a step of more than %d pieces, %d rows or %d new pages", b->max_pieces,
                    b->max_rows, b->max_pages);
    *piece = (struct batch_piece){.sequence = r->slot,
                                  .group = r->group,
                                  .first_row = b->row_count,
                                  .rows = rows,
                                  .position = r->computed,
                                  .first_page = b->page_count,
                                  .new_pages = needed};
    request_wants(r, rows, piece);
    for (int i = 0; i < needed; i++) {
        int32_t page = s->free_pages[(size_t)r->group * (size_t)s->limits.pages_per_group +
                                     (size_t)--s->free_count[r->group]];

        s->reserved[r->group]--;
        r->pages[r->page_count++] = page;
        b->pages[b->page_count++] = page;
    }
    for (int i = 0; i < rows; i++)
        b->tokens[b->row_count++] = r->tokens[r->computed + i];
    b->piece_count++;
    return STATUS_OK;
}

enum status scheduler_fill(struct scheduler *s, struct batch *b)
{
    admit_waiting(s);
    share_budget(s);
    for (int group = 0; group < s->limits.groups; group++)
        for (int slot = 0; slot < s->limits.sequences; slot++)
            if (s->take[slot] > 0 && s->running[slot]->group == group)
                TRY(add_piece(s, b, s->running[slot], s->take[slot]));
    return STATUS_OK;
}

static void finish_request(struct scheduler *s, struct request *r)
{
    int32_t *stack = s->free_pages + (size_t)r->group * (size_t)s->limits.pages_per_group;

    for (int i = r->page_count; i-- > 0;)
        stack[s->free_count[r->group]++] = r->pages[i];
    s->reserved[r->group] -= pages_for(r->most) - r->page_count;
    s->load[r->group]--;
    s->running[r->slot] = NULL;
    s->running_count--;
    r->state = REQUEST_FINISHED;
    r->ended = clock_now();
}

enum status scheduler_advance(struct scheduler *s, const struct batch *b, const struct head_result *results)
{
    int next = 0;

    for (int i = 0; i < b->piece_count; i++) {
        const struct batch_piece *piece = &b->pieces[i];
        struct request *r = s->running[piece->sequence];
        const struct head_result *result = &results[next];

        if (r->computed < r->prompt)
            s->prompt_tokens += piece->rows;
        r->computed += piece->rows;
        if (piece->want == BATCH_WANT_NONE)
            continue;
        next++;
        s->generated_tokens++;
        TRY(request_take(r, &s->ground, result));
        if (r->finish != FINISH_NONE)
            finish_request(s, r);
    }
    return STATUS_OK;
}

struct request *scheduler_oldest(struct scheduler *s)
{
    return s->head < s->tail ? &s->ring[s->head % s->ring_size] : NULL;
}

void scheduler_drop(struct scheduler *s)
{
    s->head++;
}

bool scheduler_idle(const struct scheduler *s)
{
    return s->running_count == 0 && s->admit == s->tail;
}
