/* cuda_spans.c - rows of sequences as the kernels of attention want them: tiles, chunks and tables of pages
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/cuda_spans.h"

enum { ROOM_NUMBERS = CUDA_PLAN_SPAN_NUMBERS, TILE = 16 };

enum status cuda_spans_open(struct cuda_spans *s, struct cuda_device *d, struct host_memory *memory,
                            struct cuda_record *record)
{
    void *numbers;

    TRY(host_alloc(memory, ROOM_NUMBERS * sizeof *s->numbers, "descriptions of attention", &numbers));
    *s = (struct cuda_spans){.numbers = numbers, .room = ROOM_NUMBERS, .record = record};
    TRY(cuda_device_take(d, ROOM_NUMBERS * sizeof *s->numbers, "spans of a step", &numbers));
    s->step.numbers = numbers;
    for (int i = 0; i < CUDA_SPANS_KINDS; i++) {
        TRY(cuda_device_take(d, CUDA_SPANS_KIND_NUMBERS * sizeof *s->numbers, "a kind of attention",
                             &numbers));
        s->step.kind[i].numbers = numbers;
    }
    return STATUS_OK;
}

void cuda_spans_close(struct cuda_spans *s, struct cuda_device *d)
{
    for (int i = 0; i < CUDA_SPANS_KINDS; i++)
        cuda_device_give_back(d, s->step.kind[i].numbers);
    cuda_device_give_back(d, s->step.numbers);
    *s = (struct cuda_spans){0};
}

static enum status check_rows(const struct span *span, int rows)
{
    if (span->first_row < 0 || span->rows < 0 || span->rows > rows - span->first_row ||
        span->first_position < 0)
        return FAIL(STATUS_BUG, "span of %d rows from row %d, position %d, of %d rows", span->rows,
                    span->first_row, span->first_position, rows);
    return STATUS_OK;
}

/* The pages of positions `from` up to the span's last lie in the pool, its rows among `rows`. */
static enum status check_span(const struct span *span, const struct cache_layer *cache, int rows, int from)
{
    int last = span->first_position + span->rows - 1;

    TRY(check_rows(span, rows));
    for (int page = from / PAGE_ROWS; span->rows > 0 && page <= last / PAGE_ROWS; page++)
        if (span->pages[page] < 0 || span->pages[page] >= cache->pages)
            return FAIL(STATUS_BUG, "page %d, the cache has %d", span->pages[page], cache->pages);
    return STATUS_OK;
}

static enum status check_cache(const struct cache_layer *cache)
{
    if (cache->head_width % 16 != 0 || cache->head_width > CUDA_SPANS_WIDTH)
        return FAIL(
            STATUS_BAD_INPUT,
            "the cuda backend needs heads of a multiple of 16 up to %d numbers, this model has %d; use "
            "--backend cpu",
            CUDA_SPANS_WIDTH, cache->head_width);
    return STATUS_OK;
}

static int first_seen(const struct attention *a, int position)
{
    if (a->mask == MASK_CHUNK)
        return position - position % a->mask_size;
    if (a->mask == MASK_WINDOW)
        return position >= a->mask_size ? position - a->mask_size + 1 : 0;
    return 0;
}

/* An array of the call is being written. */
struct list {
    int32_t *at;
    size_t used, room;
};

static enum status push(struct list *l, int32_t number)
{
    if (l->used == l->room)
        return FAIL(STATUS_BUG, "a step needs more than %zu numbers to describe its attention", l->room);
    l->at[l->used++] = number;
    return STATUS_OK;
}

/* position, first_page [rows] and pages of the spans, *used numbers in all. Rows outside any span are -1.
 * Spans of one sequence behind each other share its pages. */
static enum status write_spans(struct cuda_spans *s, const struct cuda_spans_job *job, size_t *used)
{
    size_t rows = (size_t)job->rows;
    struct list pages = {s->numbers + 2 * rows, 0, s->room - 2 * rows};
    size_t first = 0; /* page of the sequence */

    if (2 * rows > s->room)
        return FAIL(STATUS_BUG, "a step of %d rows", job->rows);
    for (size_t i = 0; i < 2 * rows; i++)
        s->numbers[i] = -1;
    for (int i = 0; i < job->span_count; i++) {
        const struct span *span = &job->spans[i];
        int count = (span->first_position + span->rows + PAGE_ROWS - 1) / PAGE_ROWS;

        if (i == 0 || span->pages != span[-1].pages)
            first = pages.used;
        for (int row = 0; row < span->rows; row++) {
            s->numbers[span->first_row + row] = span->first_position + row;
            s->numbers[rows + (size_t)(span->first_row + row)] = (int32_t)first;
        }
        for (int page = (int)(pages.used - first); span->rows > 0 && page < count; page++)
            TRY(push(&pages, span->pages[page]));
    }
    *used = 2 * rows + pages.used;
    return STATUS_OK;
}

enum status cuda_spans_begin(struct cuda_spans *s, struct cuda_device *d, const struct cuda_spans_job *job)
{
    size_t used;

    s->step.spans = NULL;
    s->step.pages = 0;
    s->step.most = -1;
    for (int i = 0; i < CUDA_SPANS_KINDS; i++)
        s->step.kind[i].kv_of = NULL;
    for (int i = 0; i < job->span_count; i++)
        TRY(check_rows(&job->spans[i], job->rows));
    TRY(write_spans(s, job, &used));
    TRY(cuda_device_upload(d, s->step.numbers, s->numbers, used * sizeof(int32_t)));
    s->step.spans = job->spans;
    s->step.span_count = job->span_count;
    s->step.rows = job->rows;
    return STATUS_OK;
}

enum status cuda_spans_reach(struct cuda_spans *s, int least, int most)
{
    for (int i = 0; s->step.spans && i < s->step.span_count; i++) {
        const struct span *span = &s->step.spans[i];

        if (span->rows > 0 && (span->first_position < least || span->first_position + span->rows - 1 > most))
            return FAIL(STATUS_BUG, "rows from position %d on in a step of positions %d to %d",
                        span->first_position, least, most);
    }
    s->step.least = least;
    s->step.most = most;
    return STATUS_OK;
}

static bool said(const struct cuda_spans *s, const struct cuda_spans_job *job)
{
    return s->step.spans && s->step.spans == job->spans && s->step.span_count == job->span_count &&
           s->step.rows == job->rows;
}

/* The rows of the step and their pages, on the device. */
static enum status send_cache(struct cuda_spans *s, struct cuda_device *d, const struct cuda_spans_job *job,
                              struct cuda_cache *out)
{
    size_t rows = (size_t)job->rows, used;
    const int32_t *sent = s->step.numbers;
    const void *there;

    if (!said(s, job)) {
        TRY(write_spans(s, job, &used));
        TRY(cuda_device_send(d, s->numbers, used * sizeof(int32_t), &there));
        sent = there;
    }
    *out = (struct cuda_cache){.data = job->cache.data,
                               .kv_heads = job->cache.kv_heads,
                               .head_width = job->cache.head_width,
                               .position = sent,
                               .first_page = sent + rows,
                               .pages = sent + 2 * rows};
    return STATUS_OK;
}

enum status cuda_spans_append(struct cuda_spans *s, struct cuda_device *d, const struct cuda_spans_job *job,
                              struct matrix keys, struct matrix values)
{
    struct cuda_cache cache;
    bool known = said(s, job);

    TRY(check_cache(&job->cache));
    for (int i = 0; !(known && s->step.pages == job->cache.pages) && i < job->span_count; i++)
        TRY(check_span(&job->spans[i], &job->cache, job->rows, job->spans[i].first_position));
    if (known)
        s->step.pages = job->cache.pages;
    TRY(send_cache(s, d, job, &cache));
    CUDA_TRY(cuda_attend_append(cache, keys, values, d->stream));
    return STATUS_OK;
}

/* `count` of s->numbers on the device: at `to`, where they stay; NULL: good for this call, or as long as what
 * is being recorded. */
static enum status send_list(struct cuda_spans *s, struct cuda_device *d, size_t count, int32_t *to,
                             const int32_t **out)
{
    size_t bytes = count * sizeof(int32_t);
    const void *there = to;

    if (d->recording)
        TRY(cuda_record_keep(s->record, s->numbers, bytes, &there));
    else if (to)
        TRY(cuda_device_upload(d, to, s->numbers, bytes));
    else
        TRY(cuda_device_send(d, s->numbers, bytes, &there));
    *out = there;
    return STATUS_OK;
}

/* Query heads by key-value head: head_of [kv heads + 1] and head_list [heads], behind each other. `to` as in
 * send_list. */
static enum status send_heads(struct cuda_spans *s, struct cuda_device *d, const struct attention *a,
                              int32_t *to, struct cuda_attend *out)
{
    int kv_heads = a->cache.kv_heads;
    size_t count = (size_t)(kv_heads + 1 + a->heads);
    int32_t *first = s->numbers, *list = s->numbers + kv_heads + 1;

    first[0] = 0;
    for (int kv = 0; kv < kv_heads; kv++) {
        first[kv + 1] = first[kv];
        for (int head = 0; head < a->heads; head++)
            if (a->kv_of[head] == kv)
                list[first[kv + 1]++] = head;
        if (first[kv + 1] - first[kv] > out->most_heads)
            out->most_heads = first[kv + 1] - first[kv];
    }
    TRY(send_list(s, d, count, to, &out->head_of));
    out->head_list = out->head_of + kv_heads + 1;
    return STATUS_OK;
}

/* Rows that follow each other and whose partial results fit into memory. */
struct group {
    int row, rows;
    int first_chunk, end_chunk;
};

/* One more part of a span joins the group when that keeps rows together and fits. */
static bool joins(struct group *g, const struct attention *a, const struct cuda_spans_step *reach, int row,
                  int rows, int position)
{
    int first = first_seen(a, position) / CUDA_ATTEND_CHUNK;
    int end = (position + rows - 1) / CUDA_ATTEND_CHUNK + 1;
    struct group now = *g;
    int64_t floats;

    if (position >= reach->least && position + rows - 1 <= reach->most) {
        first = first_seen(a, reach->least) / CUDA_ATTEND_CHUNK;
        end = reach->most / CUDA_ATTEND_CHUNK + 1;
    }
    if (g->rows > 0 && row != g->row + g->rows)
        return false;
    if (g->rows == 0)
        now = (struct group){.row = row, .first_chunk = first, .end_chunk = end};
    now.rows += rows;
    now.first_chunk = first < now.first_chunk ? first : now.first_chunk;
    now.end_chunk = end > now.end_chunk ? end : now.end_chunk;
    floats = (int64_t)now.rows * a->heads * (now.end_chunk - now.first_chunk) * (a->cache.head_width + 2);
    if (floats > CUDA_DEVICE_PARTIAL_FLOATS)
        return false;
    *g = now;
    return true;
}

/* So many of the rows go together: all, or as many as have room by themselves; at least one. */
static int fitting(const struct attention *a, const struct cuda_spans_step *reach, int rows, int position)
{
    for (; rows > 1; rows--)
        if (joins(&(struct group){0}, a, reach, 0, rows, position))
            break;
    return rows;
}

static enum status launch(struct cuda_device *d, const struct cuda_attend *job, int rows)
{
    CUDA_TRY(cuda_attend_chunks(job, d->stream));
    CUDA_TRY(cuda_attend_merge(job, rows, d->stream));
    return STATUS_OK;
}

/* The tiles are s->numbers; `to` as in send_list. */
static enum status run_group(struct cuda_spans *s, struct cuda_device *d, struct cuda_attend *job,
                             const struct group *g, const struct list *tiles, int32_t *to)
{
    if (g->rows == 0)
        return STATUS_OK;
    TRY(send_list(s, d, tiles->used, to, &job->tile));
    job->tiles = (int)tiles->used / 2;
    job->first_chunk = g->first_chunk;
    job->chunks = g->end_chunk - g->first_chunk;
    job->first_row = g->row;
    return launch(d, job, g->rows);
}

/* All tiles of the spans, in groups that fit; the last group is left to the caller. */
static enum status run_groups(struct cuda_spans *s, struct cuda_device *d, const struct attention *a,
                              struct cuda_attend *k, struct group *group, struct list *tiles, int *groups)
{
    const struct cuda_spans_step *reach = &s->step;

    for (int i = 0; i < a->span_count; i++) {
        const struct span *span = &a->spans[i];
        int step = k->most_heads < TILE ? TILE / k->most_heads : 1;

        for (int row = 0, rows; row < span->rows; row += rows) {
            rows = fitting(a, reach, span->rows - row < step ? span->rows - row : step,
                           span->first_position + row);
            if (!joins(group, a, reach, span->first_row + row, rows, span->first_position + row)) {
                TRY(run_group(s, d, k, group, tiles, NULL));
                *groups += group->rows > 0;
                *group = (struct group){0};
                tiles->used = 0;
                if (!joins(group, a, reach, span->first_row + row, rows, span->first_position + row))
                    return FAIL(
                        STATUS_BAD_INPUT,
                        "attention over %d positions needs more than %d MiB of partial results; lower "
                        "--max-model-len",
                        span->first_position + row + rows, CUDA_DEVICE_PARTIAL_FLOATS >> 18);
            }
            TRY(push(tiles, span->first_row + row));
            TRY(push(tiles, rows));
        }
    }
    return STATUS_OK;
}

static bool same_kind(const struct cuda_spans_kind *kind, const struct attention *a)
{
    return kind->kv_of && kind->kv_of == a->kv_of && kind->heads == a->heads &&
           kind->kv_heads == a->cache.kv_heads && kind->mask == (int)a->mask &&
           kind->mask_size == a->mask_size && kind->pages == a->cache.pages;
}

/* The kind of this attention in a step that was said before; NULL: not known. *room is a free place. */
static struct cuda_spans_kind *find_kind(struct cuda_spans *s, const struct attention *a,
                                         struct cuda_spans_kind **room)
{
    *room = NULL;
    for (int i = 0; i < CUDA_SPANS_KINDS; i++) {
        struct cuda_spans_kind *kind = &s->step.kind[i];

        if (same_kind(kind, a))
            return kind;
        if (!kind->kv_of && !*room)
            *room = kind;
    }
    return NULL;
}

static enum status attend_new(struct cuda_spans *s, struct cuda_device *d, const struct attention *a,
                              struct cuda_attend *k, struct cuda_spans_kind *room)
{
    size_t heads = (size_t)(a->cache.kv_heads + 1 + a->heads);
    bool kept = room && heads < CUDA_SPANS_KIND_NUMBERS;
    struct list tiles = {s->numbers, 0, s->room};
    struct group group = {0};
    int groups = 0;

    for (int i = 0; i < a->span_count; i++)
        TRY(check_span(&a->spans[i], &a->cache, a->queries.rows, first_seen(a, a->spans[i].first_position)));
    TRY(send_heads(s, d, a, kept ? room->numbers : NULL, k));
    TRY(run_groups(s, d, a, k, &group, &tiles, &groups));
    kept = kept && groups == 0 && group.rows > 0 && tiles.used <= CUDA_SPANS_KIND_NUMBERS - heads;
    TRY(run_group(s, d, k, &group, &tiles, kept ? room->numbers + heads : NULL));
    if (kept) {
        room->kv_of = a->kv_of;
        room->heads = a->heads;
        room->kv_heads = a->cache.kv_heads;
        room->mask = (int)a->mask;
        room->mask_size = a->mask_size;
        room->pages = a->cache.pages;
        room->job = *k;
        room->rows = group.rows;
    }
    return STATUS_OK;
}

enum status cuda_spans_attend(struct cuda_spans *s, struct cuda_device *d, const struct attention *a)
{
    struct cuda_spans_job job = {
        .cache = a->cache, .spans = a->spans, .span_count = a->span_count, .rows = a->queries.rows};
    struct cuda_spans_kind *kind = NULL, *room = NULL;
    struct cuda_attend k = {0};

    TRY(check_cache(&a->cache));
    if (a->queries.rows == 0 || a->heads == 0)
        return STATUS_OK;
    if (said(s, &job))
        kind = find_kind(s, a, &room);
    if (kind)
        k = kind->job;
    TRY(send_cache(s, d, &job, &k.cache));
    k.out = a->out;
    k.queries = a->queries;
    k.heads = a->heads;
    k.scale = a->scale;
    k.mask = (int)a->mask;
    k.mask_size = a->mask_size;
    k.partial = d->partial;
    return kind ? launch(d, &k, kind->rows) : attend_new(s, d, a, &k, room);
}
