/* cpu_rows.c - stages that turn each row by itself: embed, norm, rotate, store, move and add rows
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cpu/cpu_rows.h"

#include "engine/base/range.h"
#include "kernels/cpu/cpu_vector.h"

#include <math.h>

enum { TURN_PAIRS = 64 };

/* What a thread takes of a stage that works number by number: rows, or columns where there are fewer rows
 * than threads. */
struct area {
    struct range rows, columns;
};

static struct area area_share(int rows, int columns, int part, int parts)
{
    struct area area = {.rows = {.count = rows}, .columns = {.count = columns}};
    int end;

    if (rows >= parts) {
        area.rows = range_share(rows, parts, part);
        return area;
    }
    area.columns = range_share((columns + LANES - 1) / LANES, parts, part);
    end = (area.columns.first + area.columns.count) * LANES;
    area.columns.first *= LANES;
    area.columns.count = (end < columns ? end : columns) - area.columns.first;
    if (area.columns.count < 0)
        area.columns.count = 0;
    return area;
}

/* Sixteen numbers, or what is left of a row. */
static inline struct lanes load_some(const float *from, int left)
{
    return left >= LANES ? lanes_load(from) : lanes_load_part(from, left);
}

static inline void store_some(float *to, struct lanes x, int left)
{
    if (left >= LANES)
        lanes_store(to, x);
    else
        lanes_store_part(to, x, left);
}

/* Reads one column of the packed weight. */
static void embed_row(float *out, const struct weight *w, int row)
{
    const char *panel =
        (const char *)w->data + (size_t)(row / PANEL_COLUMNS) * panel_bytes(w->format, w->columns);
    int lane = row % PANEL_COLUMNS;

    if (w->format == DTYPE_F32) {
        const float *line = (const float *)(const void *)panel + lane;

        for (int d = 0; d < w->columns; d++)
            out[d] = line[(ptrdiff_t)d * PANEL_COLUMNS];
        return;
    }
    if (w->format == DTYPE_F8_E4M3) {
        for (int d = 0; d < w->columns; d++) {
            const char *line = panel + panel_e4m3_line(d);
            const float *scale =
                (const float *)(const void *)(panel + panel_e4m3_line(d / SCALE_INPUTS * SCALE_INPUTS) -
                                              PANEL_LINE);

            out[d] = dtype_from_e4m3((uint8_t)line[4 * lane + d % 4]) * (scale[lane] / E4M3_UNIT);
        }
        return;
    }
    for (int d = 0; d < w->columns; d++) {
        const uint16_t *line = (const uint16_t *)(const void *)(panel + (ptrdiff_t)(d / 2) * PANEL_LINE);

        out[d] = dtype_from_bf16(line[2 * lane + d % 2]);
    }
}

void cpu_rows_embed(const void *job, int part, int parts)
{
    const struct cpu_embed *e = job;
    struct range rows = range_share(e->out.rows, parts, part);

    for (int t = rows.first; t < rows.first + rows.count; t++)
        embed_row(cpu_row(e->out, t), e->w, e->tokens[t] - e->first_token);
}

/* In four sums, numbers 16 apart going to the next, then the four in order. */
static float sum_of_squares(const float *x, int width)
{
    struct lanes sum[4] = {lanes_set(0.0f), lanes_set(0.0f), lanes_set(0.0f), lanes_set(0.0f)};
    int d = 0;

    for (; d + 4 * LANES <= width; d += 4 * LANES) {
        LANES_UNROLL
        for (int i = 0; i < 4; i++) {
            struct lanes v = lanes_load(x + d + i * LANES);

            sum[i] = lanes_fma(v, v, sum[i]);
        }
    }
    LANES_UNROLL
    for (int i = 0; i < 4; i++) {
        int left = width - d - i * LANES;
        struct lanes v = left > 0 ? load_some(x + d + i * LANES, left) : lanes_set(0.0f);

        sum[i] = lanes_fma(v, v, sum[i]);
    }
    return lanes_sum(lanes_add(lanes_add(sum[0], sum[1]), lanes_add(sum[2], sum[3])));
}

static void norm_row(float *out, const float *x, const float *gain, int width, float epsilon)
{
    struct lanes scale = lanes_set(1.0f / sqrtf(sum_of_squares(x, width) / (float)width + epsilon));

    for (int d = 0; d < width; d += LANES) {
        struct lanes v = lanes_multiply(load_some(x + d, width - d), scale);

        if (gain)
            v = lanes_multiply(v, load_some(gain + d, width - d));
        store_some(out + d, v, width - d);
    }
}

void cpu_rows_norm(const void *job, int part, int parts)
{
    const struct cpu_norm *n = job;
    struct range rows = range_share(n->x.rows, parts, part);

    for (int t = rows.first; t < rows.first + rows.count; t++)
        norm_row(cpu_row(n->out, t), cpu_row(n->x, t), n->gain, n->x.columns, n->epsilon);
}

/* Sine and cosine in double, of our own, so that they are the same with every library and fast: angle = n *
 * pi / 2 + r with |r| <= pi / 4, then polynomials for r (coefficients of fdlibm's k_sin.c and k_cos.c). */
static void turns(float *cosine, float *sine, const double *angle, int count, float factor)
{
    const double magic = 6755399441055744.0; /* 1.5 * 2^52: adding it rounds to whole numbers */

    for (int i = 0; i < count; i++) {
        double rounded = angle[i] * 0.63661977236758134308 + magic;
        double n = rounded - magic;
        double r = (angle[i] - n * 1.57079632673412561417) - n * 6.07710050650619224932e-11;
        double z = r * r;
        double s = 1.58969099521155010221e-10;
        double c = -1.13596475577881948265e-11;
        uint64_t quadrant;
        double x, y;

        memcpy(&quadrant, &rounded, sizeof quadrant);
        s = s * z - 2.50507602534068634195e-8;
        s = s * z + 2.75573137070700676789e-6;
        s = s * z - 1.98412698298579493134e-4;
        s = s * z + 8.33333333332248946124e-3;
        s = s * z - 1.66666666666666324348e-1;
        s = r + r * z * s;
        c = c * z + 2.08757232129817482790e-9;
        c = c * z - 2.75573143513906633035e-7;
        c = c * z + 2.48015872894767294178e-5;
        c = c * z - 1.38888888888741095749e-3;
        c = c * z + 4.16666666666666019037e-2;
        c = 1.0 - 0.5 * z + z * z * c;
        x = quadrant & 1 ? s : c;
        y = quadrant & 1 ? c : s;
        cosine[i] = (float)((quadrant + 1) & 2 ? -x : x) * factor;
        sine[i] = (float)(quadrant & 2 ? -y : y) * factor;
    }
}

/* Angles are float products, as models are trained, while those are good to a few millionths of a turn; far
 * out they are exact. */
static void angles(double *angle, const float *frequency, int count, int32_t position)
{
    for (int i = 0; i < count; i++)
        angle[i] = position < 100000 && position > -100000 ? (double)((float)position * frequency[i])
                                                           : (double)position * (double)frequency[i];
}

/* Turns pairs first ... first + count - 1 of every head of a row. */
static void turn_row(float *row, int columns, const struct cpu_rotate *c, struct range pairs,
                     const float *cosine, const float *sine)
{
    int step = c->r->interleaved ? 2 : 1;
    int distance = c->r->interleaved ? 1 : c->r->rotated / 2;

    for (int head = 0; head < columns; head += c->head_width) {
        float *x = row + head + pairs.first * step;

        for (int i = 0; i < pairs.count; i++) {
            float a = x[i * step], b = x[i * step + distance];

            x[i * step] = a * cosine[i] - b * sine[i];
            x[i * step + distance] = a * sine[i] + b * cosine[i];
        }
    }
}

/* Queries far behind are sharpened: 1 + scale * log1p(floor((position + 1) / floor)) */
static void sharpen(float *row, int columns, const struct rotation *r, int32_t position)
{
    double steps = floor(((double)position + 1.0) / (double)r->temperature_floor);
    struct lanes factor = lanes_set((float)(1.0 + (double)r->temperature_scale * log1p(steps)));

    for (int d = 0; d < columns; d += LANES)
        store_some(row + d, lanes_multiply(load_some(row + d, columns - d), factor), columns - d);
}

static void norm_heads(float *row, int columns, const struct cpu_rotate *c, const float *gain)
{
    for (int head = 0; head < columns; head += c->head_width)
        norm_row(row + head, row + head, gain, c->head_width, c->r->norm_epsilon);
}

void cpu_rows_rotate(const void *job, int part, int parts)
{
    const struct cpu_rotate *c = job;
    struct range rows = range_share(c->q.rows, parts, part);
    int half = c->r->frequency ? c->r->rotated / 2 : 0;

    for (int t = rows.first; t < rows.first + rows.count; t++) {
        float *q = cpu_row(c->q, t), *key = cpu_row(c->keys, t);

        if (c->r->query_gain)
            norm_heads(q, c->q.columns, c, c->r->query_gain);
        if (c->r->key_gain)
            norm_heads(key, c->keys.columns, c, c->r->key_gain);
        for (int i = 0; i < half; i += TURN_PAIRS) {
            struct range pairs = {.first = i, .count = half - i < TURN_PAIRS ? half - i : TURN_PAIRS};
            double angle[TURN_PAIRS];
            float cosine[TURN_PAIRS], sine[TURN_PAIRS];

            angles(angle, c->r->frequency + i, pairs.count, c->positions[t]);
            turns(cosine, sine, angle, pairs.count, c->r->attention_factor);
            turn_row(q, c->q.columns, c, pairs, cosine, sine);
            turn_row(key, c->keys.columns, c, pairs, cosine, sine);
        }
        if (c->r->frequency && c->r->norm_after) {
            norm_heads(q, c->q.columns, c, NULL);
            norm_heads(key, c->keys.columns, c, NULL);
        }
        if (c->r->temperature_scale != 0.0f)
            sharpen(q, c->q.columns, c->r, c->positions[t]);
    }
}

/* Keys of one position and head, in pairs 16 positions apart; then values, in a row. */
static void append_head(const struct cache_layer *cache, int32_t page, int at, int kv_head, const float *key,
                        const float *value)
{
    int width = cache->head_width;
    uint16_t *keys = page_keys(cache, page, kv_head);
    uint16_t *values = page_values(cache, page, kv_head) + (ptrdiff_t)at * width;

    for (int i = 0; i + 1 < width; i += 2) {
        keys[i * PAGE_ROWS + 2 * at] = dtype_to_bf16(key[i]);
        keys[i * PAGE_ROWS + 2 * at + 1] = dtype_to_bf16(key[i + 1]);
    }
    if (width % 2 != 0)
        keys[(width - 1) * PAGE_ROWS + at] = dtype_to_bf16(key[width - 1]);
    for (int i = 0; i < width; i++)
        values[i] = dtype_to_bf16(value[i]);
}

/* Threads share the heads of every row: what they write never meets in one line. */
void cpu_rows_append(const void *job, int part, int parts)
{
    const struct cpu_append *a = job;
    struct range heads = range_share(a->cache.kv_heads, parts, part);
    int width = a->cache.head_width;

    for (int s = 0; s < a->span_count; s++) {
        const struct span *span = &a->spans[s];

        for (int i = 0; i < span->rows; i++) {
            int position = span->first_position + i;
            const float *key = cpu_row(a->keys, span->first_row + i);
            const float *value = cpu_row(a->values, span->first_row + i);

            for (int h = heads.first; h < heads.first + heads.count; h++)
                append_head(&a->cache, span->pages[position / PAGE_ROWS], position % PAGE_ROWS, h,
                            key + (ptrdiff_t)h * width, value + (ptrdiff_t)h * width);
        }
    }
}

void cpu_rows_gather(const void *job, int part, int parts)
{
    const struct cpu_gather *g = job;
    struct range rows = range_share(g->out.rows, parts, part);
    int width = g->out.columns;

    for (int n = rows.first; n < rows.first + rows.count; n++) {
        float *out = cpu_row(g->out, n);
        const float *x = cpu_row(g->x, g->rows[n]);
        struct lanes scale = lanes_set(g->scale ? g->scale[n] : 1.0f);

        for (int d = 0; d < width; d += LANES)
            store_some(out + d, lanes_multiply(load_some(x + d, width - d), scale), width - d);
    }
}

void cpu_rows_activate(const void *job, int part, int parts)
{
    const struct cpu_activate *a = job;
    int width = a->out.columns;
    struct area area = area_share(a->out.rows, width, part, parts);
    int end = area.columns.first + area.columns.count;

    for (int t = area.rows.first; t < area.rows.first + area.rows.count; t++) {
        float *out = cpu_row(a->out, t);
        const float *gate = cpu_row(a->gate_up, t);

        for (int f = area.columns.first; f < end; f += LANES) {
            struct lanes up = load_some(gate + width + f, end - f);

            store_some(out + f, lanes_multiply(lanes_silu(load_some(gate + f, end - f)), up), end - f);
        }
    }
}

void cpu_rows_add(const void *job, int part, int parts)
{
    const struct cpu_add *a = job;
    struct area area = area_share(a->x.rows, a->x.columns, part, parts);
    int end = area.columns.first + area.columns.count;

    for (int t = area.rows.first; t < area.rows.first + area.rows.count; t++) {
        float *x = cpu_row(a->x, t);
        const float *y = cpu_row(a->y, t);

        for (int d = area.columns.first; d < end; d += LANES)
            store_some(x + d, lanes_add(load_some(x + d, end - d), load_some(y + d, end - d)), end - d);
    }
}

void cpu_rows_join(const void *job, int part, int parts)
{
    const struct cpu_join *j = job;
    struct range rows = range_share(j->out.rows, parts, part);
    const float *block = j->blocks;
    int column = 0;

    for (int b = 0; b < j->count; b++) {
        size_t width = (size_t)j->widths[b];

        for (int t = rows.first; width > 0 && t < rows.first + rows.count; t++)
            memcpy(cpu_row(j->out, t) + column, block + (size_t)t * width, width * sizeof(float));
        block += (size_t)j->out.rows * width;
        column += j->widths[b];
    }
}

void cpu_rows_combine(const void *job, int part, int parts)
{
    const struct combine *c = job;
    struct area area = area_share(c->x.rows, c->x.columns, part, parts);
    int end = area.columns.first + area.columns.count;

    for (int t = area.rows.first; t < area.rows.first + area.rows.count; t++) {
        const int32_t *place = c->place + (ptrdiff_t)t * c->choices;
        float *x = cpu_row(c->x, t);

        for (int d = area.columns.first; d < end; d += LANES) {
            struct lanes sum =
                c->shared.rows > 0 ? load_some(cpu_row(c->shared, t) + d, end - d) : lanes_set(0.0f);

            for (int j = 0; j < c->choices; j++) {
                struct lanes result;

                if (place[j] < 0)
                    continue;
                result = load_some(cpu_row(c->results, place[j]) + d, end - d);
                sum = c->weight ? lanes_fma(lanes_set(c->weight[(ptrdiff_t)t * c->choices + j]), result, sum)
                                : lanes_add(sum, result);
            }
            store_some(x + d, lanes_add(load_some(x + d, end - d), sum), end - d);
        }
    }
}
