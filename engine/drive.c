/* drive.c - one step after the other, for all that serves requests
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/drive.h"

#include "comm/watch.h"
#include "engine/base/clock.h"

size_t drive_bytes(const struct engine *e, size_t beside)
{
    size_t request = (size_t)e->max_positions * sizeof(int32_t) * 2 + 8192 + beside;
    size_t vocabulary = (size_t)e->config.vocabulary * 64;

    return 4 * (size_t)e->options.max_sequences * request + scheduler_page_bytes(e->grid.groups, e->pages) +
           vocabulary + ((size_t)64 << 20);
}

struct scheduler_limits drive_limits(struct engine *e, bool prefix_caching)
{
    return (struct scheduler_limits){.sequences = e->options.max_sequences,
                                     .rows = e->options.max_rows,
                                     .wanted = e->options.max_wanted,
                                     .positions = e->max_positions,
                                     .pages_per_group = e->pages,
                                     .groups = e->grid.groups,
                                     .vocabulary = e->config.vocabulary,
                                     .prefix_caching = prefix_caching,
                                     .speculate = e->options.speculate.drafts > 0 ? &e->speculate : NULL};
}

enum status drive_step(struct engine *e, struct scheduler *s, struct summary *summary,
                       enum status (*take)(void *context), void *context)
{
    int64_t generated = s->generated_tokens;
    int64_t prompts = s->prompt_tokens + s->recomputed_tokens;
    int64_t start = clock_now() - s->looked;
    double seconds;

    TRY(balance_lead(&e->balance, &e->batch));
    TRY(batch_send(&e->batch, e->grid.world));
    TRY(model_forward(&e->model, &e->batch));
    watch_enter(WATCH_SAMPLE, -1);
    TRY(scheduler_advance(s, &e->batch, e->model.head.results));
    TRY(take(context));
    seconds = (double)(clock_now() - start) * 1e-9;
    summary->steps++;
    summary->seconds += seconds;
    if (s->prompt_tokens + s->recomputed_tokens == prompts) {
        summary->decode_seconds += seconds;
        summary->decode_tokens += s->generated_tokens - generated;
    }
    return STATUS_OK;
}

enum status drive_tell(struct engine *e, uint32_t flag)
{
    batch_clear(&e->batch);
    e->batch.flags = flag;
    return batch_send(&e->batch, e->grid.world);
}

enum status drive_follow(struct engine *e)
{
    for (;;) {
        watch_enter(WATCH_IDLE, -1);
        TRY(batch_receive(&e->batch, e->grid.world));
        if (e->batch.flags & BATCH_STOP)
            return STATUS_OK;
        if (!(e->batch.flags & BATCH_IDLE))
            TRY(model_forward(&e->model, &e->batch));
    }
}

enum status drive_finish(struct engine *e, const struct scheduler *s, struct summary *summary)
{
    const struct experts *experts = &e->model.experts; /* zero in a model without experts */

    watch_enter(WATCH_END, -1);
    summary->loose_products = e->kernels->loose_products;
    TRY(summary_gather(summary, e->grid.world));
    summary->ranks = e->grid.ranks;
    summary->tensor = e->grid.tensor;
    summary->backend = e->kernels->name;
    summary->comm = e->grid.world->kind;
    summary->balance = &e->balance;
    summary->waits = model_waits(&e->model);
    summary->result_waits = model_result_waits(&e->model);
    summary->decoded = e->model.recorder.steps;
    summary->halved = experts->halved;
    summary->halved_planned = experts->halved_planned;
    summary->prompt_tokens = s->prompt_tokens;
    summary->generated_tokens = s->generated_tokens;
    summary->cached_tokens = s->cached_tokens;
    summary->recomputed_tokens = s->recomputed_tokens;
    summary->preemptions = s->preemptions;
    summary->speculates = e->options.speculate.drafts > 0;
    summary->drafts = s->drafts;
    summary->draft_tokens = s->draft_tokens;
    summary->accepted_tokens = s->accepted_tokens;
    summary->nodes = experts->dispatch.rank_node != NULL;
    summary->dispatch = experts->dispatch.once ? "node-once" : "direct";
    summary->crossed = experts->meter.crossed;
    summary->crossed_direct = experts->meter.crossed_direct;
    summary->imbalance = e->config.expert_layers > 0 ? meter_imbalance(&e->model.experts.meter, -1) : 1.0;
    if (e->grid.rank == 0)
        summary_log(summary);
    return STATUS_OK;
}
