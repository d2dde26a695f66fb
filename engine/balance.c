/* balance.c - the live balancer: who shares which rows, and which experts move, while tokens flow
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/balance.h"

#include "comm/watch.h"
#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "engine/migrate_probe.h"

#include <string.h>

enum { PROBE_ROWS = 64, PROBE_SLOTS = 4 };

enum status balance_check(const struct balance_options *o, int ranks, int expert_ranks)
{
    if (o->on && o->redundant > 0 && expert_ranks > 0 && expert_ranks != ranks)
        return FAIL(
            STATUS_USAGE,
            "--num-redundant-experts %d: with --expert-parallel-size %d the %d ranks hold %d copies of every "
            "expert already; leave one of the two out",
            o->redundant, expert_ranks, ranks, ranks / expert_ranks);
    return STATUS_OK;
}

enum status balance_place(const struct balance_options *o, struct arena *arena, const struct config *c,
                          int ranks, int expert_ranks, struct placement *out)
{
    if (o->on && o->redundant > 0 && c->experts > 0)
        return placement_redundant(out, arena, c->expert_layers, c->experts, o->redundant, ranks);
    return placement_spread(out, arena, c->expert_layers, c->experts, ranks,
                            expert_ranks > 0 ? ranks / expert_ranks : 1);
}

int balance_staging(const struct balance_options *o)
{
    return o->on && (o->steer.interval > 0 || o->steer.force) ? o->steer.staging : 0;
}

static enum status number_layers(struct balance *b, struct arena *arena, const struct config *c)
{
    int *model_layer;

    TRY(arena_take_array(arena, (size_t)c->expert_layers, sizeof *model_layer, "layers", &model_layer));
    for (int layer = 0; layer < c->layers; layer++)
        if (c->layer[layer].experts)
            model_layer[c->layer[layer].expert_layer] = layer;
    b->model_layer = model_layer;
    return STATUS_OK;
}

/* Slots that are timed, and rows of each; fewer than two rows: none are. */
static void shape_probe(const struct balance *b, int *slots, int *rows)
{
    const int32_t *first = b->placement->rank_first;
    int own = first[b->grid->rank + 1] - first[b->grid->rank];
    int room = b->experts->dispatch.max_arrivals; /* that the host lists; results may have room for more */

    *slots = own < PROBE_SLOTS ? own : PROBE_SLOTS;
    *rows = *slots == 0 ? 0 : room / *slots < PROBE_ROWS ? room / *slots : PROBE_ROWS;
}

/* Taken now, as all memory is, though only the start needs it. */
static enum status take_probe(struct balance *b)
{
    int slots, rows;

    shape_probe(b, &slots, &rows);
    if (rows < 2)
        return STATUS_OK;
    return step_matrix(b->migrate.kernels, slots * rows, b->experts->config->width, "a probe", &b->probe);
}

enum status balance_open(struct balance *b, struct arena *arena, const struct balance_options *o,
                         const struct config *c, struct weights *w, struct experts *e,
                         const struct weights_slot *slot, size_t message_bytes)
{
    struct dispatch *d = &e->dispatch;
    *b = (struct balance){.options = *o};
    if (c->expert_layers == 0)
        return STATUS_OK;
    b->meter = &e->meter;
    b->lowering = &e->lowering;
    TRY(number_layers(b, arena, c));
    if (!o->on)
        return STATUS_OK;
    b->grid = d->grid;
    b->placement = e->placement;
    TRY(replicas_open(&b->replicas, arena, e->placement, o->steer.rank_node));
    b->migrate.model_layer = b->model_layer;
    b->migrate.staging = d->grid->share ? d->grid->share->rooms : balance_staging(o);
    TRY(migrate_open(&b->migrate, arena, d->grid, w, e->placement, slot, message_bytes));
    if (d->grid->rank == 0)
        TRY(steer_open(&b->steer, arena, &o->steer, e, e->placement, &b->migrate));
    d->replicas = b->replicas;
    d->policy = o->policy;
    d->cost = &b->cost;
    b->experts = e;
    return take_probe(b);
}

void balance_close(struct balance *b)
{
    steer_close(&b->steer);
    if (b->probe.data)
        b->migrate.kernels->release(b->migrate.kernels, b->probe.data);
    migrate_close(&b->migrate);
    memset(b, 0, sizeof *b);
}

/* -- what things cost -- */

/* Nanoseconds of `rows` rows in each of `slots` slots, at once. */
static enum status time_experts(struct balance *b, const struct weights_layer *l, struct matrix x, int slots,
                                int rows, int64_t *nanoseconds)
{
    struct kernels *k = b->migrate.kernels;
    struct experts *e = b->experts;
    struct dispatch *d = &e->dispatch;
    struct expert_batch batch = {.out = matrix_top(e->results, slots * rows),
                                 .x = matrix_top(x, slots * rows),
                                 .order = d->backend_order,
                                 .first = d->backend_first,
                                 .counted = d->first,
                                 .slots = slots,
                                 .gate_up = l->gate_up,
                                 .down = l->down,
                                 .scratch = matrix_top(e->scratch, slots * rows)};
    int64_t start;

    for (int i = 0; i < slots * rows; i++)
        d->order[i] = i;
    for (int s = 0; s <= slots; s++)
        d->first[s] = s * rows;
    if (k->apart) {
        TRY(k->upload(k, d->backend_order, d->order, (size_t)(slots * rows) * sizeof *d->order));
        TRY(k->upload(k, d->backend_first, d->first, (size_t)(slots + 1) * sizeof *d->first));
        TRY(k->wait(k));
    }
    start = clock_now();
    TRY(k->multiply_experts(k, &batch));
    TRY(k->wait(k));
    *nanoseconds = (clock_now() - start) / slots;
    return STATUS_OK;
}

/* On one row the weights come from memory; on many they stay at hand. */
static enum status probe_experts(struct balance *b, int64_t *expert, int64_t *row)
{
    const struct weights_layer *l = &b->migrate.weights->layer[b->migrate.model_layer[0]];
    int64_t one, many;
    int slots, rows;

    *expert = *row = 1;
    shape_probe(b, &slots, &rows);
    if (rows < 2)
        return STATUS_OK;
    TRY(time_experts(b, l, b->probe, slots, 1, &one));
    TRY(time_experts(b, l, b->probe, slots, rows, &many));
    *row = many > one ? (many - one) * 1000 / (rows - 1) + 1 : 1;
    *expert = one * 1000 > *row ? one * 1000 - *row : 1;
    return STATUS_OK;
}

static void introduce(const struct balance *b)
{
    static const char *const policies[] = {[REPLICAS_AUTO] = "auto",
                                           [REPLICAS_FLOW] = "flow",
                                           [REPLICAS_FEWEST] = "fewest",
                                           [REPLICAS_EVEN] = "even"};
    const struct placement *p = b->placement;
    const struct steer_options *o = &b->options.steer;
    int last = p->ranks - 1;

    log_line(LOG_INFO,
             "EPLB enabled: expert parallel size %d, %d experts in %d slots per layer (%d redundant), %d to "
             "%d on a "
             "rank; dispatch %s; window %d batches, a plan every %d; staging %d experts = %.2f MiB on a "
             "rank; %s",
             p->block_ranks, p->experts, p->slots, p->slots - p->experts,
             p->rank_first[last + 1] - p->rank_first[last], p->rank_first[1], policies[b->options.policy],
             o->window, o->interval, b->migrate.staging, (double)b->migrate.room_bytes / 1048576,
             b->grid->share ? "the ranks of a node share one copy of each expert"
                            : "each rank has its own copy of its weights");
}

enum status balance_measure(struct balance *b)
{
    int64_t cost[3]; /* of an expert and of a row, and has a rank failed? */
    double bytes_per_ns;
    enum status status;

    if (!b->experts)
        return STATUS_OK;
    status = probe_experts(b, &cost[0], &cost[1]);
    cost[2] = status != STATUS_OK;
    TRY(b->grid->world->reduce(b->grid->world, COMM_MAX, cost, 3));
    if (cost[2])
        return status; /* a rank that fails says so when all agree */
    b->cost = (struct replicas_cost){.expert_picoseconds = cost[0], .row_picoseconds = cost[1]};
    TRY(migrate_probe(&b->migrate, &bytes_per_ns));
    b->steer.bytes_per_ns = bytes_per_ns;
    if (b->grid->rank != 0)
        return STATUS_OK;
    introduce(b);
    return steer_start(&b->steer);
}

/* -- steps -- */

void balance_forget(struct balance *b)
{
    if (!b->meter)
        return;
    meter_clear(b->meter);
    lowering_forget(b->lowering);
    if (b->experts && b->grid->rank == 0)
        steer_forget(&b->steer);
}

enum status balance_lead(struct balance *b, struct batch *batch)
{
    return b->experts ? steer_lead(&b->steer, batch) : STATUS_OK;
}

/* All ranks know which move has failed; rank 0 says it. */
static void tell_failure(struct balance *b, const struct batch_move *move)
{
    if (b->grid->rank != 0)
        return;
    log_line(LOG_WARN,
             "balancer: expert %d of layer %d came to rank %d damaged (its checksum differs from that of "
             "rank %d); "
             "experts stay where they are, the rest of the plan is dropped",
             move->expert, b->migrate.model_layer[move->layer], placement_rank(b->placement, move->slot),
             placement_rank(b->placement, move->source));
    steer_drop(&b->steer);
}

enum status balance_begin(struct balance *b, const struct batch *batch)
{
    struct migrate *m = &b->migrate;
    int failed = -1;

    if (!b->experts)
        return STATUS_OK;
    if (batch->placement_version == b->placement->version + 1)
        TRY(migrate_commit(m)); /* rank 0 did so before it sent the batch */
    if (batch->placement_version != b->placement->version)
        return FAIL(STATUS_BUG, "batch %llu is for placement %llu, this rank has %llu",
                    (unsigned long long)batch->number, (unsigned long long)batch->placement_version,
                    (unsigned long long)b->placement->version);
    if (batch->move_count > 0)
        TRY(migrate_begin(m, batch->moves, batch->move_count));
    if (m->state == MIGRATE_MOVING)
        TRY(migrate_step(m, &failed));
    if (failed >= 0)
        tell_failure(b, &m->moves[failed]);
    if (b->grid->rank == 0)
        steer_begin(&b->steer, batch);
    return STATUS_OK;
}

void balance_end(struct balance *b)
{
    struct migrate *m = &b->migrate;

    if (!b->meter)
        return;
    meter_step(b->meter, m->committed - b->moves_told, m->bytes - b->bytes_told);
    b->moves_told = m->committed;
    b->bytes_told = m->bytes;
    if (b->experts && b->grid->rank == 0)
        steer_learn(&b->steer);
}
