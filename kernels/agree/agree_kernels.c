/* agree_kernels.c - every backend computes what the reference computes, entry by entry
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Backends may add in another order and fuse a product into its sum; so a sum of n terms may differ by what
 * rounding can do to both: 2 n u sum |terms|, with u = 2^-24. A lost or doubled term is orders of magnitude
 * more. Products have a list of their own, agree_multiply. Transcendental functions may be off by 2^-19 of
 * their value (32 units in the last place: a short polynomial with a reduced argument). Everything else,
 * above all each choice and each copy, is equal to the bit. */
#include "kernels/agree/agree_kernels.h"

#include "kernels/agree/agree_deal.h"
#include "kernels/agree/agree_draft.h"

#include <math.h>
#include <string.h>

static const double U = 0x1p-24;
static const double FUNCTION = 0x1p-19;

enum { MOST_EXPERTS = 140, GROUPS = 4 };

static int draw_rows(void)
{
    return agree_chance(5) ? 0 : agree_width(70);
}

/* More than a backend has under way at a time. */
static void check_upload(struct kernels *reference, struct kernels *k)
{
    int numbers = (9 << 20) / (int)sizeof(float) + agree_between(1, 99);
    float *content = agree_random_rows(1, numbers), *back = agree_rows(1, numbers);
    float *there;

    (void)reference;
    agree_shape("%d numbers", numbers);
    there = agree_upload(k, content, (size_t)numbers);
    agree_ok(k, "download", k->download(k, back, there, (size_t)numbers * sizeof *back));
    agree_same(k, "what was sent", 0, back, content, numbers);
}

/* -- embed, copies
 * -------------------------------------------------------------------------------------------------- */

static void check_embed(struct kernels *reference, struct kernels *k)
{
    int rows = draw_rows(), vocabulary = agree_width(90), width = agree_width(200),
        first = agree_between(0, 500);
    struct drawn tensor = agree_tensor(agree_dtype(), vocabulary, width, false);
    int32_t *tokens = agree_take((size_t)rows, sizeof *tokens);
    struct framed out[2];

    agree_shape("[%d, %d] of %s [%d, %d]", rows, width, dtype_name(tensor.dtype), vocabulary, width);
    for (int t = 0; t < rows; t++)
        tokens[t] = first + agree_between(0, vocabulary - 1);
    for (int i = 0; i < 2; i++) {
        struct kernels *backend = i == 0 ? reference : k;
        struct weight w = agree_weight(backend, &tensor, 0, vocabulary);

        out[i] = agree_framed(backend, rows, width, NULL);
        agree_ok(backend, "embed", backend->embed(backend, out[i].view, &w, tokens, first));
    }
    if (agree_split() > 0.0) /* numbers of more bits than two planes hold */
        agree_near(k, "embed", agree_content(k, &out[1]), agree_content(reference, &out[0]), rows, width);
    else
        agree_equal(k, "embed", agree_content(k, &out[1]), agree_content(reference, &out[0]), rows, width);
}

static void check_gather(struct kernels *reference, struct kernels *k)
{
    int from = agree_width(50), rows = draw_rows(), width = agree_width(200);
    float *content = agree_random_rows(from, width);
    float *scale = agree_chance(50) ? agree_random_rows(1, rows) : NULL;
    int32_t *which = agree_take((size_t)rows, sizeof *which);
    struct framed out[2];

    agree_shape("[%d, %d] of [%d, %d]", rows, width, from, width);
    for (int n = 0; n < rows; n++)
        which[n] = agree_between(0, from - 1);
    for (int i = 0; i < 2; i++) {
        struct kernels *backend = i == 0 ? reference : k;
        struct framed x = agree_framed(backend, from, width, content);

        out[i] = agree_framed(backend, rows, width, NULL);
        agree_ok(backend, "gather", backend->gather(backend, out[i].view, x.view, which, scale));
    }
    agree_equal(k, "gather", agree_content(k, &out[1]), agree_content(reference, &out[0]), rows, width);
}

static void check_join(struct kernels *reference, struct kernels *k)
{
    int rows = draw_rows(), count = agree_between(1, 9), width = 0;
    int widths[9];
    float *blocks;
    struct framed out[2];

    for (int b = 0; b < count; b++) {
        widths[b] = agree_chance(20) ? 0 : agree_width(70);
        width += widths[b];
    }
    agree_shape("%d blocks into [%d, %d]", count, rows, width);
    blocks = agree_random_rows(rows, width);
    for (int i = 0; i < 2; i++) {
        struct kernels *backend = i == 0 ? reference : k;
        float *there = agree_upload(backend, blocks, (size_t)rows * (size_t)width);

        out[i] = agree_framed(backend, rows, width, NULL);
        agree_ok(backend, "join", backend->join(backend, out[i].view, there, widths, count));
    }
    agree_equal(k, "join", agree_content(k, &out[1]), agree_content(reference, &out[0]), rows, width);
}

static void check_add(struct kernels *reference, struct kernels *k)
{
    int rows = draw_rows(), width = agree_width(300);
    float *left = agree_random_rows(rows, width), *right = agree_random_rows(rows, width);
    struct framed x[2];

    agree_shape("[%d, %d]", rows, width);
    for (int i = 0; i < 2; i++) {
        struct kernels *backend = i == 0 ? reference : k;
        struct framed y = agree_framed(backend, rows, width, right);

        x[i] = agree_framed(backend, rows, width, left);
        agree_ok(backend, "add", backend->add(backend, x[i].view, y.view));
    }
    agree_equal(k, "add", agree_content(k, &x[1]), agree_content(reference, &x[0]), rows, width);
}

/* -- norm, rotate, activate, combine
 * ------------------------------------------------------------------------------ */

static void check_norm(struct kernels *reference, struct kernels *k)
{
    int rows = draw_rows(), width = agree_width(agree_chance(10) ? 5000 : 300);
    float epsilon = agree_chance(50) ? 1e-5f : 1e-6f;
    float size = expf(7.0f * agree_uniform());
    float *content = agree_random_rows(rows, width);
    float *gain = agree_chance(70) ? agree_random_rows(1, width) : NULL;
    bool in_place = agree_chance(30);
    float *got[2];

    agree_shape("[%d, %d]", rows, width);
    for (ptrdiff_t i = 0; i < (ptrdiff_t)rows * width; i++)
        content[i] *= size;
    for (int i = 0; i < 2; i++) {
        struct kernels *backend = i == 0 ? reference : k;
        struct framed x = agree_framed(backend, rows, width, content);
        struct framed out = in_place ? x : agree_framed(backend, rows, width, NULL);
        float *there = gain ? agree_upload(backend, gain, (size_t)width) : NULL;

        agree_ok(backend, "rms_norm", backend->rms_norm(backend, out.view, x.view, there, epsilon));
        got[i] = agree_content(backend, &out);
    }
    /* The square root halves the error of the sum; the rest is a root, a division and two products. */
    for (int i = 0; i < rows * width; i++)
        agree_close(k, "rms_norm", i / width, i % width, got[1][i], got[0][i],
                    (width + 16) * U * fabs((double)got[0][i]));
}

static double largest(const float *x, int count)
{
    double most = 0.0;

    for (int i = 0; i < count; i++)
        most = fmax(most, fabs((double)x[i]));
    return most;
}

/* A rotation of any family. */
static struct rotation draw_rotation(int head_width)
{
    int rotated = agree_chance(60) ? head_width / 2 * 2 : agree_between(0, head_width / 2) * 2;
    float *frequency = agree_rows(1, rotated / 2);
    struct rotation r = {.frequency = agree_chance(80) ? frequency : NULL,
                         .rotated = rotated,
                         .interleaved = agree_chance(50),
                         .attention_factor = agree_chance(70) ? 1.0f : 1.3465736f,
                         .norm_after = agree_chance(50),
                         .norm_epsilon = 1e-5f,
                         .temperature_floor = agree_chance(50) ? 8192.0f : 4.0f};

    for (int i = 0; i < rotated / 2; i++)
        frequency[i] = powf(10000.0f, -2.0f * (float)i / (float)rotated);
    r.temperature_scale = r.frequency ? 0.0f : 0.1f;
    return r;
}

static void rotate_rows(struct kernels *reference, struct kernels *k, int rows, int width)
{
    bool few = rows < 1000;
    int heads = few ? agree_between(0, 5) : 1, kv_heads = few ? agree_between(0, 3) : 1;
    struct rotation r = draw_rotation(width);
    float *gains = agree_chance(40) ? agree_random_rows(2, width) : NULL;
    float *queries = agree_random_rows(rows, heads * width),
          *keys = agree_random_rows(rows, kv_heads * width);
    int32_t *positions = agree_take((size_t)rows, sizeof *positions);
    int32_t *again = !gains && agree_chance(60) ? agree_take((size_t)rows, sizeof *again) : NULL;
    double turns = again ? 2.0 : 1.0;
    float *got_q[2], *got_k[2];

    agree_shape("%d rows, %d and %d heads of %d, %d of them turned", rows, heads, kv_heads, width, r.rotated);
    for (int t = 0; t < rows; t++)
        positions[t] = agree_between(0, agree_chance(80) ? 9000 : 1000000);
    for (int t = 0; again && t < rows; t++)
        again[t] = agree_between(0, 9000);
    for (int i = 0; i < 2; i++) {
        struct kernels *backend = i == 0 ? reference : k;
        struct framed q = agree_framed(backend, rows, heads * width, queries);
        struct framed key = agree_framed(backend, rows, kv_heads * width, keys);

        r.query_gain = gains ? agree_upload(backend, gains, (size_t)width) : NULL;
        r.key_gain = gains ? agree_upload(backend, gains + width, (size_t)width) : NULL;
        agree_ok(backend, "rotate", backend->rotate(backend, q.view, key.view, &r, width, positions));
        if (again) /* at other positions, with nothing waited for in between */
            agree_ok(backend, "rotate", backend->rotate(backend, q.view, key.view, &r, width, again));
        got_q[i] = agree_content(backend, &q);
        got_k[i] = agree_content(backend, &key);
    }
    /* A turn keeps the length of its pair, so the largest of the turned head is a fair measure for its
     * errors. */
    for (int i = 0; i < rows * heads * width; i++)
        agree_close(k, "rotated query", i / (heads * width), i % (heads * width), got_q[1][i], got_q[0][i],
                    turns * (FUNCTION + 3 * (width + 16) * U) * largest(got_q[0] + i / width * width, width));
    for (int i = 0; i < rows * kv_heads * width; i++)
        agree_close(k, "rotated key", i / (kv_heads * width), i % (kv_heads * width), got_k[1][i],
                    got_k[0][i],
                    turns * (FUNCTION + 3 * (width + 16) * U) * largest(got_k[0] + i / width * width, width));
}

static void check_rotate(struct kernels *reference, struct kernels *k)
{
    rotate_rows(reference, k, draw_rows(), agree_width(140));
}

void agree_kernels_rotate_many(struct kernels *reference, struct kernels *k)
{
    rotate_rows(reference, k, agree_between(8200, 8210), 8);
}

static void check_activate(struct kernels *reference, struct kernels *k)
{
    int rows = draw_rows(), width = agree_width(200);
    float *content = agree_random_rows(rows, 2 * width);
    float *got[2];

    agree_shape("[%d, %d]", rows, width);
    for (ptrdiff_t i = 0; i < (ptrdiff_t)rows * 2 * width; i++)
        content[i] *= agree_chance(5) ? 200.0f : 8.0f;
    for (int i = 0; i < 2; i++) {
        struct kernels *backend = i == 0 ? reference : k;
        struct framed gate_up = agree_framed(backend, rows, 2 * width, content);
        struct framed out = agree_framed(backend, rows, width, NULL);

        agree_ok(backend, "activate", backend->activate(backend, out.view, gate_up.view));
        got[i] = agree_content(backend, &out);
    }
    /* Far below zero the sigmoid is smaller than any normal float; then nothing is as good as almost nothing.
     */
    for (int i = 0; i < rows * width; i++)
        agree_close(k, "activate", i / width, i % width, got[1][i], got[0][i],
                    FUNCTION * fabs((double)got[0][i]) + 1e-30);
}

static void check_combine(struct kernels *reference, struct kernels *k)
{
    int rows = draw_rows(), width = agree_width(200), choices = agree_between(1, 8),
        results = agree_between(1, 90);
    float *x = agree_random_rows(rows, width), *result = agree_random_rows(results, width);
    float *shared = agree_chance(60) ? agree_random_rows(rows, width) : NULL;
    float *weight = agree_chance(60) ? agree_random_rows(rows, choices) : NULL;
    int32_t *place = agree_take((size_t)(rows * choices), sizeof *place);
    float *got[2];

    agree_shape("[%d, %d], %d choices of %d results", rows, width, choices, results);
    for (int i = 0; i < rows * choices; i++)
        place[i] = agree_chance(10) ? -1 : agree_between(0, results - 1);
    for (int i = 0; i < 2; i++) {
        struct kernels *backend = i == 0 ? reference : k;
        struct framed out = agree_framed(backend, rows, width, x);
        struct combine c = {.x = out.view,
                            .results = agree_framed(backend, results, width, result).view,
                            .place = agree_numbers(backend, place, (size_t)(rows * choices)),
                            .weight = weight ? agree_upload(backend, weight, (size_t)(rows * choices)) : NULL,
                            .choices = choices};

        if (shared)
            c.shared = agree_framed(backend, rows, width, shared).view;
        agree_ok(backend, "combine", backend->combine(backend, &c));
        got[i] = agree_content(backend, &out);
    }
    /* All numbers that come in are at most 1. */
    for (int i = 0; i < rows * width; i++)
        agree_close(k, "combine", i / width, i % width, got[1][i], got[0][i],
                    2.0 * (choices + 2) * U * (choices + 2));
}

/* -- route, candidates, softmax
 * ------------------------------------------------------------------------------------------------ */

/* Logits with what makes choosing hard: ties, infinities, NaN. Sets *plain when there are only finite
 * numbers. */
static float *draw_logits(int rows, int columns, bool *plain)
{
    float *logits = agree_random_rows(rows, columns);
    bool ties = agree_chance(40), strange = agree_chance(30);

    *plain = !strange;
    for (ptrdiff_t i = 0; i < (ptrdiff_t)rows * columns; i++) {
        logits[i] = ties ? roundf(4.0f * logits[i]) : 9.0f * logits[i];
        if (strange && agree_chance(20))
            logits[i] = agree_chance(50) ? NAN : agree_chance(50) ? INFINITY : -INFINITY;
        if (strange && i / columns == rows / 2)
            logits[i] = NAN; /* one row has nothing else */
    }
    return logits;
}

/* None of them is nearer to another than what a backend's exponentials may be off. */
static bool apart(const double *numbers, int count)
{
    for (int i = 0; i < count; i++)
        for (int j = 0; j < i; j++)
            if (fabs(numbers[i] - numbers[j]) < 8.0 * FUNCTION)
                return false;
    return true;
}

/* Does the order of a row's scores, and that of its groups, say which are chosen? */
static bool ordered(const float *logits, const float *bias, int experts, int groups)
{
    double scores[MOST_EXPERTS], sums[GROUPS];

    for (int e = 0; e < experts; e++)
        scores[e] = 1.0 / (1.0 + exp(-(double)logits[e])) + (double)bias[e];
    for (int g = 0; g < groups; g++) {
        double first = -HUGE_VAL, second = -HUGE_VAL;

        for (int e = g * experts / groups; e < (g + 1) * experts / groups; e++) {
            second = fmax(second, fmin(first, scores[e]));
            first = fmax(first, scores[e]);
        }
        sums[g] = first + second;
    }
    return apart(scores, experts) && apart(sums, groups);
}

/* Rows without an order are drawn anew until they have one. */
static void draw_order(float *logits, const float *bias, int rows, int experts, int groups)
{
    for (int t = 0; t < rows; t++)
        while (!ordered(logits + (ptrdiff_t)t * experts, bias, experts, groups))
            for (int e = 0; e < experts; e++)
                logits[(ptrdiff_t)t * experts + e] = 4.0f * agree_uniform();
}

/* `grouped`: with a bias and four groups, of which two are kept. */
static void route_rows(struct kernels *reference, struct kernels *k, int experts, bool grouped)
{
    int groups = grouped ? GROUPS : 1, rows = draw_rows();
    int choices = agree_between(1, grouped ? (experts < 18 ? experts / 2 : 9) : experts < 9 ? experts : 9);
    bool plain = true;
    float *logits = grouped ? agree_random_rows(rows, experts) : draw_logits(rows, experts, &plain);
    enum score_kind score =
        grouped ? SCORE_SIGMOID : (enum score_kind)agree_between(SCORE_SIGMOID, SCORE_SOFTMAX_CHOSEN);
    bool renormalise = agree_chance(50);
    bool corrected =
        grouped || (experts <= MOST_EXPERTS && plain && score == SCORE_SIGMOID && agree_chance(60));
    float *bias = corrected ? agree_random_rows(1, experts) : NULL;
    int32_t *expert[2];
    float *weight[2];

    agree_shape("[%d, %d], %d choices", rows, experts, choices);
    if (corrected)
        draw_order(logits, bias, rows, experts, groups);
    for (int i = 0; i < 2; i++) {
        struct kernels *backend = i == 0 ? reference : k;
        struct framed l = agree_framed(backend, rows, experts, logits);
        struct route r = {.logits = l.view, .choices = choices, .score = score, .renormalise = renormalise};

        if (corrected) {
            r.bias = agree_upload(backend, bias, (size_t)experts);
            r.groups = groups;
            r.kept_groups = 2;
            r.scale = 2.5f;
        }
        r.expert = agree_numbers(backend, NULL, (size_t)(rows * choices));
        r.weight = (float *)agree_numbers(backend, NULL, (size_t)(rows * choices));
        agree_ok(backend, "route", backend->route(backend, &r));
        expert[i] = agree_bring(backend, r.expert, (size_t)(rows * choices));
        weight[i] = agree_bring(backend, r.weight, (size_t)(rows * choices));
        agree_content(backend, &l);
    }
    for (int i = 0; i < rows * choices; i++) {
        agree_number(k, "a choice", expert[1][i], expert[0][i]);
        if (plain)
            agree_close(k, "weight of a choice", i / choices, i % choices, weight[1][i], weight[0][i],
                        (2.0 * experts * U + FUNCTION) * (double)weight[0][i]);
    }
}

static void check_route(struct kernels *reference, struct kernels *k)
{
    route_rows(reference, k, agree_width(MOST_EXPERTS), false);
}

/* The scores of four rows are more than shared memory that need not be asked for. */
void agree_kernels_route_many(struct kernels *reference, struct kernels *k)
{
    route_rows(reference, k, agree_between(3100, ROUTE_EXPERTS_MOST), false);
}

static void check_groups(struct kernels *reference, struct kernels *k)
{
    route_rows(reference, k, GROUPS * agree_between(2, MOST_EXPERTS / GROUPS), true);
}

static void check_candidates(struct kernels *reference, struct kernels *k)
{
    int rows = agree_width(9), columns = agree_width(3000);
    int keep = agree_between(1, columns < 100 ? columns : 100);
    bool plain;
    float *logits = draw_logits(rows, columns, &plain);
    int32_t *which[2];
    float *values[2];

    agree_shape("%d of [%d, %d]", keep, rows, columns);
    for (int i = 0; i < 2; i++) {
        struct kernels *backend = i == 0 ? reference : k;
        struct framed l = agree_framed(backend, rows, columns, logits);

        which[i] = agree_take((size_t)(rows * keep), sizeof *which[i]);
        values[i] = agree_rows(rows, keep);
        agree_ok(backend, "candidates", backend->candidates(backend, l.view, keep, values[i], which[i]));
        agree_content(backend, &l);
    }
    for (int i = 0; i < rows * keep; i++) {
        agree_number(k, "a candidate", which[1][i], which[0][i]);
        agree_close(k, "candidate", i / keep, i % keep, values[1][i], values[0][i], 0.0);
    }
}

static void check_softmax(struct kernels *reference, struct kernels *k)
{
    int rows = draw_rows(), columns = agree_width(3000), count = softmax_chunk_count(columns);
    bool plain;
    float *logits = draw_logits(rows, columns, &plain);
    int32_t *column = agree_take((size_t)rows, sizeof *column);
    struct softmax_chunk *chunk[2];
    float *logit[2];

    agree_shape("[%d, %d]", rows, columns);
    for (int t = 0; t < rows; t++)
        column[t] = agree_between(-1, columns - 1);
    for (int i = 0; i < 2; i++) {
        struct kernels *backend = i == 0 ? reference : k;
        struct framed l = agree_framed(backend, rows, columns, logits);

        chunk[i] = agree_take((size_t)rows * (size_t)count, sizeof *chunk[i]);
        logit[i] = agree_rows(1, rows);
        agree_ok(backend, "softmax",
                 backend->softmax(
                     backend, &(struct softmax_chunks){
                                  .logits = l.view, .column = column, .chunk = chunk[i], .logit = logit[i]}));
        agree_content(backend, &l);
    }
    agree_same(k, "a wanted logit", 0, logit[1], logit[0], rows);
    for (int i = 0; i < rows * count; i++) {
        struct softmax_chunk got = chunk[1][i], want = chunk[0][i];

        agree_close(k, "the largest of a chunk", i / count, i % count, (float)got.most, (float)want.most,
                    0.0);
        agree_close(k, "a sum of exponentials", i / count, i % count, (float)got.sum, (float)want.sum,
                    (FUNCTION + 2.0 * SOFTMAX_CHUNK * U) * want.sum);
    }
}

/* -- refusals
 * ---------------------------------------------------------------------------------------------------------
 */

static void refuses(struct kernels *k, const char *entry, enum status got, enum status want)
{
    if (got != want)
        agree_fail(k, "%s of shapes that contradict each other returns %d, not %d", entry, (int)got,
                   (int)want);
}

static void check_refusals(struct kernels *reference, struct kernels *k)
{
    struct drawn tensor = agree_tensor(DTYPE_BF16, 7, 5, false);
    struct weight w = agree_weight(k, &tensor, 0, 7), planned = {0};
    struct matrix a = agree_framed(k, 3, 5, agree_rows(3, 5)).view,
                  b = agree_framed(k, 3, 7, agree_rows(3, 7)).view;
    struct matrix c = agree_framed(k, 2, 5, agree_rows(2, 5)).view;
    struct rotation rotation = {.attention_factor = 1.0f};
    struct route route = {.logits = a, .choices = 6};
    int32_t rows[3] = {0}, expert[18];
    float weight[18];
    int widths[2] = {2, 2};

    (void)reference;
    refuses(k, "weight_plan", k->weight_plan(k, &planned, DTYPE_I64, 3, 4), STATUS_BAD_INPUT);
    refuses(k, "embed", k->embed(k, b, &w, rows, 0), STATUS_BUG);
    refuses(k, "rms_norm", k->rms_norm(k, b, a, NULL, 1e-5f), STATUS_BUG);
    refuses(k, "multiply", k->multiply(k, a, b, &w, NULL), STATUS_BUG);
    refuses(k, "multiply", k->multiply(k, b, c, &w, NULL), STATUS_BUG);
    refuses(k, "rotate", k->rotate(k, a, c, &rotation, 5, rows), STATUS_BUG);
    refuses(k, "rotate", k->rotate(k, a, a, &rotation, 4, rows), STATUS_BUG);
    refuses(k, "gather", k->gather(k, b, a, rows, NULL), STATUS_BUG);
    refuses(k, "activate", k->activate(k, a, b), STATUS_BUG);
    refuses(k, "add", k->add(k, a, b), STATUS_BUG);
    refuses(k, "add", k->add(k, a, c), STATUS_BUG);
    refuses(k, "join", k->join(k, a, a.data, widths, 2), STATUS_BUG);
    route.expert = expert;
    route.weight = weight;
    refuses(k, "route", k->route(k, &route), STATUS_BUG);
    refuses(k, "group", k->group(k, a, 5, 1, expert, expert), STATUS_BUG);
    refuses(k, "deal",
            k->deal(k, &(struct deal){.out = b,
                                      .x = a,
                                      .expert = expert,
                                      .table = &(struct deal_table){.experts = 1, .slots = 1, .ranks = 1},
                                      .choices = 1,
                                      .room = 3,
                                      .place = expert,
                                      .counts = expert}),
            STATUS_BUG);
    refuses(k, "candidates", k->candidates(k, a, 6, weight, expert), STATUS_BUG);
    refuses(k, "softmax", k->softmax(k, &(struct softmax_chunks){.logits = c, .column = (int32_t[]){4, 5}}),
            STATUS_BUG);
    refuses(k, "draft", k->draft(k, &(struct draft){.shortest = 3, .longest = 2}), STATUS_BUG);
}

/* -- the list --- */

#define AGREES(function, count, words)                                                                       \
    {                                                                                                        \
        .entry = #function, .promise = words, .rounds = count, .agrees = check_##function                    \
    }

const struct agree_check agree_kernels_checks[] = {
    AGREES(upload, 3, "what is sent comes back"),
    AGREES(embed, 12, "agrees with the reference"),
    AGREES(gather, 12, "agrees with the reference"),
    AGREES(join, 12, "agrees with the reference"),
    AGREES(add, 12, "agrees with the reference"),
    AGREES(norm, 24, "agrees with the reference"),
    AGREES(rotate, 30, "agrees with the reference"),
    AGREES(activate, 18, "agrees with the reference"),
    AGREES(combine, 24, "agrees with the reference"),
    AGREES(route, 30, "agrees with the reference"),
    AGREES(groups, 15, "agrees with the reference"),
    AGREES(candidates, 24, "agrees with the reference"),
    AGREES(softmax, 24, "agrees with the reference"),
    {.entry = "deal",
     .promise = "agrees with the reference, and every row has one place",
     .rounds = 30,
     .agrees = agree_deal},
    {.entry = "draft", .promise = "agrees with the reference", .rounds = 24, .agrees = agree_draft},
    AGREES(refusals, 3, "shapes that contradict are refused"),
    {0},
};
