/* stream.cpp - streams, events and the thread that works while the host does something else
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * A stream is a queue. Nothing runs at the call that enqueues; every order that CUDA allows is possible, and
 * the seed draws one. When the host waits, or stays away from the device for a while, queues are worked on.
 */
#include "hostgpu.h"
#include "runtime.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <deque>
#include <thread>

enum { NAP_MICROSECONDS = 50, AWAY_NANOSECONDS = 2000000 };

struct CUstream_st {
    std::deque<hostgpu_operation> queue;
    hostgpu_clock seen;
    uint64_t pushed, done;
    int number;
    bool gone;                        /* destroyed, and what is queued has not been done */
    CUgraph_st *capture;              /* takes what is queued; NULL: it runs */
    std::vector<CUstream_st *> lanes; /* for what graphs that are launched here have of other streams */
};

/* As it was recorded last: in a capture it says nothing of any stream. */
struct CUevent_st {
    hostgpu_mark mark;
    hostgpu_captured captured;
};

static std::vector<CUstream_st *> &streams(void)
{
    static auto *all = new std::vector<CUstream_st *>;
    return *all;
}

static hostgpu_clock &host_seen(void)
{
    static auto *clock = new hostgpu_clock(1, 1);
    return *clock;
}

static int next_number;
static std::atomic<int64_t> last_call; /* nanoseconds */

static int64_t now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void join(hostgpu_clock &to, const hostgpu_clock &from)
{
    if (to.size() < from.size())
        to.resize(from.size());
    for (size_t i = 0; i < from.size(); i++)
        if (to[i] < from[i])
            to[i] = from[i];
}

/* Holds the device's lock for one call of the host. */
struct call {
    std::lock_guard<std::recursive_mutex> guard;
    call() : guard(hostgpu_lock())
    {
        hostgpu_place &here = hostgpu_here();

        if (!here.in_kernel && here.stream == 0)
            here.seen = &host_seen();
        last_call = now();
    }
    ~call()
    {
        last_call = now();
    }
};

static CUstream_st *checked(cudaStream_t s)
{
    if (!s || s == cudaStreamLegacy || s == cudaStreamPerThread)
        hostgpu_fail("the default stream is used: name a stream created with cudaStreamNonBlocking");
    for (CUstream_st *known : streams())
        if (known == s && !s->gone)
            return s;
    hostgpu_fail("a stream that does not exist (any more)");
}

static bool ready(const CUstream_st *s)
{
    return !s->queue.empty() && (!s->queue.front().ready || s->queue.front().ready());
}

/* False when the operation waits for somebody else and is not done: it stays at the head. */
static bool run_head(CUstream_st *s)
{
    hostgpu_operation operation = std::move(s->queue.front());
    hostgpu_place &here = hostgpu_here();
    hostgpu_place before = here;

    s->queue.pop_front();
    join(s->seen, *operation.host_seen);
    if ((int)s->seen.size() < s->number + 2)
        s->seen.resize((size_t)s->number + 2);
    s->seen[(size_t)s->number + 1] = (uint32_t)s->done + 1;
    here = hostgpu_place{};
    here.what = operation.what;
    here.stream = s->number + 1;
    here.operation = (uint32_t)s->done + 1;
    here.seen = &s->seen;
    bool done = !operation.part || operation.part();
    if (!done) {
        here = before;
        s->queue.push_front(std::move(operation));
        return false;
    }
    if (hostgpu_settings_get().trace)
        fprintf(hostgpu_settings_get().trace, "stream %d operation %llu: %s\n", s->number,
                (unsigned long long)s->done, operation.what);
    if (operation.run)
        operation.run();
    here = before;
    s->done++;
    return true;
}

bool hostgpu_advance(void)
{
    size_t count = streams().size();
    size_t from = count > 0 ? hostgpu_random((uint32_t)count) : 0;

    for (size_t i = 0; i < count; i++) {
        CUstream_st *s = streams()[(from + i) % count];

        if (ready(s) && run_head(s))
            return true;
    }
    return false;
}

/* Works while the host is away, so that a rank which waits for a message does not hold up those that wait for
 * its device. */
static void device_thread(void)
{
    for (;;) {
        usleep(1000);
        if (now() - last_call < AWAY_NANOSECONDS)
            continue;
        std::unique_lock<std::recursive_mutex> guard(hostgpu_lock(), std::try_to_lock);
        for (int i = 0; guard.owns_lock() && i < 8 && hostgpu_advance(); i++) {
        }
    }
}

static void start_device_thread(void)
{
    static bool started;

    if (!started)
        std::thread(device_thread).detach();
    started = true;
}

void hostgpu_push(cudaStream_t stream, hostgpu_operation operation)
{
    call held;
    CUstream_st *s = checked(stream);
    hostgpu_place &here = hostgpu_here();

    if (s->capture) {
        hostgpu_capture_add(s->capture, s, std::move(operation));
        return;
    }
    hostgpu_strike(operation.what);
    operation.host_seen = std::make_shared<hostgpu_clock>(host_seen());
    here.host_operation = ++host_seen()[0];
    s->queue.push_back(std::move(operation));
    s->pushed++;
    if (hostgpu_settings_get().order == HOSTGPU_EAGER)
        while (ready(s) && run_head(s)) {
        }
    else if (hostgpu_settings_get().order == HOSTGPU_RANDOM)
        for (uint32_t n = hostgpu_random(3); n > 0; n--)
            hostgpu_advance();
}

static bool step_towards(CUstream_st *s)
{
    if (hostgpu_settings_get().order == HOSTGPU_LAZY) {
        if (ready(s) && run_head(s))
            return true;
        if (!s->queue.empty() && s->queue.front().hurry) {
            s->queue.front().hurry();
            return true;
        }
    }
    return hostgpu_advance();
}

/* A question whether s has done `upto` operations also lets it get on a little, as time would. */
static void step_some(CUstream_st *s, uint64_t upto)
{
    for (uint32_t n = 1 + hostgpu_random(16); n > 0 && s->done < upto; n--)
        if (!step_towards(s))
            break;
}

/* Runs until s has done `upto` operations. */
static void drive(CUstream_st *s, uint64_t upto)
{
    time_t stuck = 0;

    while (s->done < upto) {
        if (step_towards(s)) {
            stuck = 0;
            continue;
        }
        stuck = stuck ? stuck : time(nullptr);
        if (time(nullptr) - stuck > hostgpu_settings_get().timeout) {
            hostgpu_why_stuck();
            hostgpu_fail("stream %d is stuck at \"%s\"", s->number,
                         s->queue.empty() ? "nothing" : s->queue.front().what);
        }
        usleep(NAP_MICROSECONDS);
    }
}

CUgraph_st *hostgpu_capture_of(cudaStream_t stream)
{
    call held;

    return checked(stream)->capture;
}

void hostgpu_capture_set(cudaStream_t stream, CUgraph_st *graph)
{
    call held;

    checked(stream)->capture = graph;
}

/* -- the CUDA interface ------------------------------------------------------------------------------------
 */

/* Can a kernel be launched so? */
static cudaError_t check_launch(dim3 grid, dim3 block, size_t shared)
{
    size_t threads = (size_t)block.x * block.y * block.z;

    if (threads == 0 || threads > 1024 || block.z > 64 || grid.x == 0 || grid.y == 0 || grid.z == 0 ||
        grid.y > 65535 || grid.z > 65535)
        return cudaErrorInvalidConfiguration;
    return shared > HOSTGPU_SHARED_BYTES ? cudaErrorInvalidValue : cudaSuccess;
}

cudaError_t hostgpu_launch_whole(dim3 grid, dim3 block, size_t shared, cudaStream_t s, const char *name,
                                 std::function<void()> run)
{
    if (cudaError_t error = check_launch(grid, block, shared))
        return error;
    hostgpu_push(s, {name, std::move(run), nullptr, nullptr, nullptr});
    return cudaSuccess;
}

extern "C" cudaError_t hostgpu_launch(dim3 grid, dim3 block, size_t shared, cudaStream_t s, const char *name,
                                      const void *code, std::function<void()> body)
{
    hostgpu_device_check(name);
    if (!hostgpu_loaded(code))
        hostgpu_fail("%s is launched and its code was not loaded before: a recording would not allow it, and "
                     "it may wait for all that runs",
                     name);
    if (cudaError_t error = check_launch(grid, block, shared))
        return error;
    auto anew = [=]() -> hostgpu_operation {
        auto run = std::make_shared<std::shared_ptr<hostgpu_run>>(); /* begins with the first part */
        auto part = [=] {
            *run = *run ? *run : hostgpu_block_begin(name, grid, block, shared, body);
            return hostgpu_block_part(run->get());
        };

        return {name, nullptr, nullptr, nullptr, nullptr, {}, part};
    };
    hostgpu_operation operation = anew();
    operation.anew = anew;
    hostgpu_push(s, operation);
    return cudaSuccess;
}

static CUstream_st *new_stream(void)
{
    auto s = new CUstream_st{};

    s->number = next_number++;
    streams().push_back(s);
    return s;
}

/* Nothing is queued on it any more. */
static void forget_stream(CUstream_st *s)
{
    for (CUstream_st *&known : streams())
        if (known == s) {
            known = streams().back();
            streams().pop_back();
            break;
        }
    delete s;
}

cudaStream_t hostgpu_lane(cudaStream_t stream, size_t lane)
{
    call held;
    CUstream_st *s = checked(stream);

    while (s->lanes.size() < lane)
        s->lanes.push_back(new_stream());
    return lane == 0 ? s : s->lanes[lane - 1];
}

extern "C" cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags)
{
    call held;

    hostgpu_device_check("cudaStreamCreateWithFlags");
    if (flags != cudaStreamNonBlocking)
        hostgpu_fail("a stream without cudaStreamNonBlocking");
    start_device_thread();
    *out = new_stream();
    return cudaSuccess;
}

/* What is queued still runs, some time: nobody waits for it here. Its lanes have joined it. */
extern "C" cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    call held;
    CUstream_st *s = checked(stream);

    if (s->done < s->pushed) {
        s->gone = true;
        return cudaSuccess;
    }
    for (CUstream_st *lane : s->lanes)
        forget_stream(lane);
    forget_stream(s);
    return cudaSuccess;
}

bool hostgpu_idle(void)
{
    call held;

    for (const CUstream_st *s : streams())
        if (s->done < s->pushed)
            return false;
    return true;
}

extern "C" cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    call held;
    CUstream_st *s = checked(stream);

    if (s->capture)
        return hostgpu_capture_forbids();
    drive(s, s->pushed);
    join(host_seen(), s->seen);
    return cudaSuccess;
}

extern "C" cudaError_t cudaDeviceSynchronize(void)
{
    call held;

    if (cudaError_t error = hostgpu_capture_forbids())
        return error;
    for (CUstream_st *s : streams()) {
        drive(s, s->pushed);
        join(host_seen(), s->seen);
    }
    return cudaSuccess;
}

extern "C" cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    call held;
    CUstream_st *s = checked(stream);

    if (s->capture)
        return hostgpu_capture_forbids();
    step_some(s, s->pushed);
    if (s->done < s->pushed)
        return cudaErrorNotReady;
    join(host_seen(), s->seen);
    return cudaSuccess;
}

extern "C" cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags)
{
    (void)flags;
    hostgpu_device_check("cudaEventCreateWithFlags");
    *out = new CUevent_st{};
    return cudaSuccess;
}

extern "C" cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    delete event;
    return cudaSuccess;
}

hostgpu_mark hostgpu_mark_push(cudaStream_t stream)
{
    call held;
    CUstream_st *s = checked(stream);
    auto seen = std::make_shared<hostgpu_clock>();
    hostgpu_mark mark = {s, s->pushed + 1, seen};

    hostgpu_push(s, {"event record", [seen, s] { *seen = s->seen; }, nullptr, nullptr, nullptr});
    return mark;
}

void hostgpu_mark_wait(cudaStream_t stream, const hostgpu_mark &mark)
{
    call held;
    CUstream_st *s = checked(stream);

    hostgpu_push(s, {"event wait", [mark, s] { join(s->seen, *mark.seen); },
                     [mark] { return mark.stream->done >= mark.upto; },
                     [mark] { drive(mark.stream, mark.upto); }, nullptr});
}

extern "C" cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    call held;
    CUstream_st *s = checked(stream);

    event->captured = {};
    if (s->capture)
        event->captured = hostgpu_capture_mark(s->capture, s);
    else
        event->mark = hostgpu_mark_push(s);
    return cudaSuccess;
}

extern "C" cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags)
{
    call held;
    CUstream_st *s = checked(stream);

    (void)flags;
    if (event->captured.capture)
        return hostgpu_capture_wait(s, event->captured);
    if (s->capture)
        return hostgpu_capture_spoil(s->capture, cudaErrorStreamCaptureIsolation);
    if (event->mark.stream)
        hostgpu_mark_wait(s, event->mark);
    return cudaSuccess;
}

extern "C" cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    call held;

    if (cudaError_t error = hostgpu_capture_forbids())
        return error;
    if (event->captured.capture)
        return cudaErrorCapturedEvent;
    if (event->mark.stream) {
        drive(event->mark.stream, event->mark.upto);
        join(host_seen(), *event->mark.seen);
    }
    return cudaSuccess;
}

extern "C" cudaError_t cudaEventQuery(cudaEvent_t event)
{
    call held;

    if (cudaError_t error = hostgpu_capture_forbids())
        return error;
    if (event->captured.capture)
        return cudaErrorCapturedEvent;
    if (event->mark.stream)
        step_some(event->mark.stream, event->mark.upto);
    if (event->mark.stream && event->mark.stream->done < event->mark.upto)
        return cudaErrorNotReady;
    if (event->mark.stream)
        join(host_seen(), *event->mark.seen);
    return cudaSuccess;
}
