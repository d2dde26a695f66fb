/* graph.cpp - captures of streams, and the graphs that are made of them
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * What is queued on a stream under capture does not run: the graph takes it, its arguments as they are, and
 * every launch queues all of it again. Memory is looked at when that runs. There is one capture at a time,
 * from the thread that began; a call that CUDA forbids meanwhile spoils it, as there.
 *
 * A stream that waits for an event of the capture is captured too. What a graph has of each stream is a lane,
 * which a launch queues on a stream of its own, with the events between them; the first lane goes on the
 * stream of the launch. So every order that the dependencies allow can come about, and the seed draws one. */
#include "runtime.h"

#include <thread>

/* What stands in a lane. */
struct step {
    enum { RUNS, MARKS, WAITS } kind;
    size_t lane;
    hostgpu_operation operation; /* that runs */
    size_t mark;                 /* that is made or waited for: an event as it was recorded once */
};

struct CUgraph_st {
    uint64_t number; /* from 1; of a capture */
    std::vector<cudaStream_t> stream = {};
    std::vector<hostgpu_clock> seen = {}; /* of each lane: how many steps of each come before its next */
    std::vector<hostgpu_clock> mark = {}; /* the same of each mark */
    std::vector<step> steps = {};
    bool spoilt = false;
};

struct CUgraphExec_st {
    std::vector<step> steps;
    size_t marks;
};

struct capture {
    CUgraph_st *graph; /* NULL: there is none */
    std::thread::id thread;
};

static capture under_way;
static uint64_t captures;

struct held {
    std::lock_guard<std::recursive_mutex> guard;
    held() : guard(hostgpu_lock())
    {
    }
};

static void count(hostgpu_clock &clock, size_t lane, uint32_t more)
{
    if (clock.size() <= lane)
        clock.resize(lane + 1);
    clock[lane] += more;
}

/* A stream that has none yet gets one. */
static size_t lane_of(CUgraph_st *graph, cudaStream_t stream)
{
    size_t lane = 0;

    while (lane < graph->stream.size() && graph->stream[lane] != stream)
        lane++;
    if (lane == graph->stream.size()) {
        graph->stream.push_back(stream);
        graph->seen.push_back(hostgpu_clock(lane + 1));
        hostgpu_capture_set(stream, graph);
    }
    return lane;
}

static void add_step(CUgraph_st *graph, step what)
{
    count(graph->seen[what.lane], what.lane, 1);
    graph->steps.push_back(std::move(what));
}

void hostgpu_capture_add(CUgraph_st *graph, cudaStream_t stream, hostgpu_operation operation)
{
    if (!graph->spoilt)
        add_step(graph, {step::RUNS, lane_of(graph, stream), std::move(operation), 0});
}

hostgpu_captured hostgpu_capture_mark(CUgraph_st *graph, cudaStream_t stream)
{
    size_t lane = lane_of(graph, stream), mark = graph->mark.size();

    if (graph->spoilt)
        return {graph->number, 0};
    graph->mark.push_back(graph->seen[lane]);
    graph->steps.push_back({step::MARKS, lane, {}, mark});
    return {graph->number, mark};
}

cudaError_t hostgpu_capture_wait(cudaStream_t stream, hostgpu_captured event)
{
    held lock;
    CUgraph_st *own = hostgpu_capture_of(stream), *graph = under_way.graph;
    size_t lane;

    if (!graph || graph->number != event.capture) /* its capture is over */
        return own ? hostgpu_capture_spoil(own, cudaErrorStreamCaptureIsolation) : cudaErrorCapturedEvent;
    if (graph->spoilt)
        return cudaErrorStreamCaptureInvalidated;
    lane = lane_of(graph, stream);
    for (size_t i = 0; i < graph->mark[event.mark].size(); i++) {
        uint32_t before = graph->mark[event.mark][i];

        count(graph->seen[lane], i, 0);
        graph->seen[lane][i] = graph->seen[lane][i] < before ? before : graph->seen[lane][i];
    }
    add_step(graph, {step::WAITS, lane, {}, event.mark});
    return cudaSuccess;
}

/* A lane does not end before the first one does; a wait that nothing follows is counted as well. */
static bool unjoined(CUgraph_st *graph)
{
    for (size_t lane = 1; lane < graph->stream.size(); lane++) {
        count(graph->seen[0], lane, 0);
        if (graph->seen[0][lane] < graph->seen[lane][lane])
            return true;
    }
    return false;
}

cudaError_t hostgpu_capture_spoil(CUgraph_st *graph, cudaError_t error)
{
    graph->spoilt = true; /* and holds what was captured, NCCL's calls too, until it is ended */
    return error;
}

cudaError_t hostgpu_capture_forbids(void)
{
    held lock;

    if (!under_way.graph || under_way.thread != std::this_thread::get_id())
        return cudaSuccess;
    return hostgpu_capture_spoil(under_way.graph, cudaErrorStreamCaptureUnsupported);
}

extern "C" cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
    held lock;

    if (mode != cudaStreamCaptureModeThreadLocal)
        hostgpu_fail("cudaStreamBeginCapture: mode %d forbids other threads their calls", (int)mode);
    if (under_way.graph)
        hostgpu_fail("cudaStreamBeginCapture: a second capture at the same time is not emulated");
    under_way = {new CUgraph_st{++captures}, std::this_thread::get_id()};
    lane_of(under_way.graph, stream);
    return cudaSuccess;
}

extern "C" cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out)
{
    held lock;
    CUgraph_st *graph = hostgpu_capture_of(stream);
    cudaError_t error = cudaSuccess;

    *out = nullptr;
    if (!graph)
        return cudaErrorIllegalState;
    if (under_way.thread != std::this_thread::get_id())
        return cudaErrorStreamCaptureWrongThread;
    if (graph->stream[0] != stream)
        return hostgpu_capture_spoil(graph, cudaErrorStreamCaptureUnmatched);
    if (graph->spoilt)
        error = cudaErrorStreamCaptureInvalidated;
    else if (unjoined(graph))
        error = cudaErrorStreamCaptureUnjoined;
    for (cudaStream_t captured : graph->stream)
        hostgpu_capture_set(captured, nullptr);
    under_way = {};
    if (error == cudaSuccess)
        *out = graph;
    else
        delete graph;
    return error;
}

extern "C" cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *out)
{
    held lock;
    CUgraph_st *graph = hostgpu_capture_of(stream);

    *out = !graph          ? cudaStreamCaptureStatusNone
           : graph->spoilt ? cudaStreamCaptureStatusInvalidated
                           : cudaStreamCaptureStatusActive;
    return cudaSuccess;
}

extern "C" cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long flags)
{
    held lock;

    (void)flags;
    if (cudaError_t error = hostgpu_capture_forbids())
        return error;
    *out = new CUgraphExec_st{graph->steps, graph->mark.size()};
    return cudaSuccess;
}

extern "C" cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream)
{
    held lock;
    std::vector<hostgpu_mark> mark(graph->marks);

    if (hostgpu_capture_of(stream))
        hostgpu_fail("cudaGraphLaunch: a graph in a capture is not emulated");
    for (const step &what : graph->steps) {
        cudaStream_t lane = hostgpu_lane(stream, what.lane);

        if (what.kind == step::MARKS)
            mark[what.mark] = hostgpu_mark_push(lane);
        else if (what.kind == step::WAITS)
            hostgpu_mark_wait(lane, mark[what.mark]);
        else
            hostgpu_push(lane, what.operation.anew ? what.operation.anew() : what.operation);
    }
    return cudaSuccess;
}

extern "C" cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    held lock;

    delete graph;
    return cudaSuccess;
}

/* What was launched still runs to its end. */
extern "C" cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph)
{
    held lock;

    delete graph;
    return cudaSuccess;
}
