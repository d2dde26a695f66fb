/* improve.c - a better placement with few moves, from the one at hand
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Each layer gets a list of steps; how many of them are done is decided over all layers. From where a layer
 * stands, the number of further steps with most gain per byte is its offer; the best offer that the budget
 * still pays is taken, until there is none. */
#include "eplb/improve.h"

#include "eplb/improve_layer.h"

#include <string.h>

struct offer {
    int steps;    /* done after it; 0: none */
    int64_t gain; /* parts of rows */
    int64_t bytes;
};

struct walk {
    struct improve_step *steps; /* [capacity] */
    int count;
    int must; /* steps at first that are not a question of budget */
    int done;
    int64_t before, mean;
    int shift; /* of the units of steps */
};

struct improve {
    struct plan_shape shape;
    struct improve_layer layer;
    struct walk *walk; /* [layers] */
    int batches, capacity;
    int32_t *expert; /* [layers, slots] the new placement until it is known to be whole */
};

enum status improve_open(struct improve **out, struct arena *arena, const struct plan_shape *shape,
                         int batches, int layer_moves)
{
    struct improve *m;
    size_t layers, slots;

    TRY(plan_shape_check(shape, PLAN_GLOBAL));
    if (batches < 1 || layer_moves < 1)
        return FAIL(STATUS_BUG, "better placements from %d batches, with %d moves in a layer", batches,
                    layer_moves);
    layers = (size_t)shape->layers;
    slots = (size_t)shape->rank_first[shape->ranks];
    TRY(arena_take(arena, sizeof *m, "better placements", &m));
    m->shape = *shape;
    m->batches = batches;
    m->capacity = layer_moves + shape->experts;
    TRY(improve_layer_open(&m->layer, arena, &m->shape, batches));
    TRY(arena_take_array(arena, layers, sizeof *m->walk, "walks", &m->walk));
    TRY(arena_take_array(arena, layers * slots, sizeof *m->expert, "better placement", &m->expert));
    for (size_t i = 0; i < layers; i++)
        TRY(arena_take_array(arena, (size_t)m->capacity, sizeof *m->walk[i].steps, "steps",
                             &m->walk[i].steps));
    *out = m;
    return STATUS_OK;
}

/* Rows in units of a layer, as parts of a row. */
static int64_t parts(const struct walk *w, int64_t units)
{
    return units * (IMPROVE_PARTS >> w->shift);
}

static enum status walk_layer(struct improve *m, const struct placement *present, const int64_t *batch,
                              int count, const struct improve_options *o, int layer)
{
    struct improve_layer *l = &m->layer;
    struct walk *w = &m->walk[layer];
    ptrdiff_t stride = (ptrdiff_t)m->shape.layers * m->shape.experts;
    int most = o->most_layer_moves, room = m->capacity - m->shape.experts;
    struct improve_limits limits;

    w->count = w->must = w->done = 0;
    TRY(improve_layer_start(l, present->expert + (ptrdiff_t)layer * present->slots,
                            batch + (ptrdiff_t)layer * m->shape.experts, stride, count, &w->before));
    w->mean = 0;
    w->shift = l->shift;
    for (int b = 0; b < count; b++)
        w->mean += l->mean[b];
    TRY(improve_layer_rescue(l, w->steps, m->capacity, &w->count));
    w->must = w->done = w->count;
    if (w->count > 0)
        w->before = w->steps[w->count - 1].after;
    if (o->skip && o->skip[layer])
        return STATUS_OK;
    most = most < room ? most : room;
    limits = (struct improve_limits){.tolerance = o->tolerance, .moves = w->must + most / 2};
    if (o->share) /* what costs nothing goes first, so that no budget is too small for it; half of the room is
                     left */
        TRY(improve_layer_walk(l, &limits, w->steps, w->must + room / 2, &w->count));
    limits = (struct improve_limits){.tolerance = o->tolerance, .moves = w->must + most, .paid = true};
    return improve_layer_walk(l, &limits, w->steps, w->must + room, &w->count);
}

/* From where a layer stands: the number of further steps with most gain for each byte, the fewest of those.
 */
static struct offer find_offer(const struct walk *w, int64_t expert_bytes, int64_t budget)
{
    int64_t now = w->done > 0 ? w->steps[w->done - 1].after : w->before;
    int sent = w->done > 0 ? w->steps[w->done - 1].sent : 0;
    struct offer best = {.steps = 0};

    for (int i = w->done; i < w->count; i++) {
        struct offer o = {.steps = i + 1, .gain = parts(w, now - w->steps[i].after)};
        int more = w->steps[i].sent - sent;

        o.bytes = (more > 0 ? more : 0) * expert_bytes;
        if (o.gain <= 0 || o.bytes > budget)
            continue;
        if (best.steps == 0 || (double)o.gain * (double)best.bytes > (double)best.gain * (double)o.bytes)
            best = o;
    }
    return best;
}

static void choose_steps(struct improve *m, const struct improve_options *o)
{
    int64_t budget = o->most_bytes;

    for (;;) {
        struct offer best = {.steps = 0};
        int from = -1;

        for (int i = 0; i < m->shape.layers; i++) {
            struct offer here = find_offer(&m->walk[i], o->expert_bytes ? o->expert_bytes[i] : 1, budget);

            if (here.steps > 0 && (from < 0 || (double)here.gain * (double)best.bytes >
                                                   (double)best.gain * (double)here.bytes)) {
                best = here;
                from = i;
            }
        }
        if (from < 0)
            return;
        m->walk[from].done = best.steps;
        budget -= best.bytes;
    }
}

static void write_layer(struct improve *m, const struct placement *present, int layer)
{
    const struct walk *w = &m->walk[layer];
    int32_t *expert = m->expert + (ptrdiff_t)layer * present->slots;

    memcpy(expert, present->expert + (ptrdiff_t)layer * present->slots,
           sizeof *expert * (size_t)present->slots);
    for (int r = 0; r < m->shape.ranks; r++) {
        for (int s = m->shape.rank_first[r]; s < m->shape.rank_first[r + 1]; s++)
            expert[s] = plan_shape_slots(&m->shape, r) > 0 ? expert[s] : -1;
    }
    for (int i = 0; i < w->done; i++) {
        for (int j = 0; j < w->steps[i].count; j++)
            expert[w->steps[i].slot[j]] = w->steps[i].expert[j];
    }
}

static struct improve_report report_layer(const struct walk *w)
{
    struct improve_report report = {
        .before = parts(w, w->before), .after = parts(w, w->before), .mean = parts(w, w->mean)};

    if (w->done > 0) {
        report.after = parts(w, w->steps[w->done - 1].after);
        report.moves = w->steps[w->done - 1].moves;
    }
    return report;
}

static enum status check_call(const struct improve *m, const struct placement *present,
                              const struct placement *next, int count)
{
    const struct plan_shape *shape = &m->shape;
    size_t bytes = sizeof *present->rank_first * ((size_t)shape->ranks + 1);
    const struct placement *both[] = {present, next};

    for (int i = 0; i < 2; i++) {
        if (both[i]->layers != shape->layers || both[i]->experts != shape->experts ||
            both[i]->ranks != shape->ranks || memcmp(both[i]->rank_first, shape->rank_first, bytes) != 0)
            return FAIL(STATUS_BUG, "a better placement for other sizes than those it was opened for");
    }
    if (count < 1 || count > m->batches)
        return FAIL(STATUS_BUG, "%d batches for a better placement, opened for %d", count, m->batches);
    return plan_shape_check(shape, PLAN_GLOBAL);
}

enum status improve_plan(struct improve *improve, const struct placement *present, const int64_t *batch,
                         int count, const struct improve_options *options, struct placement *next,
                         struct improve_report *report)
{
    TRY(check_call(improve, present, next, count));
    improve_price_share(&improve->layer.price, options->share);
    for (int i = 0; i < improve->shape.layers; i++) {
        enum status status = walk_layer(improve, present, batch, count, options, i);

        if (status != STATUS_OK)
            return status_prefix(status, "layer %d: ", i);
    }
    choose_steps(improve, options);
    for (int i = 0; i < improve->shape.layers; i++) {
        write_layer(improve, present, i);
        if (report)
            report[i] = report_layer(&improve->walk[i]);
    }
    memcpy(next->expert, improve->expert,
           sizeof *next->expert * (size_t)present->slots * (size_t)improve->shape.layers);
    return placement_index(next);
}
