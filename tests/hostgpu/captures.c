/* captures.c - the emulated device keeps CUDA's promises of captures and graphs, and breaks what CUDA breaks
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/cuda_launch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { COLUMNS = 8 };

static cudaStream_t stream, other;
static cudaEvent_t outside, inside;
static float *host, *back, *x, *y;

static int start(void **state)
{
    (void)state;
    return cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) ||
           cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking) ||
           cudaEventCreateWithFlags(&outside, cudaEventDisableTiming) ||
           cudaEventCreateWithFlags(&inside, cudaEventDisableTiming) ||
           cudaMallocHost((void **)&host, COLUMNS * sizeof *host) ||
           cudaMallocHost((void **)&back, COLUMNS * sizeof *back) ||
           cudaMalloc((void **)&x, COLUMNS * sizeof *x) || cudaMalloc((void **)&y, COLUMNS * sizeof *y);
}

static int end(void **state)
{
    (void)state;
    return cudaFree(y) || cudaFree(x) || cudaFreeHost(back) || cudaFreeHost(host) ||
           cudaEventDestroy(inside) || cudaEventDestroy(outside) || cudaStreamDestroy(other) ||
           cudaStreamDestroy(stream);
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

/* y += x, where x comes from the host. */
static cudaGraphExec_t capture_sum(void)
{
    struct matrix sum = row_at(y), more = row_at(x);
    cudaGraphExec_t exec;
    cudaGraph_t graph;

    begin();
    assert_int_equal(cudaMemcpyAsync(x, host, COLUMNS * sizeof *x, cudaMemcpyHostToDevice, stream),
                     cudaSuccess);
    assert_int_equal(cuda_rows_add(sum, more, stream), cudaSuccess);
    sum = more = (struct matrix){0}; /* the graph has what stood there */
    assert_int_equal(cudaStreamEndCapture(stream, &graph), cudaSuccess);
    assert_int_equal(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
    assert_int_equal(cudaGraphDestroy(graph), cudaSuccess);
    return exec;
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
        cmocka_unit_test(forbidden_calls_spoil_the_capture),
        cmocka_unit_test(an_event_of_a_capture_tells_nothing),
    };

    return cmocka_run_group_tests(tests, start, end);
}
