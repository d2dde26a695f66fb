/* reference_attend.c - keys and values in pages, and attention over them
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels/reference/reference_attend.h"

#include "kernels/reference/reference_rows.h"

#include <math.h>

/* Where the key of one position and head lies; its value lies value_distance further. */
static float *key_at(const struct cache_layer *cache, const int32_t *pages, int position, int kv_head)
{
    ptrdiff_t head_floats = (ptrdiff_t)PAGE_ROWS * cache->head_width;
    ptrdiff_t page_floats = 2 * cache->kv_heads * head_floats;
    ptrdiff_t page = pages[position / PAGE_ROWS];

    return (float *)cache->data + page * page_floats + kv_head * head_floats +
           (ptrdiff_t)(position % PAGE_ROWS) * cache->head_width;
}

static ptrdiff_t value_distance(const struct cache_layer *cache)
{
    return (ptrdiff_t)cache->kv_heads * PAGE_ROWS * cache->head_width;
}

/* The pages of positions `from` up to the span's last lie in the pool, its rows among `rows`. */
static enum status check_span(const struct span *span, const struct cache_layer *cache, int rows, int from)
{
    int last = span->first_position + span->rows - 1;

    if (span->first_row < 0 || span->rows < 0 || span->rows > rows - span->first_row ||
        span->first_position < 0)
        return FAIL(STATUS_BUG, "span of %d rows from row %d, position %d, of %d rows", span->rows,
                    span->first_row, span->first_position, rows);
    for (int page = from / PAGE_ROWS; span->rows > 0 && page <= last / PAGE_ROWS; page++)
        if (span->pages[page] < 0 || span->pages[page] >= cache->pages)
            return FAIL(STATUS_BUG, "page %d, the cache has %d", span->pages[page], cache->pages);
    return STATUS_OK;
}

static void keep_whole(float *to, const float *from, int width)
{
    memcpy(to, from, (size_t)width * sizeof *to);
}

static void keep_rounded(float *to, const float *from, int width)
{
    for (int i = 0; i < width; i++)
        to[i] = dtype_from_bf16(dtype_to_bf16(from[i]));
}

static enum status append(struct cache_layer cache, struct matrix keys, struct matrix values,
                          const struct span *spans, int span_count,
                          void (*keep)(float *to, const float *from, int width))
{
    int width = cache.head_width;

    if (keys.columns != cache.kv_heads * width || values.columns != keys.columns || values.rows != keys.rows)
        return FAIL(STATUS_BUG, "keys [%d, %d] and values [%d, %d] for %d heads of %d", keys.rows,
                    keys.columns, values.rows, values.columns, cache.kv_heads, width);
    for (int s = 0; s < span_count; s++)
        TRY(check_span(&spans[s], &cache, keys.rows, spans[s].first_position));
    for (int s = 0; s < span_count; s++) {
        for (int i = 0; i < spans[s].rows; i++) {
            for (int head = 0; head < cache.kv_heads; head++) {
                float *key = key_at(&cache, spans[s].pages, spans[s].first_position + i, head);
                int row = spans[s].first_row + i;

                keep(key, reference_rows_at(keys, row) + head * width, width);
                keep(key + value_distance(&cache), reference_rows_at(values, row) + head * width, width);
            }
        }
    }
    return STATUS_OK;
}

enum status reference_attend_append(struct kernels *k, struct cache_layer cache, struct matrix keys,
                                    struct matrix values, const struct span *spans, int span_count)
{
    (void)k;
    return append(cache, keys, values, spans, span_count, keep_whole);
}

enum status reference_attend_append_rounded(struct kernels *k, struct cache_layer cache, struct matrix keys,
                                            struct matrix values, const struct span *spans, int span_count)
{
    (void)k;
    return append(cache, keys, values, spans, span_count, keep_rounded);
}

/* The first position that a query at `position` sees. */
static int first_seen(const struct attention *a, int position)
{
    switch (a->mask) {
    case MASK_FULL:
        return 0;
    case MASK_CHUNK:
        return position - position % a->mask_size;
    case MASK_WINDOW:
        return position >= a->mask_size ? position - a->mask_size + 1 : 0;
    }
    return 0;
}

static float score(const float *query, const float *key, int width, float scale)
{
    float sum = 0.0f;

    for (int i = 0; i < width; i++)
        sum += query[i] * key[i];
    return sum * scale;
}

/* out = sum of softmax(query . key * scale) * value over the positions seen. Scores are computed twice, so
 * that no room is needed for them. */
static void attend_head(const struct attention *a, const struct span *span, int row, int head)
{
    int width = a->cache.head_width;
    int position = span->first_position + row;
    int first = first_seen(a, position);
    const float *query = reference_rows_at(a->queries, span->first_row + row) + head * width;
    float *out = reference_rows_at(a->out, span->first_row + row) + head * width;
    float largest = -INFINITY;
    float total = 0.0f;

    for (int j = first; j <= position; j++)
        largest =
            fmaxf(largest, score(query, key_at(&a->cache, span->pages, j, a->kv_of[head]), width, a->scale));

    for (int i = 0; i < width; i++)
        out[i] = 0.0f;
    for (int j = first; j <= position; j++) {
        const float *key = key_at(&a->cache, span->pages, j, a->kv_of[head]);
        const float *value = key + value_distance(&a->cache);
        float share = expf(score(query, key, width, a->scale) - largest);

        total += share;
        for (int i = 0; i < width; i++)
            out[i] += share * value[i];
    }
    for (int i = 0; i < width; i++)
        out[i] /= total;
}

enum status reference_attend(struct kernels *k, const struct attention *a)
{
    int columns = a->heads * a->cache.head_width;

    (void)k;
    if (a->queries.columns != columns || a->out.columns != columns || a->out.rows != a->queries.rows)
        return FAIL(STATUS_BUG, "attention of [%d, %d] into [%d, %d], %d heads of %d", a->queries.rows,
                    a->queries.columns, a->out.rows, a->out.columns, a->heads, a->cache.head_width);
    if (a->mask != MASK_FULL && a->mask_size < 1)
        return FAIL(STATUS_BUG, "attention mask of size %d", a->mask_size);
    for (int head = 0; head < a->heads; head++)
        if (a->kv_of[head] < 0 || a->kv_of[head] >= a->cache.kv_heads)
            return FAIL(STATUS_BUG, "key-value head %d of %d", a->kv_of[head], a->cache.kv_heads);
    for (int s = 0; s < a->span_count; s++)
        TRY(check_span(&a->spans[s], &a->cache, a->queries.rows, first_seen(a, a->spans[s].first_position)));

    for (int s = 0; s < a->span_count; s++)
        for (int row = 0; row < a->spans[s].rows; row++)
            for (int head = 0; head < a->heads; head++)
                attend_head(a, &a->spans[s], row, head);
    return STATUS_OK;
}
