/* reference_rows.c - entries that turn each row by itself: embed, norm, rotate, move and add rows
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels/reference/reference_rows.h"

#include "kernels/reference/reference_weight.h"

#include <math.h>

float reference_rows_silu(float z)
{
    return z / (1.0f + expf(-z));
}

enum status reference_rows_embed(struct kernels *k, struct matrix out, const struct weight *w,
                                 const int32_t *tokens, int first_token)
{
    (void)k;
    if (out.columns != w->columns)
        return FAIL(STATUS_BUG, "embedding of width %d into rows of width %d", w->columns, out.columns);
    for (int t = 0; t < out.rows; t++) {
        int64_t row = (int64_t)tokens[t] - first_token;

        if (row < 0 || row >= w->rows)
            return FAIL(STATUS_BUG, "token %d, the embedding holds %d from %d on", tokens[t], w->rows,
                        first_token);
        for (int d = 0; d < out.columns; d++)
            reference_rows_at(out, t)[d] = reference_weight_at(w, (int)row, d);
    }
    return STATUS_OK;
}

/* out = x * rsqrt(mean(x^2) + epsilon) * gain over `width` numbers */
static void norm(float *out, const float *x, const float *gain, int width, float epsilon)
{
    float sum = 0.0f;
    float scale;

    for (int d = 0; d < width; d++)
        sum += x[d] * x[d];
    scale = 1.0f / sqrtf(sum / (float)width + epsilon);
    for (int d = 0; d < width; d++)
        out[d] = gain ? x[d] * scale * gain[d] : x[d] * scale;
}

enum status reference_rows_norm(struct kernels *k, struct matrix out, struct matrix x, const float *gain,
                                float epsilon)
{
    (void)k;
    if (out.rows != x.rows || out.columns != x.columns)
        return FAIL(STATUS_BUG, "norm of [%d, %d] into [%d, %d]", x.rows, x.columns, out.rows, out.columns);
    for (int t = 0; t < x.rows; t++)
        norm(reference_rows_at(out, t), reference_rows_at(x, t), gain, x.columns, epsilon);
    return STATUS_OK;
}

/* Angles are float products, as models are trained, while those are good to a few millionths of a turn; far
 * out they are exact. */
static double angle(int32_t position, float frequency)
{
    if (position < 100000 && position > -100000)
        return (double)((float)position * frequency);
    return (double)position * (double)frequency;
}

/* Turns the first r->rotated numbers of one head. */
static void turn(float *head, const struct rotation *r, int32_t position)
{
    int half = r->rotated / 2;

    for (int i = 0; i < half; i++) {
        float *a = &head[r->interleaved ? 2 * i : i];
        float *b = &head[r->interleaved ? 2 * i + 1 : i + half];
        double turned = angle(position, r->frequency[i]);
        float cosine = (float)cos(turned) * r->attention_factor;
        float sine = (float)sin(turned) * r->attention_factor;
        float left = *a * cosine - *b * sine;
        float right = *a * sine + *b * cosine;

        *a = left;
        *b = right;
    }
}

/* Queries far behind are sharpened: 1 + scale * log1p(floor((position + 1) / floor)) */
static float temperature(const struct rotation *r, int32_t position)
{
    double steps = floor(((double)position + 1.0) / (double)r->temperature_floor);

    return (float)(1.0 + (double)r->temperature_scale * log1p(steps));
}

static void rotate_heads(struct matrix x, const struct rotation *r, const float *gain, int head_width,
                         const int32_t *positions)
{
    for (int t = 0; t < x.rows; t++) {
        for (int first = 0; first < x.columns; first += head_width) {
            float *head = reference_rows_at(x, t) + first;

            if (gain)
                norm(head, head, gain, head_width, r->norm_epsilon);
            if (!r->frequency)
                continue;
            turn(head, r, positions[t]);
            if (r->norm_after)
                norm(head, head, NULL, head_width, r->norm_epsilon);
        }
    }
}

enum status reference_rows_rotate(struct kernels *k, struct matrix q, struct matrix keys,
                                  const struct rotation *r, int head_width, const int32_t *positions)
{
    (void)k;
    if (head_width < 1 || q.rows != keys.rows || q.columns % head_width != 0 ||
        keys.columns % head_width != 0)
        return FAIL(STATUS_BUG, "rotation of queries [%d, %d] and keys [%d, %d] in heads of %d", q.rows,
                    q.columns, keys.rows, keys.columns, head_width);
    if (r->frequency && (r->rotated < 0 || r->rotated > head_width || r->rotated % 2 != 0))
        return FAIL(STATUS_BUG, "rotation of %d of %d numbers of a head", r->rotated, head_width);
    if (r->temperature_scale != 0.0f && !(r->temperature_floor > 0.0f))
        return FAIL(STATUS_BUG, "temperature floor %g", (double)r->temperature_floor);

    rotate_heads(q, r, r->query_gain, head_width, positions);
    rotate_heads(keys, r, r->key_gain, head_width, positions);
    if (r->temperature_scale != 0.0f) {
        for (int t = 0; t < q.rows; t++) {
            float factor = temperature(r, positions[t]);

            for (int d = 0; d < q.columns; d++)
                reference_rows_at(q, t)[d] *= factor;
        }
    }
    return STATUS_OK;
}

enum status reference_rows_squares(struct kernels *k, struct matrix out, struct matrix x, int head_width)
{
    (void)k;
    if (head_width < 1 || out.rows != x.rows || x.columns != out.columns * head_width)
        return FAIL(STATUS_BUG, "squares of [%d, %d] in heads of %d into [%d, %d]", x.rows, x.columns,
                    head_width, out.rows, out.columns);
    for (int t = 0; t < x.rows; t++) {
        for (int h = 0; h < out.columns; h++) {
            const float *head = reference_rows_at(x, t) + (ptrdiff_t)h * head_width;
            float sum = 0.0f;

            for (int d = 0; d < head_width; d++)
                sum += head[d] * head[d];
            reference_rows_at(out, t)[h] = sum;
        }
    }
    return STATUS_OK;
}

enum status reference_rows_norm_by(struct kernels *k, struct matrix x, struct matrix squares, int width,
                                   const float *gain, float epsilon)
{
    (void)k;
    if (squares.rows != x.rows || width < x.columns || (x.columns > 0 && !gain))
        return FAIL(STATUS_BUG, "norm of [%d, %d] of %d by squares of %d rows", x.rows, x.columns, width,
                    squares.rows);
    for (int t = 0; t < x.rows; t++) {
        float *row = reference_rows_at(x, t);
        float sum = 0.0f;
        float scale;

        for (int h = 0; h < squares.columns; h++)
            sum += reference_rows_at(squares, t)[h];
        scale = 1.0f / sqrtf(sum / (float)width + epsilon);
        for (int d = 0; d < x.columns; d++)
            row[d] = row[d] * scale * gain[d];
    }
    return STATUS_OK;
}

enum status reference_rows_clamp(struct kernels *k, struct matrix x, float limit)
{
    (void)k;
    if (!(limit > 0.0f))
        return FAIL(STATUS_BUG, "clamp to %g", (double)limit);
    for (int t = 0; t < x.rows; t++) {
        float *row = reference_rows_at(x, t);

        for (int d = 0; d < x.columns; d++)
            row[d] = row[d] > limit ? limit : row[d] < -limit ? -limit : row[d];
    }
    return STATUS_OK;
}

enum status reference_rows_gather(struct kernels *k, struct matrix out, struct matrix x, const int32_t *rows,
                                  const float *scale)
{
    (void)k;
    if (out.columns != x.columns)
        return FAIL(STATUS_BUG, "rows of width %d gathered into width %d", x.columns, out.columns);
    for (int n = 0; n < out.rows; n++) {
        if (rows[n] < 0 || rows[n] >= x.rows)
            return FAIL(STATUS_BUG, "row %d gathered from %d rows", rows[n], x.rows);
        for (int d = 0; d < out.columns; d++) {
            float value = reference_rows_at(x, rows[n])[d];

            reference_rows_at(out, n)[d] = scale ? value * scale[n] : value;
        }
    }
    return STATUS_OK;
}

enum status reference_rows_activate(struct kernels *k, struct matrix out, struct matrix gate_up)
{
    (void)k;
    if (out.rows != gate_up.rows || gate_up.columns != 2 * out.columns)
        return FAIL(STATUS_BUG, "gate and up [%d, %d] into [%d, %d]", gate_up.rows, gate_up.columns, out.rows,
                    out.columns);
    for (int t = 0; t < out.rows; t++) {
        const float *gate = reference_rows_at(gate_up, t);
        const float *up = gate + out.columns;

        for (int f = 0; f < out.columns; f++)
            reference_rows_at(out, t)[f] = reference_rows_silu(gate[f]) * up[f];
    }
    return STATUS_OK;
}

enum status reference_rows_add(struct kernels *k, struct matrix x, struct matrix y)
{
    (void)k;
    if (x.rows != y.rows || x.columns != y.columns)
        return FAIL(STATUS_BUG, "[%d, %d] added to [%d, %d]", y.rows, y.columns, x.rows, x.columns);
    for (int t = 0; t < x.rows; t++)
        for (int d = 0; d < x.columns; d++)
            reference_rows_at(x, t)[d] += reference_rows_at(y, t)[d];
    return STATUS_OK;
}

enum status reference_rows_join(struct kernels *k, struct matrix out, const float *blocks, const int *widths,
                                int count)
{
    int64_t total = 0;
    int first = 0;

    (void)k;
    for (int b = 0; b < count; b++) {
        if (widths[b] < 0)
            return FAIL(STATUS_BUG, "block %d has %d columns", b, widths[b]);
        total += widths[b];
    }
    if (total != out.columns)
        return FAIL(STATUS_BUG, "blocks of %lld columns joined into %d", (long long)total, out.columns);
    for (int b = 0; b < count; b++) {
        for (int t = 0; t < out.rows; t++)
            for (int d = 0; d < widths[b]; d++)
                reference_rows_at(out, t)[first + d] = *blocks++;
        first += widths[b];
    }
    return STATUS_OK;
}

enum status reference_rows_combine(struct kernels *k, const struct combine *c)
{
    bool shared = c->shared.rows > 0;
    int64_t places = (int64_t)c->x.rows * c->choices;

    (void)k;
    if (shared && (c->shared.rows != c->x.rows || c->shared.columns != c->x.columns))
        return FAIL(STATUS_BUG, "shared [%d, %d] combined into [%d, %d]", c->shared.rows, c->shared.columns,
                    c->x.rows, c->x.columns);
    for (int64_t i = 0; i < places; i++)
        if (c->place[i] >= c->results.rows || (c->place[i] >= 0 && c->results.columns != c->x.columns))
            return FAIL(STATUS_BUG, "result %d of [%d, %d] combined into width %d", c->place[i],
                        c->results.rows, c->results.columns, c->x.columns);

    for (int t = 0; t < c->x.rows; t++) {
        const int32_t *place = c->place + (ptrdiff_t)t * c->choices;
        const float *weight = c->weight ? c->weight + (ptrdiff_t)t * c->choices : NULL;

        for (int d = 0; d < c->x.columns; d++) {
            float sum = shared ? reference_rows_at(c->shared, t)[d] : 0.0f;

            for (int j = 0; j < c->choices; j++) {
                if (place[j] >= 0) {
                    float result = reference_rows_at(c->results, place[j])[d];

                    sum += weight ? weight[j] * result : result;
                }
            }
            reference_rows_at(c->x, t)[d] += sum;
        }
    }
    return STATUS_OK;
}
