/* sums.c - checksums that a device adds up are those of the host, wherever memory begins and however it is
 * cut
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels/checksum.h"
#include "kernels/cuda/cuda_launch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { MOST = 40000, GUARD = 64 };

static uint64_t seed = 1;
static int rounds = 24;
static cudaStream_t stream;
static unsigned char *here, *there; /* [MOST + GUARD] pinned and of the device */
static uint64_t *told, *parts;      /* [CUDA_SUM_PARTS] likewise */

static size_t draw(size_t below)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (size_t)(seed >> 33) % below;
}

static int start(void **unused)
{
    void *p[4];

    (void)unused;
    if (cuda_sum_load() || cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) ||
        cudaMallocHost(&p[0], MOST + GUARD) || cudaMalloc(&p[1], MOST + GUARD) ||
        cudaMallocHost(&p[2], CUDA_SUM_PARTS * sizeof *told) ||
        cudaMalloc(&p[3], CUDA_SUM_PARTS * sizeof *parts))
        return 1;
    here = p[0], there = p[1], told = p[2], parts = p[3];
    return 0;
}

static uint64_t total(void)
{
    uint64_t sum = 0;

    assert_int_equal(
        cudaMemcpyAsync(told, parts, CUDA_SUM_PARTS * sizeof *told, cudaMemcpyDeviceToHost, stream),
        cudaSuccess);
    assert_int_equal(cudaStreamSynchronize(stream), cudaSuccess);
    for (int i = 0; i < CUDA_SUM_PARTS; i++)
        sum += told[i];
    return sum;
}

static void sums_of_pieces_add_up_to_that_of_the_host(void **unused)
{
    (void)unused;
    for (int round = 0; round < rounds; round++) {
        size_t bytes = draw(round % 2 ? MOST : 600) / 4 * 4, first = draw(GUARD) / 4 * 4, at = draw(1000) * 4;

        for (size_t i = 0; i < bytes; i++)
            here[first + i] = (unsigned char)draw(256);
        assert_int_equal(cudaMemcpyAsync(there, here, MOST + GUARD, cudaMemcpyHostToDevice, stream),
                         cudaSuccess);
        assert_int_equal(cudaMemsetAsync(parts, 0, CUDA_SUM_PARTS * sizeof *parts, stream), cudaSuccess);
        for (size_t done = 0; done < bytes;) {
            size_t piece = 4 + draw(bytes - done) / 4 * 4;

            assert_int_equal(cuda_sum_words(parts, there + first + done, piece, at + done, stream),
                             cudaSuccess);
            done += piece;
        }
        assert_true(total() == checksum_add(0, here + first, bytes, at));
    }
}

static void what_has_changed_or_has_moved_has_another_sum(void **unused)
{
    unsigned char bytes[64];
    uint64_t sum;

    (void)unused;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)draw(256);
    sum = checksum_add(0, bytes, sizeof bytes, 8);
    assert_true(sum != checksum_add(0, bytes, sizeof bytes, 12));
    assert_true(sum != checksum_add(0, bytes, sizeof bytes - 3, 8));
    for (size_t bit = 0; bit < 8 * sizeof bytes; bit++) {
        bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
        assert_true(sum != checksum_add(0, bytes, sizeof bytes, 8));
        bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    for (size_t word = 0; word + 8 <= sizeof bytes; word += 4) {
        unsigned char swapped[sizeof bytes];

        memcpy(swapped, bytes, sizeof bytes);
        memcpy(swapped + word, bytes + word + 4, 4);
        memcpy(swapped + word + 4, bytes + word, 4);
        assert_true(sum != checksum_add(0, swapped, sizeof bytes, 8));
    }
}

static void memory_that_is_not_of_words_is_refused(void **unused)
{
    (void)unused;
    assert_int_equal(cuda_sum_words(parts, there + 2, 8, 0, stream), cudaErrorMisalignedAddress);
    assert_int_equal(cuda_sum_words(parts, there, 6, 0, stream), cudaErrorMisalignedAddress);
    assert_int_equal(cuda_sum_words(parts, there, 8, 1, stream), cudaErrorMisalignedAddress);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_of_pieces_add_up_to_that_of_the_host),
        cmocka_unit_test(what_has_changed_or_has_moved_has_another_sum),
        cmocka_unit_test(memory_that_is_not_of_words_is_refused),
    };

    if (argc > 1)
        seed = strtoull(argv[1], NULL, 10) * 0x9e3779b97f4a7c15U + 1;
    if (argc > 2 && atoi(argv[2]) < rounds)
        rounds = atoi(argv[2]);
    printf("seed %llu\n", (unsigned long long)seed);
    return cmocka_run_group_tests(tests, start, NULL);
}
