/* nccl.cpp - NCCL's calls between emulated devices, over memory that the processes of a run share
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * An operation of a stream sends and receives in pieces as often as the stream's turn comes. Every message
 * begins with what its sender thinks it is; a receiver that expects something else stops both ranks with both
 * descriptions, where the real library would hang or mix up bytes. Communicators do not block: a call is
 * under way until ncclCommGetAsyncError has been asked some times, and only then on the stream. */
#include "nccl_work.h"
#include "runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <nccl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <string>

enum { LONGEST_PROGRESS = 3, COMM_BYTES = 2 << 20 };

void nccl_work_follow(ncclComm *c, const char *call, std::function<ncclResult_t()> what)
{
    if (c->under_way)
        hostgpu_fail("nccl: %s while a call is in progress", call);
    c->progress = (int)hostgpu_random(LONGEST_PROGRESS);
    c->under_way = std::move(what);
}

static int group_depth;
static std::vector<std::shared_ptr<work>> group;

struct held {
    std::lock_guard<std::recursive_mutex> guard;
    held() : guard(hostgpu_lock())
    {
    }
};

static size_t element_bytes(ncclDataType_t type)
{
    switch (type) {
    case ncclInt8:
    case ncclUint8:
        return 1;
    case ncclFloat16:
    case ncclBfloat16:
        return 2;
    case ncclInt32:
    case ncclUint32:
    case ncclFloat32:
        return 4;
    case ncclInt64:
    case ncclUint64:
    case ncclFloat64:
        return 8;
    default:
        hostgpu_fail("nccl: data type %d", (int)type);
    }
}

/* -- groups --- */

/* The operation of this communicator in the present group. */
static work *current(ncclComm *c, cudaStream_t stream)
{
    if (!c || c->family->aborted || c->finalized)
        hostgpu_fail("nccl: a call on a communicator that is %s", !c ? "none"
                                                                  : c->family->aborted
                                                                      ? "aborted, or shares with one that is"
                                                                      : "finalized");
    if (c->under_way)
        hostgpu_fail("nccl: a call on %s while one is in progress", c->name.c_str());
    for (auto &w : group)
        if (w->comm == c) {
            if (w->stream != stream)
                hostgpu_fail("nccl: one group, one communicator, two streams");
            return w.get();
        }
    auto w = std::make_shared<work>();
    w->comm = c;
    w->stream = stream;
    group.push_back(w);
    return w.get();
}

static void check_graphs(ncclComm *c, const char *call)
{
    if (c->in_graphs.use_count() > 1)
        hostgpu_fail("nccl: %s of %s waits for ever: a graph still holds calls of it", call, c->name.c_str());
}

static ncclResult_t submit(void)
{
    auto list = std::move(group);
    ncclResult_t result = ncclSuccess;

    group.clear();
    for (auto &w : list) {
        w->comm->progress = (int)hostgpu_random(LONGEST_PROGRESS);
        w->comm->under_way = [w] {
            if (!nccl_work_connect(*w))
                return ncclUnhandledCudaError;
            nccl_work_queue(w);
            return ncclSuccess;
        };
        result = ncclInProgress;
    }
    return result;
}

extern "C" ncclResult_t ncclGroupStart(void)
{
    held lock;

    group_depth++;
    return ncclSuccess;
}

extern "C" ncclResult_t ncclGroupEnd(void)
{
    held lock;

    if (group_depth <= 0)
        hostgpu_fail("ncclGroupEnd without ncclGroupStart");
    return --group_depth == 0 ? submit() : ncclSuccess;
}

/* -- communicators --- */

/* HOSTGPU_NCCL: another version than the headers'. */
extern "C" ncclResult_t ncclGetVersion(int *version)
{
    const char *other = getenv("HOSTGPU_NCCL");

    *version = other ? atoi(other) : NCCL_VERSION_CODE;
    return ncclSuccess;
}

extern "C" ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
    uint64_t number = 0;
    int file = open("/dev/urandom", O_RDONLY | O_CLOEXEC);

    memset(id, 0, sizeof *id);
    if (file < 0 || read(file, &number, sizeof number) != sizeof number)
        return ncclSystemError;
    close(file);
    snprintf(id->internal, sizeof id->internal, "/hostgpu-%016llx", (unsigned long long)number);
    return ncclSuccess;
}

static ncclResult_t map_board(ncclComm *c)
{
    int file = shm_open(c->name.c_str(), O_RDWR | O_CREAT, 0600);

    c->mapped = sizeof(board) + sizeof(nccl_pipe) * (size_t)c->size * (size_t)c->size;
    if (file < 0 || ftruncate(file, (off_t)c->mapped) != 0)
        return ncclSystemError;
    void *p = mmap(nullptr, c->mapped, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (p == MAP_FAILED)
        return ncclSystemError;
    c->shared = (board *)p;
    snprintf(c->shared->doing[c->rank], TEXT, "has joined");
    if (++c->shared->joined == c->size)
        shm_unlink(c->name.c_str());
    return ncclSuccess;
}

/* Until all have come. */
static ncclResult_t meet(ncclComm *c)
{
    if (!c->shared) {
        ncclResult_t result = map_board(c);

        if (result != ncclSuccess)
            return result;
    }
    if (c->shared->joined != c->size)
        return ncclInProgress;
    return nccl_work_hold(c, COMM_BYTES) ? ncclSuccess : ncclUnhandledCudaError;
}

/* As the environment overrides them. */
static int setting(const char *name, int given)
{
    const char *text = getenv(name);

    return text && *text ? atoi(text) : given;
}

static void check_config(const ncclConfig_t *config)
{
    if (!config || config->magic != 0xcafebeef || config->size != sizeof *config ||
        config->version != NCCL_VERSION_CODE)
        hostgpu_fail("nccl: a configuration that was not initialized");
    if (setting("NCCL_COMM_BLOCKING", config->blocking) != 0)
        hostgpu_fail("nccl: a communicator that blocks cannot be aborted: set blocking to 0");
    if (!config->commName || config->commName == (const char *)NCCL_CONFIG_UNDEF_PTR)
        hostgpu_fail("nccl: a communicator without a name");
    if (config->maxCTAs != NCCL_CONFIG_UNDEF_INT && config->maxCTAs < 1)
        hostgpu_fail("nccl: at most %d blocks", config->maxCTAs);
}

static ncclResult_t begin(ncclComm_t *out, int size, const char *name, int rank, const ncclConfig_t *config)
{
    if (size < 1 || size > RANKS || rank < 0 || rank >= size)
        return ncclInvalidArgument;
    auto c = new ncclComm;
    c->name = name;
    c->size = size;
    c->rank = rank;
    c->sent.assign((size_t)size, 0);
    c->received.assign((size_t)size, 0);
    check_config(config);
    c->called = config->commName;
    c->shares = setting("NCCL_COMM_SPLIT_SHARE_RESOURCES", config->splitShare) == 1;
    c->family = std::make_shared<struct family>();
    c->family->owner = c;
    c->family->members = 1;
    for (int r = 0; r < size; r++)
        c->top.push_back(r);
    nccl_work_comms().push_back(c);
    nccl_work_follow(c, "ncclCommInitRankConfig", [c] { return meet(c); });
    *out = c;
    return ncclInProgress;
}

extern "C" ncclResult_t ncclCommInitRankConfig(ncclComm_t *out, int size, ncclUniqueId id, int rank,
                                               ncclConfig_t *config)
{
    held lock;

    return begin(out, size, id.internal, rank, config);
}

/* All have told their color: who is in this one, in the order of the keys. */
static ncclResult_t divide(ncclComm *c, ncclComm_t *out, int color, const ncclConfig_t *config)
{
    std::vector<std::pair<int, int>> members;
    int rank = 0, round = c->splits % 2;

    for (int r = 0; r < c->size; r++)
        if (c->shared->split[r].round.load(std::memory_order_acquire) < c->splits)
            return ncclInProgress;
    if (color == NCCL_SPLIT_NOCOLOR)
        return ncclSuccess;
    for (int r = 0; r < c->size; r++)
        if (c->shared->split[r].color[round] == color)
            members.push_back({c->shared->split[r].key[round], r});
    std::sort(members.begin(), members.end());
    for (size_t i = 0; i < members.size(); i++)
        if (members[i].second == c->rank)
            rank = (int)i;
    std::string name = c->name + "-" + std::to_string(c->splits) + "-" + std::to_string(color);
    begin(out, (int)members.size(), name.c_str(), rank, config);
    for (size_t i = 0; c->shares && i < members.size(); i++)
        (*out)->top[i] = c->top[(size_t)members[i].second];
    if (c->shares) {
        (*out)->family = c->family;
        c->family->members++;
    }
    return ncclSuccess;
}

extern "C" ncclResult_t ncclCommSplit(ncclComm_t c, int color, int key, ncclComm_t *out, ncclConfig_t *config)
{
    held lock;
    auto copy = std::make_shared<ncclConfig_t>(*config);

    if (color < 0 && color != NCCL_SPLIT_NOCOLOR)
        hostgpu_fail("nccl: ncclCommSplit with color %d", color);
    if (c->issued != c->finished)
        hostgpu_fail(
            "nccl: ncclCommSplit of '%s', whose calls have not ended: it may wait for them, and they for "
            "ranks that split",
            c->called.c_str());
    *out = nullptr;
    c->splits++;
    c->shared->split[c->rank].color[c->splits % 2] = color;
    c->shared->split[c->rank].key[c->splits % 2] = key;
    c->shared->split[c->rank].round.store(c->splits, std::memory_order_release);
    nccl_work_follow(c, "ncclCommSplit", [=] { return divide(c, out, color, copy.get()); });
    return ncclInProgress;
}

extern "C" ncclResult_t ncclCommGetAsyncError(ncclComm_t c, ncclResult_t *state)
{
    held lock;
    int deserter;

    *state = ncclSuccess;
    if (c->shared)
        nccl_work_stopped(c);
    if (c->under_way) {
        *state = c->progress-- > 0 ? ncclInProgress : c->under_way();
        if (*state != ncclInProgress)
            c->under_way = nullptr;
        return ncclSuccess;
    }
    if (c->issued != c->finished && nccl_work_fails(c, c->finished)) {
        c->error = "a link of the emulated network is down";
        *state = ncclSystemError;
        return ncclSuccess;
    }
    deserter = c->shared->deserter;
    if (deserter && c->issued != c->finished) {
        c->error = "remote rank " + std::to_string(deserter - 1) + " has left the communicator";
        *state = ncclRemoteError;
    }
    return ncclSuccess;
}

extern "C" const char *ncclGetErrorString(ncclResult_t result)
{
    return result == ncclSuccess              ? "no error"
           : result == ncclInProgress         ? "NCCL operation in progress"
           : result == ncclRemoteError        ? "remote process exited or there was a network error"
           : result == ncclUnhandledCudaError ? "unhandled cuda error"
           : result == ncclSystemError        ? "unhandled system error"
                                              : "an error of the emulated NCCL";
}

extern "C" const char *ncclGetLastError(ncclComm_t c)
{
    return c ? c->error.c_str() : "";
}

static void forget(ncclComm *c)
{
    auto &all = nccl_work_comms();

    all.erase(std::remove(all.begin(), all.end(), c), all.end());
    nccl_work_let_go(c);
    if (c->shared && c->shared->joined < c->size)
        shm_unlink(c->name.c_str());
}

extern "C" ncclResult_t ncclCommFinalize(ncclComm_t c)
{
    held lock;

    nccl_work_follow(c, "ncclCommFinalize", [c] {
        if (c->issued != c->finished) {
            hostgpu_advance();
            return ncclInProgress;
        }
        return ncclSuccess;
    });
    c->finalized = true;
    return ncclInProgress;
}

extern "C" ncclResult_t ncclCommDestroy(ncclComm_t c)
{
    held lock;

    if (!c->finalized || c->under_way)
        hostgpu_fail("nccl: ncclCommDestroy of %s, which is not finalized", c->name.c_str());
    check_graphs(c, "ncclCommDestroy");
    if (c->windows != 0)
        hostgpu_fail("nccl: ncclCommDestroy of %s, which has windows", c->name.c_str());
    for (int r = 0; r < c->size; r++) {
        nccl_pipe &p = nccl_work_pipe(c, r, c->rank);

        if (p.head != p.tail)
            hostgpu_fail("nccl: ncclCommDestroy of %s: rank %d has sent what rank %d never received",
                         c->name.c_str(), r, c->rank);
    }
    forget(c);
    munmap(c->shared, c->mapped);
    delete c;
    return ncclSuccess;
}

/* What was queued ends at once. The object stays: its operations may still stand on a stream. */
extern "C" ncclResult_t ncclCommAbort(ncclComm_t c)
{
    held lock;
    int nobody = 0; /* the first one is named: others abort because of it */

    check_graphs(c, "ncclCommAbort");
    if (c->family->owner == c && c->family->members > 1)
        hostgpu_fail(
            "nccl: ncclCommAbort of '%s', but %d that share with it are neither aborted nor destroyed",
            c->called.c_str(), c->family->members - 1);
    c->family->aborted = true;
    c->family->running = nullptr;
    c->under_way = nullptr;
    if (c->shared) {
        c->shared->deserter.compare_exchange_strong(nobody, c->rank + 1);
        snprintf(c->shared->doing[c->rank], TEXT, "has aborted");
    }
    forget(c);
    return ncclSuccess;
}

/* -- calls --- */

static ncclResult_t between(void *bytes, size_t count, ncclDataType_t type, int peer, ncclComm *c,
                            cudaStream_t stream, bool sends)
{
    held lock;

    if (c && (peer < 0 || peer >= c->size))
        hostgpu_fail("nccl: peer %d of %d", peer, c->size);
    hostgpu_memory_check(bytes, count * element_bytes(type), true, sends ? "ncclSend" : "ncclRecv");
    ncclGroupStart();
    work *w = current(c, stream);
    part x = {peer, sends, false, (char *)bytes, count * element_bytes(type), {}};
    x.wanted = {0, count, SEND, type, -1, 0, 0, 0};
    w->parts.push_back(x);
    return ncclGroupEnd();
}

extern "C" ncclResult_t ncclSend(const void *bytes, size_t count, ncclDataType_t type, int peer, ncclComm_t c,
                                 cudaStream_t stream)
{
    return between((void *)bytes, count, type, peer, c, stream, true);
}

extern "C" ncclResult_t ncclRecv(void *bytes, size_t count, ncclDataType_t type, int peer, ncclComm_t c,
                                 cudaStream_t stream)
{
    return between(bytes, count, type, peer, c, stream, false);
}

/* A call of all ranks. */
struct together {
    enum call call;
    const void *from;
    void *to;
    size_t count;
    ncclDataType_t type;
    int root;
    bool parts_received; /* one part from each rank; else one of the root */
};

static ncclResult_t all_ranks(const together &t, ncclComm *c, cudaStream_t stream)
{
    held lock;
    size_t bytes = t.count * element_bytes(t.type), ranks = c ? (size_t)c->size : 1;
    bool sends = t.call != BROADCAST || (c && c->rank == t.root);

    if (sends)
        hostgpu_memory_check(t.from, bytes, true, nccl_work_name(t.call));
    hostgpu_memory_check(t.to, t.parts_received ? bytes * ranks : bytes, true, nccl_work_name(t.call));
    ncclGroupStart();
    work *w = current(c, stream);
    header h = {0, t.count, t.call, t.type, -1, t.root, 0, 0};
    for (int r = 0; r < c->size; r++) {
        size_t at = bytes * (size_t)r;
        char *to = (char *)t.to + (t.parts_received ? at : 0);

        w->parts.push_back({r, true, r == 0, (char *)t.from, sends ? bytes : 0, h});
        w->parts.push_back({r, false, false, to, t.call != BROADCAST || r == t.root ? bytes : 0, h});
    }
    return ncclGroupEnd();
}

extern "C" ncclResult_t ncclAllGather(const void *from, void *to, size_t count, ncclDataType_t type,
                                      ncclComm_t c, cudaStream_t stream)
{
    return all_ranks({ALL_GATHER, from, to, count, type, 0, true}, c, stream);
}

extern "C" ncclResult_t ncclBroadcast(const void *from, void *to, size_t count, ncclDataType_t type, int root,
                                      ncclComm_t c, cudaStream_t stream)
{
    return all_ranks({BROADCAST, from, to, count, type, root, false}, c, stream);
}
