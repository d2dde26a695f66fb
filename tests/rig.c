/* rig.c - an engine for tests: opened on a model directory over given ranks, fed batches by hand
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "rig.h"

#include "comm/comm_alone.h"
#include "comm/comm_mpi.h"
#include "comm/comm_shared.h"
#include "kernels/cpu/cpu.h"
#include "kernels/reference/reference.h"

#include <string.h>

enum { ROWS = 512, SEQUENCES = 4, RANKS = 64 };

static enum status open_comms(struct rig *r, const struct rig_options *o, int rank)
{
    size_t world_bytes, group_bytes;
    enum status status;
    MPI_Comm part;

    engine_sizes(&r->engine, &world_bytes, &group_bytes);
    if (o->comm == RIG_ALONE) {
        TRY(comm_alone_open(&r->world));
        return comm_alone_open(&r->group);
    }
    MPI_Comm_split(MPI_COMM_WORLD, rank / o->tensor, rank, &part);
    if (o->comm == RIG_MPI) {
        TRY(comm_mpi_open(MPI_COMM_WORLD, world_bytes, &r->world));
        status = comm_mpi_open(part, group_bytes, &r->group);
    } else {
        TRY(comm_shared_open(MPI_COMM_WORLD, world_bytes, &r->world));
        status = comm_shared_open(part, group_bytes, &r->group);
    }
    MPI_Comm_free(&part);
    return status;
}

enum status rig_open(struct rig *r, const struct rig_options *o)
{
    static int32_t share_node[RANKS];
    struct engine_options options = {.model = o->model,
                                     .cache_root = "",
                                     .ranks = 1,
                                     .tensor = o->tensor,
                                     .expert_ranks = o->expert_ranks,
                                     .kv_cache_memory = (size_t)8 << 20,
                                     .node_ranks = 1,
                                     .max_sequences = SEQUENCES,
                                     .max_rows = ROWS,
                                     .max_wanted = ROWS,
                                     .balance = o->balance,
                                     .ways.fixed = o->fixed,
                                     .share_experts = o->share,
                                     .share_limit = o->share_limit};

    memset(r, 0, sizeof *r);
    for (int rank = 0; rank < RANKS; rank++)
        share_node[rank] = o->share_limit > 0 ? rank / o->share_limit : 0;
    if (o->comm != RIG_ALONE) {
        MPI_Comm_size(MPI_COMM_WORLD, &options.ranks);
        MPI_Comm_rank(MPI_COMM_WORLD, &options.rank);
    }
    options.share_node = o->share && options.ranks > 1 ? share_node : NULL;
    TRY(engine_read(&r->engine, &options));
    TRY(open_comms(r, o, options.rank));
    if (o->reference)
        TRY(reference_open(&r->kernels));
    else
        TRY(cpu_open(cpu_best_path(), o->threads, NULL, &r->kernels));
    TRY(engine_share(&r->engine, r->world, r->kernels));
    TRY(engine_connect(&r->engine, r->world, r->group, r->kernels));
    TRY(engine_load(&r->engine));
    TRY(engine_size_cache(&r->engine));
    TRY(engine_prepare(&r->engine));
    return engine_measure(&r->engine);
}

void rig_close(struct rig *r)
{
    engine_close(&r->engine);
    if (r->kernels)
        r->kernels->close(r->kernels);
    if (r->group)
        r->group->close(r->group);
    if (r->world)
        r->world->close(r->world);
    memset(r, 0, sizeof *r);
}

/* Sequence 0 lives in group 0 and uses the pool's pages in order. */
static void write_batch(struct rig *r, const int32_t *tokens, int count, int position, bool all)
{
    struct batch *b = &r->engine.batch;
    int have = (position + PAGE_ROWS - 1) / PAGE_ROWS;
    int need = (position + count + PAGE_ROWS - 1) / PAGE_ROWS;

    batch_clear(b);
    b->piece_count = 1;
    b->row_count = count;
    b->page_count = need - have;
    b->pieces[0] = (struct batch_piece){.rows = count,
                                        .position = position,
                                        .want = all ? BATCH_WANT_ALL : BATCH_WANT_LOGITS,
                                        .new_pages = need - have};
    memcpy(b->tokens, tokens, (size_t)count * sizeof *tokens);
    for (int i = 0; i < need - have; i++)
        b->pages[i] = have + i;
}

enum status rig_run(struct rig *r, const int32_t *tokens, int count, int position, bool all,
                    const struct head_result **results)
{
    struct engine *e = &r->engine;

    if (e->grid.rank == 0) {
        write_batch(r, tokens, count, position, all);
        TRY(balance_lead(&e->balance, &e->batch));
        TRY(batch_send(&e->batch, r->world));
    } else {
        TRY(batch_receive(&e->batch, r->world));
    }
    TRY(model_forward(&e->model, &e->batch));
    *results = e->model.head.results;
    return STATUS_OK;
}
