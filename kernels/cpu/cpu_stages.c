/* cpu_stages.c - the entries of the cpu backend: check, decide how many threads, run
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cpu/cpu_stages.h"

#include "engine/base/range.h"
#include "kernels/cpu/cpu_attend.h"
#include "kernels/cpu/cpu_weight.h"
#include "kernels/deal.h"
#include "kernels/reference/reference_rows.h"
#include "kernels/reference/reference_softmax.h"

/* Rough prices on one processor; they decide whether others are called and never what comes out. */
enum {
    CALL_PICOSECONDS = 3000000,      /* below this a stage is over before the others have begun */
    EXPONENTIAL_PICOSECONDS = 10000, /* of the library, in double */
    TOKEN_PICOSECONDS = 150,         /* comparing a token with another */
    NUMBER_PICOSECONDS = 300,        /* reading, turning and writing one number */
    MULTIPLY_ADD_PICOSECONDS = 25,   /* from the cache */
    WEIGHT_PICOSECONDS = 125         /* reading one BF16 weight from memory */
};

static struct cpu *cpu_of(struct kernels *k)
{
    return (struct cpu *)(void *)k;
}

/* Runs a stage of about this many picoseconds. */
static enum status run(struct kernels *k, void (*stage)(const void *job, int part, int parts),
                       const void *job, int64_t price)
{
    if (price < CALL_PICOSECONDS)
        stage(job, 0, 1);
    else
        cpu_pool_run(&cpu_of(k)->pool, stage, job);
    return STATUS_OK;
}

static int64_t numbers(struct matrix m)
{
    return (int64_t)m.rows * m.columns * NUMBER_PICOSECONDS;
}

static int64_t product_price(const struct weight *w, int rows)
{
    return (int64_t)w->rows * w->columns * (rows * MULTIPLY_ADD_PICOSECONDS + WEIGHT_PICOSECONDS);
}

static enum status plan(struct kernels *k, struct weight *w, enum dtype dtype, int rows, int columns)
{
    (void)k;
    return cpu_weight_plan(w, dtype, rows, columns);
}

static enum status fill(struct kernels *k, struct weight *w, int first_row, const struct source *part)
{
    struct cpu_fill job = {.w = w, .first_row = first_row, .part = part};

    TRY(cpu_weight_check(w, first_row, part));
    return run(k, cpu_weight_fill, &job, (int64_t)part->rows * part->columns * NUMBER_PICOSECONDS);
}

static enum status embed(struct kernels *k, struct matrix out, const struct weight *w, const int32_t *tokens,
                         int first_token)
{
    struct cpu_embed job = {.out = out, .w = w, .tokens = tokens, .first_token = first_token};

    if (out.columns != w->columns)
        return FAIL(STATUS_BUG, "embedding of width %d into rows of width %d", w->columns, out.columns);
    for (int t = 0; t < out.rows; t++) {
        int64_t row = (int64_t)tokens[t] - first_token;

        if (row < 0 || row >= w->rows)
            return FAIL(STATUS_BUG, "token %d, the embedding holds %d from %d on", tokens[t], w->rows,
                        first_token);
    }
    return run(k, cpu_of(k)->stages->embed, &job, 10 * numbers(out));
}

static enum status rms_norm(struct kernels *k, struct matrix out, struct matrix x, const float *gain,
                            float epsilon)
{
    struct cpu_norm job = {.out = out, .x = x, .gain = gain, .epsilon = epsilon};

    if (out.rows != x.rows || out.columns != x.columns)
        return FAIL(STATUS_BUG, "norm of [%d, %d] into [%d, %d]", x.rows, x.columns, out.rows, out.columns);
    return run(k, cpu_of(k)->stages->norm, &job, numbers(x));
}

static enum status multiply(struct kernels *k, struct matrix out, struct matrix x, const struct weight *w,
                            const float *bias)
{
    struct cpu_product job = {.out = out, .x = x, .rows = x.rows, .w = w, .bias = bias};

    if (out.rows != x.rows || x.columns != w->columns || out.columns != w->rows)
        return FAIL(STATUS_BUG, "[%d, %d] times a weight [%d, %d] into [%d, %d]", x.rows, x.columns, w->rows,
                    w->columns, out.rows, out.columns);
    return run(k, cpu_of(k)->stages->multiply, &job, product_price(w, x.rows));
}

static enum status rotate(struct kernels *k, struct matrix q, struct matrix keys, const struct rotation *r,
                          int head_width, const int32_t *positions)
{
    struct cpu_rotate job = {.q = q, .keys = keys, .r = r, .head_width = head_width, .positions = positions};

    if (head_width < 1 || q.rows != keys.rows || q.columns % head_width != 0 ||
        keys.columns % head_width != 0)
        return FAIL(STATUS_BUG, "rotation of queries [%d, %d] and keys [%d, %d] in heads of %d", q.rows,
                    q.columns, keys.rows, keys.columns, head_width);
    if (r->frequency && (r->rotated < 0 || r->rotated > head_width || r->rotated % 2 != 0))
        return FAIL(STATUS_BUG, "rotation of %d of %d numbers of a head", r->rotated, head_width);
    if (r->temperature_scale != 0.0f && !(r->temperature_floor > 0.0f))
        return FAIL(STATUS_BUG, "temperature floor %g", (double)r->temperature_floor);
    return run(k, cpu_of(k)->stages->rotate, &job, 3 * (numbers(q) + numbers(keys)));
}

/* The pages of positions `from` up to the span's last lie in the pool, its rows among `rows`. */
static enum status check_span(const struct span *span, const struct cache_layer *cache, int rows, int from)
{
    if (span->first_row < 0 || span->rows < 0 || span->rows > rows - span->first_row ||
        span->first_position < 0)
        return FAIL(STATUS_BUG, "span of %d rows from row %d, position %d, of %d rows", span->rows,
                    span->first_row, span->first_position, rows);
    for (int page = from / PAGE_ROWS; page * PAGE_ROWS < span->first_position + span->rows; page++)
        if (span->rows > 0 && (span->pages[page] < 0 || span->pages[page] >= cache->pages))
            return FAIL(STATUS_BUG, "page %d, the cache has %d", span->pages[page], cache->pages);
    return STATUS_OK;
}

static enum status append(struct kernels *k, struct cache_layer cache, struct matrix keys,
                          struct matrix values, const struct span *spans, int span_count)
{
    struct cpu_append job = {
        .cache = cache, .keys = keys, .values = values, .spans = spans, .span_count = span_count};

    if (keys.columns != cache.kv_heads * cache.head_width || values.columns != keys.columns ||
        values.rows != keys.rows)
        return FAIL(STATUS_BUG, "keys [%d, %d] and values [%d, %d] for %d heads of %d", keys.rows,
                    keys.columns, values.rows, values.columns, cache.kv_heads, cache.head_width);
    for (int s = 0; s < span_count; s++)
        TRY(check_span(&spans[s], &cache, keys.rows, spans[s].first_position));
    return run(k, cpu_of(k)->stages->append, &job, 4 * numbers(keys));
}

static enum status attend(struct kernels *k, const struct attention *a)
{
    int columns = a->heads * a->cache.head_width;
    _Atomic int next = 0;
    struct cpu_attention job = {.a = a, .next = &next};
    int64_t price = 0;

    if (a->queries.columns != columns || a->out.columns != columns || a->out.rows != a->queries.rows)
        return FAIL(STATUS_BUG, "attention of [%d, %d] into [%d, %d], %d heads of %d", a->queries.rows,
                    a->queries.columns, a->out.rows, a->out.columns, a->heads, a->cache.head_width);
    if (a->mask != MASK_FULL && a->mask_size < 1)
        return FAIL(STATUS_BUG, "attention mask of size %d", a->mask_size);
    for (int head = 0; head < a->heads; head++)
        if (a->kv_of[head] < 0 || a->kv_of[head] >= a->cache.kv_heads)
            return FAIL(STATUS_BUG, "key-value head %d of %d", a->kv_of[head], a->cache.kv_heads);
    for (int s = 0; s < a->span_count; s++) {
        const struct span *span = &a->spans[s];
        int first = cpu_attend_first(a, span->first_position);

        TRY(check_span(span, &a->cache, a->queries.rows, first));
        price += (int64_t)span->rows * (span->first_position + span->rows - first) * columns * 2 *
                 MULTIPLY_ADD_PICOSECONDS;
    }
    return run(k, cpu_of(k)->stages->attend, &job, price);
}

static enum status route(struct kernels *k, const struct route *r)
{
    TRY(route_check(r));
    return run(k, cpu_of(k)->stages->route, r, 3 * numbers(r->logits));
}

static enum status gather(struct kernels *k, struct matrix out, struct matrix x, const int32_t *rows,
                          const float *scale)
{
    struct cpu_gather job = {.out = out, .x = x, .rows = rows, .scale = scale};

    if (out.columns != x.columns)
        return FAIL(STATUS_BUG, "rows of width %d gathered into width %d", x.columns, out.columns);
    for (int n = 0; n < out.rows; n++)
        if (rows[n] < 0 || rows[n] >= x.rows)
            return FAIL(STATUS_BUG, "row %d gathered from %d rows", rows[n], x.rows);
    return run(k, cpu_of(k)->stages->gather, &job, numbers(out));
}

static enum status check_slot(const struct expert_batch *b, int slot)
{
    const struct weight *gate_up = &b->gate_up[slot];
    const struct weight *down = &b->down[slot];

    if (gate_up->columns != b->x.columns || down->rows != b->out.columns ||
        gate_up->rows != 2 * down->columns || b->scratch.columns < gate_up->rows)
        return FAIL(STATUS_BUG, "slot %d: rows of %d through [%d, %d] and [%d, %d] to %d, scratch of %d",
                    slot, b->x.columns, gate_up->rows, gate_up->columns, down->rows, down->columns,
                    b->out.columns, b->scratch.columns);
    if (b->first[slot] < 0 || b->first[slot + 1] > b->scratch.rows)
        return FAIL(STATUS_BUG, "slot %d: rows %d to %d, scratch has %d", slot, b->first[slot],
                    b->first[slot + 1] - 1, b->scratch.rows);
    for (int i = b->first[slot]; i < b->first[slot + 1]; i++)
        if (b->order[i] < 0 || b->order[i] >= b->x.rows || b->order[i] >= b->out.rows)
            return FAIL(STATUS_BUG, "slot %d: row %d, there are %d", slot, b->order[i], b->x.rows);
    return STATUS_OK;
}

static enum status multiply_experts(struct kernels *k, const struct expert_batch *b)
{
    const struct cpu_stages *stages = cpu_of(k)->stages;
    int64_t gate_up = 0, down = 0;

    if (b->lower && k->lower_speed == 0)
        return FAIL(STATUS_BUG, "%s has no lower precision", k->name);
    for (int s = 0; s < b->slots; s++) {
        int count = b->first[s + 1] - b->first[s];

        if (count < 0)
            return FAIL(STATUS_BUG, "slot %d has %d rows", s, count);
        if (count == 0)
            continue;
        TRY(check_slot(b, s));
        gate_up += product_price(&b->gate_up[s], count);
        down += product_price(&b->down[s], count);
    }
    if (b->lower)
        TRY(run(k, stages->lower_inputs, b, numbers(b->x)));
    TRY(run(k, stages->gate_up, b, gate_up));
    for (int s = 0; s < b->slots; s++) {
        int count = b->first[s + 1] - b->first[s];
        struct matrix rows = matrix_rows(b->scratch, b->first[s], count);
        struct cpu_activate job = {.out = matrix_columns(rows, 0, b->down[s].columns),
                                   .gate_up = matrix_columns(rows, 0, b->gate_up[s].rows)};

        if (count > 0 && !cpu_path_fuses(&b->gate_up[s]))
            TRY(run(k, stages->activate, &job, 5 * numbers(job.out)));
    }
    if (b->lower)
        TRY(run(k, stages->lower_inner, b, numbers(b->scratch) / 2));
    return run(k, stages->down, b, down);
}

static enum status activate(struct kernels *k, struct matrix out, struct matrix gate_up)
{
    struct cpu_activate job = {.out = out, .gate_up = gate_up};

    if (out.rows != gate_up.rows || gate_up.columns != 2 * out.columns)
        return FAIL(STATUS_BUG, "gate and up [%d, %d] into [%d, %d]", gate_up.rows, gate_up.columns, out.rows,
                    out.columns);
    return run(k, cpu_of(k)->stages->activate, &job, 5 * numbers(out));
}

static enum status add(struct kernels *k, struct matrix x, struct matrix y)
{
    struct cpu_add job = {.x = x, .y = y};

    if (x.rows != y.rows || x.columns != y.columns)
        return FAIL(STATUS_BUG, "[%d, %d] added to [%d, %d]", y.rows, y.columns, x.rows, x.columns);
    return run(k, cpu_of(k)->stages->add, &job, numbers(x));
}

static enum status join(struct kernels *k, struct matrix out, const float *blocks, const int *widths,
                        int count)
{
    struct cpu_join job = {.out = out, .blocks = blocks, .widths = widths, .count = count};
    int64_t columns = 0;

    for (int b = 0; b < count; b++) {
        if (widths[b] < 0)
            return FAIL(STATUS_BUG, "block %d of %d columns joined", b, widths[b]);
        columns += widths[b];
    }
    if (columns != out.columns)
        return FAIL(STATUS_BUG, "%lld columns joined into %d", (long long)columns, out.columns);
    return run(k, cpu_of(k)->stages->join, &job, numbers(out));
}

static enum status combine(struct kernels *k, const struct combine *c)
{
    int64_t places = (int64_t)c->x.rows * c->choices;

    if (c->shared.rows > 0 && (c->shared.rows != c->x.rows || c->shared.columns != c->x.columns))
        return FAIL(STATUS_BUG, "shared [%d, %d] combined into [%d, %d]", c->shared.rows, c->shared.columns,
                    c->x.rows, c->x.columns);
    for (int64_t i = 0; i < places; i++)
        if (c->place[i] >= c->results.rows || (c->place[i] >= 0 && c->results.columns != c->x.columns))
            return FAIL(STATUS_BUG, "result %d of [%d, %d] combined into width %d", c->place[i],
                        c->results.rows, c->results.columns, c->x.columns);
    return run(k, cpu_of(k)->stages->combine, c, numbers(c->x) * (c->choices + 1));
}

static enum status candidates(struct kernels *k, struct matrix logits, int keep, float *values,
                              int32_t *columns)
{
    struct cpu_candidates job = {.logits = logits, .keep = keep, .values = values, .columns = columns};

    if (keep < 0 || keep > logits.columns)
        return FAIL(STATUS_BUG, "%d candidates of %d logits", keep, logits.columns);
    return run(k, cpu_of(k)->stages->candidates, &job, numbers(logits));
}

/* Chunks of all rows, cut anywhere. Exponentials of the library, so the same on every path. */
static void softmax_part(const void *job, int part, int parts)
{
    const struct softmax_chunks *s = job;
    int count = softmax_chunk_count(s->logits.columns);
    struct range range = range_share(s->logits.rows * count, parts, part);

    for (int i = range.first; i < range.first + range.count; i++) {
        int first = i % count * SOFTMAX_CHUNK, left = s->logits.columns - first;

        s->chunk[i] =
            reference_softmax_chunk(s->logits.data + (ptrdiff_t)(i / count) * s->logits.stride + first,
                                    left < SOFTMAX_CHUNK ? left : SOFTMAX_CHUNK);
    }
}

static enum status softmax(struct kernels *k, const struct softmax_chunks *s)
{
    TRY(softmax_check(s));
    for (int t = 0; t < s->logits.rows; t++)
        s->logit[t] = s->column[t] < 0 ? 0.0f : matrix_rows(s->logits, t, 1).data[s->column[t]];
    return run(k, softmax_part, s, (int64_t)s->logits.rows * s->logits.columns * EXPONENTIAL_PICOSECONDS);
}

static enum status draft(struct kernels *k, const struct draft *d)
{
    int64_t tokens = 0;

    TRY(draft_check(d));
    for (int i = 0; i < d->count; i++)
        tokens += d->sequences[i].known;
    return run(k, cpu_of(k)->stages->draft, d, tokens * TOKEN_PICOSECONDS);
}

static enum status begin(struct kernels *k, const struct span *spans, int span_count, int rows)
{
    (void)k, (void)spans, (void)span_count, (void)rows;
    return STATUS_OK;
}

void cpu_stages_enter(struct kernels *table)
{
    table->weight_plan = plan;
    table->weight_fill = fill;
    table->begin = begin;
    table->embed = embed;
    table->rms_norm = rms_norm;
    table->multiply = multiply;
    /* Small stages of one family: plain loops on the calling thread do. */
    table->squares = reference_rows_squares;
    table->norm_by = reference_rows_norm_by;
    table->clamp = reference_rows_clamp;
    table->rotate = rotate;
    table->append = append;
    table->attend = attend;
    table->route = route;
    table->gather = gather;
    table->deal = deal_rows;
    table->group = deal_group;
    table->multiply_experts = multiply_experts;
    table->activate = activate;
    table->add = add;
    table->join = join;
    table->combine = combine;
    table->candidates = candidates;
    table->softmax = softmax;
    table->draft = draft;
}
