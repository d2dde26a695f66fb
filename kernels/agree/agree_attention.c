/* agree_attention.c - attention of every backend: as the reference computes it, and the same bytes however
 * rows come
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Keys and values are numbers that BF16 holds exactly, so a cache of either format holds the same. A score is
 * a sum of W terms and may differ by 2 W u sum |q k| scale (u = 2^-24); its exponential differs by that
 * share, and so does the average of values; adding n of them costs another 2 n u. A key too many or too few
 * changes far more. */
#include "kernels/agree/agree_attention.h"

#include <math.h>
#include <string.h>

enum { SEQUENCES = 4, HEADS = 8, SIZES = 5 /* of heads, from 16 numbers on, each twice the one before */ };
enum { SPREAD = 300 /* positions: more than a block of a device looks at */ };

/* Sequences whose first rows are in the cache before the step that is tested. */
struct story {
    int sequences;
    int before[SEQUENCES]; /* positions that are there already */
    int rows[SEQUENCES];   /* of the step */
    int heads, kv_heads, width;
    int32_t kv_of[HEADS];
    float scale;
    enum mask_kind mask;
    int mask_size;
    const float *queries[SEQUENCES]; /* [rows, heads * width] */
    const float *keys[SEQUENCES];    /* [before + rows, kv_heads * width] */
    const float *values[SEQUENCES];
};

/* The cache of one backend, its pages dealt out at random. */
struct pool {
    struct cache_layer cache;
    int32_t *pages[SEQUENCES];
};

static float *random_bf16_rows(int rows, int columns, float size)
{
    float *content = agree_random_rows(rows, columns);

    for (ptrdiff_t i = 0; i < (ptrdiff_t)rows * columns; i++)
        content[i] = dtype_from_bf16(dtype_to_bf16(size * content[i]));
    return content;
}

static int draw_width(bool is_long)
{
    bool is_wide = !is_long && agree_chance(25);

    if (agree_chance(40))
        return 16 * agree_between(1, is_long ? 2 : is_wide ? 16 : 8);
    return agree_head_width(70);
}

/* Of the first rounds each has heads of another size, for which a device has a kernel of its own; in the
 * first one row sees more positions than a device gives to one block, in every run. */
static struct story draw_story(void)
{
    bool sized = agree_round() < SIZES, spread = agree_round() == 0, is_long = !sized && agree_chance(15);
    struct story story = {.sequences = agree_between(1, SEQUENCES),
                          .heads = agree_between(1, HEADS),
                          .kv_heads = agree_between(1, 3),
                          .width = sized ? 16 << agree_round() : draw_width(is_long),
                          .mask = spread ? MASK_FULL : (enum mask_kind)agree_between(MASK_FULL, MASK_WINDOW),
                          .mask_size = agree_between(1, is_long ? 700 : 50)};

    story.scale = 1.0f / sqrtf((float)story.width);
    for (int h = 0; h < story.heads; h++)
        story.kv_of[h] = agree_between(0, story.kv_heads - 1);
    for (int s = 0; s < story.sequences; s++) {
        int rows = story.rows[s] = agree_between(1, agree_chance(30) ? 60 : 12);
        int before = story.before[s] = spread && s == 0   ? agree_between(SPREAD, 2 * SPREAD)
                                       : agree_chance(20) ? 0
                                                          : agree_between(0, is_long ? 1400 : 70);

        story.queries[s] = random_bf16_rows(rows, story.heads * story.width, 3.0f);
        story.keys[s] = random_bf16_rows(before + rows, story.kv_heads * story.width, 1.0f);
        story.values[s] = random_bf16_rows(before + rows, story.kv_heads * story.width, 1.0f);
    }
    agree_shape("%d sequences, %d heads on %d of %d, mask %d of %d", story.sequences, story.heads,
                story.kv_heads, story.width, (int)story.mask, story.mask_size);
    return story;
}

static struct pool open_pool(struct kernels *k, const struct story *story)
{
    struct pool pool = {.cache = {.kv_heads = story->kv_heads, .head_width = story->width}};
    int needed[SEQUENCES], next = 0;
    int32_t *numbers;
    size_t bytes;

    for (int s = 0; s < story->sequences; s++) {
        needed[s] = (story->before[s] + story->rows[s] + PAGE_ROWS - 1) / PAGE_ROWS;
        pool.cache.pages += needed[s];
    }
    pool.cache.pages += 3;
    bytes = (size_t)pool.cache.pages * kernels_page_bytes(k, story->kv_heads, story->width);
    numbers = agree_take((size_t)pool.cache.pages, sizeof *numbers);
    for (int i = 0; i < pool.cache.pages; i++)
        numbers[i] = i;
    agree_shuffle(numbers, pool.cache.pages);
    for (int s = 0; s < story->sequences; s++) {
        pool.pages[s] = numbers + next;
        next += needed[s];
    }
    agree_ok(k, "cache", k->alloc(k, bytes, "cache", &pool.cache.data));
    if (agree_chance(50)) {
        /* What others left in the pages may be anything: NaN in any format. */
        void *left = agree_take(bytes, 1);

        memset(left, 0xff, bytes);
        agree_ok(k, "upload", k->upload(k, pool.cache.data, left, bytes));
    }
    return pool;
}

/* The spans of one call: count[s] positions of sequence s from first[s] on, sequences in any order. Returns
 * their number and the rows in all; which[i] is the sequence of span i. */
static int draw_spans(const struct story *story, const struct pool *pool, const int *first, const int *count,
                      struct span *spans, int32_t *which, int *rows)
{
    int32_t order[SEQUENCES];
    int spans_used = 0;

    for (int s = 0; s < story->sequences; s++)
        order[s] = s;
    agree_shuffle(order, story->sequences);
    *rows = 0;
    for (int i = 0; i < story->sequences; i++) {
        int s = order[i];

        if (count[s] == 0)
            continue;
        which[spans_used] = s;
        spans[spans_used++] = (struct span){
            .first_row = *rows, .rows = count[s], .first_position = first[s], .pages = pool->pages[s]};
        *rows += count[s];
    }
    return spans_used;
}

/* Row `first` on of a sequence's numbers into the rows of its span. */
static void place_rows(float *to, const struct span *span, const float *from, int first, int columns)
{
    memcpy(to + (ptrdiff_t)span->first_row * columns, from + (ptrdiff_t)first * columns,
           (size_t)(span->rows * columns) * sizeof *to);
}

/* As layers do: another kind of attention may come before, and the same again after. */
static void attend_twice(struct kernels *k, struct attention a)
{
    struct attention other = a;

    other.mask = MASK_WINDOW;
    other.mask_size = 5;
    if (agree_chance(10))
        agree_ok(k, "attend", k->attend(k, &other));
    agree_ok(k, "attend", k->attend(k, &a));
    if (agree_chance(10)) {
        agree_ok(k, "attend", k->attend(k, &other));
        agree_ok(k, "attend", k->attend(k, &a));
    }
}

/* Appends the positions and, unless out is NULL, attends; out[s] [rows[s], heads * width] gets the rows of
 * this call. */
static void step(struct kernels *k, const struct story *story, const struct pool *pool, const int *first,
                 const int *count, float *const *out)
{
    int kv_columns = story->kv_heads * story->width, columns = story->heads * story->width, rows;
    struct span spans[SEQUENCES];
    int32_t which[SEQUENCES];
    int span_count = draw_spans(story, pool, first, count, spans, which, &rows);
    float *keys = agree_rows(rows, kv_columns), *values = agree_rows(rows, kv_columns);
    float *queries = agree_rows(rows, columns);
    struct framed result;
    struct attention attention;
    const float *content;

    for (int i = 0; i < span_count; i++) {
        place_rows(keys, &spans[i], story->keys[which[i]], spans[i].first_position, kv_columns);
        place_rows(values, &spans[i], story->values[which[i]], spans[i].first_position, kv_columns);
    }
    /* What was said of the step is used, or nothing was said. */
    if (agree_chance(60))
        agree_ok(k, "begin", k->begin(k, spans, span_count, rows));
    else
        agree_ok(k, "begin", k->begin(k, NULL, 0, 0));
    agree_ok(k, "append",
             k->append(k, pool->cache, agree_framed(k, rows, kv_columns, keys).view,
                       agree_framed(k, rows, kv_columns, values).view, spans, span_count));
    if (!out)
        return;

    for (int i = 0; i < span_count; i++)
        place_rows(queries, &spans[i], story->queries[which[i]],
                   spans[i].first_position - story->before[which[i]], columns);
    result = agree_framed(k, rows, columns, NULL);
    attention = (struct attention){.out = result.view,
                                   .queries = agree_framed(k, rows, columns, queries).view,
                                   .cache = pool->cache,
                                   .spans = spans,
                                   .span_count = span_count,
                                   .heads = story->heads,
                                   .kv_of = story->kv_of,
                                   .scale = story->scale,
                                   .mask = story->mask,
                                   .mask_size = story->mask_size};
    attend_twice(k, attention);
    content = agree_content(k, &result);
    for (int i = 0; i < span_count; i++)
        memcpy(out[which[i]] + (ptrdiff_t)(spans[i].first_position - story->before[which[i]]) * columns,
               content + (ptrdiff_t)spans[i].first_row * columns,
               (size_t)(spans[i].rows * columns) * sizeof *content);
}

/* How the rows of a step are brought. */
enum manner { AT_ONCE, ONE_BY_ONE, IN_PIECES };

static void tell(struct kernels *k, const struct story *story, enum manner manner, float **out)
{
    static const int ZERO[SEQUENCES];
    struct pool pool = open_pool(k, story);
    int first[SEQUENCES], count[SEQUENCES] = {0};
    bool more = true;

    for (int s = 0; s < story->sequences; s++)
        out[s] = agree_rows(story->rows[s], story->heads * story->width);
    step(k, story, &pool, ZERO, story->before, NULL);
    memcpy(first, story->before, sizeof first);
    while (more) {
        more = false;
        for (int s = 0; s < story->sequences; s++) {
            int left = story->before[s] + story->rows[s] - first[s];

            count[s] = 0;
            if (left > 0 && !(manner == ONE_BY_ONE && more))
                count[s] = manner == AT_ONCE      ? left
                           : manner == ONE_BY_ONE ? 1
                                                  : agree_between(0, left < 20 ? left : 20);
            more = more || left > 0;
        }
        step(k, story, &pool, first, count, out);
        for (int s = 0; s < story->sequences; s++)
            first[s] += count[s];
    }
}

static bool sees(const struct story *story, int position, int j)
{
    if (story->mask == MASK_CHUNK)
        return j / story->mask_size == position / story->mask_size;
    return story->mask == MASK_FULL || j > position - story->mask_size;
}

/* What rounding can do to one head of one row. */
static double bound(const struct story *story, int s, int row, int head)
{
    int position = story->before[s] + row, W = story->width, seen = 0;
    const float *query = story->queries[s] + ((ptrdiff_t)row * story->heads + head) * W;
    double most = 0.0;

    for (int j = 0; j <= position; j++) {
        const float *key = story->keys[s] + ((ptrdiff_t)j * story->kv_heads + story->kv_of[head]) * W;
        double sum = 0.0;

        if (!sees(story, position, j))
            continue;
        seen++;
        for (int i = 0; i < W; i++)
            sum += fabs((double)query[i] * (double)key[i]);
        most = fmax(most, sum);
    }
    return 2.0 * (2.0 * (W + 2) * 0x1p-24 * most * (double)story->scale + 2.0 * seen * 0x1p-24 + 0x1p-20 +
                  agree_split());
}

static void check_agreement(struct kernels *reference, struct kernels *k)
{
    struct story story = draw_story();
    float *want[SEQUENCES], *got[SEQUENCES];
    int columns = story.heads * story.width;

    tell(reference, &story, AT_ONCE, want);
    tell(k, &story, AT_ONCE, got);
    for (int s = 0; s < story.sequences; s++)
        for (int row = 0; row < story.rows[s]; row++)
            for (int i = 0; i < columns; i++)
                agree_close(k, "attention", row, i, got[s][row * columns + i], want[s][row * columns + i],
                            bound(&story, s, row, i / story.width));
}

/* Columns of one head of every row: heads as [rows, heads * width]. */
static float *pick_heads(const float *from, int rows, int heads, int width, const int *picked, int count)
{
    float *to = agree_rows(rows, count * width);

    for (int row = 0; row < rows; row++)
        for (int h = 0; h < count; h++)
            memcpy(to + ((ptrdiff_t)row * count + h) * width,
                   from + ((ptrdiff_t)row * heads + picked[h]) * width, (size_t)width * sizeof *to);
    return to;
}

/* The part of a story that a rank sees which holds one key-value head only; picked gets its query heads. */
static struct story part_of(const struct story *whole, int kv_head, int *picked)
{
    struct story part = *whole;

    part.kv_heads = 1;
    part.heads = 0;
    memset(part.kv_of, 0, sizeof part.kv_of);
    for (int h = 0; h < whole->heads; h++)
        if (whole->kv_of[h] == kv_head)
            picked[part.heads++] = h;
    for (int s = 0; s < whole->sequences; s++) {
        int all = whole->before[s] + whole->rows[s];

        part.queries[s] =
            pick_heads(whole->queries[s], whole->rows[s], whole->heads, whole->width, picked, part.heads);
        part.keys[s] = pick_heads(whole->keys[s], all, whole->kv_heads, whole->width, &kv_head, 1);
        part.values[s] = pick_heads(whole->values[s], all, whole->kv_heads, whole->width, &kv_head, 1);
    }
    return part;
}

static void same_story(struct kernels *k, const char *what, const struct story *story, float **got,
                       float **want)
{
    int columns = story->heads * story->width;

    for (int s = 0; s < story->sequences; s++)
        for (int row = 0; row < story->rows[s]; row++)
            agree_same(k, what, row, got[s] + (ptrdiff_t)row * columns, want[s] + (ptrdiff_t)row * columns,
                       columns);
}

static void check_law(struct kernels **k)
{
    struct story story = draw_story(), part;
    float *want[SEQUENCES], *got[SEQUENCES];
    int picked[HEADS];

    tell(k[0], &story, ONE_BY_ONE, want);
    for (int i = 0; i < AGREE_THREADS; i++) {
        tell(k[i], &story, AT_ONCE, got);
        same_story(k[i], "attention of rows at once", &story, got, want);
        tell(k[i], &story, IN_PIECES, got);
        same_story(k[i], "attention of rows in pieces", &story, got, want);
    }
    part = part_of(&story, story.kv_of[0], picked);
    for (int s = 0; s < story.sequences; s++)
        want[s] = pick_heads(want[s], story.rows[s], story.heads, story.width, picked, part.heads);
    for (int i = 0; i < AGREE_THREADS; i++) {
        tell(k[i], &part, AT_ONCE, got);
        same_story(k[i], "attention of some heads alone", &part, got, want);
    }
}

/* A norm over all heads of which this rank holds some, then the clamp. */
static void check_whole_norm(struct kernels *reference, struct kernels *k)
{
    int rows = agree_width(40), width = agree_width(140), heads = agree_between(1, 6);
    int own = agree_between(0, heads);
    float *content = agree_random_rows(rows, heads * width), *gain = agree_random_rows(1, heads * width);
    float *got[2];

    agree_shape("[%d, %d x %d], %d of the heads here", rows, heads, width, own);
    for (int i = 0; i < 2; i++) {
        struct kernels *backend = i == 0 ? reference : k;
        struct framed x = agree_framed(backend, rows, heads * width, content);
        struct framed squares = agree_framed(backend, rows, heads, NULL);
        struct matrix mine = matrix_columns(x.view, 0, own * width);

        agree_ok(backend, "squares", backend->squares(backend, squares.view, x.view, width));
        agree_ok(backend, "norm_by",
                 backend->norm_by(backend, mine, squares.view, heads * width,
                                  agree_upload(backend, gain, (size_t)(heads * width)), 1e-5f));
        agree_ok(backend, "clamp", backend->clamp(backend, mine, 0.5f));
        agree_content(backend, &squares);
        got[i] = agree_content(backend, &x);
    }
    for (int i = 0; i < rows * heads * width; i++) {
        if (i % (heads * width) < own * width && !(fabsf(got[1][i]) <= 0.5f))
            agree_fail(k, "%g was clamped to 0.5", (double)got[1][i]);
        agree_close(k, "whole norm", i / (heads * width), i % (heads * width), got[1][i], got[0][i],
                    (heads * width + 16) * 0x1p-24 * fabs((double)got[0][i]));
    }
}

const struct agree_check agree_attention_checks[] = {
    {.entry = "norm_by", .promise = "agrees with the reference", .rounds = 18, .agrees = check_whole_norm},
    {.entry = "attend", .promise = "agrees with the reference", .rounds = 36, .agrees = check_agreement},
    {.entry = "attend", .promise = "same bytes however rows come", .rounds = 16, .law = check_law},
    {0},
};
