/* agree_law.c - the law on kernels: a row has the same bytes whatever else is computed beside it
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * For each entry that sums or calls a function: the result of a row is equal to the bit whether it is
 * computed alone or among 2, 7, 33 or 65 rows, by 1, 2 or 3 threads, and by a rank that holds all columns or
 * heads or only some of them. Attention has its own program, agree_attention. */
#include "kernels/agree/agree_law.h"

#include <string.h>

enum { ROWS = 65, SLOTS = 5 };

static const int BATCHES[] = {1, 2, 7, 33, ROWS};

/* Computes rows first ... first + rows - 1 of a subject by backend k[i] into out [rows, width]. */
struct trial {
    void (*run)(struct kernels *k, int i, const void *subject, int first, int rows, float *out);
    const void *subject;
    const char *what;
    int width;
};

/* Every row alone, by one thread: [ROWS, width]. */
static float *run_alone(struct kernels **k, const struct trial *trial)
{
    float *alone = agree_rows(ROWS, trial->width);

    for (int t = 0; t < ROWS; t++)
        trial->run(k[0], 0, trial->subject, t, 1, alone + (ptrdiff_t)t * trial->width);
    return alone;
}

/* Batches of all sizes by all numbers of threads against `want` [ROWS, width]. */
static void run_together(struct kernels **k, const struct trial *trial, const float *want)
{
    float *got = agree_rows(ROWS, trial->width);

    for (int i = 0; i < AGREE_THREADS; i++) {
        for (size_t b = 0; b < sizeof BATCHES / sizeof BATCHES[0]; b++) {
            int rows = BATCHES[b], first = agree_between(0, ROWS - rows);

            trial->run(k[i], i, trial->subject, first, rows, got);
            for (int t = 0; t < rows; t++)
                agree_same(k[i], trial->what, first + t, got + (ptrdiff_t)t * trial->width,
                           want + (ptrdiff_t)(first + t) * trial->width, trial->width);
        }
    }
}

/* Some columns of [ROWS, columns]. */
static float *some_columns(const float *from, int columns, int first, int count)
{
    float *to = agree_rows(ROWS, count);

    for (int t = 0; t < ROWS; t++)
        memcpy(to + (ptrdiff_t)t * count, from + (ptrdiff_t)t * columns + first, (size_t)count * sizeof *to);
    return to;
}

static struct framed upload_rows(struct kernels *k, const float *content, int first, int rows, int columns)
{
    return agree_framed(k, rows, columns, content + (ptrdiff_t)first * columns);
}

static void keep(struct kernels *k, const struct framed *m, float *out)
{
    memcpy(out, agree_content(k, m), (size_t)(m->view.rows * m->view.columns) * sizeof *out);
}

/* -- multiply
 * ---------------------------------------------------------------------------------------------------------
 */

struct product {
    const float *x; /* [ROWS, inputs] */
    int inputs;
    struct weight w[AGREE_THREADS];
    float *bias[AGREE_THREADS];
};

static void run_multiply(struct kernels *k, int i, const void *subject, int first, int rows, float *out)
{
    const struct product *p = subject;
    struct framed x = upload_rows(k, p->x, first, rows, p->inputs),
                  y = agree_framed(k, rows, p->w[i].rows, NULL);

    agree_ok(k, "multiply", k->multiply(k, y.view, x.view, &p->w[i], p->bias[i]));
    keep(k, &y, out);
}

/* The product by output columns first ... of a tensor. */
static void hold_columns(struct kernels **k, struct product *p, const struct drawn *tensor, const float *bias,
                         int first, int count)
{
    for (int i = 0; i < AGREE_THREADS; i++) {
        p->w[i] = agree_weight(k[i], tensor, first, count);
        p->bias[i] = bias ? agree_upload(k[i], bias + first, (size_t)count) : NULL;
    }
}

static void check_multiply(struct kernels **k)
{
    int outputs = agree_width(200), inputs = agree_width(agree_chance(15) ? 1200 : 200);
    struct drawn tensor = agree_tensor(agree_dtype(), outputs, inputs, agree_chance(40));
    float *bias = agree_chance(40) ? agree_random_rows(1, outputs) : NULL;
    struct product p = {.x = agree_random_rows(ROWS, inputs), .inputs = inputs};
    struct trial trial = {run_multiply, &p, "product", outputs};
    float *whole;

    agree_shape("[%d, %d] by %s [%d, %d]", ROWS, inputs, dtype_name(tensor.dtype), outputs, inputs);
    hold_columns(k, &p, &tensor, bias, 0, outputs);
    whole = run_alone(k, &trial);
    run_together(k, &trial, whole);

    trial.what = "product by some columns of a weight";
    for (int slice = 0; slice < 4; slice++) {
        int first = agree_between(0, outputs - 1), count = agree_between(1, outputs - first);

        trial.width = count;
        hold_columns(k, &p, &tensor, bias, first, count);
        run_together(k, &trial, some_columns(whole, outputs, first, count));
    }
}

/* -- rows
 * -------------------------------------------------------------------------------------------------------------
 */

struct normed {
    const float *x; /* [ROWS, width] */
    int width;
    float *gain[AGREE_THREADS];
};

static void run_norm(struct kernels *k, int i, const void *subject, int first, int rows, float *out)
{
    const struct normed *n = subject;
    struct framed x = upload_rows(k, n->x, first, rows, n->width), y = agree_framed(k, rows, n->width, NULL);

    agree_ok(k, "rms_norm", k->rms_norm(k, y.view, x.view, n->gain[i], 1e-5f));
    keep(k, &y, out);
}

static void check_norm(struct kernels **k)
{
    int width = agree_width(300);
    float *gain = agree_random_rows(1, width);
    struct normed n = {.x = agree_random_rows(ROWS, width), .width = width};
    struct trial trial = {run_norm, &n, "rms_norm", width};

    agree_shape("[%d, %d]", ROWS, width);
    for (int i = 0; i < AGREE_THREADS; i++)
        n.gain[i] = agree_upload(k[i], gain, (size_t)width);
    run_together(k, &trial, run_alone(k, &trial));
}

struct turned {
    const float *x; /* [ROWS, heads * width] */
    int heads, width;
    struct rotation r;
    const int32_t *positions;
    bool as_keys;
};

static void run_rotate(struct kernels *k, int i, const void *subject, int first, int rows, float *out)
{
    const struct turned *s = subject;
    struct framed x = upload_rows(k, s->x, first, rows, s->heads * s->width),
                  none = agree_framed(k, rows, 0, NULL);

    (void)i;
    agree_ok(k, "rotate",
             k->rotate(k, s->as_keys ? none.view : x.view, s->as_keys ? x.view : none.view, &s->r, s->width,
                       s->positions + first));
    keep(k, &x, out);
}

static void check_rotate(struct kernels **k)
{
    int width = 2 * agree_between(1, 40), heads = agree_between(1, 6);
    float *frequency = agree_rows(1, width / 2);
    int32_t *positions = agree_take(ROWS, sizeof *positions);
    struct turned s = {.x = agree_random_rows(ROWS, heads * width),
                       .heads = heads,
                       .width = width,
                       .r = {.frequency = agree_chance(80) ? frequency : NULL,
                             .rotated = width,
                             .interleaved = agree_chance(50),
                             .attention_factor = 1.0f,
                             .norm_after = agree_chance(70),
                             .norm_epsilon = 1e-5f,
                             .temperature_floor = 8.0f},
                       .positions = positions,
                       .as_keys = agree_chance(40)};
    struct trial trial = {run_rotate, &s, "rotated head", heads * width};
    int head = agree_between(0, heads - 1);
    float *whole;

    agree_shape("%d rows, %d heads of %d", ROWS, heads, width);
    s.r.temperature_scale = s.r.frequency ? 0.0f : 0.1f;
    for (int i = 0; i < width / 2; i++)
        frequency[i] = 1.0f / (1.0f + 3.0f * (float)i);
    for (int t = 0; t < ROWS; t++)
        positions[t] = agree_between(0, agree_chance(80) ? 3000 : 300000);
    whole = run_alone(k, &trial);
    run_together(k, &trial, whole);

    trial.what = "head rotated without the others";
    trial.width = width;
    s.x = some_columns(s.x, heads * width, head * width, width);
    s.heads = 1;
    run_together(k, &trial, some_columns(whole, heads * width, head * width, width));
}

struct gated {
    const float *gate_up; /* [ROWS, 2 * width] */
    int width;
};

static void run_activate(struct kernels *k, int i, const void *subject, int first, int rows, float *out)
{
    const struct gated *s = subject;
    struct framed x = upload_rows(k, s->gate_up, first, rows, 2 * s->width),
                  y = agree_framed(k, rows, s->width, NULL);

    (void)i;
    agree_ok(k, "activate", k->activate(k, y.view, x.view));
    keep(k, &y, out);
}

static void check_activate(struct kernels **k)
{
    int width = agree_width(200), first = agree_between(0, width - 1),
        count = agree_between(1, width - first);
    float *content = agree_random_rows(ROWS, 2 * width), *part = agree_rows(ROWS, 2 * count);
    struct gated s = {content, width};
    struct trial trial = {run_activate, &s, "activation", width};
    float *whole;

    agree_shape("[%d, %d]", ROWS, width);
    for (int i = 0; i < ROWS * 2 * width; i++)
        content[i] *= agree_chance(5) ? 100.0f : 6.0f;
    whole = run_alone(k, &trial);
    run_together(k, &trial, whole);

    for (int t = 0; t < ROWS; t++) {
        for (int f = 0; f < count; f++) {
            part[t * 2 * count + f] = content[t * 2 * width + first + f];
            part[t * 2 * count + count + f] = content[t * 2 * width + width + first + f];
        }
    }
    s = (struct gated){part, count};
    trial.what = "activation of some columns";
    trial.width = count;
    run_together(k, &trial, some_columns(whole, width, first, count));
}

struct choice {
    const float *logits; /* [ROWS, experts] */
    int experts;
    struct route r;
};

static void run_route(struct kernels *k, int i, const void *subject, int first, int rows, float *out)
{
    const struct choice *s = subject;
    struct route r = s->r;
    int32_t *expert;
    float *weight;

    (void)i;
    r.logits = upload_rows(k, s->logits, first, rows, s->experts).view;
    r.expert = agree_numbers(k, NULL, (size_t)(rows * r.choices));
    r.weight = (float *)agree_numbers(k, NULL, (size_t)(rows * r.choices));
    agree_ok(k, "route", k->route(k, &r));
    expert = agree_bring(k, r.expert, (size_t)(rows * r.choices));
    weight = agree_bring(k, r.weight, (size_t)(rows * r.choices));
    for (int j = 0; j < rows * r.choices; j++) {
        out[2 * j] = (float)expert[j];
        out[2 * j + 1] = weight[j];
    }
}

static void check_route(struct kernels **k)
{
    int experts = agree_width(140), choices = agree_between(1, experts < 8 ? experts : 8);
    struct choice s = {agree_random_rows(ROWS, experts), experts, {.choices = choices}};
    struct trial trial = {run_route, &s, "choice and weight", 2 * choices};

    agree_shape("[%d, %d], %d choices", ROWS, experts, choices);
    s.r.score = (enum score_kind)agree_between(SCORE_SIGMOID, SCORE_SOFTMAX_CHOSEN);
    s.r.renormalise = agree_chance(50);
    run_together(k, &trial, run_alone(k, &trial));
}

struct combined {
    const float *x, *shared; /* [ROWS, width] */
    const float *results;    /* [ROWS, width] */
    int width, choices;
    const int32_t *place;
    const float *weight;
};

static void run_combine(struct kernels *k, int i, const void *subject, int first, int rows, float *out)
{
    const struct combined *s = subject;
    struct framed x = upload_rows(k, s->x, first, rows, s->width);
    ptrdiff_t begin = (ptrdiff_t)first * s->choices;
    size_t places = (size_t)(rows * s->choices);
    struct combine c = {.x = x.view,
                        .shared = upload_rows(k, s->shared, first, rows, s->width).view,
                        .results = upload_rows(k, s->results, 0, ROWS, s->width).view,
                        .place = agree_numbers(k, s->place + begin, places),
                        .weight = s->weight ? agree_upload(k, s->weight + begin, places) : NULL,
                        .choices = s->choices};

    (void)i;
    agree_ok(k, "combine", k->combine(k, &c));
    keep(k, &x, out);
}

static void check_combine(struct kernels **k)
{
    int width = agree_width(200), choices = agree_between(1, 8);
    int32_t *place = agree_take((size_t)(ROWS * choices), sizeof *place);
    struct combined s = {.x = agree_random_rows(ROWS, width),
                         .shared = agree_random_rows(ROWS, width),
                         .results = agree_random_rows(ROWS, width),
                         .width = width,
                         .choices = choices,
                         .place = place,
                         .weight = agree_chance(50) ? agree_random_rows(ROWS, choices) : NULL};
    struct trial trial = {run_combine, &s, "combined row", width};

    agree_shape("[%d, %d], %d choices", ROWS, width, choices);
    for (int i = 0; i < ROWS * choices; i++)
        place[i] = agree_between(-1, ROWS - 1);
    run_together(k, &trial, run_alone(k, &trial));
}

/* -- experts
 * ----------------------------------------------------------------------------------------------------------
 */

struct crew {
    const float *x; /* [ROWS, width] */
    int width, inner;
    bool lower;
    struct weight gate_up[AGREE_THREADS][SLOTS], down[AGREE_THREADS][SLOTS];
    int32_t slot_of[ROWS];
};

static void run_experts(struct kernels *k, int i, const void *subject, int first, int rows, float *out)
{
    const struct crew *s = subject;
    int32_t order[ROWS], starts[SLOTS + 1];
    struct framed y = agree_framed(k, rows, s->width, NULL);
    struct expert_batch batch = {.out = y.view,
                                 .x = upload_rows(k, s->x, first, rows, s->width).view,
                                 .counted = starts,
                                 .slots = SLOTS,
                                 .lower = s->lower,
                                 .gate_up = s->gate_up[i],
                                 .down = s->down[i],
                                 .scratch = agree_framed(k, rows, 2 * s->inner, NULL).view};
    int place = 0;

    for (int slot = 0; slot < SLOTS; slot++) {
        starts[slot] = place;
        for (int n = 0; n < rows; n++)
            if (s->slot_of[first + n] == slot)
                order[place++] = n;
        agree_shuffle(order + starts[slot], place - starts[slot]);
    }
    starts[SLOTS] = place;
    batch.order = agree_numbers(k, order, (size_t)rows);
    batch.first = agree_numbers(k, starts, SLOTS + 1);
    agree_ok(k, "multiply_experts", k->multiply_experts(k, &batch));
    keep(k, &y, out);
}

static void check_experts(struct kernels **k)
{
    struct crew *s = agree_take(1, sizeof *s);
    struct trial trial = {run_experts, s, "expert result", 0};
    int32_t moved[SLOTS] = {0, 1, 2, 3, 4};
    struct drawn gate_up[SLOTS], down[SLOTS];
    float *alone = NULL;

    s->width = trial.width = agree_width(120);
    s->inner = agree_width(90);
    s->lower = k[0]->lower_speed > 0 && agree_chance(40); /* rows that are lowered together keep it as well */
    agree_shape("%d rows of %d through %d experts of %d%s", ROWS, s->width, SLOTS, s->inner,
                s->lower ? ", lowered" : "");
    s->x = agree_random_rows(ROWS, s->width);
    for (int slot = 0; slot < SLOTS; slot++) {
        gate_up[slot] = agree_tensor(agree_dtype(), 2 * s->inner, s->width, agree_chance(50));
        down[slot] = agree_tensor(gate_up[slot].dtype, s->width, s->inner, agree_chance(50));
    }
    for (int t = 0; t < ROWS; t++)
        s->slot_of[t] = agree_chance(50) ? 1 : agree_between(0, SLOTS - 1);

    /* The second time every expert lies in another slot. */
    for (int time = 0; time < 2; time++) {
        for (int i = 0; i < AGREE_THREADS; i++) {
            for (int slot = 0; slot < SLOTS; slot++) {
                s->gate_up[i][moved[slot]] = agree_weight(k[i], &gate_up[slot], 0, 2 * s->inner);
                s->down[i][moved[slot]] = agree_weight(k[i], &down[slot], 0, s->width);
            }
        }
        if (time == 0)
            alone = run_alone(k, &trial);
        run_together(k, &trial, alone);
        agree_shuffle(moved, SLOTS);
        for (int t = 0; t < ROWS; t++)
            s->slot_of[t] = moved[s->slot_of[t]];
    }
}

/* -- the list --- */

#define HOLDS(function, count)                                                                               \
    {                                                                                                        \
        .entry = #function, .promise = "same bytes in any company", .rounds = count, .law = check_##function \
    }

const struct agree_check agree_law_checks[] = {
    HOLDS(multiply, 5), HOLDS(norm, 5),    HOLDS(rotate, 8),  HOLDS(activate, 5),
    HOLDS(route, 6),    HOLDS(combine, 5), HOLDS(experts, 4), {0},
};
