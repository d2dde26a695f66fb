/* cpu_attend.c - attention over keys and values in pages
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cpu/cpu_attend.h"

#include "engine/base/range.h"
#include "kernels/cpu/cpu_multiply.h"
#include "kernels/cpu/cpu_vector.h"

#include <math.h>

_Static_assert((int)PAGE_ROWS == (int)LANES && (int)PAGE_ROWS == (int)PANEL_COLUMNS,
               "a page of keys is a panel");

/* Values of a page for some rows: heights and widths (in sixteens of columns) whose sums fit the registers.
 */
#if defined(__AVX512F__)
enum { VALUE_ROWS = 8 };
#define VALUE_WIDE(rows) ((rows) == 1 ? 8 : (rows) <= 4 ? 4 : 2)
#elif defined(__AVX2__)
enum { VALUE_ROWS = 6 };
#define VALUE_WIDE(rows) ((rows) == 1 ? 4 : (rows) <= 3 ? 2 : 1)
#else
enum { VALUE_ROWS = 2 };
#define VALUE_WIDE(rows) ((rows) == 1 ? 2 : 1)
#endif

/* Queries of one key-value head, by rising position; the heads of a row stand together. */
struct queries {
    const struct attention *a;
    const int32_t *pages;
    int kv_head;
    int count;
    const float *query[ATTEND_QUERIES];
    float *out[ATTEND_QUERIES]; /* sums so far, to be divided by total */
    int first[ATTEND_QUERIES];  /* positions that the query sees: first ... last */
    int last[ATTEND_QUERIES];
    float greatest[ATTEND_QUERIES]; /* score so far */
    float total[ATTEND_QUERIES];    /* of e^(score - greatest) so far */
    float factor[ATTEND_QUERIES];   /* by which sums shrink in this page */
    float score[ATTEND_QUERIES][TILE_PANELS * PAGE_ROWS];
};

/* score = query . key for queries from ... end - 1 and `pages` pages from page `page` on. */
static void score_pages(struct queries *q, int from, int end, int page, int pages)
{
    int width = q->a->cache.head_width;
    struct cpu_tile t = {.inner = width & ~1, .columns = pages * PAGE_ROWS};

    for (int p = 0; p < pages; p++)
        t.panel[p] = page_keys(&q->a->cache, q->pages[page + p], q->kv_head);
    for (int row = from; row < end; row += TILE_ROWS) {
        int rows = end - row < TILE_ROWS ? end - row : TILE_ROWS;
        int wide = cpu_tile_panels(rows);

        for (int r = 0; r < rows; r++)
            t.x[r] = q->query[row + r];
        for (int first = 0; first < pages; first += wide) {
            struct cpu_tile part = t;

            part.columns = (pages - first < wide ? pages - first : wide) * PAGE_ROWS;
            for (int p = 0; p < part.columns / PAGE_ROWS; p++)
                part.panel[p] = t.panel[first + p];
            for (int r = 0; r < rows; r++)
                part.out[r] = &q->score[row + r][first * PAGE_ROWS];
            cpu_multiply_tile(&part, DTYPE_BF16, rows, part.columns / PAGE_ROWS);
        }
    }
    if (width % 2 == 0)
        return;
    for (int p = 0; p < pages; p++) {
        struct lanes keys = lanes_widen((const uint16_t *)t.panel[p] + (ptrdiff_t)(width - 1) * PAGE_ROWS);

        for (int row = from; row < end; row++) {
            float *score = &q->score[row][p * PAGE_ROWS];

            lanes_store(score, lanes_fma(lanes_set(q->query[row][width - 1]), keys, lanes_load(score)));
        }
    }
}

/* Turns scores of one page into e^(score - greatest), zero where the query does not see. */
static void soften(struct queries *q, int row, struct range part, float *score)
{
    int first = part.first, end = part.first + part.count;
    struct lanes s = lanes_multiply(lanes_load(score), lanes_set(q->a->scale));
    float greatest = q->greatest[row];
    float here;

    s = lanes_between(s, -INFINITY, first, end);
    here = lanes_greatest(s);
    q->factor[row] = 1.0f;
    if (!(here <= greatest)) {
        q->factor[row] = greatest > -INFINITY ? lanes_exp_one(greatest - here) : 0.0f;
        greatest = here;
        q->greatest[row] = here;
    }
    s = lanes_between(lanes_exp(lanes_subtract(s, lanes_set(greatest))), 0.0f, first, end);
    q->total[row] = q->total[row] * q->factor[row] + lanes_sum(s);
    lanes_store(score, s);
}

/* What follows is a template: value_tile calls it with constants for rows and wide. */
LANES_INLINE void value_run(struct queries *q, int row, int rows, int wide, int column,
                            const uint16_t *values, int offset, struct range part)
{
    struct lanes sum[VALUE_ROWS][VALUE_WIDE(1)];
    int width = q->a->cache.head_width;

    LANES_UNROLL
    for (int r = 0; r < rows; r++) {
        struct lanes factor = lanes_set(q->factor[row + r]);

        LANES_UNROLL
        for (int c = 0; c < wide; c++)
            sum[r][c] = lanes_multiply(lanes_load(q->out[row + r] + column + c * LANES), factor);
    }
    for (int j = part.first; j < part.first + part.count; j++) {
        LANES_UNROLL
        for (int c = 0; c < wide; c++) {
            struct lanes value = lanes_widen(values + (ptrdiff_t)j * width + column + c * LANES);

            LANES_UNROLL
            for (int r = 0; r < rows; r++)
                sum[r][c] = lanes_fma(lanes_set(q->score[row + r][offset + j]), value, sum[r][c]);
        }
    }
    LANES_UNROLL
    for (int r = 0; r < rows; r++) {
        LANES_UNROLL
        for (int c = 0; c < wide; c++)
            lanes_store(q->out[row + r] + column + c * LANES, sum[r][c]);
    }
}

/* The columns that value_run leaves, fewer than it takes at once. */
static void value_rest(struct queries *q, int row, int column, const uint16_t *values, int offset,
                       struct range part)
{
    int width = q->a->cache.head_width;

    for (; column < width; column += LANES) {
        int count = width - column < LANES ? width - column : LANES;
        uint16_t padded[LANES] = {0};
        struct lanes sum =
            lanes_multiply(lanes_load_part(q->out[row] + column, count), lanes_set(q->factor[row]));

        for (int j = part.first; j < part.first + part.count; j++) {
            memcpy(padded, values + (ptrdiff_t)j * width + column, (size_t)count * sizeof *padded);
            sum = lanes_fma(lanes_set(q->score[row][offset + j]), lanes_widen(padded), sum);
        }
        lanes_store_part(q->out[row] + column, sum, count);
    }
}

#define VALUE_TILE(rows)                                                                                     \
    case rows: {                                                                                             \
        for (column = 0; column + VALUE_WIDE(rows) * LANES <= width; column += VALUE_WIDE(rows) * LANES)     \
            value_run(q, row, rows, VALUE_WIDE(rows), column, values, offset, part);                         \
        break;                                                                                               \
    }

/* out = out * factor + sum over these positions of the page of score * value, for some rows. */
static void value_tile(struct queries *q, int row, int rows, const uint16_t *values, int offset,
                       struct range part)
{
    int width = q->a->cache.head_width;
    int column = 0;

    switch (rows) {
        VALUE_TILE(1)
        VALUE_TILE(2)
#if defined(__AVX2__)
        VALUE_TILE(3)
        VALUE_TILE(4)
        VALUE_TILE(5)
        VALUE_TILE(6)
#endif
#if defined(__AVX512F__)
        VALUE_TILE(7)
        VALUE_TILE(8)
#endif
    }
    for (int r = 0; r < rows && column < width; r++)
        value_rest(q, row + r, column, values, offset, part);
}

/* Positions of the page that a query sees, counted within the page; count <= 0: none. */
static struct range seen(const struct queries *q, int row, int page)
{
    int first = q->first[row] - page * PAGE_ROWS;
    int end = q->last[row] + 1 - page * PAGE_ROWS;
    struct range r = {.first = first > 0 ? first : 0};

    r.count = (end < PAGE_ROWS ? end : PAGE_ROWS) - r.first;
    return r;
}

/* Adds one page, whose scores stand from `offset` on, to the queries that see it. Positions that are not seen
 * are left out rather than multiplied by zero: what stands there is no business of this row. */
static void add_page(struct queries *q, int from, int end, int page, int offset)
{
    const uint16_t *values = page_values(&q->a->cache, q->pages[page], q->kv_head);

    for (int row = from; row < end;) {
        struct range part = seen(q, row, page), next = part;
        int rows = 0;

        for (; next.first == part.first && next.count == part.count; next = seen(q, row + rows, page)) {
            if (part.count > 0)
                soften(q, row + rows, part, &q->score[row + rows][offset]);
            rows++;
            if (rows == VALUE_ROWS || row + rows == end)
                break;
        }
        if (part.count > 0)
            value_tile(q, row, rows, values, offset, part);
        row += rows;
    }
}

static void queries_attend(struct queries *q)
{
    int width = q->a->cache.head_width;
    int last_page = q->last[q->count - 1] / PAGE_ROWS;
    int pages;

    for (int row = 0; row < q->count; row++) {
        q->greatest[row] = -INFINITY;
        q->total[row] = 0.0f;
        memset(q->out[row], 0, (size_t)width * sizeof(float));
    }
    for (int page = q->first[0] / PAGE_ROWS; page <= last_page; page += pages) {
        int wide = cpu_tile_panels(q->count < TILE_ROWS ? q->count : TILE_ROWS);
        int from = 0, end = q->count;

        pages = last_page - page + 1 < wide ? last_page - page + 1 : wide;
        while (q->last[from] < page * PAGE_ROWS)
            from++;
        while (end > from && q->first[end - 1] >= (page + pages) * PAGE_ROWS)
            end--;
        score_pages(q, from, end, page, pages);
        for (int p = 0; p < pages; p++)
            add_page(q, from, end, page + p, p * PAGE_ROWS);
    }
    for (int row = 0; row < q->count; row++)
        for (int c = 0; c < width; c++)
            q->out[row][c] /= q->total[row];
}

/* Rows first_row ... of a span (counted within it), all query heads of one key-value head. */
static void attend_rows(const struct attention *a, const struct span *span, int first_row, int rows,
                        int kv_head)
{
    struct queries q; /* large, and filled only as far as it is used */
    int width = a->cache.head_width;
    int heads_at_once = ATTEND_QUERIES / rows;

    q.a = a;
    q.pages = span->pages;
    q.kv_head = kv_head;
    for (int head = 0; head < a->heads;) {
        int32_t heads[ATTEND_QUERIES];
        int count = 0;

        for (; head < a->heads && count < heads_at_once; head++)
            if (a->kv_of[head] == kv_head)
                heads[count++] = head;
        q.count = rows * count;
        for (int n = 0; n < q.count; n++) {
            int row = first_row + n / count;

            q.query[n] = cpu_row(a->queries, span->first_row + row) + (ptrdiff_t)heads[n % count] * width;
            q.out[n] = cpu_row(a->out, span->first_row + row) + (ptrdiff_t)heads[n % count] * width;
            q.last[n] = span->first_position + row;
            q.first[n] = cpu_attend_first(a, q.last[n]);
        }
        if (q.count > 0)
            queries_attend(&q);
    }
}

void cpu_attend(const void *job, int part, int parts)
{
    const struct cpu_attention *c = job;
    const struct attention *a = c->a;
    int item = 0; /* of (span, rows, key-value head), in order */
    int mine = atomic_fetch_add(c->next, 1);

    (void)part;
    (void)parts;
    for (int s = 0; s < a->span_count; s++) {
        for (int row = 0; row < a->spans[s].rows; row += ATTEND_ROWS) {
            int left = a->spans[s].rows - row;

            for (; mine < item + a->cache.kv_heads; mine = atomic_fetch_add(c->next, 1))
                attend_rows(a, &a->spans[s], row, left < ATTEND_ROWS ? left : ATTEND_ROWS, mine - item);
            item += a->cache.kv_heads;
        }
    }
}
