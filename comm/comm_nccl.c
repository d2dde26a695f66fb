/* comm_nccl.c - exchanges of rows between the devices of the ranks, by NCCL on the backend's own stream
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "comm/comm_nccl.h"

#include "comm/comm_nccl_team.h"
#include "comm/fold.h"
#include "comm/layout.h"
#include "engine/base/arena.h"
#include "kernels/cuda/cuda_entries.h"

#include <string.h>

enum {
    PARTS = 3,
    ARENA_LEAST = 64 << 10,
    ARENA_PER_RANK = 256
}; /* what arrived is good until the second next call */

struct nccl {
    struct comm table; /* first, so that a pointer to the table is one to this */
    struct arena arena;
    struct kernels *kernels;
    struct comm *inner;
    struct comm_nccl_team *team; /* of the whole, in whose memory it lies */
    struct comm_nccl_team own;   /* of the whole alone */
    int member;                  /* of the team */
    size_t most;
    struct layout layout;
    int32_t *whole_rank;     /* [size] */
    int32_t *node;           /* [size] of each rank; NULL: nodes have no communicators */
    int32_t *in_node;        /* [size] the number of each rank among those of its node */
    size_t *out, *in;        /* [size] bytes to and from each rank */
    void *arrived[PARTS];    /* [most] of the device */
    cudaEvent_t here[PARTS]; /* behind an exchange that was begun beside */
    int next;
};

static struct nccl *nccl_of(struct comm *c)
{
    return (struct nccl *)(void *)c;
}

struct comm_nccl_team *comm_nccl_team_of(struct comm *c)
{
    return nccl_of(c)->team;
}

struct comm *comm_nccl_inner(struct comm *c)
{
    return nccl_of(c)->inner;
}

static ncclComm_t communicator(const struct nccl *n)
{
    return n->team->member[n->member];
}

/* How the communicator of a member calls a rank. */
static int number_of(const struct nccl *n, int member, int rank)
{
    return member == COMM_NCCL_TEAM_NODE ? n->in_node[rank] : rank;
}

static cudaStream_t stream(const struct nccl *n)
{
    return n->team->stream;
}

/* Which of arrived; PARTS: none. */
static int part_of(const struct nccl *n, const void *arrivals)
{
    int part = 0;

    while (part < PARTS && n->arrived[part] != arrivals)
        part++;
    return part;
}

static char *next_arrivals(struct nccl *n)
{
    char *to = n->arrived[n->next];

    n->next = (n->next + 1) % PARTS;
    return to;
}

/* Between group start and end: pairs with nothing to say are left out on both sides. send_at [size]. */
static ncclResult_t queue_pairs(const struct nccl *n, int member, const char *mine, char *to,
                                const size_t *send_at)
{
    ncclComm_t c = n->team->member[member];

    for (int r = 0; r < n->table.size; r++) {
        int peer = number_of(n, member, r);
        ncclResult_t result = ncclSuccess;

        if (r == n->table.rank)
            continue;
        if (n->out[r] > 0)
            result = ncclSend(mine + send_at[r], n->out[r], ncclUint8, peer, c, stream(n));
        if (result == ncclSuccess && n->in[r] > 0)
            result = ncclRecv(to + n->layout.from_at[r], n->in[r], ncclUint8, peer, c, stream(n));
        if (result != ncclSuccess && result != ncclInProgress)
            return result;
    }
    return ncclSuccess;
}

/* Rows to and from each rank, as out and in say; this rank's own are copied. member: whose communicator. */
static enum status send_pairs(struct nccl *n, int member, const char *name, const char *mine, char *to,
                              const size_t *send_at)
{
    int me = n->table.rank;
    struct comm_nccl_call *call;
    ncclResult_t result, ended;

    TRY(comm_nccl_team_begin(n->team, name, &call));
    for (int r = 0; r < n->table.size; r++)
        if (r != me && (n->out[r] > 0 || n->in[r] > 0))
            comm_nccl_team_peer(call, n->whole_rank[r]);
    if (n->in[me] > 0)
        CUDA_TRY(cudaMemcpyAsync(to + n->layout.from_at[me], mine + send_at[me], n->in[me],
                                 cudaMemcpyDeviceToDevice, stream(n)));
    if (call->peers == 0)
        return comm_nccl_team_end(n->team);
    result = ncclGroupStart();
    if (result == ncclSuccess) {
        result = queue_pairs(n, member, mine, to, send_at);
        ended = ncclGroupEnd();
        result = result == ncclSuccess ? ended : result;
    }
    if (result != ncclSuccess && result != ncclInProgress)
        return comm_nccl_team_error(n->team, member, result, name);
    return comm_nccl_team_end(n->team);
}

/* A call of all ranks at once. */
static enum status end_together(struct nccl *n, struct comm_nccl_call *call, ncclResult_t result)
{
    for (int r = 0; r < n->table.size; r++)
        if (r != n->table.rank)
            comm_nccl_team_peer(call, n->whole_rank[r]);
    if (result != ncclSuccess && result != ncclInProgress)
        return comm_nccl_team_error(n->team, n->member, result, call->name);
    return comm_nccl_team_end(n->team);
}

static enum status broadcast(struct comm *c, int root, const void *data, size_t *bytes, const void **out)
{
    struct nccl *n = nccl_of(c);
    size_t count = sizeof *bytes;
    struct comm_nccl_call *call;
    const void *told;
    char *to;

    TRY(n->inner->broadcast(n->inner, root, bytes, &count, &told));
    memcpy(bytes, told, sizeof *bytes);
    if (*bytes > n->most)
        return FAIL(STATUS_BUG, "%zu bytes are broadcast, there is room for %zu", *bytes, n->most);
    *out = to = next_arrivals(n);
    if (*bytes == 0)
        return STATUS_OK;
    TRY(comm_nccl_team_begin(n->team, "broadcast", &call));
    return end_together(
        n, call,
        ncclBroadcast(c->rank == root ? data : to, to, *bytes, ncclUint8, root, communicator(n), stream(n)));
}

/* Sends the same to everybody: all parts begin at 0. */
static enum status gather_pairs(struct nccl *n, const char *name, int root, const void *mine,
                                const size_t *bytes, char *to)
{
    int size = n->table.size, me = n->table.rank;

    for (int r = 0; r < size; r++) {
        n->out[r] = root < 0 || root == r ? bytes[me] : 0;
        n->in[r] = root < 0 || root == me ? bytes[r] : 0;
        n->layout.send_at[r] = 0;
    }
    return send_pairs(n, n->member, name, mine, to, n->layout.send_at);
}

static enum status all_gather(struct comm *c, const void *mine, const size_t *bytes, const void **all)
{
    struct nccl *n = nccl_of(c);
    struct comm_nccl_call *call;
    bool even = bytes[0] > 0;
    char *to;

    TRY(layout_gather(&n->layout, bytes, n->most));
    *all = to = next_arrivals(n);
    for (int r = 1; r < c->size; r++)
        even = even && bytes[r] == bytes[0];
    if (!even)
        return gather_pairs(n, "all-gather", -1, mine, bytes, to);
    TRY(comm_nccl_team_begin(n->team, "all-gather", &call));
    return end_together(n, call, ncclAllGather(mine, to, bytes[0], ncclUint8, communicator(n), stream(n)));
}

static enum status gather(struct comm *c, int root, const void *mine, const size_t *bytes, const void **all)
{
    struct nccl *n = nccl_of(c);
    char *to;

    TRY(layout_gather(&n->layout, bytes, n->most));
    to = next_arrivals(n);
    *all = c->rank == root ? to : NULL;
    return gather_pairs(n, "gather", root, mine, bytes, to);
}

/* All ranks find the same, as all know all counts. */
static bool stays_in_nodes(const struct nccl *n, const size_t *bytes)
{
    for (int from = 0; n->node && from < n->table.size; from++)
        for (int to = 0; to < n->table.size; to++)
            if (bytes[(ptrdiff_t)from * n->table.size + to] > 0 && n->node[from] != n->node[to])
                return false;
    return n->node != NULL;
}

static enum status exchange(struct comm *c, const void *mine, const size_t *bytes, const void **arrivals)
{
    struct nccl *n = nccl_of(c);
    bool stays = stays_in_nodes(n, bytes);
    char *to;

    TRY(layout_exchange(&n->layout, bytes));
    *arrivals = to = next_arrivals(n);
    for (int r = 0; r < c->size; r++) {
        n->out[r] = bytes[(ptrdiff_t)c->rank * c->size + r];
        n->in[r] = bytes[(ptrdiff_t)r * c->size + c->rank];
    }
    return send_pairs(n, stays ? COMM_NCCL_TEAM_NODE : n->member,
                      stays ? "exchange inside the node" : "exchange", mine, to, n->layout.send_at);
}

static enum status aside(struct comm *c, bool behind)
{
    return comm_nccl_team_aside(nccl_of(c)->team, behind);
}

/* After a failure there may be no exchange that anybody could wait for. */
static enum status back(struct comm *c, const void *arrivals)
{
    struct nccl *n = nccl_of(c);
    int part = part_of(n, arrivals);

    return comm_nccl_team_back(n->team, part < PARTS ? n->here[part] : NULL);
}

static enum status exchange_begin(struct comm *c, const void *mine, const size_t *bytes,
                                  const void **arrivals)
{
    enum status status, returned;

    *arrivals = NULL;
    TRY(aside(c, true));
    status = exchange(c, mine, bytes, arrivals);
    returned = back(c, *arrivals);
    return status == STATUS_OK ? returned : status;
}

static enum status exchange_end(struct comm *c, const void *arrivals)
{
    struct nccl *n = nccl_of(c);
    int part = part_of(n, arrivals);

    if (part == PARTS)
        return FAIL(STATUS_BUG, "an exchange ends that did not begin");
    CUDA_TRY(cudaStreamWaitEvent(n->team->device->stream, n->here[part], 0));
    return STATUS_OK;
}

/* Every rank sends every other, and all of them, so many bytes. */
static enum status call_all(struct nccl *n, size_t bytes)
{
    const void *mine = n->arrived[PARTS - 1], *there;

    for (int r = 0; r < n->table.size; r++)
        n->in[r] = bytes;
    n->next = 0;
    TRY(all_gather(&n->table, mine, n->in, &there));
    return gather_pairs(n, "exchange", -1, mine, n->in, next_arrivals(n));
}

/* NCCL connects ranks, and takes buffers for that, at the first call of a kind and size; so it takes them
 * now, while what the cache may have is not settled. */
static enum status connect_ways(struct nccl *n)
{
    size_t most = n->most / (size_t)n->table.size;

    if (most == 0)
        return STATUS_OK;
    TRY(call_all(n, 1));
    TRY(call_all(n, most));
    return cuda_device_wait(n->team->device);
}

static void close_all(struct comm *c)
{
    struct nccl *n = nccl_of(c);
    struct arena arena;

    if (!c)
        return;
    if (n->team == &n->own)
        comm_nccl_team_close(n->team);
    else if (n->team)
        comm_nccl_team_leave(n->team, n->member);
    for (int i = 0; i < PARTS; i++) {
        if (n->arrived[i])
            n->kernels->release(n->kernels, n->arrived[i]);
        if (n->here[i])
            cudaEventDestroy(n->here[i]);
    }
    arena = n->arena; /* the table lies in it */
    arena_close(&arena);
}

/* What this rank alone can fail at. */
static enum status take_memory(struct nccl *n)
{
    size_t size = (size_t)n->table.size;

    TRY(layout_open(&n->layout, &n->arena, n->table.rank, n->table.size, n->most));
    TRY(arena_take_array(&n->arena, size, sizeof *n->whole_rank, "ranks", &n->whole_rank));
    TRY(arena_take_array(&n->arena, size, sizeof *n->out, "bytes to ranks", &n->out));
    TRY(arena_take_array(&n->arena, size, sizeof *n->in, "bytes from ranks", &n->in));
    for (int i = 0; i < PARTS; i++) {
        TRY(n->kernels->alloc(n->kernels, n->most, "rows that arrive", &n->arrived[i]));
        CUDA_TRY(cudaEventCreateWithFlags(&n->here[i], cudaEventDisableTiming));
    }
    return STATUS_OK;
}

/* How the ranks of the whole call those of the group. */
static enum status number_ranks(struct nccl *n, const struct comm *whole)
{
    int32_t mine = whole ? whole->rank : n->table.rank;
    const void *all;

    for (int r = 0; r < n->table.size; r++)
        n->in[r] = sizeof mine;
    TRY(n->inner->all_gather(n->inner, &mine, n->in, &all));
    memcpy(n->whole_rank, all, sizeof mine * (size_t)n->table.size);
    return STATUS_OK;
}

static enum status open_in(struct nccl *n, struct comm *whole, int part)
{
    struct cuda_entries *c = cuda_entries_of(n->kernels);
    enum status mine = take_memory(n);
    int64_t able = mine == STATUS_OK;
    struct comm *all;

    if (!whole) {
        n->team = &n->own;
        TRY(comm_nccl_team_open(n->team, &c->device, &c->record, n->inner, mine));
        TRY(number_ranks(n, NULL));
        return connect_ways(n);
    }
    all = nccl_of(whole)->inner;
    TRY(all->reduce(all, COMM_MIN, &able, 1));
    TRY(mine);
    if (!able)
        return FAIL(STATUS_UNAVAILABLE, "another rank cannot exchange rows between devices");
    TRY(number_ranks(n, whole));
    n->team = nccl_of(whole)->team;
    n->member = COMM_NCCL_TEAM_PART;
    TRY(comm_nccl_team_split(n->team, n->member, part, n->table.rank));
    return connect_ways(n);
}

enum status comm_nccl_open(struct kernels *k, struct comm *inner, struct comm *whole, int part, size_t most,
                           struct comm **out)
{
    struct arena arena;
    struct nccl *n;
    enum status status;

    TRY(arena_open(&arena, "exchanges between devices", ARENA_LEAST + ARENA_PER_RANK * (size_t)inner->size));
    status = arena_take_array(&arena, 1, sizeof *n, "exchanges between devices", &n);
    if (status != STATUS_OK) {
        arena_close(&arena);
        return status;
    }
    *n = (struct nccl){.table = {.kind = "nccl",
                                 .recordable = true,
                                 .rank = inner->rank,
                                 .size = inner->size,
                                 .broadcast = broadcast,
                                 .all_gather = all_gather,
                                 .gather = gather,
                                 .exchange = exchange,
                                 .exchange_begin = exchange_begin,
                                 .exchange_end = exchange_end,
                                 .aside = aside,
                                 .back = back,
                                 .reduce = fold_no_rows,
                                 .close = close_all},
                       .arena = arena,
                       .kernels = k,
                       .inner = inner,
                       .most = most};
    status = open_in(n, whole, part);
    if (status != STATUS_OK)
        close_all(&n->table);
    else
        *out = &n->table;
    return status;
}

/* -- nodes --- */

/* Numbers the ranks of each node; color: the node's lowest rank, -1: this rank is alone. */
static enum status number_nodes(struct nccl *n, const int32_t *node, int *color)
{
    int size = n->table.size, me = n->table.rank, near = 0;
    int32_t *of, *number;

    TRY(arena_take_array(&n->arena, (size_t)size, sizeof *of, "nodes of ranks", &of));
    TRY(arena_take_array(&n->arena, (size_t)size, sizeof *number, "ranks of nodes", &number));
    *color = -1;
    for (int r = size - 1; r >= 0; r--) {
        of[r] = node[r];
        number[r] = 0;
        for (int before = 0; before < r; before++)
            number[r] += node[before] == node[r];
        if (node[r] == node[me]) {
            *color = r;
            near++;
        }
    }
    *color = near > 1 ? *color : -1;
    n->node = of;
    n->in_node = number;
    return STATUS_OK;
}

/* Every rank of the node sends every other so many bytes. */
static enum status call_node(struct nccl *n, size_t bytes)
{
    const void *mine = n->arrived[PARTS - 1];

    for (int r = 0; r < n->table.size; r++) {
        n->out[r] = n->in[r] = n->node[r] == n->node[n->table.rank] ? bytes : 0;
        n->layout.send_at[r] = 0;
    }
    TRY(layout_gather(&n->layout, n->in, n->most));
    n->next = 0;
    return send_pairs(n, COMM_NCCL_TEAM_NODE, "exchange inside the node", mine, next_arrivals(n),
                      n->layout.send_at);
}

enum status comm_nccl_open_nodes(struct comm *rows, const int32_t *node)
{
    struct nccl *n = nccl_of(rows);
    int color = -1;
    enum status mine = number_nodes(n, node, &color);
    int64_t able = mine == STATUS_OK;
    size_t most = n->most / (size_t)rows->size;

    TRY(n->inner->reduce(n->inner, COMM_MIN, &able, 1));
    TRY(mine);
    if (!able)
        return FAIL(STATUS_UNAVAILABLE, "another rank cannot exchange rows inside its node");
    TRY(comm_nccl_team_split(n->team, COMM_NCCL_TEAM_NODE, color, rows->rank));
    if (most == 0)
        return STATUS_OK;
    TRY(call_node(n, 1));
    TRY(call_node(n, most));
    return cuda_device_wait(n->team->device);
}
