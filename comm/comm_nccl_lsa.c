/* comm_nccl_lsa.c - exchanges of equal sizes by stores into the memory of the other ranks' devices
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "comm/comm_nccl_lsa.h"

#include "comm/comm_nccl.h"
#include "comm/comm_nccl_team.h"
#include "comm/watch.h"
#include "engine/base/arena.h"
#include "kernels/cuda/cuda_launch.h"
#include "kernels/cuda/cuda_lsa_domain.h"

#include <string.h>

enum { ARENA_BYTES = 64 << 10 };

/* Of the first exchange, as the device counts: the 16 bits of it that a flag holds wrap around soon after, in
 * every run. */
static const uint64_t FIRST_NUMBER = (1 << 16) - 5;

/* The watchdog gives up much earlier, unless it was told to wait for ever. */
static const struct cuda_lsa_patience PATIENCE = {.late = UINT64_C(500000000),
                                                  .most = UINT64_C(600000000000)};

struct lsa {
    struct comm table; /* first, so that a pointer to the table is one to this */
    struct arena arena;
    struct kernels *kernels;
    struct comm *rows, *inner; /* not owned */
    struct comm_nccl_team *team;
    void *memory; /* of the window */
    ncclWindow_t window;
    struct cuda_lsa_domain *domain;
    void *reached;  /* [ranks] of the device: their windows */
    int32_t *state; /* [ranks, CUDA_LSA_CHUNKS] pinned */
    struct cuda_lsa lsa;
    int turn;                          /* whose place the next exchange takes */
    int64_t breaks;                    /* of the device at the last exchange */
    int open;                          /* exchanges beside that have not ended */
    cudaEvent_t here[CUDA_LSA_PLACES]; /* behind an exchange beside, by its place */
};

static struct lsa *lsa_of(struct comm *c)
{
    return (struct lsa *)(void *)c;
}

static ncclComm_t communicator(const struct lsa *l)
{
    return l->team->member[0];
}

static cudaStream_t stream(const struct lsa *l)
{
    return l->team->device->stream;
}

/* -- calls --- */

/* Every rank sends every rank as much, in words, and there is room for it. */
static bool fits(const struct lsa *l, const size_t *bytes)
{
    size_t pairs = (size_t)l->table.size * (size_t)l->table.size;

    for (size_t i = 1; i < pairs; i++)
        if (bytes[i] != bytes[0])
            return false;
    return bytes[0] > 0 && bytes[0] % 4 == 0 && bytes[0] <= l->lsa.place / (size_t)l->table.size;
}

/* After a break, places are not in turn with those of what ran before: cuda_lsa.cu says why all meet then. */
static enum status meet(struct lsa *l)
{
    int64_t breaks = l->team->device->breaks;

    if (l->breaks == breaks)
        return STATUS_OK;
    l->breaks = breaks;
    CUDA_TRY(cuda_lsa_meet(l->lsa, PATIENCE, l->state, stream(l)));
    return STATUS_OK;
}

/* On the stream that calls go to now. Rows stay until the second next exchange by stores, so at least until
 * the second next call of any kind. */
static enum status store(struct lsa *l, const void *mine, size_t bytes, const void **arrivals)
{
    struct comm *c = &l->table;
    struct comm_nccl_call *call;

    TRY(comm_nccl_team_begin(l->team, "exchange by stores", &call));
    call->peers = c->size - 1;
    call->least = c->rank == 0 ? 1 : 0;
    call->most = c->rank == c->size - 1 ? c->size - 2 : c->size - 1;
    TRY(meet(l));
    CUDA_TRY(cuda_lsa_push(l->lsa, mine, bytes, l->turn, stream(l)));
    CUDA_TRY(cuda_lsa_wait(l->lsa, bytes, PATIENCE, l->state, stream(l)));
    *arrivals = (char *)l->memory + cuda_lsa_place_at(l->lsa.place, l->turn);
    l->turn = (l->turn + 1) % CUDA_LSA_PLACES;
    return comm_nccl_team_end(l->team);
}

/* Between aside and back calls may be behind less than all that was queued, so places may still be read. */
static enum status exchange(struct comm *c, const void *mine, const size_t *bytes, const void **arrivals)
{
    struct lsa *l = lsa_of(c);

    if (l->team->stream != l->team->home || !fits(l, bytes))
        return l->rows->exchange(l->rows, mine, bytes, arrivals);
    if (l->open > 0)
        return FAIL(STATUS_BUG, "rows are stored while %d exchanges beside have not ended", l->open);
    return store(l, mine, bytes[0], arrivals);
}

static enum status aside(struct comm *c, bool behind)
{
    struct comm *rows = lsa_of(c)->rows;

    return rows->aside(rows, behind);
}

static enum status back(struct comm *c, const void *arrivals)
{
    struct comm *rows = lsa_of(c)->rows;

    return rows->back(rows, arrivals);
}

/* Whose rows these are; CUDA_LSA_PLACES: not of the window. */
static int place_of(const struct lsa *l, const void *arrivals)
{
    int place = 0;

    while (place < CUDA_LSA_PLACES && arrivals != (char *)l->memory + cuda_lsa_place_at(l->lsa.place, place))
        place++;
    return place;
}

static enum status exchange_begin(struct comm *c, const void *mine, const size_t *bytes,
                                  const void **arrivals)
{
    struct lsa *l = lsa_of(c);
    enum status status, returned;
    int place = l->turn;

    if (!fits(l, bytes))
        return l->rows->exchange_begin(l->rows, mine, bytes, arrivals);
    TRY(comm_nccl_team_aside(l->team, true));
    status = store(l, mine, bytes[0], arrivals);
    returned = comm_nccl_team_back(l->team, l->here[place]);
    l->open++;
    return status == STATUS_OK ? returned : status;
}

static enum status exchange_end(struct comm *c, const void *arrivals)
{
    struct lsa *l = lsa_of(c);
    int place = place_of(l, arrivals);

    if (place == CUDA_LSA_PLACES)
        return l->rows->exchange_end(l->rows, arrivals);
    CUDA_TRY(cudaStreamWaitEvent(stream(l), l->here[place], 0));
    l->open--;
    return STATUS_OK;
}

static enum status broadcast(struct comm *c, int root, const void *data, size_t *bytes, const void **out)
{
    struct comm *rows = lsa_of(c)->rows;

    return rows->broadcast(rows, root, data, bytes, out);
}

static enum status all_gather(struct comm *c, const void *mine, const size_t *bytes, const void **all)
{
    struct comm *rows = lsa_of(c)->rows;

    return rows->all_gather(rows, mine, bytes, all);
}

static enum status gather(struct comm *c, int root, const void *mine, const size_t *bytes, const void **all)
{
    struct comm *rows = lsa_of(c)->rows;

    return rows->gather(rows, root, mine, bytes, all);
}

static enum status reduce(struct comm *c, enum comm_operation operation, int64_t *values, int count)
{
    struct comm *rows = lsa_of(c)->rows;

    return rows->reduce(rows, operation, values, count);
}

/* -- waits --- */

/* A kernel may write it meanwhile: what was before is as good. */
__attribute__((no_sanitize("thread"))) static int32_t look_at(const volatile int32_t *state)
{
    return *state;
}

/* The worst of what has become of a rank's chunks. */
static int32_t state_of(const struct lsa *l, int rank)
{
    int32_t worst = CUDA_LSA_WELL;

    for (int i = 0; i < CUDA_LSA_CHUNKS; i++) {
        int32_t state = look_at(&l->state[(ptrdiff_t)rank * CUDA_LSA_CHUNKS + i]);

        worst = state > worst ? state : worst;
    }
    return worst;
}

/* As comm_nccl_guard: whose rows have not come? The watchdog names them. */
static enum status look(void *owner, bool waits)
{
    struct lsa *l = owner;
    int late[CUDA_LSA_RANKS], count = 0;

    for (int r = 0; r < l->table.size; r++) {
        int32_t state = state_of(l, r);

        if (state == CUDA_LSA_MISSING)
            return FAIL(STATUS_UNAVAILABLE, "rows that rank %d was to store here did not come in %llu s", r,
                        (unsigned long long)(PATIENCE.most / 1000000000));
        if (state == CUDA_LSA_OTHER_SIZE)
            return FAIL(STATUS_BUG, "rank %d stores more rows here, or fewer, than this rank stores there",
                        r);
        if (state == CUDA_LSA_LATE)
            late[count++] = r;
    }
    if (waits && count > 0)
        watch_wait_missing(late, count);
    return STATUS_OK;
}

/* -- begin and end --- */

/* Others store no more: what they sent has come, as every exchange is waited for. Without a communicator what
 * was under way is not known, so the window stays until the process ends. */
static void close_all(struct comm *c)
{
    struct lsa *l = lsa_of(c);
    struct arena arena;
    bool all_here = true;

    if (!c)
        return;
    l->team->guard = (struct comm_nccl_guard){0};
    if (cuda_device_wait(l->team->device) != STATUS_OK || !communicator(l))
        all_here = false;
    cuda_lsa_domain_close(communicator(l), l->domain);
    if (all_here && l->window) {
        ncclCommWindowDeregister(communicator(l), l->window);
        comm_nccl_team_follow(l->team, "closing a window");
    }
    if (all_here && l->memory)
        ncclMemFree(l->memory);
    if (l->lsa.number)
        l->kernels->release(l->kernels, l->lsa.number);
    if (l->reached)
        l->kernels->release(l->kernels, l->reached);
    if (all_here)
        cudaFreeHost(l->state);
    for (int i = 0; i < CUDA_LSA_PLACES; i++)
        if (l->here[i])
            cudaEventDestroy(l->here[i]);
    arena = l->arena; /* the table lies in it */
    arena_close(&arena);
}

/* All ranks got so far? */
static enum status agree(struct lsa *l, enum status mine)
{
    int64_t able = mine == STATUS_OK;

    TRY(l->inner->reduce(l->inner, COMM_MIN, &able, 1));
    TRY(mine);
    if (!able)
        return FAIL(STATUS_UNAVAILABLE, "--dispatch lsa: another rank cannot store rows in this way");
    return STATUS_OK;
}

/* Code of devices that knows NCCL's structures fits the library of its own version, and no other for sure. */
static enum status check_library(const struct lsa *l)
{
    int version = 0;

    if (ncclGetVersion(&version) != ncclSuccess)
        version = 0;
    if (version != NCCL_VERSION_CODE)
        return FAIL(STATUS_UNAVAILABLE,
                    "--dispatch lsa needs the NCCL that this program was built for, %d.%d.%d; installed is "
                    "%d.%d.%d; use another --dispatch",
                    NCCL_MAJOR, NCCL_MINOR, NCCL_PATCH, version / 10000, version / 100 % 100, version % 100);
    if (l->table.size > CUDA_LSA_RANKS)
        return FAIL(STATUS_UNAVAILABLE, "--dispatch lsa is for at most %d ranks; use another --dispatch",
                    CUDA_LSA_RANKS);
    return STATUS_OK;
}

static enum status take_memory(struct lsa *l)
{
    size_t states = cuda_plan_state_bytes(l->table.size);
    ncclResult_t result = ncclMemAlloc(&l->memory, cuda_plan_window_bytes(l->table.size, l->lsa.place));
    void *number;

    if (result != ncclSuccess)
        return FAIL(STATUS_NO_MEMORY, "--dispatch lsa: a window of %zu bytes: %s",
                    cuda_plan_window_bytes(l->table.size, l->lsa.place), ncclGetErrorString(result));
    TRY(l->kernels->alloc(l->kernels, (size_t)l->table.size * sizeof(char *), "windows", &l->reached));
    l->lsa.window = l->reached;
    TRY(l->kernels->alloc(l->kernels, sizeof FIRST_NUMBER, "a number of exchanges", &number));
    l->lsa.number = number;
    CUDA_TRY(cudaMallocHost((void **)&l->state, states));
    memset(l->state, 0, states);
    for (int i = 0; i < CUDA_LSA_PLACES; i++)
        CUDA_TRY(cudaEventCreateWithFlags(&l->here[i], cudaEventDisableTiming));
    return STATUS_OK;
}

/* Collective like open_domain, and under way until the team has followed it. */
static enum status open_window(struct lsa *l)
{
    size_t bytes = cuda_plan_window_bytes(l->table.size, l->lsa.place);
    ncclResult_t result =
        ncclCommWindowRegister(communicator(l), l->memory, bytes, &l->window, NCCL_WIN_COLL_SYMMETRIC);

    if (result != ncclSuccess && result != ncclInProgress)
        return comm_nccl_team_error(l->team, 0, result, "ncclCommWindowRegister");
    return comm_nccl_team_follow(l->team, "registering a window");
}

/* NCCL calls it no failure when it gives none. */
static enum status check_window(const struct lsa *l)
{
    if (l->window)
        return STATUS_OK;
    return FAIL(STATUS_UNAVAILABLE, "--dispatch lsa: NCCL gives this GPU no memory that others could store "
                                    "into, as where GPUs are not joined by NVLink; use another --dispatch");
}

static enum status open_domain(struct lsa *l)
{
    ncclResult_t result = cuda_lsa_domain_open(communicator(l), &l->domain);
    if (result != ncclSuccess && result != ncclInProgress)
        return comm_nccl_team_error(l->team, 0, result, "ncclDevCommCreate");
    return comm_nccl_team_follow(l->team, "asking for the domain");
}

static enum status check_domain(const struct lsa *l)
{
    int size = cuda_lsa_domain_size(l->domain);

    if (size == l->table.size)
        return STATUS_OK;
    return FAIL(STATUS_UNAVAILABLE,
                "--dispatch lsa: the GPUs of %d of the %d ranks reach each other's memory as NCCL sees it, "
                "and it must be all; use another --dispatch",
                size, l->table.size);
}

/* No flag is raised yet, on any rank, before the first exchange. */
static enum status begin_flags(struct lsa *l)
{
    size_t flags = cuda_plan_flag_bytes(l->table.size);

    CUDA_TRY(cudaMemsetAsync((char *)l->memory + CUDA_LSA_PLACES * l->lsa.place, 0, flags, stream(l)));
    TRY(cuda_device_upload(l->team->device, l->lsa.number, &FIRST_NUMBER, sizeof FIRST_NUMBER));
    CUDA_TRY(cuda_lsa_domain_reach(l->window, l->reached, l->table.size, stream(l)));
    return cuda_device_wait(l->team->device);
}

static enum status open_in(struct lsa *l)
{
    TRY(agree(l, check_library(l)));
    TRY(agree(l, take_memory(l)));
    TRY(open_window(l));
    TRY(agree(l, check_window(l)));
    TRY(open_domain(l));
    TRY(agree(l, check_domain(l)));
    TRY(agree(l, begin_flags(l)));
    l->team->guard = (struct comm_nccl_guard){.look = look, .owner = l};
    return STATUS_OK;
}

enum status comm_nccl_lsa_open(struct kernels *k, struct comm *rows, size_t most, struct comm **out)
{
    struct arena arena;
    struct lsa *l;
    enum status status;

    TRY(arena_open(&arena, "exchanges by stores", ARENA_BYTES));
    status = arena_take_array(&arena, 1, sizeof *l, "exchanges by stores", &l);
    if (status != STATUS_OK) {
        arena_close(&arena);
        return status;
    }
    *l = (struct lsa){.table = {.kind = "lsa",
                                .recordable = rows->recordable,
                                .rank = rows->rank,
                                .size = rows->size,
                                .broadcast = broadcast,
                                .all_gather = all_gather,
                                .gather = gather,
                                .exchange = exchange,
                                .exchange_begin = exchange_begin,
                                .exchange_end = exchange_end,
                                .aside = aside,
                                .back = back,
                                .reduce = reduce,
                                .close = close_all},
                      .arena = arena,
                      .kernels = k,
                      .rows = rows,
                      .inner = comm_nccl_inner(rows),
                      .team = comm_nccl_team_of(rows),
                      .lsa = {.place = cuda_plan_place_bytes(most), .rank = rows->rank, .ranks = rows->size}};
    status = open_in(l);
    if (status != STATUS_OK)
        close_all(&l->table);
    else
        *out = &l->table;
    return status;
}
