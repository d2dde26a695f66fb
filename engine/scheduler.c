/* scheduler.c - which requests run, and what each step computes (rank 0 only)
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/scheduler.h"

#include "engine/base/clock.h"

#include <string.h>

enum {
    KEPT_PER_SEQUENCE = 2, /* finished requests may wait for their turn to be printed while others run */
    TWINS_SOUGHT = 64      /* requests looked at for one that begins alike */
};

static int larger(int a, int b)
{
    return a > b ? a : b;
}

static int smaller(int a, int b)
{
    return a < b ? a : b;
}

static int pages_for(int positions)
{
    return (positions + PAGE_ROWS - 1) / PAGE_ROWS;
}

size_t scheduler_page_bytes(int groups, int pages_per_group)
{
    return (size_t)groups *
           (page_pool_bytes(pages_per_group) + sizeof(struct page_pool) + 4 * (size_t)ARENA_ALIGN);
}

static enum status open_pages(struct scheduler *s, struct arena *arena)
{
    const struct scheduler_limits *l = &s->limits;
    size_t groups = (size_t)l->groups;

    TRY(arena_take_array(arena, groups, sizeof *s->pool, "pools of groups", &s->pool));
    TRY(arena_take_array(arena, groups, sizeof *s->load, "load of groups", &s->load));
    TRY(arena_take_array(arena, groups, sizeof *s->promised, "promised pages of groups", &s->promised));
    TRY(arena_take_array(arena, groups, sizeof *s->found, "found pages of groups", &s->found));
    for (int g = 0; g < l->groups; g++)
        TRY(page_pool_open(&s->pool[g], arena, l->pages_per_group, l->prefix_caching));
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
    TRY(arena_take_array(arena, sequences, sizeof(void *), "requests that want rows", &s->wanting));
    TRY(arena_take_array(arena, sequences, sizeof *s->take, "rows of requests", &s->take));
    TRY(share_open(&s->share, arena, limits->sequences));
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

/* Pages that r still needs for the tokens it has. */
static int promise(const struct request *r)
{
    int more = pages_for(r->count) - r->page_count;

    return more > 0 ? more : 0;
}

/* Blocks of r that may come from the cache: whole ones, and one token at least is computed. */
static int sharable_blocks(const struct request *r)
{
    return request_reads_cache(r) ? (r->count - 1) / PAGE_ROWS : 0;
}

/* How many pages of the group hold the beginning of r; *idle: of these, how many nobody uses. */
static int count_found(const struct scheduler *s, const struct request *r, int group, int *idle)
{
    const struct page_pool *pool = &s->pool[group];
    int blocks = sharable_blocks(r);
    uint64_t block = 0;
    int found = 0;
    int32_t page;

    *idle = 0;
    while (found < blocks && page_pool_find(pool, block, r->tokens + (ptrdiff_t)found * PAGE_ROWS, &page)) {
        block = pool->page[page].name;
        *idle += pool->page[page].users == 0;
        found++;
    }
    return found;
}

/* The group that r shall run in, by the rule above; -1: none has room. */
static int choose_group(struct scheduler *s, const struct request *r)
{
    int least = -1, best = -1;

    for (int g = 0; g < s->limits.groups; g++) {
        int idle, found = count_found(s, r, g, &idle);
        int room = s->pool[g].unused - idle - s->promised[g] - s->load[g];

        s->found[g] = room >= pages_for(r->count) - found ? found : -1;
        if (s->found[g] >= 0 && (least < 0 || s->load[g] < least))
            least = s->load[g];
    }
    for (int g = 0; g < s->limits.groups; g++) {
        if (s->found[g] < 0 || s->load[g] > least + PREFIX_LOAD)
            continue;
        if (best < 0 || s->found[g] > s->found[best] ||
            (s->found[g] == s->found[best] && s->load[g] < s->load[best]))
            best = g;
    }
    return best;
}

/* Takes pages that hold the next blocks of r, which has not computed a row since it started. */
static void take_found(struct scheduler *s, struct request *r)
{
    struct page_pool *pool = &s->pool[r->group];
    int blocks = sharable_blocks(r);
    int32_t page;

    while (r->found < blocks &&
           page_pool_find(pool, r->block, r->tokens + (ptrdiff_t)r->found * PAGE_ROWS, &page)) {
        page_pool_keep(pool, page);
        r->pages[r->page_count++] = page;
        r->block = pool->page[page].name;
        r->found++;
    }
    r->published = r->found;
    r->computed = r->found * PAGE_ROWS;
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
    take_found(s, r);
    s->promised[group] += promise(r);
}

/* Takes r from those that run; its pages go back, the last first. */
static void stop_running(struct scheduler *s, struct request *r)
{
    int place = 0;

    while (s->order[place] != r)
        place++;
    for (s->running_count--; place < s->running_count; place++)
        s->order[place] = s->order[place + 1];
    s->running[r->slot] = NULL;
    s->take[r->slot] = 0;
    s->load[r->group]--;
    s->promised[r->group] -= promise(r);
    while (r->page_count > 0)
        page_pool_release(&s->pool[r->group], r->pages[--r->page_count]);
}

/* r waits again, and begins anew with the tokens it has. */
static void put_aside(struct scheduler *s, struct request *r)
{
    stop_running(s, r);
    r->computed = r->told = r->found = r->published = 0;
    r->block = 0;
    r->put_aside++;
    s->preemptions++;
    r->state = REQUEST_WAITING;
    queue_add(&s->waiting, r);
}

/* Starts waiting requests in order; the first that finds no room keeps the later ones waiting, so nobody
 * starves. For want of room the last that runs is put aside, if its priority is worse. */
static void admit_waiting(struct scheduler *s)
{
    struct request *r;

    memset(s->promised, 0, (size_t)s->limits.groups * sizeof *s->promised);
    for (int i = 0; i < s->running_count; i++)
        s->promised[s->order[i]->group] += promise(s->order[i]);
    while ((r = queue_first(&s->waiting))) {
        int group = s->running_count < s->limits.sequences ? choose_group(s, r) : -1;
        struct request *last = s->running_count > 0 ? s->order[s->running_count - 1] : NULL;

        if (group >= 0) {
            queue_remove(&s->waiting, r);
            start_running(s, r, group);
        } else if (last && last->priority > r->priority) {
            put_aside(s, last);
        } else {
            return;
        }
    }
}

/* Puts aside the last of those behind r that has pages of its group. */
static bool put_later_aside(struct scheduler *s, const struct request *r)
{
    for (int i = s->running_count - 1; s->order[i] != r; i--) {
        if (s->order[i]->group == r->group && s->order[i]->page_count > 0) {
            put_aside(s, s->order[i]);
            return true;
        }
    }
    return false;
}

/* Up to `rows` rows of r come into the step: as many as find pages. */
static enum status take_rows(struct scheduler *s, struct request *r, int rows)
{
    struct page_pool *pool = &s->pool[r->group];
    int needed = pages_for(r->computed + rows), room;

    if (r->told == 0 && s->take[r->slot] == 0 && r->found > s->found_room)
        return STATUS_OK; /* the next step can name them */
    while (r->page_count < needed && (pool->unused > 0 || put_later_aside(s, r))) {
        if (pool->unused == 0)
            continue; /* others use the same pages */
        TRY(page_pool_take(pool, &r->pages[r->page_count]));
        r->page_count++;
    }
    room = r->page_count * PAGE_ROWS - r->computed;
    if (r->told == 0 && s->take[r->slot] == 0 && room > 0)
        s->found_room -= r->found;
    s->take[r->slot] = smaller(rows, room);
    return STATUS_OK;
}

/* Rows of the wanting request `at`, which has none yet, that one before it brings in this step. */
static int rows_brought(const struct scheduler *s, int at)
{
    const struct request *r = s->wanting[at];
    int blocks = sharable_blocks(r), most = r->found;

    for (int i = at - 1; i >= 0 && i >= at - TWINS_SOUGHT; i--) {
        const struct request *q = s->wanting[i];
        int block = r->found, end;

        if (q->state != REQUEST_RUNNING || q->group != r->group || q->block != r->block)
            continue;
        end = (q->computed + s->take[q->slot]) / PAGE_ROWS;
        while (block < blocks && block < end &&
               memcmp(q->tokens + (ptrdiff_t)block * PAGE_ROWS, r->tokens + (ptrdiff_t)block * PAGE_ROWS,
                      PAGE_ROWS * sizeof *r->tokens) == 0)
            block++;
        most = larger(most, block);
    }
    return (most - r->found) * PAGE_ROWS;
}

/* Would it rather find what another computes in this step than compute it too? Where that is at least a
 * quarter of the rows that it could have, so that it does not creep behind one that creeps. */
static bool waits_for_twin(const struct scheduler *s, int at, int rows)
{
    const struct request *r = s->wanting[at];

    return s->limits.prefix_caching && r->told == 0 && s->take[r->slot] == 0 &&
           4 * rows_brought(s, at) >= rows;
}

static bool decodes(const struct request *r)
{
    return r->told > 0 && r->count - r->computed == 1;
}

/* Divides rows among the first `count` that want some; what one leaves for want of pages or for another to
 * compute goes to the others in order. */
static enum status divide_rows(struct scheduler *s, int count, int budget)
{
    share_rows(&s->share, count, budget);
    for (int round = 0; round < 2; round++) {
        int rest = budget;

        for (int i = 0; i < count; i++)
            rest -= s->wanting[i]->state == REQUEST_RUNNING ? s->take[s->wanting[i]->slot] : 0;
        for (int i = 0; i < count; i++) {
            struct request *r = s->wanting[i];
            int had = r->state == REQUEST_RUNNING ? s->take[r->slot] : 0;
            int rows = round == 0 ? s->share.rows[i] : smaller(s->share.left[i], had + rest);

            if (r->state != REQUEST_RUNNING || rows <= had || waits_for_twin(s, i, rows))
                continue;
            TRY(take_rows(s, r, rows));
            rest -= s->take[r->slot] - had;
        }
    }
    return STATUS_OK;
}

/* How many of `drafts` drafts of r have room in pages, for which nobody is put aside. */
static enum status draft_room(struct scheduler *s, struct request *r, int *drafts)
{
    struct page_pool *pool = &s->pool[r->group];
    int spare = pool->unused - s->promised[r->group] - s->load[r->group];
    int needed = pages_for(r->count + *drafts);

    for (; r->page_count < needed && spare > 0; spare--) {
        TRY(page_pool_take(pool, &r->pages[r->page_count]));
        r->page_count++;
    }
    *drafts = smaller(*drafts, r->page_count * PAGE_ROWS - r->count);
    return STATUS_OK;
}

/* Up to `rows` more rows, for drafts of requests that decode. */
static enum status choose_drafts(struct scheduler *s, int rows)
{
    struct speculate *speculate = s->limits.speculate;
    int64_t start = clock_now();
    int asked = 0;

    for (int i = 0; i < s->running_count && rows > 0; i++) {
        struct request *r = s->order[i];
        int most = smaller(smaller(rows, speculate->options.drafts), r->most - r->count - 1);

        if (!decodes(r) || s->take[r->slot] == 0 || most < 1)
            continue;
        TRY(speculate_ask(speculate, r->slot, r->number, r->tokens, r->count, most));
        s->wanting[asked++] = r;
    }
    if (asked > 0)
        TRY(speculate_look(speculate));
    for (int i = 0; i < asked && rows > 0; i++) {
        struct request *r = s->wanting[i];
        int drafts;
        const int32_t *tokens = speculate_drafts(speculate, i, &drafts);

        drafts = smaller(drafts, rows);
        TRY(draft_room(s, r, &drafts));
        memcpy(r->tokens + r->count, tokens, (size_t)drafts * sizeof *tokens);
        s->take[r->slot] += drafts;
        s->drafts += drafts > 0;
        s->draft_tokens += drafts;
        rows -= drafts;
    }
    s->looked = clock_now() - start;
    return STATUS_OK;
}

/* Rows of each running request in this step. Those that decode come first; what they leave is divided among
 * the others, and what these leave are drafts. */
static enum status choose_rows(struct scheduler *s)
{
    int budget = s->limits.rows;
    int count = 0;
    int spare = s->limits.wanted - s->running_count;

    memset(s->take, 0, (size_t)s->limits.sequences * sizeof *s->take);
    s->found_room = batch_found_pages(s->limits.rows, s->limits.positions);
    for (int i = 0; i < s->running_count && budget > 0; i++) {
        if (!decodes(s->order[i]))
            continue;
        TRY(take_rows(s, s->order[i], 1));
        budget -= s->take[s->order[i]->slot];
    }
    for (int i = 0; i < s->running_count; i++) {
        struct request *r = s->order[i];

        if (decodes(r))
            continue;
        if (r->told == 0)
            take_found(s, r);
        s->wanting[count] = r;
        s->share.left[count++] = request_most_rows(r, r->count - r->computed, &spare);
    }
    TRY(divide_rows(s, count, budget));
    budget = s->limits.rows;
    for (int i = 0; i < s->running_count; i++)
        budget -= s->take[s->order[i]->slot];
    return s->limits.speculate ? choose_drafts(s, smaller(budget, spare)) : STATUS_OK;
}

static enum status add_piece(struct batch *b, struct request *r, int rows)
{
    int new_pages = r->page_count - r->told;
    struct batch_piece *piece = &b->pieces[b->piece_count];

    if (b->piece_count == b->max_pieces || b->row_count + rows > b->max_rows ||
        b->page_count + new_pages > b->max_pages)
        return FAIL(STATUS_BUG, "a step of more than %d pieces, %d rows or %d new pages", b->max_pieces,
                    b->max_rows, b->max_pages);
    *piece = (struct batch_piece){.sequence = r->slot,
                                  .group = r->group,
                                  .first_row = b->row_count,
                                  .rows = rows,
                                  .position = r->computed,
                                  .first_page = b->page_count,
                                  .new_pages = new_pages,
                                  .found_pages = r->told == 0 ? r->found : 0};
    request_wants(r, rows, piece);
    while (r->told < r->page_count)
        b->pages[b->page_count++] = r->pages[r->told++];
    for (int i = 0; i < rows; i++)
        b->tokens[b->row_count++] = r->tokens[r->computed + i];
    b->piece_count++;
    return STATUS_OK;
}

enum status scheduler_fill(struct scheduler *s, struct batch *b)
{
    admit_waiting(s);
    TRY(choose_rows(s));
    for (int group = 0; group < s->limits.groups; group++)
        for (int i = 0; i < s->running_count; i++)
            if (s->order[i]->group == group && s->take[s->order[i]->slot] > 0)
                TRY(add_piece(b, s->order[i], s->take[s->order[i]->slot]));
    if (b->row_count == 0 && s->running_count > 0)
        return FAIL(STATUS_BUG, "%d requests run, and none of them can go on", s->running_count);
    return STATUS_OK;
}

static void finish_request(struct scheduler *s, struct request *r)
{
    stop_running(s, r);
    r->state = REQUEST_FINISHED;
    r->ended = clock_now();
}

/* `rows` more positions of r are in the cache; whole blocks can be found from now on. */
static void count_rows(struct scheduler *s, struct request *r, int rows)
{
    int end = r->computed + rows;
    int again;

    if (r->reached == 0) { /* the very first rows */
        r->cached = r->found * PAGE_ROWS;
        s->cached_tokens += r->cached;
    }
    r->reached = larger(r->reached, r->computed);
    again = smaller(r->reached - r->computed, rows);
    s->recomputed_tokens += again;
    s->prompt_tokens += larger(0, smaller(end, r->prompt) - r->reached);
    r->reached = larger(r->reached, end);
    r->computed = end;
    for (; (r->published + 1) * PAGE_ROWS <= r->computed; r->published++)
        r->block = page_pool_publish(&s->pool[r->group], r->pages[r->published], r->block,
                                     r->tokens + (ptrdiff_t)r->published * PAGE_ROWS);
}

enum status scheduler_advance(struct scheduler *s, const struct batch *b, const struct head_result *results)
{
    int next = 0;

    for (int i = 0; i < b->piece_count; i++) {
        const struct batch_piece *piece = &b->pieces[i];
        struct request *r = s->running[piece->sequence];
        int before = r->count;

        if (piece->want != BATCH_WANT_NONE)
            TRY(request_take(r, &s->ground, piece, results + next));
        next += batch_piece_wanted(piece);
        /* Behind the last token stand drafts that were refused. */
        count_rows(s, r, smaller(piece->rows, r->count - 1 - piece->position));
        s->generated_tokens += r->count - before;
        s->accepted_tokens += larger(0, r->count - before - 1);
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
