/* cuda_entries.c - the stages of the table: checks, index arrays to the device, and the launch
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/cuda_entries.h"

#include "engine/base/range.h"
#include "kernels/cuda/cuda_plan.h"
#include "kernels/deal.h"

/* What the results of rows may take of the ring at a time, so that what was sent for them stays beside. */
enum { RESULT_BYTES = CUDA_PLAN_RING_BYTES / 4 };

static cudaStream_t stream_of(struct kernels *k)
{
    return cuda_entries_of(k)->device.stream;
}

struct cuda_weight cuda_entries_weight(const struct weight *w)
{
    int stride = cuda_plan_stride(w->columns);
    size_t elements = (size_t)w->rows * (size_t)stride;

    return (struct cuda_weight){.data = w->data,
                                .scale = w->format == DTYPE_F8_E4M3
                                             ? (const float *)(const void *)((const char *)w->data + elements)
                                             : NULL,
                                .plane = w->format == DTYPE_F32 ? elements : 0,
                                .rows = w->rows,
                                .columns = w->columns,
                                .stride = stride,
                                .scales = scale_count(w->columns)};
}

static bool same_shape(struct matrix a, struct matrix b)
{
    return a.rows == b.rows && a.columns == b.columns;
}

/* A host array of `count` 32-bit numbers. */
static enum status send_numbers(struct kernels *k, const void *host, size_t count, const void **out)
{
    return cuda_device_send(&cuda_entries_of(k)->device, host, count * sizeof(int32_t), out);
}

static enum status embed(struct kernels *k, struct matrix out, const struct weight *w, const int32_t *tokens,
                         int first_token)
{
    const void *there;

    if (out.columns != w->columns)
        return FAIL(STATUS_BUG, "embedding of width %d into rows of width %d", w->columns, out.columns);
    for (int t = 0; t < out.rows; t++)
        if (tokens[t] < first_token || (int64_t)tokens[t] - first_token >= w->rows)
            return FAIL(STATUS_BUG, "token %d, the embedding holds %d from %d on", tokens[t], w->rows,
                        first_token);
    TRY(send_numbers(k, tokens, (size_t)out.rows, &there));
    CUDA_TRY(cuda_rows_embed(out, cuda_entries_weight(w), there, first_token, stream_of(k)));
    return STATUS_OK;
}

static enum status norm(struct kernels *k, struct matrix out, struct matrix x, const float *gain,
                        float epsilon)
{
    if (!same_shape(out, x))
        return FAIL(STATUS_BUG, "norm of [%d, %d] into [%d, %d]", x.rows, x.columns, out.rows, out.columns);
    CUDA_TRY(cuda_rows_norm(out, x, gain, epsilon, stream_of(k)));
    return STATUS_OK;
}

static enum status multiply(struct kernels *k, struct matrix out, struct matrix x, const struct weight *w,
                            const float *bias)
{
    struct cuda_blas *blas = &cuda_entries_of(k)->blas;
    struct cuda_weight weight;

    if (out.rows != x.rows || x.columns != w->columns || out.columns != w->rows)
        return FAIL(STATUS_BUG, "[%d, %d] times a weight [%d, %d] into [%d, %d]", x.rows, x.columns, w->rows,
                    w->columns, out.rows, out.columns);
    weight = cuda_entries_weight(w);
    if (cuda_blas_wants(blas, x.rows, &weight)) {
        TRY(blas->multiply(blas, out, x, weight, bias));
        k->loose_products = blas->products;
        return STATUS_OK;
    }
    CUDA_TRY(cuda_multiply_rows(out, x, weight, bias, stream_of(k)));
    return STATUS_OK;
}

static enum status squares(struct kernels *k, struct matrix out, struct matrix x, int head_width)
{
    if (out.rows != x.rows || head_width < 1 || x.columns != out.columns * head_width)
        return FAIL(STATUS_BUG, "squares of [%d, %d] in heads of %d into [%d, %d]", x.rows, x.columns,
                    head_width, out.rows, out.columns);
    CUDA_TRY(cuda_rows_squares(out, x, head_width, stream_of(k)));
    return STATUS_OK;
}

static enum status norm_by(struct kernels *k, struct matrix x, struct matrix squares, int width,
                           const float *gain, float epsilon)
{
    if (squares.rows != x.rows || width < x.columns || (x.columns > 0 && !gain))
        return FAIL(STATUS_BUG, "norm of [%d, %d] of %d by squares of %d rows", x.rows, x.columns, width,
                    squares.rows);
    CUDA_TRY(cuda_rows_norm_by(x, squares, width, gain, epsilon, stream_of(k)));
    return STATUS_OK;
}

static enum status clamp(struct kernels *k, struct matrix x, float limit)
{
    if (!(limit > 0.0f))
        return FAIL(STATUS_BUG, "clamp to %g", (double)limit);
    CUDA_TRY(cuda_rows_clamp(x, limit, stream_of(k)));
    return STATUS_OK;
}

/* As many rows as there are tables for. */
static enum status rotate_part(struct cuda_entries *c, struct matrix q, struct matrix keys,
                               const struct rotation *r, struct cuda_turn turn, const int32_t *positions)
{
    cudaStream_t stream = c->device.stream;

    if (r->frequency) {
        turn.rotated = r->rotated;
        TRY(cuda_turns_table(&c->turns, &c->device, r, positions, q.rows, &turn.cosine_sine));
    }
    turn.gain = r->key_gain;
    CUDA_TRY(cuda_rows_rotate(keys, turn, stream));
    turn.gain = r->query_gain;
    TRY(cuda_turns_temperature(&c->turns, &c->device, r, positions, q.rows, &turn.temperature));
    CUDA_TRY(cuda_rows_rotate(q, turn, stream));
    return STATUS_OK;
}

static enum status rotate(struct kernels *k, struct matrix q, struct matrix keys, const struct rotation *r,
                          int head_width, const int32_t *positions)
{
    struct cuda_entries *c = cuda_entries_of(k);
    int most = cuda_turns_most(r->frequency ? r->rotated : 1);
    struct cuda_turn turn = {.epsilon = r->norm_epsilon,
                             .head_width = head_width,
                             .interleaved = r->interleaved,
                             .norm_after = r->norm_after && r->frequency};

    if (head_width < 1 || q.rows != keys.rows || q.columns % head_width != 0 ||
        keys.columns % head_width != 0)
        return FAIL(STATUS_BUG, "rotation of queries [%d, %d] and keys [%d, %d] in heads of %d", q.rows,
                    q.columns, keys.rows, keys.columns, head_width);
    if (r->frequency && (r->rotated < 0 || r->rotated > head_width || r->rotated % 2 != 0))
        return FAIL(STATUS_BUG, "rotation of %d of %d numbers of a head", r->rotated, head_width);
    if (r->temperature_scale != 0.0f && !(r->temperature_floor > 0.0f))
        return FAIL(STATUS_BUG, "temperature floor %g", (double)r->temperature_floor);
    for (int row = 0; row < q.rows; row += most) {
        int rows = q.rows - row < most ? q.rows - row : most;

        TRY(rotate_part(c, matrix_rows(q, row, rows), matrix_rows(keys, row, rows), r, turn,
                        positions + row));
    }
    return STATUS_OK;
}

static enum status begin(struct kernels *k, const struct span *spans, int span_count, int rows)
{
    struct cuda_entries *c = cuda_entries_of(k);
    struct cuda_spans_job job = {.spans = spans, .span_count = span_count, .rows = rows};

    return cuda_spans_begin(&c->spans, &c->device, &job);
}

/* The weights of every slot, on the device: gate_up [slots] and behind them down [slots]. */
static enum status send_table(struct cuda_entries *c, const struct cuda_tables_kept *layer,
                              const struct cuda_weight **out)
{
    int slots = layer->slots;

    if (slots > CUDA_ENTRIES_SLOTS)
        return FAIL(STATUS_BUG, "%d experts on a rank, at most %d", slots, CUDA_ENTRIES_SLOTS);
    for (int s = 0; s < slots; s++) {
        c->slot[s] = cuda_entries_weight(&layer->gate_up[s]);
        c->slot[slots + s] = cuda_entries_weight(&layer->down[s]);
    }
    return cuda_tables_take(&c->tables, &c->device, layer, c->slot, out);
}

/* Weights have moved: the tables of all layers, where recorded steps read them. */
static enum status send_tables(struct cuda_entries *c)
{
    const struct cuda_weight *there;

    for (int i = 0; i < c->tables.count; i++)
        TRY(send_table(c, &c->tables.kept[i], &there));
    return STATUS_OK;
}

static enum status record(struct kernels *k, const struct recording *r, enum recording_way *way)
{
    struct cuda_entries *c = cuda_entries_of(k);
    enum recording_way found;

    TRY(cuda_spans_reach(&c->spans, r->least, r->most));
    TRY(cuda_record_find(&c->record, r, &found));
    if (found != RECORDING_NONE) {
        TRY(cuda_turns_again(&c->turns, &c->device, r->positions, r->rows));
        if (c->weights != r->weights)
            TRY(send_tables(c));
        c->weights = r->weights;
    }
    if (found == RECORDING_NEW) {
        c->products = c->blas.products;
        TRY(cuda_record_begin(&c->record));
    }
    if (found == RECORDING_AGAIN) {
        TRY(cuda_record_launch(&c->record));
        c->blas.products += c->record.now->products;
        k->loose_products = c->blas.products;
    }
    *way = found;
    return STATUS_OK;
}

static enum status recorded(struct kernels *k, enum status layers)
{
    struct cuda_entries *c = cuda_entries_of(k);

    TRY(cuda_record_end(&c->record, layers));
    c->record.now->products = c->blas.products - c->products;
    return cuda_record_launch(&c->record);
}

static enum status append(struct kernels *k, struct cache_layer cache, struct matrix keys,
                          struct matrix values, const struct span *spans, int span_count)
{
    struct cuda_spans_job job = {.cache = cache, .spans = spans, .span_count = span_count, .rows = keys.rows};

    if (keys.columns != cache.kv_heads * cache.head_width || !same_shape(keys, values))
        return FAIL(STATUS_BUG, "keys [%d, %d] and values [%d, %d] for %d heads of %d", keys.rows,
                    keys.columns, values.rows, values.columns, cache.kv_heads, cache.head_width);
    return cuda_spans_append(&cuda_entries_of(k)->spans, &cuda_entries_of(k)->device, &job, keys, values);
}

static enum status attend(struct kernels *k, const struct attention *a)
{
    int columns = a->heads * a->cache.head_width;

    if (a->queries.columns != columns || !same_shape(a->out, a->queries))
        return FAIL(STATUS_BUG, "attention of [%d, %d] into [%d, %d], %d heads of %d", a->queries.rows,
                    a->queries.columns, a->out.rows, a->out.columns, a->heads, a->cache.head_width);
    if (a->mask != MASK_FULL && a->mask_size < 1)
        return FAIL(STATUS_BUG, "attention mask of size %d", a->mask_size);
    for (int head = 0; head < a->heads; head++)
        if (a->kv_of[head] < 0 || a->kv_of[head] >= a->cache.kv_heads)
            return FAIL(STATUS_BUG, "key-value head %d of %d", a->kv_of[head], a->cache.kv_heads);
    return cuda_spans_attend(&cuda_entries_of(k)->spans, &cuda_entries_of(k)->device, a);
}

static enum status route(struct kernels *k, const struct route *r)
{
    TRY(route_check(r));
    CUDA_TRY(cuda_choose_route(r, stream_of(k)));
    return STATUS_OK;
}

static enum status gather(struct kernels *k, struct matrix out, struct matrix x, const int32_t *rows,
                          const float *scale)
{
    const void *there, *factors = NULL;

    if (out.columns != x.columns)
        return FAIL(STATUS_BUG, "rows of width %d gathered into width %d", x.columns, out.columns);
    for (int n = 0; n < out.rows; n++)
        if (rows[n] < 0 || rows[n] >= x.rows)
            return FAIL(STATUS_BUG, "row %d gathered from %d rows", rows[n], x.rows);
    TRY(send_numbers(k, rows, (size_t)out.rows, &there));
    if (scale)
        TRY(send_numbers(k, scale, (size_t)out.rows, &factors));
    CUDA_TRY(cuda_rows_gather(out, x, there, factors, stream_of(k)));
    return STATUS_OK;
}

static enum status activate(struct kernels *k, struct matrix out, struct matrix gate_up)
{
    if (out.rows != gate_up.rows || gate_up.columns != 2 * out.columns)
        return FAIL(STATUS_BUG, "gate and up [%d, %d] into [%d, %d]", gate_up.rows, gate_up.columns, out.rows,
                    out.columns);
    CUDA_TRY(cuda_rows_activate(out, gate_up, stream_of(k)));
    return STATUS_OK;
}

static enum status deal(struct kernels *k, const struct deal *d)
{
    TRY(deal_check(d));
    CUDA_TRY(cuda_deal_rows(d, stream_of(k)));
    return STATUS_OK;
}

static enum status group(struct kernels *k, struct matrix arrivals, int width, int slots, int32_t *order,
                         int32_t *first)
{
    if (arrivals.columns != deal_width(width))
        return FAIL(STATUS_BUG, "rows of %d numbers that travelled as %d", width, arrivals.columns);
    CUDA_TRY(cuda_deal_group(arrivals, width, slots, order, first, stream_of(k)));
    return STATUS_OK;
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
    if (gate_up->rows != b->gate_up[0].rows)
        return FAIL(STATUS_BUG, "slot %d has an inner width of its own", slot);
    return STATUS_OK;
}

/* No slot has more rows than these. */
static int most_rows(const struct expert_batch *b)
{
    int most = 0;

    if (!b->counted)
        return b->most;
    for (int s = 0; s < b->slots; s++) {
        int rows = b->counted[s + 1] - b->counted[s];

        most = rows > most ? rows : most;
    }
    return most;
}

/* Shall all of it be left to cuBLAS that is large enough? A slot that our own kernels must do may have any
 * number of rows, so that those of few rows cannot be told from it by their number. */
static bool all_for_blas(const struct cuda_blas *blas, const struct expert_batch *b)
{
    for (int s = 0; s < b->slots; s++) {
        struct cuda_weight gate_up = cuda_entries_weight(&b->gate_up[s]);
        struct cuda_weight down = cuda_entries_weight(&b->down[s]);

        if (!cuda_blas_wants(blas, CUDA_BLAS_LEAST_ROWS, &gate_up) ||
            !cuda_blas_wants(blas, CUDA_BLAS_LEAST_ROWS, &down))
            return false;
    }
    return true;
}

/* The experts of many rows, by cuBLAS; *most rows belong to the largest of the others. */
static enum status multiply_large(struct kernels *k, const struct expert_batch *b, int *most)
{
    struct cuda_blas *blas = &cuda_entries_of(k)->blas;

    *most = 0;
    for (int s = 0; s < b->slots; s++) {
        struct cuda_blas_expert expert = {.x = b->x,
                                          .out = b->out,
                                          .order = b->order + b->counted[s],
                                          .rows = b->counted[s + 1] - b->counted[s],
                                          .gate_up = cuda_entries_weight(&b->gate_up[s]),
                                          .down = cuda_entries_weight(&b->down[s]),
                                          .lower = b->lower};

        if (expert.rows >= CUDA_BLAS_LEAST_ROWS)
            TRY(blas->multiply_expert(blas, &expert));
        else if (expert.rows > *most)
            *most = expert.rows;
    }
    k->loose_products = blas->products;
    return STATUS_OK;
}

static enum status multiply_experts(struct kernels *k, const struct expert_batch *b)
{
    cudaStream_t stream = stream_of(k);
    struct cuda_slots slots = {
        .order = b->order, .first = b->first, .slots = b->slots, .most = most_rows(b), .lower = b->lower};
    struct cuda_tables_kept layer = {.gate_up = b->gate_up, .down = b->down, .slots = b->slots};
    const struct cuda_weight *weights;
    struct matrix inner, half;

    for (int s = 0; s < b->slots; s++)
        TRY(check_slot(b, s));
    if (b->x.rows > b->out.rows || b->x.rows > b->scratch.rows)
        return FAIL(STATUS_BUG, "%d rows of experts, %d results and %d rows of scratch", b->x.rows,
                    b->out.rows, b->scratch.rows);
    if (slots.most == 0 || b->slots == 0)
        return STATUS_OK;
    if (b->counted && slots.most >= CUDA_BLAS_LEAST_ROWS && all_for_blas(&cuda_entries_of(k)->blas, b))
        TRY(multiply_large(k, b, &slots.most));
    if (slots.most == 0)
        return STATUS_OK;
    TRY(send_table(cuda_entries_of(k), &layer, &weights));
    slots.weights = weights;
    inner = matrix_columns(b->scratch, 0, b->gate_up[0].rows);
    half = matrix_columns(b->scratch, 0, b->down[0].columns);
    slots.rows = inner.columns;
    CUDA_TRY(cuda_multiply_slots(inner, b->x, slots, stream));
    CUDA_TRY(cuda_rows_activate(half, inner, stream));
    slots.weights = weights + b->slots;
    slots.rows = b->out.columns;
    CUDA_TRY(cuda_multiply_slots(b->out, half, slots, stream));
    return STATUS_OK;
}

static enum status add(struct kernels *k, struct matrix x, struct matrix y)
{
    if (!same_shape(x, y))
        return FAIL(STATUS_BUG, "[%d, %d] added to [%d, %d]", y.rows, y.columns, x.rows, x.columns);
    CUDA_TRY(cuda_rows_add(x, y, stream_of(k)));
    return STATUS_OK;
}

static enum status join(struct kernels *k, struct matrix out, const float *blocks, const int *widths,
                        int count)
{
    int64_t total = 0;
    int first = 0;

    for (int b = 0; b < count; b++) {
        if (widths[b] < 0)
            return FAIL(STATUS_BUG, "block %d has %d columns", b, widths[b]);
        total += widths[b];
    }
    if (total != out.columns)
        return FAIL(STATUS_BUG, "blocks of %lld columns joined into %d", (long long)total, out.columns);
    for (int b = 0; b < count; b++) {
        CUDA_TRY(cuda_rows_place(out, blocks, first, widths[b], stream_of(k)));
        blocks += (ptrdiff_t)out.rows * widths[b];
        first += widths[b];
    }
    return STATUS_OK;
}

static enum status combine(struct kernels *k, const struct combine *c)
{
    if (c->shared.rows > 0 && !same_shape(c->shared, c->x))
        return FAIL(STATUS_BUG, "shared [%d, %d] combined into [%d, %d]", c->shared.rows, c->shared.columns,
                    c->x.rows, c->x.columns);
    if (c->results.rows > 0 && c->results.columns != c->x.columns)
        return FAIL(STATUS_BUG, "results [%d, %d] combined into width %d", c->results.rows,
                    c->results.columns, c->x.columns);
    CUDA_TRY(cuda_rows_combine(c->x, c->shared, c->results, c->place, c->weight, c->choices, stream_of(k)));
    return STATUS_OK;
}

/* The next of the rows, from rows->first + rows->count on, as many as bring no more than RESULT_BYTES back.
 */
static bool next_rows(struct range *rows, int all, size_t row_bytes)
{
    int most = (int)(RESULT_BYTES / row_bytes);

    rows->first += rows->count;
    rows->count = all - rows->first < most ? all - rows->first : most;
    return rows->count > 0;
}

static enum status candidates(struct kernels *k, struct matrix logits, int keep, float *values,
                              int32_t *columns)
{
    struct cuda_device *d = &cuda_entries_of(k)->device;
    size_t row_bytes = (size_t)keep * (sizeof *values + sizeof *columns);
    struct range rows = {0};

    if (keep < 0 || keep > logits.columns || row_bytes > RESULT_BYTES)
        return FAIL(STATUS_BUG, "%d candidates of %d logits", keep, logits.columns);
    while (keep > 0 && next_rows(&rows, logits.rows, row_bytes)) {
        size_t count = (size_t)rows.count * (size_t)keep, done = (size_t)rows.first * (size_t)keep;
        void *room;

        TRY(cuda_device_room(d, count * (sizeof *values + sizeof *columns), &room));
        CUDA_TRY(cuda_choose_candidates(matrix_rows(logits, rows.first, rows.count), keep, room,
                                        (int32_t *)room + count, d->stream));
        TRY(cuda_device_bring_both(d, room, values + done, count * sizeof *values, columns + done,
                                   count * sizeof *columns));
    }
    return STATUS_OK;
}

static enum status softmax_rows(struct cuda_device *d, const struct softmax_chunks *s, struct range rows)
{
    size_t count = (size_t)rows.count, chunks = count * (size_t)softmax_chunk_count(s->logits.columns);
    size_t bytes = chunks * sizeof *s->chunk;
    const void *column;
    void *room;
    float *logit;

    TRY(cuda_device_send(d, s->column + rows.first, count * sizeof *s->column, &column));
    TRY(cuda_device_room(d, bytes + count * sizeof *logit, &room));
    logit = (float *)((char *)room + bytes);
    CUDA_TRY(
        cuda_softmax_chunks(matrix_rows(s->logits, rows.first, rows.count), column, room, logit, d->stream));
    return cuda_device_bring_both(d, room,
                                  s->chunk + (size_t)rows.first * softmax_chunk_count(s->logits.columns),
                                  bytes, s->logit + rows.first, count * sizeof *logit);
}

static enum status softmax(struct kernels *k, const struct softmax_chunks *s)
{
    size_t row_bytes = (size_t)softmax_chunk_count(s->logits.columns) * sizeof *s->chunk + sizeof *s->logit;
    struct range rows = {0};

    TRY(softmax_check(s));
    if (row_bytes > RESULT_BYTES)
        return FAIL(STATUS_BUG, "sums of %d logits take more than %d bytes", s->logits.columns, RESULT_BYTES);
    while (next_rows(&rows, s->logits.rows, row_bytes))
        TRY(softmax_rows(&cuda_entries_of(k)->device, s, rows));
    return STATUS_OK;
}

static enum status draft(struct kernels *k, const struct draft *draft)
{
    struct cuda_device *d = &cuda_entries_of(k)->device;
    size_t count = (size_t)draft->count, bytes = count * (1 + DRAFT_TOKENS_MOST) * sizeof(int32_t);
    const void *sequences;
    void *room;

    TRY(draft_check(draft));
    TRY(cuda_device_send(d, draft->sequences, count * sizeof *draft->sequences, &sequences));
    TRY(cuda_device_room(d, bytes, &room));
    CUDA_TRY(cuda_draft_look(draft, sequences, room, d->stream));
    return cuda_device_bring(d, draft->found, room, bytes);
}

void cuda_entries_enter(struct kernels *k)
{
    k->begin = begin;
    k->record = record;
    k->recorded = recorded;
    k->embed = embed;
    k->rms_norm = norm;
    k->multiply = multiply;
    k->squares = squares;
    k->norm_by = norm_by;
    k->clamp = clamp;
    k->rotate = rotate;
    k->append = append;
    k->attend = attend;
    k->route = route;
    k->gather = gather;
    k->deal = deal;
    k->group = group;
    k->multiply_experts = multiply_experts;
    k->activate = activate;
    k->add = add;
    k->join = join;
    k->combine = combine;
    k->candidates = candidates;
    k->softmax = softmax;
    k->draft = draft;
}
