/* test_device.c - memory of the device: one pool, pieces of it, and what travels there through pinned memory
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/cuda_load.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { MIB = 1 << 20, BUSY = 4000, OWN = CUDA_PLAN_RING_BYTES + CUDA_PLAN_PARTIAL_FLOATS * 4 };

static struct cuda_device device;
static int64_t waits;

static void must(enum status status)
{
    if (status != STATUS_OK)
        fail_msg("%s", status_text());
}

static void open_device(size_t memory)
{
    must(cuda_device_open(&device, 0, memory));
    device.waits = &waits;
    waits = 0;
}

static unsigned char pattern(size_t i)
{
    return (unsigned char)(i * 2654435761u >> 13);
}

static unsigned char *patterned(size_t bytes)
{
    unsigned char *data = malloc(bytes);

    assert_non_null(data);
    for (size_t i = 0; i < bytes; i++)
        data[i] = pattern(i);
    return data;
}

/* `bytes` on the device are the pattern from `first` on. */
static void expect_pattern(const void *there, size_t first, size_t bytes)
{
    unsigned char *data = malloc(bytes);

    assert_non_null(data);
    must(cuda_device_bring(&device, data, there, bytes));
    for (size_t i = 0; i < bytes; i++)
        if (data[i] != pattern(first + i))
            fail_msg("byte %zu is %d, not %d", i, data[i], pattern(first + i));
    free(data);
}

/* Pieces are zero, aligned, and behind each other; what was not planned is refused with both numbers. */
static void a_pool_gives_what_was_planned(void **state)
{
    unsigned char bytes[100];
    void *first, *second, *third;

    (void)state;
    open_device(OWN + 1024);
    must(cuda_device_take(&device, 100, "one", &first));
    must(cuda_device_take(&device, 512, "two", &second));
    assert_int_equal((uintptr_t)first % CUDA_PLAN_ALIGN, 0);
    assert_int_equal((char *)second - (char *)first, 256);
    must(cuda_device_bring(&device, bytes, first, sizeof bytes));
    for (size_t i = 0; i < sizeof bytes; i++)
        assert_int_equal(bytes[i], 0);
    assert_int_equal(cuda_device_take(&device, 257, "three", &third), STATUS_NO_MEMORY);
    assert_non_null(strstr(status_text(), "three, 257 bytes"));
    assert_non_null(strstr(status_text(), "256 are left"));
    must(cuda_device_take(&device, 256, "three", &third));
    assert_int_equal(cuda_device_take(&device, 1, "four", &third), STATUS_NO_MEMORY);
    cuda_device_close(&device);
}

static void more_than_was_free_is_refused(void **state)
{
    (void)state;
    assert_int_equal(cuda_device_open(&device, 0, (size_t)1 << 50), STATUS_NO_MEMORY);
    assert_non_null(strstr(status_text(), "lower --gpu-memory-utilization to 0."));
}

/* Many times the ring, so that its places are used again; whether the old content has travelled only a wait
 * can tell. */
static void what_is_uploaded_arrives_whole(void **state)
{
    enum { BYTES = 3 * CUDA_PLAN_RING_BYTES + 12345 };
    unsigned char *data = patterned(BYTES);
    void *there;

    (void)state;
    open_device(0);
    must(cuda_device_take(&device, BYTES, "a test", &there));
    must(cuda_device_upload(&device, there, data, BYTES));
    assert_in_range(waits, 1, BYTES / CUDA_PLAN_RING_BYTES + 1);
    expect_pattern(there, 0, BYTES);
    must(cuda_device_wait(&device));
    cuda_device_give_back(&device, there);
    cuda_device_close(&device);
    free(data);
}

/* Arrays that an entry sends lie where they were sent until the next wait, also those of odd sizes. */
static void the_ring_keeps_what_was_sent(void **state)
{
    enum { ROUNDS = 40 };
    unsigned char *data = patterned(MIB + ROUNDS * 1000);
    void *there;

    (void)state;
    open_device(0);
    must(cuda_device_take(&device, (size_t)ROUNDS * MIB, "a test", &there));
    for (int i = 0; i < ROUNDS; i++) {
        size_t bytes = (size_t)MIB - (size_t)i * 777;
        const void *sent;

        must(cuda_device_send(&device, data + (ptrdiff_t)i * 1000, bytes, &sent));
        assert_int_equal(cudaMemcpyAsync((char *)there + (ptrdiff_t)i * MIB, sent, bytes,
                                         cudaMemcpyDeviceToDevice, device.stream),
                         cudaSuccess);
    }
    assert_in_range(waits, ROUNDS / 9, ROUNDS / 7);
    for (int i = 0; i < ROUNDS; i++)
        expect_pattern((char *)there + (ptrdiff_t)i * MIB, (size_t)i * 1000, (size_t)MIB - (size_t)i * 777);
    must(cuda_device_wait(&device));
    cuda_device_give_back(&device, there);
    cuda_device_close(&device);
    free(data);
}

/* Whether nothing or many times the ring is sent meanwhile, which takes the place of what was fetched. */
static void what_is_fetched_arrives_whole(void **state)
{
    enum { BYTES = 3 * MIB + 777, TIMES = 20 };
    unsigned char *data = patterned(BYTES + MIB), *host = malloc(BYTES);
    void *there;

    (void)state;
    assert_non_null(host);
    open_device(0);
    must(cuda_device_take(&device, BYTES, "a test", &there));
    must(cuda_device_upload(&device, there, data, BYTES));
    for (int times = 0; times <= TIMES; times += TIMES) {
        const void *sent;

        must(cuda_device_wait(&device));
        memset(host, 0, BYTES);
        waits = 0;
        must(cuda_device_fetch(&device, host, there, BYTES));
        assert_int_equal(waits, 0);
        for (int i = 0; i < times; i++)
            must(cuda_device_send(&device, data + i + 1, MIB, &sent));
        must(cuda_device_fetched(&device));
        assert_int_equal(waits,
                         times == 0 ? 1 : 2); /* the ring twice, and then nothing is left to wait for */
        assert_memory_equal(host, data, BYTES);
    }
    must(cuda_device_wait(&device));
    cuda_device_give_back(&device, there);
    cuda_device_close(&device);
    free(host);
    free(data);
}

/* Blocks of any size, many times both buffers: all arrive, and the host waits less than once a buffer. */
static void what_is_loaded_arrives_whole(void **state)
{
    enum { BYTES = 6 * CUDA_LOAD_BYTES };
    unsigned char *data = patterned(BYTES);
    struct cuda_load load;
    size_t done = 0;
    void *there;

    (void)state;
    open_device(0);
    must(cuda_load_open(&load));
    must(cuda_device_take(&device, BYTES, "a test", &there));
    for (int i = 0; done < BYTES; i++) {
        size_t bytes = i % 5 == 4 ? CUDA_LOAD_BYTES : (size_t)(i + 1) * 77777 % (3 * MIB);
        void *room;

        bytes = bytes < BYTES - done ? bytes : BYTES - done;
        must(cuda_load_room(&load, &device, bytes, &room));
        memcpy(room, data + done, bytes);
        must(cuda_load_send(&load, &device, (char *)there + done, room, bytes));
        done += bytes;
    }
    assert_in_range(waits, 1, BYTES / CUDA_LOAD_BYTES + 4); /* a block that does not fit leaves a rest */
    expect_pattern(there, 0, BYTES);
    must(cuda_device_wait(&device));
    cuda_device_give_back(&device, there);
    cuda_device_close(&device);
    cuda_load_close(&load);
    free(data);
}

/* More than gets done by itself before the next call. */
static void keep_busy(void *piece)
{
    for (int i = 0; i < BUSY; i++)
        assert_int_equal(cudaMemsetAsync(piece, 1, 1, device.stream), cudaSuccess);
}

/* With a pool and without: the emulated device ends the process where memory goes back that may still be
 * used. */
static void nothing_goes_back_while_it_is_used(void **state)
{
    static const size_t memory[] = {0, OWN + CUDA_PLAN_ALIGN};
    void *piece;

    (void)state;
    for (int i = 0; i < 2; i++) {
        open_device(memory[i]);
        must(cuda_device_take(&device, 1, "a test", &piece));
        keep_busy(piece);
        cuda_device_give_back(&device, piece);
        keep_busy(device.partial);
        cuda_device_close(&device);
    }
}

static void a_backend_is_closed_in_the_middle_of_its_work(void **state)
{
    struct module_request request = {.exact = true, .memory = cuda_plan_own_bytes(true) + CUDA_PLAN_ALIGN};
    struct kernels *k;
    void *piece;

    (void)state;
    must(cuda_open(&request, &k));
    must(k->alloc(k, sizeof request, "a test", &piece));
    for (int i = 0; i < BUSY; i++)
        must(k->upload(k, piece, &request, sizeof request));
    k->close(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pool_gives_what_was_planned),
        cmocka_unit_test(more_than_was_free_is_refused),
        cmocka_unit_test(what_is_uploaded_arrives_whole),
        cmocka_unit_test(the_ring_keeps_what_was_sent),
        cmocka_unit_test(what_is_loaded_arrives_whole),
        cmocka_unit_test(what_is_fetched_arrives_whole),
        cmocka_unit_test(nothing_goes_back_while_it_is_used),
        cmocka_unit_test(a_backend_is_closed_in_the_middle_of_its_work),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
