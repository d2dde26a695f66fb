/* scheduler.c - which requests run, and what each step computes (rank 0 only)
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/scheduler.h"

#include "engine/base/clock.h"

#include <string.h>

enum { KEPT_PER_SEQUENCE = 2 }; /* finished requests may wait for their turn to be printed while others run */

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
    s->capacity = KEPT_PER_SEQUENCE * limits->sequences;
    TRY(arena_take_array(arena, (size_t)s->capacity, sizeof *s->store, "requests", &s->store));
    TRY(arena_take_array(arena, (size_t)s->capacity, sizeof(void *), "spare requests", &s->spare));
    TRY(queue_open(&s->waiting, arena, s->capacity));
    TRY(arena_take_array(arena, sequences, sizeof(void *), "running requests", &s->running));
    TRY(arena_take_array(arena, sequences, sizeof(void *), "order of running requests", &s->order));
    TRY(arena_take_array(arena, sequences, sizeof *s->take, "rows of requests", &s->take));
    for (int i = s->capacity; i-- > 0;) {
        TRY(arena_take_array(arena, (size_t)limits->positions, sizeof(int32_t), "tokens of requests",
                             &s->store[i].tokens));
        TRY(arena_take_array(arena, (size_t)pages_for(limits->positions), sizeof(int32_t),
                             "pages of requests", &s->store[i].pages));
        s->spare[s->spare_count++] = &s->store[i];
    }
    return open_pages(s, arena);
}

bool scheduler_has_room(const struct scheduler *s)
{
    return s->spare_count > 0;
}

struct tokens scheduler_prompt(struct scheduler *s)
{
    return (struct tokens){.ids = s->spare[s->spare_count - 1]->tokens, .capacity = s->limits.positions};
}

enum status scheduler_add(struct scheduler *s, int count, const struct request_options *options)
{
    struct request *r = s->spare[s->spare_count - 1];

    TRY(request_start(r, &s->ground, s->added, count, s->limits.positions, options));
    if (pages_for(r->most) > s->limits.pages_per_group)
        return FAIL(STATUS_BAD_INPUT,
                    "%d tokens of prompt and %d of answer can never fit: the key-value cache holds %d; raise "
                    "--kv-cache-memory or lower --max-tokens",
                    count, r->most - count, s->limits.pages_per_group * PAGE_ROWS);
    s->spare_count--;
    s->added++;
    r->older = s->newest;
    if (s->newest)
        s->newest->newer = r;
    else
        s->oldest = r;
    s->newest = r;
    queue_add(&s->waiting, r);
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

/* Puts r among those that run. */
static void start_running(struct scheduler *s, struct request *r, int group)
{
    int slot = 0, place = s->running_count++;

    while (s->running[slot])
        slot++;
    s->running[slot] = r;
    for (; place > 0 && request_before(r, s->order[place - 1]); place--)
        s->order[place] = s->order[place - 1];
    s->order[place] = r;
    s->load[group]++;
    r->slot = slot;
    r->group = group;
    r->state = REQUEST_RUNNING;
}

static void stop_running(struct scheduler *s, struct request *r)
{
    int place = 0;

    while (s->order[place] != r)
        place++;
    for (s->running_count--; place < s->running_count; place++)
        s->order[place] = s->order[place + 1];
    s->running[r->slot] = NULL;
    s->load[r->group]--;
}

/* Starts waiting requests in order; the first that finds no room keeps the later ones waiting, so nobody
 * starves. */
static void admit_waiting(struct scheduler *s)
{
    struct request *r;

    while ((r = queue_first(&s->waiting)) && s->running_count < s->limits.sequences) {
        int group = choose_group(s, pages_for(r->most));

        if (group < 0)
            return;
        queue_remove(&s->waiting, r);
        s->reserved[group] += pages_for(r->most);
        start_running(s, r, group);
    }
}

/* Rows of each running request in this step: decodes first, then prompts, the most urgent first. */
static void share_budget(struct scheduler *s)
{
    int budget = s->limits.rows;

    memset(s->take, 0, (size_t)s->limits.sequences * sizeof *s->take);
    for (int i = 0; i < s->running_count && budget > 0; i++) {
        const struct request *r = s->order[i];

        s->take[r->slot] = r->count - r->computed == 1;
        budget -= s->take[r->slot];
    }
    for (int i = 0; i < s->running_count && budget > 0; i++) {
        const struct request *r = s->order[i];
        int left = r->count - r->computed;

        if (left == 1)
            continue;
        s->take[r->slot] = request_most_rows(r, left < budget ? left : budget);
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
    stop_running(s, r);
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

void scheduler_cancel(struct scheduler *s, struct request *r)
{
    if (r->state == REQUEST_FINISHED)
        return;
    r->finish = FINISH_CANCELLED;
    if (r->state == REQUEST_RUNNING) {
        finish_request(s, r);
        return;
    }
    queue_remove(&s->waiting, r);
    r->state = REQUEST_FINISHED;
    r->ended = clock_now();
}

struct request *scheduler_oldest(struct scheduler *s)
{
    return s->oldest;
}

void scheduler_drop(struct scheduler *s, struct request *r)
{
    if (r->older)
        r->older->newer = r->newer;
    else
        s->oldest = r->newer;
    if (r->newer)
        r->newer->older = r->older;
    else
        s->newest = r->older;
    s->spare[s->spare_count++] = r;
}

bool scheduler_idle(const struct scheduler *s)
{
    return s->running_count == 0 && s->waiting.count == 0;
}
