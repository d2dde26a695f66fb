/* graph.cpp - captures of a stream, and the graphs that are made of them
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * What is queued on a stream under capture does not run: the graph takes it, its arguments as they are, and
 * every launch queues all of it again. Memory is looked at when that runs. One stream is captured at a time,
 * from the thread that began; a call that CUDA forbids meanwhile spoils the capture, as there. */
#include "runtime.h"

#include <thread>

struct CUgraph_st {
    std::vector<hostgpu_operation> operations;
    bool spoilt = false;
};

struct CUgraphExec_st {
    std::vector<hostgpu_operation> operations;
};

struct capture {
    cudaStream_t stream; /* NULL: none is captured */
    CUgraph_st *graph;
    std::thread::id thread;
};

static capture under_way;

struct held {
    std::lock_guard<std::recursive_mutex> guard;
    held() : guard(hostgpu_lock())
    {
    }
};

void hostgpu_capture_add(CUgraph_st *graph, hostgpu_operation operation)
{
    if (!graph->spoilt)
        graph->operations.push_back(std::move(operation));
}

cudaError_t hostgpu_capture_spoil(CUgraph_st *graph, cudaError_t error)
{
    graph->spoilt = true;
    graph->operations.clear();
    return error;
}

cudaError_t hostgpu_capture_forbids(void)
{
    held lock;

    if (!under_way.stream || under_way.thread != std::this_thread::get_id())
        return cudaSuccess;
    return hostgpu_capture_spoil(under_way.graph, cudaErrorStreamCaptureUnsupported);
}

extern "C" cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
    held lock;

    if (mode != cudaStreamCaptureModeThreadLocal)
        hostgpu_fail("cudaStreamBeginCapture: mode %d forbids other threads their calls", (int)mode);
    if (under_way.stream)
        hostgpu_fail("cudaStreamBeginCapture: a second capture at the same time is not emulated");
    under_way = {stream, new CUgraph_st, std::this_thread::get_id()};
    hostgpu_capture_set(stream, under_way.graph);
    return cudaSuccess;
}

extern "C" cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out)
{
    held lock;
    CUgraph_st *graph = under_way.graph;

    *out = nullptr;
    if (under_way.stream != stream || under_way.thread != std::this_thread::get_id())
        return cudaErrorIllegalState;
    hostgpu_capture_set(stream, nullptr);
    under_way = {};
    if (graph->spoilt) {
        delete graph;
        return cudaErrorStreamCaptureInvalidated;
    }
    *out = graph;
    return cudaSuccess;
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
    *out = new CUgraphExec_st{graph->operations};
    return cudaSuccess;
}

extern "C" cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream)
{
    held lock;

    if (hostgpu_capture_of(stream))
        hostgpu_fail("cudaGraphLaunch: a graph in a capture is not emulated");
    for (const hostgpu_operation &operation : graph->operations)
        hostgpu_push(stream, operation.anew ? operation.anew() : operation);
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
