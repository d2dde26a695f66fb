/* runtime.h - what the parts of the emulated device tell each other
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * The runtime is never compiled with a sanitizer: what it does itself must be invisible to the race checker,
 * which is told about accesses and order (and nothing else) by the hostgpu_race_* calls. */
#ifndef HOSTGPU_RUNTIME_H
#define HOSTGPU_RUNTIME_H

#include <cuda_runtime.h>
#include <stdint.h>
#include <stdio.h>

#include <functional>
#include <memory>
#include <mutex>
#include <vector>

struct hostgpu_thread {
    uint3 tid, bid;
    dim3 bdim, gdim;
};

/* Logical time: [0] counts what the host did, [1 + n] the operations of stream n. */
using hostgpu_clock = std::vector<uint32_t>;

/* Where the running code stands. One for each thread of the host: device code runs on whichever thread
 * drives the device. */
struct hostgpu_place {
    const char *what = "host";      /* operation, for messages */
    int stream = 0;                 /* 0: host; 1 + number */
    uint32_t operation = 0;         /* of that stream */
    uint32_t host_operation = 1;    /* of the host: how many pushes came before */
    uint32_t block = ~0u;           /* ~0: no kernel */
    uint16_t thread = 0;            /* in its block */
    uint16_t barrier = 0, warp = 0; /* epochs: how many the thread has passed */
    bool in_kernel = false;
    hostgpu_clock *seen = nullptr; /* what happened before */
};

hostgpu_place &hostgpu_here(void);

/* The device's lock: every call of the CUDA interface holds it, and so does the device thread while it works.
 */
std::recursive_mutex &hostgpu_lock(void);

/* An operation of a stream. `run` when it is at the head of its stream and `ready` says so (empty: always).
 */
struct hostgpu_operation {
    const char *what;
    std::function<void()> run;
    std::function<bool()> ready;
    std::function<void()> hurry; /* makes what it waits for happen first, in lazy order */
    std::shared_ptr<hostgpu_clock> host_seen;
    std::function<hostgpu_operation()> anew = {}; /* what every launch of a graph queues in its place */
    std::function<bool()> part = {}; /* in place of run: false as long as there is more of it to come */
};

/* Appends to a stream. Nothing runs at the call unless the order by chance or by wish says so. */
void hostgpu_push(cudaStream_t stream, hostgpu_operation operation);

/* A place in a stream: that what was queued before is done. */
struct hostgpu_mark {
    cudaStream_t stream; /* NULL: none, there is nothing to wait for */
    uint64_t upto;       /* operations of it */
    std::shared_ptr<hostgpu_clock> seen;
};
hostgpu_mark hostgpu_mark_push(cudaStream_t stream);
void hostgpu_mark_wait(cudaStream_t stream, const hostgpu_mark &mark);

/* Where launches on a stream put what a graph has of one stream: 0 is the stream itself. Graphs that are
 * launched on one stream follow each other, so they share these. */
cudaStream_t hostgpu_lane(cudaStream_t stream, size_t lane);

/* Captures (graph.cpp): the graph that takes what is queued on a stream; NULL: it runs. */
CUgraph_st *hostgpu_capture_of(cudaStream_t stream);
void hostgpu_capture_set(cudaStream_t stream, CUgraph_st *graph);
void hostgpu_capture_add(CUgraph_st *graph, cudaStream_t stream, hostgpu_operation operation);
/* An event that was recorded in a capture, and a stream that waits for it: it is captured from here on. */
struct hostgpu_captured {
    uint64_t capture; /* 0: none, it says when a stream has done what was queued */
    size_t mark;
};
hostgpu_captured hostgpu_capture_mark(CUgraph_st *graph, cudaStream_t stream);
cudaError_t hostgpu_capture_wait(cudaStream_t stream, hostgpu_captured event);
/* A call that no capture of this thread allows: the capture is void, and this is what the call returns. */
cudaError_t hostgpu_capture_forbids(void);
cudaError_t hostgpu_capture_spoil(CUgraph_st *graph, cudaError_t error);

/* All that was queued anywhere has been done. */
bool hostgpu_idle(void);

/* Runs one operation that can run now; false when none can. */
bool hostgpu_advance(void);

/* 0 ... n - 1 from the seed. */
uint32_t hostgpu_random(uint32_t n);

/* --hostgpu settings come from the environment of the test: HOSTGPU_SEED, HOSTGPU_ORDER=eager|lazy|random,
 * HOSTGPU_RESIDENT (blocks alive at once), HOSTGPU_TIMEOUT (seconds), HOSTGPU_TRACE (a folder). */
enum hostgpu_order { HOSTGPU_EAGER, HOSTGPU_LAZY, HOSTGPU_RANDOM };
struct hostgpu_settings {
    uint64_t seed;
    hostgpu_order order;
    int resident;
    int timeout;
    FILE *trace; /* NULL: none is wanted */
};
const hostgpu_settings &hostgpu_settings_get(void);
/* As HOSTGPU_TIMEOUT, from now on: for a test that has come to where nothing shall move any more. */
extern "C" void hostgpu_patience(int seconds);

/* HOSTGPU_STRIKE=signal:count:operation: this process gets that signal when so many operations of that name
 * have come to its streams, before the last of them is queued. */
void hostgpu_strike(const char *what);

/* Queues a kernel of which `run` is all: its arguments have been checked. For launches that bring their own
 * machine. */
cudaError_t hostgpu_launch_whole(dim3 grid, dim3 block, size_t shared, cudaStream_t stream, const char *name,
                                 std::function<void()> run);

/* A kernel of `grid` blocks, and a part of it: true when it has come to its end, false when all its threads
 * wait for what somebody else writes. */
struct hostgpu_run;
std::shared_ptr<hostgpu_run> hostgpu_block_begin(const char *name, dim3 grid, dim3 block, size_t shared,
                                                 const std::function<void()> &body);
bool hostgpu_block_part(hostgpu_run *run);

/* Shared memory of a block, whose kernel has not asked for more by cudaFuncSetAttribute, as none does. */
enum { HOSTGPU_SHARED_BYTES = 48 << 10 };

/* Ends the process when another thread has chosen a device and this one has not. */
void hostgpu_device_check(const char *call);

/* Whether the code of a kernel was loaded, hostgpu_load. */
bool hostgpu_loaded(const void *code);

/* Memory: ends the process when [p, p + bytes) is not one allocation of the device (or of the host). */
void hostgpu_memory_check(const void *p, size_t bytes, bool device, const char *what);
size_t hostgpu_memory_bytes(void); /* of the device */
/* Memory of the device that a library takes and nobody else reaches: only counted, in whole granules. */
cudaError_t hostgpu_memory_hold(size_t bytes);
void hostgpu_memory_let_go(size_t bytes);
/* Memory of the device, whole pages, that other processes have too: `bytes` of a file. */
cudaError_t hostgpu_memory_share(void **out, size_t bytes, int file);
bool hostgpu_memory_is_device(const void *p, size_t bytes);
/* The allocation that holds p and that the device reaches, pinned memory too; false: there is none. */
bool hostgpu_memory_find(const void *p, uintptr_t *start, uintptr_t *end);
void hostgpu_poison(void *p, size_t bytes); /* NaN in float, bf16 and half */

/* Ends the process with exit code 97 and one line that says where. */
extern "C" void hostgpu_fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

/* Hooks, weak in hook.cpp: the race checker and NCCL's stand-in replace them. */
void hostgpu_race_memory(void *p, size_t bytes, bool shared); /* appears; bytes 0: goes */
void hostgpu_race_access(const void *p, size_t bytes, bool write, const void *from);
void hostgpu_why_stuck(void);

/* Tells of an access made by code that is not instrumented. */
inline void hostgpu_touch(const void *p, size_t bytes, bool write)
{
    hostgpu_race_access(p, bytes, write, __builtin_return_address(0));
}

#endif
