/* comm_nccl_mover.c - memory from device to device by NCCL, on a stream and a communicator of its own
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "comm/comm_nccl_mover.h"

#include "comm/comm_nccl.h"
#include "comm/comm_nccl_team.h"
#include "kernels/cuda/cuda_launch.h"

#include <string.h>

enum { ARENA_BYTES = 64 << 10, MEMBER = COMM_NCCL_TEAM_MOVES };

struct nccl_mover {
    struct mover table; /* first, so that a pointer to the table is one to this */
    struct arena arena;
    struct kernels *kernels;
    struct comm_nccl_team *team; /* in whose `moves` stream all of it is queued */
    cudaEvent_t before;          /* on the device's stream, what is queued comes after */
    cudaEvent_t arrived;         /* behind the last call, with its checksums in `told` */
    uint64_t *parts;             /* [2, sums, CUDA_SUM_PARTS] of the device: sent, held */
    uint64_t *told;              /* the same, pinned */
};

static struct nccl_mover *mover_of(struct mover *m)
{
    return (struct nccl_mover *)(void *)m;
}

/* What is queued from now on comes behind all that the device was asked for. */
static enum status enter(struct nccl_mover *n)
{
    CUDA_TRY(cudaEventRecord(n->before, n->team->home));
    CUDA_TRY(cudaStreamWaitEvent(n->team->moves, n->before, 0));
    return STATUS_OK;
}

static enum status leave(struct nccl_mover *n)
{
    CUDA_TRY(cudaMemcpyAsync(n->told, n->parts, cuda_plan_sum_bytes(n->table.sums), cudaMemcpyDeviceToHost,
                             n->team->moves));
    CUDA_TRY(cudaEventRecord(n->arrived, n->team->moves));
    return STATUS_OK;
}

/* -- sending --- */

/* Between group start and end. Pieces of a pair go in their order. */
static ncclResult_t queue_pairs(const struct nccl_mover *n, const struct mover_piece *pieces, int count)
{
    const struct comm_nccl_team *team = n->team;

    for (int i = 0; i < count; i++) {
        const struct mover_piece *p = &pieces[i];
        ncclResult_t result = ncclSuccess;

        if (p->from == p->to)
            continue;
        if (p->from == team->rank)
            result = ncclSend(p->source, p->bytes, ncclUint8, p->to, team->member[MEMBER], team->moves);
        if (p->to == team->rank)
            result = ncclRecv(p->target, p->bytes, ncclUint8, p->from, team->member[MEMBER], team->moves);
        if (result != ncclSuccess && result != ncclInProgress)
            return result;
    }
    return ncclSuccess;
}

static enum status send_pairs(struct nccl_mover *n, const struct mover_piece *pieces, int count)
{
    ncclResult_t result = ncclGroupStart(), ended;

    if (result == ncclSuccess) {
        result = queue_pairs(n, pieces, count);
        ended = ncclGroupEnd();
        result = result == ncclSuccess ? ended : result;
    }
    if (result != ncclSuccess && result != ncclInProgress)
        return comm_nccl_team_error(n->team, MEMBER, result, "moving memory");
    return comm_nccl_team_end_on(n->team, n->team->moves);
}

static bool between(const struct mover_piece *pieces, int count, int a, int b)
{
    for (int i = 0; i < count; i++)
        if ((pieces[i].from == a && pieces[i].to == b) || (pieces[i].from == b && pieces[i].to == a))
            return true;
    return false;
}

static enum status transfer(struct nccl_mover *n, const struct mover_piece *pieces, int count)
{
    int me = n->team->rank;
    struct comm_nccl_call *call;

    TRY(comm_nccl_team_begin(n->team, "move", &call));
    for (int i = 0; i < count; i++) {
        const struct mover_piece *p = &pieces[i];

        if (p->from == me && p->to == me)
            CUDA_TRY(
                cudaMemcpyAsync(p->target, p->source, p->bytes, cudaMemcpyDeviceToDevice, n->team->moves));
    }
    for (int rank = 0; rank < n->team->size; rank++)
        if (rank != me && between(pieces, count, me, rank))
            comm_nccl_team_peer(call, rank);
    return call->peers > 0 ? send_pairs(n, pieces, count) : STATUS_OK;
}

/* Of what this rank sends, or of what it holds then. */
static enum status add_sums(struct nccl_mover *n, const struct mover_piece *pieces, int count, bool held)
{
    for (int i = 0; i < count; i++) {
        const struct mover_piece *p = &pieces[i];
        ptrdiff_t sum = (held ? n->table.sums : 0) + p->sum;

        if ((held ? p->to : p->from) == n->team->rank)
            CUDA_TRY(cuda_sum_words(n->parts + sum * CUDA_SUM_PARTS, held ? p->target : p->source, p->bytes,
                                    p->at, n->team->moves));
    }
    return STATUS_OK;
}

static enum status send_pieces(struct mover *m, const struct mover_piece *pieces, int count)
{
    struct nccl_mover *n = mover_of(m);

    for (int i = 0; i < count; i++)
        if (pieces[i].sum < 0 || pieces[i].sum >= m->sums)
            return FAIL(STATUS_BUG, "a piece counts for checksum %d of %d", pieces[i].sum, m->sums);
    TRY(enter(n));
    TRY(add_sums(n, pieces, count, false));
    TRY(transfer(n, pieces, count));
    TRY(add_sums(n, pieces, count, true));
    return leave(n);
}

/* -- the other calls --- */

static enum status begin(struct mover *m)
{
    struct nccl_mover *n = mover_of(m);

    TRY(enter(n));
    CUDA_TRY(cudaMemsetAsync(n->parts, 0, cuda_plan_sum_bytes(m->sums), n->team->moves));
    return leave(n);
}

static uint64_t total(const uint64_t *parts)
{
    uint64_t sum = 0;

    for (int i = 0; i < CUDA_SUM_PARTS; i++)
        sum += parts[i];
    return sum;
}

/* An aborted communicator lets the event come as well, with anything in memory. */
static enum status ask(struct mover *m, bool *ready, uint64_t *sent, uint64_t *held)
{
    struct nccl_mover *n = mover_of(m);
    cudaError_t state = cudaEventQuery(n->arrived);

    if (state != cudaSuccess && state != cudaErrorNotReady)
        return cuda_device_error(state, "cudaEventQuery");
    TRY(comm_nccl_team_follow(n->team, "moving memory"));
    if (n->team->broken)
        return FAIL(STATUS_UNAVAILABLE, "the exchanges between devices were aborted");
    *ready = state == cudaSuccess;
    for (int i = 0; *ready && i < m->sums; i++) {
        sent[i] = total(n->told + (ptrdiff_t)i * CUDA_SUM_PARTS);
        held[i] = total(n->told + (ptrdiff_t)(m->sums + i) * CUDA_SUM_PARTS);
    }
    return STATUS_OK;
}

static enum status join(struct mover *m)
{
    struct nccl_mover *n = mover_of(m);

    CUDA_TRY(cudaStreamWaitEvent(n->team->home, n->arrived, 0));
    return STATUS_OK;
}

static void close_all(struct mover *m)
{
    struct nccl_mover *n = mover_of(m);
    struct arena arena;

    comm_nccl_team_leave(n->team, MEMBER);
    if (n->team->moves)
        cudaStreamDestroy(n->team->moves);
    n->team->moves = NULL;
    if (n->before)
        cudaEventDestroy(n->before);
    if (n->arrived)
        cudaEventDestroy(n->arrived);
    if (n->parts)
        n->kernels->release(n->kernels, n->parts);
    cudaFreeHost(n->told);
    arena = n->arena; /* the table lies in it */
    arena_close(&arena);
}

/* What this rank alone can fail at. */
static enum status take_memory(struct nccl_mover *n)
{
    size_t bytes = cuda_plan_sum_bytes(n->table.sums);
    void *parts;

    TRY(n->kernels->alloc(n->kernels, bytes, "checksums of moves", &parts));
    n->parts = parts;
    CUDA_TRY(cudaMallocHost((void **)&n->told, bytes));
    CUDA_TRY(cudaEventCreateWithFlags(&n->before, cudaEventDisableTiming));
    CUDA_TRY(cudaEventCreateWithFlags(&n->arrived, cudaEventDisableTiming));
    CUDA_TRY(cudaStreamCreateWithFlags(&n->team->moves, cudaStreamNonBlocking));
    return STATUS_OK;
}

/* A word to every rank and one from it, each time to one and from another. */
static enum status connect_pairs(struct nccl_mover *n)
{
    int ranks = n->team->size, me = n->team->rank;

    TRY(enter(n));
    for (int step = 1; step < ranks; step++) {
        struct mover_piece pieces[] = {
            {.from = me, .to = (me + step) % ranks, .source = n->parts, .bytes = sizeof *n->parts},
            {.from = (me + ranks - step) % ranks,
             .to = me,
             .target = n->parts + 1,
             .bytes = sizeof *n->parts},
        };

        TRY(transfer(n, pieces, 2));
    }
    return leave(n);
}

static enum status open_in(struct nccl_mover *n, struct comm *inner)
{
    enum status mine = take_memory(n);
    int64_t able = mine == STATUS_OK;

    TRY(inner->reduce(inner, COMM_MIN, &able, 1));
    TRY(mine);
    if (!able)
        return FAIL(STATUS_UNAVAILABLE, "another rank cannot move memory between devices");
    TRY(comm_nccl_team_split(n->team, MEMBER, 0, n->team->rank));
    return connect_pairs(n);
}

enum status comm_nccl_mover_open(struct kernels *k, struct comm *rows, int sums, struct mover **out)
{
    struct arena arena;
    struct nccl_mover *n;
    enum status status;

    TRY(arena_open(&arena, "moves between devices", ARENA_BYTES));
    status = arena_take_array(&arena, 1, sizeof *n, "moves between devices", &n);
    if (status != STATUS_OK) {
        arena_close(&arena);
        return status;
    }
    *n = (struct nccl_mover){.table = {.sums = sums,
                                       .begin = begin,
                                       .send = send_pieces,
                                       .ready = ask,
                                       .join = join,
                                       .close = close_all},
                             .arena = arena,
                             .kernels = k,
                             .team = comm_nccl_team_of(rows)};
    status = open_in(n, comm_nccl_inner(rows));
    if (status != STATUS_OK)
        close_all(&n->table);
    else
        *out = &n->table;
    return status;
}
