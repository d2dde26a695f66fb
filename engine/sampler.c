/* sampler.c - the next token from logits: a pure function of logits, parameters, seed, request and position
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/sampler.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum { BLOCK = 256, BANDS = 8 };

static const double BAND_WIDTH = 4.0; /* in units of the temperature: e^-4 is one in 55 */

struct candidate {
    float value;
    int32_t id;
};

struct sampler {
    int vocabulary;
    int limit;              /* tokens from here on are never chosen */
    struct candidate *heap; /* [V] candidates of the present band, the best on top */
    int waiting;            /* in the heap */
    struct candidate *kept; /* [V] taken, falling */
    float *weight;          /* [V] of kept, the best has 1 */
};

/* One draw. Candidates come in falling order: from the caller, or from a heap that is filled band by band,
 * because few of a large vocabulary are ever looked at. */
struct draw {
    const float *values; /* the caller's, falling when ids is not NULL */
    const int32_t *ids;
    int count, next;
    int limit;
    float best;
    float least; /* below this no value is chosen: min_p */
    float scale; /* log2(e) / temperature */
    double temperature;
    float border; /* of the bands heaped so far: values from here on were in the heap */
    int bands;
    int kept;     /* candidates taken so far */
    bool closed;  /* no more are taken */
    double total; /* weight of all that can be drawn */
};

enum status sampler_check(const struct sampling *how)
{
    if (!isfinite(how->temperature) || how->temperature < 0.0f)
        return FAIL(STATUS_BAD_INPUT, "temperature is %g: it must be 0 (greedy) or a positive number",
                    (double)how->temperature);
    if (!(how->top_p > 0.0f && how->top_p <= 1.0f))
        return FAIL(STATUS_BAD_INPUT, "top_p is %g: it must be above 0 and at most 1", (double)how->top_p);
    if (!(how->min_p >= 0.0f && how->min_p <= 1.0f))
        return FAIL(STATUS_BAD_INPUT, "min_p is %g: it must be from 0 to 1", (double)how->min_p);
    if (how->top_k < -1)
        return FAIL(STATUS_BAD_INPUT, "top_k is %d: it must be 0 or -1 (all) or a number of candidates",
                    how->top_k);
    return STATUS_OK;
}

int sampler_needs(const struct sampling *how)
{
    if (how->temperature <= 0.0f)
        return 1;
    return how->top_k > 0 && how->top_k <= SAMPLER_CANDIDATES ? how->top_k : 0;
}

double sampler_uniform(uint64_t seed, uint64_t request, uint64_t position)
{
    uint32_t key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);
    uint32_t c0 = (uint32_t)request, c1 = (uint32_t)(request >> 32);
    uint32_t c2 = (uint32_t)position, c3 = (uint32_t)(position >> 32);

    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * c0, b = (uint64_t)0xCD9E8D57u * c2;

        c0 = (uint32_t)(b >> 32) ^ c1 ^ key0;
        c1 = (uint32_t)b;
        c2 = (uint32_t)(a >> 32) ^ c3 ^ key1;
        c3 = (uint32_t)a;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    return (double)(((uint64_t)c0 << 32 | c1) >> 11) * 0x1p-53;
}

enum status sampler_open(struct sampler **out, struct arena *arena, int vocabulary, int limit)
{
    struct sampler *s;

    if (limit < 1 || vocabulary < limit)
        return FAIL(STATUS_BUG, "a sampler for %d of %d tokens", limit, vocabulary);
    TRY(arena_take(arena, sizeof *s, "sampler", &s));
    s->vocabulary = vocabulary;
    s->limit = limit;
    TRY(arena_take_array(arena, (size_t)vocabulary, sizeof *s->heap, "candidates of the sampler", &s->heap));
    TRY(arena_take_array(arena, (size_t)vocabulary, sizeof *s->kept, "choices of the sampler", &s->kept));
    TRY(arena_take_array(arena, (size_t)vocabulary, sizeof *s->weight, "weights of the sampler", &s->weight));
    *out = s;
    return STATUS_OK;
}

static bool before(struct candidate a, struct candidate b)
{
    return a.value > b.value || (a.value >= b.value && a.id < b.id);
}

static void sink(struct candidate *heap, int count, int at)
{
    struct candidate moved = heap[at];

    for (;;) {
        int child = 2 * at + 1;

        if (child >= count)
            break;
        if (child + 1 < count && before(heap[child + 1], heap[child]))
            child++;
        if (!before(heap[child], moved))
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = moved;
}

/* e^((value - best) / temperature), relative to the best candidate, which has exactly 1. Plain arithmetic
 * without branches, so that a loop over it uses vectors and every machine gets the same bits: 2^n times the
 * series of 2^f, |f| <= 1/2, error below 1e-8. Less than 2^-126 counts as that. */
static inline float weigh(const struct draw *d, float value)
{
    float exponent = (value - d->best) * d->scale;
    float t = exponent > -126.0f ? exponent : -126.0f; /* not a number goes here, too */
    int n = (int)(t - 0.5f);
    float f = t - (float)n, power;
    uint32_t bits = (uint32_t)(n + 127) << 23;
    float series = 1.5252734e-5f;

    series = series * f + 1.5403530e-4f;
    series = series * f + 1.3333558e-3f;
    series = series * f + 9.6181291e-3f;
    series = series * f + 5.5504109e-2f;
    series = series * f + 2.4022651e-1f;
    series = series * f + 6.9314718e-1f;
    series = series * f + 1.0f;
    memcpy(&power, &bits, sizeof power);
    return value >= d->best ? 1.0f : series * power;
}

/* The weight of all logits that can be chosen, summed by id. */
static void weigh_all(struct draw *d)
{
    int count = d->count < d->limit ? d->count : d->limit, whole = count - count % BLOCK;
    float weight[BLOCK];

    d->total = 0.0;
    for (int first = 0; first < whole; first += BLOCK) {
        for (int i = 0; i < BLOCK; i++)
            weight[i] = d->values[first + i] >= d->least ? weigh(d, d->values[first + i]) : 0.0f;
        for (int i = 0; i < BLOCK; i++)
            d->total += (double)weight[i];
    }
    for (int i = whole; i < count; i++)
        d->total += d->values[i] >= d->least ? (double)weigh(d, d->values[i]) : 0.0;
}

/* Heaps the next band of values that has any; false when nothing is left. */
static bool fill_heap(struct sampler *s, struct draw *d)
{
    while (s->waiting == 0 && (d->bands == 0 || d->border > d->least)) {
        float above = d->border;

        d->border = (float)((double)d->best - BAND_WIDTH * d->temperature * ++d->bands);
        if (d->bands >= BANDS || !(d->border > d->least))
            d->border = d->least;
        for (int id = 0; id < d->count && id < d->limit; id++) {
            float value = d->values[id];

            if (value >= d->border && (value < above || d->bands == 1))
                s->heap[s->waiting++] = (struct candidate){value, id};
        }
    }
    for (int i = s->waiting / 2 - 1; i >= 0; i--)
        sink(s->heap, s->waiting, i);
    return s->waiting > 0;
}

/* The next candidate in falling order; false when there is none. */
static bool take(struct sampler *s, struct draw *d, struct candidate *out)
{
    if (!d->ids) {
        if (s->waiting == 0 && !fill_heap(s, d))
            return false;
        *out = s->heap[0];
        s->heap[0] = s->heap[--s->waiting];
        if (s->waiting > 0)
            sink(s->heap, s->waiting, 0);
        return true;
    }
    for (; d->next < d->count; d->next++) {
        if (d->ids[d->next] < d->limit && d->values[d->next] >= d->least) {
            *out = (struct candidate){d->values[d->next], d->ids[d->next]};
            d->next++;
            return true;
        }
    }
    return false;
}

/* Keeps the next candidate; false when there is none. */
static bool keep_next(struct sampler *s, struct draw *d)
{
    if (d->closed || !take(s, d, &s->kept[d->kept]))
        return false;
    s->weight[d->kept] = weigh(d, s->kept[d->kept].value);
    d->kept++;
    return true;
}

static void apply_top_k(struct sampler *s, struct draw *d, int top_k)
{
    while (d->kept < top_k && keep_next(s, d))
        continue;
    d->closed = true;
    d->total = 0.0;
    for (int i = 0; i < d->kept; i++)
        d->total += (double)s->weight[i];
}

/* The fewest that reach the share top_p; at least one, because top_p is above 0. */
static void apply_top_p(struct sampler *s, struct draw *d, double top_p)
{
    double enough = top_p * d->total, reached = 0.0;
    int i;

    for (i = 0; reached < enough && (i < d->kept || keep_next(s, d)); i++)
        reached += (double)s->weight[i];
    d->closed = true;
    d->kept = i;
    d->total = reached;
}

/* Along the candidates until their share of the total passes the random number; more are taken as they are
 * needed. */
static int32_t draw_token(struct sampler *s, struct draw *d, double uniform)
{
    double target = uniform * d->total, sum = 0.0;

    for (int i = 0; i < d->kept || keep_next(s, d); i++) {
        sum += (double)s->weight[i];
        if (sum > target)
            return s->kept[i].id;
    }
    return s->kept[d->kept - 1].id; /* rounding left a crumb: the last one takes it */
}

/* The highest value, the lowest id first. Not a number and minus infinity are no values to choose. */
static enum status find_best(const struct draw *d, struct candidate *best)
{
    struct candidate found = {-INFINITY, -1};

    for (int i = 0; i < d->count; i++) {
        int id = d->ids ? d->ids[i] : i;

        if (d->values[i] > found.value && id < d->limit)
            found = (struct candidate){d->values[i], id};
    }
    if (found.id < 0)
        return FAIL(STATUS_BUG,
                    "no token can be chosen: the logits are not numbers, or all %d are of tokens from %d on",
                    d->count, d->limit);
    *best = found;
    return STATUS_OK;
}

static enum status check_pairs(const struct sampler *s, const struct sampling *how, const struct draw *d)
{
    int needs = sampler_needs(how);

    if (needs > s->vocabulary)
        needs = s->vocabulary;
    if (needs == 0 || d->count < needs)
        return FAIL(STATUS_BUG, "%d candidates for a token that needs %d (0: all logits)", d->count, needs);
    for (int i = 0; i < d->count; i++) {
        if (d->ids[i] < 0 || d->ids[i] >= s->vocabulary)
            return FAIL(STATUS_BUG, "candidate %d is token %d of %d", i, d->ids[i], s->vocabulary);
        if (i > 0 && before((struct candidate){d->values[i], d->ids[i]},
                            (struct candidate){d->values[i - 1], d->ids[i - 1]}))
            return FAIL(STATUS_BUG, "candidates %d and %d stand in the wrong order", i - 1, i);
    }
    return STATUS_OK;
}

static void set_scale(struct draw *d, const struct sampling *how, float best)
{
    d->best = best;
    d->temperature = (double)how->temperature;
    d->scale = (float)(M_LOG2E / d->temperature);
    d->least = -FLT_MAX;
    /* weight >= min_p, said of values: this has no rounding that could tell equal values apart */
    if (how->min_p > 0.0f)
        d->least = fmaxf(-FLT_MAX, (float)((double)best + d->temperature * log((double)how->min_p)));
    d->border = INFINITY;
}

enum status sampler_pick(struct sampler *s, const struct sampling *how, const float *values,
                         const int32_t *ids, int count, uint64_t request, uint64_t position, int32_t *token)
{
    struct draw d = {.values = values, .ids = ids, .count = count, .limit = s->limit};
    struct candidate best = {0};

    s->waiting = 0;
    TRY(sampler_check(how));
    if (!ids && count > s->vocabulary)
        return FAIL(STATUS_BUG, "%d logits for %d tokens", count, s->vocabulary);
    if (ids)
        TRY(check_pairs(s, how, &d));
    TRY(find_best(&d, &best));
    if (how->temperature <= 0.0f) {
        *token = best.id;
        return STATUS_OK;
    }
    set_scale(&d, how, best.value);
    if (how->top_k <= 0)
        weigh_all(&d);
    if (how->top_k > 0)
        apply_top_k(s, &d, how->top_k);
    if (how->top_p < 1.0f)
        apply_top_p(s, &d, (double)how->top_p);
    *token = draw_token(s, &d, sampler_uniform(how->seed, request, position));
    return STATUS_OK;
}
