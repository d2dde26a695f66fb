/* improve_layer.c - moves for one layer, one after the other
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Under a ceiling for all ranks some rows find no place. They only reach ranks that are full and hold what
 * nobody else can take. A replica of one of those experts on a rank outside lets some of them out: the one
 * that lets out most is the next move. Ceilings come down a ladder, because with a low one at once the first
 * moves help the many that are a little too busy and not the one that is busiest.
 *
 * Where ranks share memory, a slot that gets an expert which they have is a pointer that changes. Such steps
 * come before all others under a ceiling, and are asked for alone, as the few that are tried might otherwise
 * all be others. */
#include "eplb/improve_layer.h"

#include <string.h>

enum {
    MILLION = 1000000,
    CANDIDATES = 10, /* experts, ranks */
    HOT_SLOTS = 16,
    TRIALS = 12,     /* that are worth routing */
    ANSWERS = 4,     /* of them that are worth the best split on MANY ranks */
    FEW_ANSWERS = 2, /* likewise, of more than SOME_BATCHES */
    MANY = 16,
    SOME_BATCHES = 4,
    MOST_SHIFT = 10
};

struct step_value {
    struct improve_step step;
    int64_t gain;  /* rows that find a place under the ceiling */
    int64_t lower; /* rows that the busiest ranks lose */
};

static const int ladder[] = {400000, 200000, 100000, 50000, 30000, 20000, 10000, 5000, 2000, 0};

enum status improve_layer_open(struct improve_layer *l, struct arena *arena, const struct plan_shape *shape,
                               int batches)
{
    size_t experts = (size_t)shape->experts, slots = (size_t)shape->rank_first[shape->ranks];
    size_t ranks = (size_t)shape->ranks, most = experts > slots ? experts : slots;

    *l = (struct improve_layer){.shape = shape};
    TRY(capped_open(&l->capped, arena, shape->experts, shape->rank_first, shape->ranks, batches));
    TRY(flow_open(&l->flow, arena, shape->experts, (int)slots, shape->ranks));
    TRY(improve_price_open(&l->price, arena, &l->capped));
    TRY(arena_take_array(arena, slots, sizeof *l->usable, "usable slots", &l->usable));
    TRY(arena_take_array(arena, experts * (size_t)batches, sizeof *l->demand, "demand", &l->demand));
    TRY(arena_take_array(arena, (size_t)batches, sizeof *l->mean, "means", &l->mean));
    TRY(arena_take_array(arena, slots, sizeof *l->quota, "quotas", &l->quota));
    TRY(arena_take_array(arena, most > ranks ? most : ranks, sizeof *l->weight, "weights", &l->weight));
    TRY(arena_take_array(arena, experts, sizeof *l->expert, "candidates", &l->expert));
    TRY(arena_take_array(arena, ranks, sizeof *l->rank, "candidates", &l->rank));
    TRY(arena_take_array(arena, slots, sizeof *l->hot, "candidates", &l->hot));
    TRY(arena_take_array(arena, TRIALS, sizeof *l->trial, "trials", &l->trial));
    TRY(arena_take_array(arena, (ranks + 63) / 64, sizeof *l->scratch, "ranks reached", &l->scratch));
    return arena_take_array(arena, TRIALS, sizeof *l->estimate, "estimates", &l->estimate);
}

/* Rows of the busiest rank of the placement as it stands, summed over the batches. */
static enum status busiest_rows(struct improve_layer *l, int64_t *sum)
{
    *sum = 0;
    for (int b = 0; b < l->batches; b++) {
        int64_t most;

        TRY(flow_split(l->flow, l->capped.item, l->capped.rank_first,
                       l->demand + (ptrdiff_t)b * l->shape->experts, l->quota, NULL, &most));
        *sum += most;
    }
    return STATUS_OK;
}

static enum status take_rows(struct improve_layer *l, const int64_t *batch, ptrdiff_t stride)
{
    int experts = l->shape->experts;
    int64_t most = 0;

    for (int b = 0; b < l->batches; b++) {
        for (int e = 0; e < experts; e++) {
            int64_t rows = batch[b * stride + e];

            if (rows < 0 || rows > PLAN_MOST)
                return FAIL(STATUS_BAD_INPUT, "expert %d has %lld rows in a batch, not 0 ... %lld", e,
                            (long long)rows, (long long)PLAN_MOST);
            most = rows > most ? rows : most;
        }
    }
    l->shift = 0;
    while (l->shift < MOST_SHIFT && most << (l->shift + 1) <= FLOW_MOST)
        l->shift++;
    for (int b = 0; b < l->batches; b++) {
        int64_t total = 0;

        for (int e = 0; e < experts; e++) {
            l->demand[(ptrdiff_t)b * experts + e] = batch[b * stride + e] << l->shift;
            total += batch[b * stride + e] << l->shift;
        }
        l->mean[b] = (total + l->live - 1) / l->live;
    }
    return STATUS_OK;
}

/* Experts without a slot have no rows to be shared out. */
static enum status before_moves(struct improve_layer *l, int64_t *before)
{
    const struct capped *c = &l->capped;

    *before = 0;
    for (int e = 0; e < c->experts; e++) {
        if (c->replicas[e] == 0)
            return STATUS_OK;
    }
    return busiest_rows(l, before);
}

enum status improve_layer_start(struct improve_layer *l, const int32_t *expert, const int64_t *batch,
                                ptrdiff_t stride, int batches, int64_t *before)
{
    struct capped *c = &l->capped;

    l->batches = batches;
    l->live = plan_shape_live(l->shape);
    for (int s = 0; s < c->slots; s++) {
        l->usable[s] = plan_shape_slots(l->shape, c->rank[s]) > 0;
        capped_set(c, s, -1);
    }
    for (int s = 0; s < c->slots; s++)
        capped_set(c, s, l->usable[s] ? expert[s] : -1);
    improve_price_start(&l->price);
    TRY(take_rows(l, batch, stride));
    TRY(before_moves(l, before));
    l->now = *before;
    return STATUS_OK;
}

/* What a step's gain is divided by. */
static int share_of(const struct improve_step *step)
{
    return step->price > 0 ? step->price : step->count;
}

/* An empty slot, else that of the expert with several replicas that gives up least; -1: none. */
static int spare_slot(const struct improve_layer *l)
{
    const struct capped *c = &l->capped;
    int best = -1;
    int64_t least = 0;

    for (int s = 0; s < c->slots; s++) {
        int e = c->item[s];
        int64_t share = 0;

        if (!l->usable[s] || (e >= 0 && c->replicas[e] < 2))
            continue;
        for (int b = 0; b < l->batches && e >= 0; b++)
            share += l->demand[(ptrdiff_t)b * c->experts + e] / c->replicas[e];
        if (best < 0 || (e < 0) > (c->item[best] < 0) || ((e < 0) == (c->item[best] < 0) && share < least)) {
            best = s;
            least = share;
        }
    }
    return best;
}

enum status improve_layer_rescue(struct improve_layer *l, struct improve_step *steps, int capacity,
                                 int *count)
{
    struct capped *c = &l->capped;
    int rescued = *count;

    for (int e = 0; e < c->experts; e++) {
        int slot;

        if (c->replicas[e] > 0)
            continue;
        slot = spare_slot(l);
        if (slot < 0 || *count == capacity)
            return FAIL(STATUS_USAGE, "no slot for expert %d, whose last one was on a rank that is gone", e);
        capped_set(c, slot, e);
        steps[(*count)++] = (struct improve_step){.count = 1,
                                                  .slot = {slot},
                                                  .expert = {e},
                                                  .after = INT64_MAX,
                                                  .moves = improve_price_moves(&l->price)};
        steps[*count - 1].sent = improve_price_sent(&l->price);
    }
    if (*count == rescued)
        return STATUS_OK;
    TRY(busiest_rows(l, &l->now));
    steps[*count - 1].after = l->now;
    return STATUS_OK;
}

static void set_step(struct capped *c, const struct improve_step *step, int32_t before[2])
{
    for (int i = 0; i < step->count; i++) {
        before[i] = c->item[step->slot[i]];
        capped_set(c, step->slot[i], -1);
    }
    for (int i = 0; i < step->count; i++)
        capped_set(c, step->slot[i], step->expert[i]);
}

static void unset_step(struct capped *c, const struct improve_step *step, const int32_t before[2])
{
    for (int i = 0; i < step->count; i++)
        capped_set(c, step->slot[i], -1);
    for (int i = 0; i < step->count; i++)
        capped_set(c, step->slot[i], before[i]);
}

/* Rows that find a place by a step, exactly, over all batches. */
static int64_t gain_of(struct improve_layer *l, const struct improve_step *step)
{
    struct capped *c = &l->capped;
    int64_t gain = 0;

    for (int b = 0; b < l->batches; b++) {
        int64_t rest = c->batch[b].rest;
        uint64_t *reached = c->batch[b].reached;
        int32_t before[2];

        capped_keep(c, b);
        for (int i = 0; i < step->count; i++)
            capped_release(c, b, step->slot[i]);
        set_step(c, step, before);
        c->batch[b].reached = l->scratch;
        capped_route(c, b);
        c->batch[b].reached = reached;
        gain += rest - c->batch[b].rest;
        unset_step(c, step, before);
        capped_restore(c, b);
    }
    return gain;
}

/* The `most` of `count` things with most weight above 0, most first; how many. */
static int take_best(const int64_t *weight, int count, int32_t *best, int most)
{
    int found = 0;

    for (int i = 0; i < count; i++) {
        int at;

        if (weight[i] <= 0 || (found == most && weight[i] <= weight[best[most - 1]]))
            continue;
        at = found < most ? found++ : most - 1;
        for (; at > 0 && weight[best[at - 1]] < weight[i]; at--)
            best[at] = best[at - 1];
        best[at] = i;
    }
    return found;
}

static int64_t lesser(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Among the steps worth trying, best estimate first; how many there are now. */
static int add_trial(struct improve_layer *l, int trials, int64_t estimate, const struct improve_step *step)
{
    int at;

    if (estimate <= 0 || (trials == TRIALS && estimate <= l->estimate[TRIALS - 1]))
        return trials;
    at = trials < TRIALS ? trials++ : TRIALS - 1;
    for (; at > 0 && l->estimate[at - 1] < estimate; at--) {
        l->estimate[at] = l->estimate[at - 1];
        l->trial[at] = l->trial[at - 1];
    }
    l->estimate[at] = estimate;
    l->trial[at] = *step;
    return trials;
}

/* Experts that rows without a place ask for, by how many of those. */
static int find_experts(struct improve_layer *l)
{
    const struct capped *c = &l->capped;

    memset(l->weight, 0, sizeof *l->weight * (size_t)c->experts);
    for (int b = 0; b < l->batches; b++) {
        for (int e = 0; e < c->experts && c->batch[b].rest > 0; e++) {
            if (c->batch[b].demand[e] > 0 && capped_inside(c, b, e))
                l->weight[e] += lesser(c->batch[b].demand[e], c->batch[b].rest);
        }
    }
    return take_best(l->weight, c->experts, l->expert, CANDIDATES);
}

/* Ranks that could take some of them, by their room; all, as what is free may be on any. */
static int find_ranks(struct improve_layer *l)
{
    const struct capped *c = &l->capped;

    memset(l->weight, 0, sizeof *l->weight * (size_t)c->ranks);
    for (int b = 0; b < l->batches; b++) {
        for (int r = 0; r < c->ranks && c->batch[b].rest > 0; r++) {
            if (!capped_reached(c, b, r))
                l->weight[r] += c->batch[b].room[r];
        }
    }
    for (int r = 0; r < c->ranks; r++) {
        if (plan_shape_slots(l->shape, r) == 0)
            l->weight[r] = 0;
    }
    return take_best(l->weight, c->ranks, l->rank, c->ranks);
}

/* The two slots of a rank that serve least, among those whose expert has another, and empty ones. */
static int find_victims(const struct improve_layer *l, int rank, int victim[2])
{
    const struct capped *c = &l->capped;
    int64_t least[2] = {INT64_MAX, INT64_MAX};
    int found = 0;

    for (int s = c->rank_first[rank]; s < c->rank_first[rank + 1]; s++) {
        int64_t rows = -1;

        if (c->item[s] >= 0) {
            if (c->replicas[c->item[s]] < 2)
                continue;
            rows = 0;
            for (int b = 0; b < l->batches; b++)
                rows += c->batch[b].flow[s];
        }
        if (rows < least[0]) {
            least[1] = least[0];
            victim[1] = victim[0];
            least[0] = rows;
            victim[0] = s;
        } else if (rows < least[1]) {
            least[1] = rows;
            victim[1] = s;
        } else {
            continue;
        }
        found = found < 2 ? found + 1 : 2;
    }
    return found;
}

static int try_replicas(struct improve_layer *l, int experts, int ranks)
{
    const struct capped *c = &l->capped;
    int trials = 0;

    for (int i = 0; i < ranks; i++) {
        int victim[2] = {-1, -1}, victims = find_victims(l, l->rank[i], victim);

        for (int j = 0; j < experts * victims; j++) {
            int e = l->expert[j / victims], s = victim[j % victims], p = l->rank[i];
            struct improve_step step = {.count = 1, .slot = {s}, .expert = {e}};
            int64_t estimate = 0;

            step.price = improve_price_step(&l->price, step.slot, step.expert, step.count);
            if (capped_holds(c, e, p) || c->item[s] == e || (step.price == 0) != l->free)
                continue;
            for (int b = 0; b < l->batches; b++) {
                const struct capped_batch *batch = &c->batch[b];
                int64_t room = batch->room[p] + batch->flow[s];

                estimate -= batch->flow[s] / 2;
                if (batch->rest > 0 && !capped_reached(c, b, p) && capped_inside(c, b, e))
                    estimate += lesser(room, lesser(batch->demand[e], batch->rest));
            }
            trials = add_trial(l, trials, estimate, &step);
        }
    }
    return trials;
}

/* Slots on full ranks, by what they serve there. */
static int find_hot_slots(struct improve_layer *l)
{
    const struct capped *c = &l->capped;

    memset(l->weight, 0, sizeof *l->weight * (size_t)c->slots);
    for (int b = 0; b < l->batches; b++) {
        for (int s = 0; s < c->slots && c->batch[b].rest > 0; s++) {
            if (capped_reached(c, b, c->rank[s]) && c->item[s] >= 0)
                l->weight[s] += c->batch[b].flow[s] + c->batch[b].left[c->item[s]];
        }
    }
    return take_best(l->weight, c->slots, l->hot, HOT_SLOTS);
}

static int try_exchanges(struct improve_layer *l, int hot, int ranks)
{
    const struct capped *c = &l->capped;
    int trials = 0;

    for (int i = 0; i < hot * ranks; i++) {
        int from = l->hot[i / ranks], p = l->rank[i % ranks], m = c->rank[from], a = c->item[from];

        if (p == m || capped_holds(c, a, p))
            continue;
        for (int s = c->rank_first[p]; s < c->rank_first[p + 1]; s++) {
            int other = c->item[s];
            struct improve_step step = {.count = 2, .slot = {from, s}, .expert = {other, a}};
            int64_t estimate = 0;

            if (other < 0 || capped_holds(c, other, m))
                continue;
            step.price = improve_price_step(&l->price, step.slot, step.expert, step.count);
            if ((step.price == 0) != l->free)
                continue;
            for (int b = 0; b < l->batches; b++) {
                const struct capped_batch *batch = &c->batch[b];
                int64_t less = batch->flow[from] + batch->left[a] - batch->flow[s];

                if (batch->rest > 0 && capped_reached(c, b, m) && !capped_reached(c, b, p))
                    estimate += lesser(batch->rest, lesser(less, batch->room[p]));
                else if (!capped_reached(c, b, m) || batch->rest == 0)
                    estimate -= less < -batch->room[m] ? -batch->room[m] - less : 0;
            }
            trials = add_trial(l, trials, estimate, &step);
        }
    }
    return trials;
}

/* For each expert that is sent, or each move where none is. */
static bool better_value(const struct step_value *v, const struct step_value *best)
{
    int64_t here = v->lower > 0 ? v->lower : 0, there = best->lower > 0 ? best->lower : 0;
    int mine = share_of(&v->step), its = share_of(&best->step);

    if (best->step.count == 0)
        return true;
    if (here * its != there * mine)
        return here * its > there * mine;
    return v->gain * its > best->gain * mine;
}

/* What each trial gains, most for its price first; how many gain something. */
static int order_trials(struct improve_layer *l, int trials)
{
    int found = 0;

    for (int i = 0; i < trials; i++) {
        struct improve_step step = l->trial[i];
        int64_t gain = gain_of(l, &step);
        int at = found;

        if (gain <= 0)
            continue;
        for (; at > 0 && l->estimate[at - 1] * share_of(&step) < gain * share_of(&l->trial[at - 1]); at--) {
            l->estimate[at] = l->estimate[at - 1];
            l->trial[at] = l->trial[at - 1];
        }
        l->estimate[at] = gain;
        l->trial[at] = step;
        found++;
    }
    return found;
}

/* The trial that lowers the busiest ranks most for its price if it is better than `best`, or gains most rows
 * where none does. On many ranks only those that gain most are asked for the busiest ranks: it takes longest.
 */
static enum status best_trial(struct improve_layer *l, int trials, struct step_value *best)
{
    int found = order_trials(l, trials), answers = l->batches > SOME_BATCHES ? FEW_ANSWERS : ANSWERS;
    int most = l->capped.ranks > MANY ? answers : TRIALS;

    for (int i = 0; i < found && i < most; i++) {
        struct step_value v = {.step = l->trial[i], .gain = l->estimate[i]};
        int32_t before[2];

        set_step(&l->capped, &v.step, before);
        TRY(busiest_rows(l, &v.step.after));
        unset_step(&l->capped, &v.step, before);
        v.lower = l->now - v.step.after;
        if (better_value(&v, best))
            *best = v;
    }
    return STATUS_OK;
}

static int64_t all_rest(const struct improve_layer *l)
{
    int64_t rest = 0;

    for (int b = 0; b < l->batches; b++)
        rest += l->capped.batch[b].rest;
    return rest;
}

/* The next step; without one, its count is 0. */
static enum status find_step(struct improve_layer *l, bool paid, struct improve_step *step)
{
    struct step_value best = {.gain = 0};
    int experts = find_experts(l), ranks = find_ranks(l);

    for (int free = l->price.shares; free >= !paid && best.step.count == 0; free--) {
        int asked = free || ranks < CANDIDATES ? ranks : CANDIDATES;

        l->free = free;
        TRY(best_trial(l, try_replicas(l, experts, asked), &best));
        if (2 * best.gain < all_rest(l))
            TRY(best_trial(l, try_exchanges(l, find_hot_slots(l), asked), &best));
    }
    *step = best.step;
    return STATUS_OK;
}

static void apply_step(struct improve_layer *l, const struct improve_step *step)
{
    struct capped *c = &l->capped;
    int32_t before[2];

    for (int b = 0; b < l->batches; b++) {
        for (int i = 0; i < step->count; i++)
            capped_release(c, b, step->slot[i]);
    }
    set_step(c, step, before);
    for (int b = 0; b < l->batches; b++)
        capped_route(c, b);
}

/* What the placement would need with a step. */
static void count_step(struct improve_layer *l, struct improve_step *step)
{
    int32_t before[2];

    set_step(&l->capped, step, before);
    step->moves = improve_price_moves(&l->price);
    step->sent = improve_price_sent(&l->price);
    unset_step(&l->capped, step, before);
}

/* All moves that the ceiling of a rung asks for; *full when the next one would be too many. */
static enum status walk_rung(struct improve_layer *l, int above, const struct improve_limits *limits,
                             struct improve_step *steps, int capacity, int *count, bool *full)
{
    for (int b = 0; b < l->batches; b++)
        capped_start(&l->capped, b, l->demand + (ptrdiff_t)b * l->shape->experts,
                     l->mean[b] + l->mean[b] / MILLION * above + l->mean[b] % MILLION * above / MILLION);
    while (*count < capacity && all_rest(l) > 0) {
        struct improve_step step;

        TRY(find_step(l, limits->paid, &step));
        if (step.count == 0)
            break;
        count_step(l, &step);
        *full = step.moves > limits->moves;
        if (*full)
            break;
        apply_step(l, &step);
        l->now = step.after;
        steps[(*count)++] = step;
    }
    return STATUS_OK;
}

enum status improve_layer_walk(struct improve_layer *l, const struct improve_limits *limits,
                               struct improve_step *steps, int capacity, int *count)
{
    bool full = false;

    for (size_t i = 0; i < sizeof ladder / sizeof *ladder; i++) {
        int above = ladder[i] > limits->tolerance ? ladder[i] : limits->tolerance;

        TRY(walk_rung(l, above, limits, steps, capacity, count, &full));
        if (above == limits->tolerance || *count == capacity || full ||
            improve_price_moves(&l->price) >= limits->moves)
            break;
    }
    return STATUS_OK;
}
