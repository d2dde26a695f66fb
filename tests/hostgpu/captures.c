/* captures.c - the emulated device keeps CUDA's promises of captures and graphs, and breaks what CUDA breaks
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/cuda_launch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { COLUMNS = 8 };

static cudaStream_t stream, other;
static cudaEvent_t outside, inside, joined;
static float *host, *back, *x, *y, *z;

static int start(void **state)
{
    (void)state;
    return cuda_rows_load() || cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) ||
           cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking) ||
           cudaEventCreateWithFlags(&outside, cudaEventDisableTiming) ||
           cudaEventCreateWithFlags(&inside, cudaEventDisableTiming) ||
           cudaEventCreateWithFlags(&joined, cudaEventDisableTiming) ||
           cudaMallocHost((void **)&host, COLUMNS * sizeof *host) ||
           cudaMallocHost((void **)&back, COLUMNS * sizeof *back) ||
           cudaMalloc((void **)&x, COLUMNS * sizeof *x) || cudaMalloc((void **)&y, COLUMNS * sizeof *y) ||
           cudaMalloc((void **)&z, COLUMNS * sizeof *z);
}

static int end(void **state)
{
    (void)state;
    return cudaDeviceSynchronize() || cudaFree(z) || cudaFree(y) || cudaFree(x) || cudaFreeHost(back) ||
           cudaFreeHost(host) || cudaEventDestroy(joined) || cudaEventDestroy(inside) ||
           cudaEventDestroy(outside) || cudaStreamDestroy(other) || cudaStreamDestroy(stream);
}

static void begin(void)
{
    assert_int_equal(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
}

static struct matrix row_at(float *data)
{
    return (struct matrix){.data = data, .rows = 1, .columns = COLUMNS, .stride = COLUMNS};
}

static void set(float value)
{
    for (int i = 0; i < COLUMNS; i++)
        host[i] = value;
}

/* The first number of y, when everything is done. */
static float result(void)
{
    assert_int_equal(cudaMemcpyAsync(back, y, COLUMNS * sizeof *y, cudaMemcpyDeviceToHost, stream),
                     cudaSuccess);
    assert_int_equal(cudaStreamSynchronize(stream), cudaSuccess);
    return back[0];
}

static cudaGraphExec_t end_capture(void)
{
    cudaGraphExec_t exec;
    cudaGraph_t graph;

    assert_int_equal(cudaStreamEndCapture(stream, &graph), cudaSuccess);
    assert_int_equal(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
    assert_int_equal(cudaGraphDestroy(graph), cudaSuccess);
    return exec;
}

/* y += x, where x comes from the host. */
static cudaGraphExec_t capture_sum(void)
{
    struct matrix sum = row_at(y), more = row_at(x);

    begin();
    assert_int_equal(cudaMemcpyAsync(x, host, COLUMNS * sizeof *x, cudaMemcpyHostToDevice, stream),
                     cudaSuccess);
    assert_int_equal(cuda_rows_add(sum, more, stream), cudaSuccess);
    sum = more = (struct matrix){0}; /* the graph has what stood there */
    return end_capture();
}

static void each_launch_does_what_was_captured(void **state)
{
    cudaGraphExec_t exec;

    (void)state;
    assert_int_equal(cudaMemsetAsync(y, 0, COLUMNS * sizeof *y, stream), cudaSuccess);
    set(1);
    exec = capture_sum();
    assert_true(result() == 0); /* nothing ran at the capture */
    set(2);                     /* memory is read at the launch */
    assert_int_equal(cudaGraphLaunch(exec, stream), cudaSuccess);
    assert_true(result() == 2);
    set(5);
    assert_int_equal(cudaGraphLaunch(exec, stream), cudaSuccess);
    assert_true(result() == 7);
    assert_int_equal(cudaGraphExecDestroy(exec), cudaSuccess);
}

static cudaError_t fork_stream(void)
{
    cudaError_t error = cudaEventRecord(inside, stream);

    return error == cudaSuccess ? cudaStreamWaitEvent(other, inside, 0) : error;
}

static cudaError_t join_stream(void)
{
    cudaError_t error = cudaEventRecord(joined, other);

    return error == cudaSuccess ? cudaStreamWaitEvent(stream, joined, 0) : error;
}

static void clear(float *row, cudaStream_t on)
{
    assert_int_equal(cudaMemsetAsync(row, 0, COLUMNS * sizeof *row, on), cudaSuccess);
}

static void add(float *sum, float *more, cudaStream_t on)
{
    assert_int_equal(cuda_rows_add(row_at(sum), row_at(more), on), cudaSuccess);
}

/* y += x; beside it z = x, then z += x; y += z: four x more, at each launch. */
static void a_stream_that_waits_is_captured_and_its_work_comes_between(void **state)
{
    cudaGraphExec_t exec;

    (void)state;
    begin();
    assert_int_equal(cudaMemcpyAsync(x, host, COLUMNS * sizeof *x, cudaMemcpyHostToDevice, stream),
                     cudaSuccess);
    assert_int_equal(fork_stream(), cudaSuccess);
    clear(z, other);
    add(z, x, other);
    add(z, x, other);
    add(y, x, stream);
    assert_int_equal(join_stream(), cudaSuccess);
    add(y, z, stream);
    exec = end_capture();
    clear(y, stream);
    for (int launch = 1; launch < 6; launch++) {
        set((float)launch);
        assert_int_equal(cudaGraphLaunch(exec, stream), cudaSuccess);
        assert_true(result() == 3.0f * (float)(launch * (launch + 1) / 2));
    }
    set(1);
    for (int launch = 0; launch < 8; launch++) /* which follow each other without the host */
        assert_int_equal(cudaGraphLaunch(exec, stream), cudaSuccess);
    assert_true(result() == 3.0f * (5 * 6 / 2 + 8));
    assert_int_equal(cudaStreamQuery(other), cudaSuccess); /* nothing was queued on the stream itself */
    assert_int_equal(cudaGraphExecDestroy(exec), cudaSuccess);
}

/* What the graph has of two streams is in no order but that of the events. */
static void work_that_no_event_orders_runs_either_way(void **state)
{
    const char *order = getenv("HOSTGPU_ORDER");
    int cleared_last = 0, launches = 120;
    cudaGraphExec_t exec;

    (void)state;
    begin();
    assert_int_equal(fork_stream(), cudaSuccess);
    clear(y, other);
    add(y, x, stream);
    assert_int_equal(join_stream(), cudaSuccess);
    exec = end_capture();
    set(1);
    assert_int_equal(cudaMemcpyAsync(x, host, COLUMNS * sizeof *x, cudaMemcpyHostToDevice, stream),
                     cudaSuccess);
    for (int launch = 0; launch < launches; launch++) {
        clear(y, stream);
        assert_int_equal(cudaGraphLaunch(exec, stream), cudaSuccess);
        cleared_last += result() == 0;
    }
    if (order && strcmp(order, "random") == 0)
        assert_in_range(cleared_last, 1, launches - 1);
    assert_int_equal(cudaGraphExecDestroy(exec), cudaSuccess);
}

static void expect_end(cudaStream_t at, cudaError_t error)
{
    enum cudaStreamCaptureStatus status;
    cudaGraph_t graph;

    assert_int_equal(cudaStreamEndCapture(at, &graph), error);
    assert_null(graph);
    if (at != stream)
        return;
    assert_int_equal(cudaStreamIsCapturing(stream, &status), cudaSuccess);
    assert_int_equal(status, cudaStreamCaptureStatusNone);
    assert_int_equal(cudaStreamIsCapturing(other, &status), cudaSuccess);
    assert_int_equal(status, cudaStreamCaptureStatusNone);
}

static void a_stream_that_does_not_come_back_makes_no_graph(void **state)
{
    (void)state;
    begin();
    assert_int_equal(fork_stream(), cudaSuccess);
    clear(y, other);
    expect_end(stream, cudaErrorStreamCaptureUnjoined);

    begin(); /* more is queued behind the event that was waited for */
    assert_int_equal(fork_stream(), cudaSuccess);
    assert_int_equal(join_stream(), cudaSuccess);
    clear(y, other);
    expect_end(stream, cudaErrorStreamCaptureUnjoined);

    begin(); /* the event is recorded, and nobody waits for it */
    assert_int_equal(fork_stream(), cudaSuccess);
    clear(y, other);
    assert_int_equal(cudaEventRecord(joined, other), cudaSuccess);
    expect_end(stream, cudaErrorStreamCaptureUnjoined);
}

static void a_capture_ends_where_it_began(void **state)
{
    (void)state;
    expect_end(stream, cudaErrorIllegalState);
    begin();
    expect_end(other, cudaErrorIllegalState);
    assert_int_equal(fork_stream(), cudaSuccess);
    assert_int_equal(join_stream(), cudaSuccess);
    expect_end(other, cudaErrorStreamCaptureUnmatched);
    assert_int_equal(fork_stream(), cudaErrorStreamCaptureInvalidated);
    expect_end(stream, cudaErrorStreamCaptureInvalidated);
}

static void an_event_of_a_capture_that_is_over_cannot_be_waited_for(void **state)
{
    (void)state;
    begin();
    assert_int_equal(fork_stream(), cudaSuccess);
    assert_int_equal(join_stream(), cudaSuccess);
    assert_int_equal(cudaGraphExecDestroy(end_capture()), cudaSuccess);
    assert_int_equal(cudaStreamWaitEvent(other, joined, 0), cudaErrorCapturedEvent);
    begin();
    assert_int_equal(cudaStreamWaitEvent(stream, joined, 0), cudaErrorStreamCaptureIsolation);
    expect_end(stream, cudaErrorStreamCaptureInvalidated);
}

static cudaError_t query_forked(void)
{
    assert_int_equal(fork_stream(), cudaSuccess);
    return cudaStreamQuery(other);
}

static cudaError_t synchronize_forked(void)
{
    assert_int_equal(fork_stream(), cudaSuccess);
    return cudaStreamSynchronize(other);
}

/* The other stream went on without having waited for an event of the capture: it is not in it. */
static cudaError_t join_what_was_not_forked(void)
{
    clear(z, other);
    return join_stream();
}

static cudaError_t synchronize(void)
{
    return cudaStreamSynchronize(stream);
}

static cudaError_t query(void)
{
    return cudaStreamQuery(stream);
}

static cudaError_t take(void)
{
    void *p;

    return cudaMalloc(&p, 1);
}

static cudaError_t take_pinned(void)
{
    void *p;

    return cudaMallocHost(&p, 1);
}

static cudaError_t give_back(void)
{
    return cudaFree(x);
}

static cudaError_t query_event(void)
{
    return cudaEventQuery(outside);
}

static cudaError_t wait_outside(void)
{
    return cudaStreamWaitEvent(stream, outside, 0);
}

static const struct {
    const char *name;
    cudaError_t (*call)(void);
    cudaError_t error;
} forbidden[] = {
    {"cudaStreamSynchronize", synchronize, cudaErrorStreamCaptureUnsupported},
    {"cudaStreamQuery", query, cudaErrorStreamCaptureUnsupported},
    {"cudaDeviceSynchronize", cudaDeviceSynchronize, cudaErrorStreamCaptureUnsupported},
    {"cudaMalloc", take, cudaErrorStreamCaptureUnsupported},
    {"cudaMallocHost", take_pinned, cudaErrorStreamCaptureUnsupported},
    {"cudaFree", give_back, cudaErrorStreamCaptureUnsupported},
    {"cudaEventQuery", query_event, cudaErrorStreamCaptureUnsupported},
    {"cudaStreamWaitEvent", wait_outside, cudaErrorStreamCaptureIsolation},
    {"cudaStreamQuery of a second stream", query_forked, cudaErrorStreamCaptureUnsupported},
    {"cudaStreamSynchronize of a second stream", synchronize_forked, cudaErrorStreamCaptureUnsupported},
    {"waiting for a stream outside", join_what_was_not_forked, cudaErrorStreamCaptureIsolation},
};

static void forbidden_calls_spoil_the_capture(void **state)
{
    (void)state;
    assert_int_equal(cudaEventRecord(outside, other), cudaSuccess);
    for (size_t i = 0; i < sizeof forbidden / sizeof forbidden[0]; i++) {
        enum cudaStreamCaptureStatus status;
        cudaGraph_t graph;

        begin();
        assert_int_equal(cudaStreamIsCapturing(stream, &status), cudaSuccess);
        assert_int_equal(status, cudaStreamCaptureStatusActive);
        if (forbidden[i].call() != forbidden[i].error)
            fail_msg("%s is allowed in a capture", forbidden[i].name);
        if (cudaStreamEndCapture(stream, &graph) != cudaErrorStreamCaptureInvalidated || graph)
            fail_msg("%s leaves a capture whole", forbidden[i].name);
    }
    assert_int_equal(cudaStreamSynchronize(stream), cudaSuccess); /* as before */
}

static void an_event_of_a_capture_tells_nothing(void **state)
{
    cudaGraph_t graph;

    (void)state;
    begin();
    assert_int_equal(cudaEventRecord(inside, stream), cudaSuccess);
    assert_int_equal(cudaStreamEndCapture(stream, &graph), cudaSuccess);
    assert_int_equal(cudaEventQuery(inside), cudaErrorCapturedEvent);
    assert_int_equal(cudaEventSynchronize(inside), cudaErrorCapturedEvent);
    assert_int_equal(cudaGraphDestroy(graph), cudaSuccess);
    assert_int_equal(cudaEventRecord(inside, stream), cudaSuccess);
    assert_int_equal(cudaEventSynchronize(inside), cudaSuccess);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_launch_does_what_was_captured),
        cmocka_unit_test(a_stream_that_waits_is_captured_and_its_work_comes_between),
        cmocka_unit_test(work_that_no_event_orders_runs_either_way),
        cmocka_unit_test(a_stream_that_does_not_come_back_makes_no_graph),
        cmocka_unit_test(a_capture_ends_where_it_began),
        cmocka_unit_test(an_event_of_a_capture_that_is_over_cannot_be_waited_for),
        cmocka_unit_test(forbidden_calls_spoil_the_capture),
        cmocka_unit_test(an_event_of_a_capture_tells_nothing),
    };

    return cmocka_run_group_tests(tests, start, end);
}
