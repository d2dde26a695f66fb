/* stores.c - rows stored into the windows of other ranks arrive, and are not overwritten before they are read
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * The kernels of cuda_lsa.cu alone: the ranks are streams of one device and their windows its memory, so that
 * the race detector sees all sides. Arguments: the seed, and the most rounds. Built with -DSTORES_IN_TURN all
 * ranks have stored before one waits, for an interpreter that runs a kernel to its end at once. */
#include "kernels/cuda/cuda_launch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { RANKS = 4, PLACE = 4096, WORDS = PLACE / 4, EXCHANGES = 9, STATES = RANKS * CUDA_LSA_CHUNKS };

/* The numbers in the flags wrap around on the way. */
static const uint64_t FIRST = (1 << 16) - 4;
static const struct cuda_lsa_patience LONG = {UINT64_C(60000000000), UINT64_C(60000000000)};
static const struct cuda_lsa_patience SHORT = {1000000, 3000000};

struct side {
    cudaStream_t stream;
    struct cuda_lsa lsa;
    char *window;
    uint32_t *rows;            /* on the device: what the next exchange sends */
    uint32_t *sent[EXCHANGES]; /* pinned */
    uint32_t *came[EXCHANGES]; /* pinned: as it lies there after the next call, too */
    volatile int32_t *state;   /* pinned */
    char **reached;            /* pinned */
};

static struct side side[RANKS];
static uint64_t seed = 1;
static int rounds = 12;

static uint32_t draw(uint32_t below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 32) % below;
}

static void settle(void)
{
    for (int r = 0; r < RANKS; r++)
        assert_int_equal(cudaStreamSynchronize(side[r].stream), cudaSuccess);
}

static int take(struct side *s)
{
    int bad = cudaStreamCreateWithFlags(&s->stream, cudaStreamNonBlocking) ||
              cudaMalloc((void **)&s->window, cuda_plan_window_bytes(RANKS, PLACE)) ||
              cudaMalloc((void **)&s->rows, PLACE) ||
              cudaMalloc((void **)&s->lsa.window, RANKS * sizeof(char *)) ||
              cudaMallocHost((void **)&s->reached, RANKS * sizeof(char *)) ||
              cudaMallocHost((void **)(uintptr_t)&s->state, STATES * sizeof(int32_t));

    for (int e = 0; e < EXCHANGES && !bad; e++)
        bad = cudaMallocHost((void **)&s->sent[e], PLACE) || cudaMallocHost((void **)&s->came[e], PLACE);
    return bad;
}

static int start(void **unused)
{
    (void)unused;
    for (int r = 0; r < RANKS; r++)
        if (take(&side[r]))
            return 1;
    return 0;
}

/* A group of the first `ranks`, no flag raised. */
static void begin(int ranks)
{
    for (int r = 0; r < ranks; r++) {
        struct side *s = &side[r];

        for (int other = 0; other < ranks; other++)
            s->reached[other] = side[other].window;
        memset((void *)(uintptr_t)s->state, 0, STATES * sizeof(int32_t));
        s->lsa.place = PLACE;
        s->lsa.rank = r;
        s->lsa.ranks = ranks;
        assert_int_equal(cudaMemcpyAsync((void *)(uintptr_t)s->lsa.window, s->reached,
                                         (size_t)ranks * sizeof(char *), cudaMemcpyHostToDevice, s->stream),
                         cudaSuccess);
        assert_int_equal(
            cudaMemsetAsync(s->window + CUDA_LSA_PLACES * PLACE, 0, cuda_plan_flag_bytes(ranks), s->stream),
            cudaSuccess);
    }
    settle();
}

static void push(struct side *s, int e, size_t bytes)
{
    size_t all = bytes * (size_t)s->lsa.ranks;

    for (size_t i = 0; i < all / 4; i++)
        s->sent[e][i] = draw(1 << 30);
    assert_int_equal(cudaMemcpyAsync(s->rows, s->sent[e], all, cudaMemcpyHostToDevice, s->stream),
                     cudaSuccess);
    assert_int_equal(cuda_lsa_push(s->lsa, s->rows, bytes, FIRST + (uint64_t)e, s->stream), cudaSuccess);
}

/* What came in exchange e, as it is when this is reached. */
static void read_back(struct side *s, int e, size_t bytes)
{
    assert_int_equal(cudaMemcpyAsync(s->came[e], s->window + cuda_lsa_place_at(PLACE, FIRST + (uint64_t)e),
                                     bytes * (size_t)s->lsa.ranks, cudaMemcpyDeviceToHost, s->stream),
                     cudaSuccess);
}

/* Rows are read after the next exchange has been waited for: the last moment that is allowed. */
static void wait_and_read(struct side *s, int e, const size_t *bytes)
{
    assert_int_equal(cuda_lsa_wait(s->lsa, bytes[e], FIRST + (uint64_t)e, LONG, s->state, s->stream),
                     cudaSuccess);
    if (e > 0)
        read_back(s, e - 1, bytes[e - 1]);
    if (e == EXCHANGES - 1)
        read_back(s, e, bytes[e]);
}

static void check(int ranks, int e, size_t bytes)
{
    for (int to = 0; to < ranks; to++)
        for (int from = 0; from < ranks; from++)
            if (memcmp(side[to].came[e] + (size_t)from * bytes / 4,
                       side[from].sent[e] + (size_t)to * bytes / 4, bytes) != 0)
                fail_msg("exchange %d of %zu bytes: what rank %d sent to rank %d of %d did not come", e,
                         bytes, from, to, ranks);
}

static void exchange_some(int ranks)
{
    size_t bytes[EXCHANGES];

    begin(ranks);
    for (int e = 0; e < EXCHANGES; e++) {
        bytes[e] = 4 * (1 + (size_t)draw(WORDS / RANKS));
        bytes[e] = draw(2) ? bytes[e] : (bytes[e] + 15) / 16 * 16;
#ifdef STORES_IN_TURN
        for (int r = 0; r < ranks; r++)
            push(&side[r], e, bytes[e]);
        settle();
        for (int r = 0; r < ranks; r++)
            wait_and_read(&side[r], e, bytes);
        settle();
#else
        for (int r = 0; r < ranks; r++) {
            push(&side[r], e, bytes[e]);
            wait_and_read(&side[r], e, bytes);
        }
#endif
    }
    settle();
    for (int e = 0; e < EXCHANGES; e++)
        check(ranks, e, bytes[e]);
    for (int r = 0; r < ranks; r++)
        for (int i = 0; i < STATES; i++)
            assert_int_equal(side[r].state[i], CUDA_LSA_WELL);
}

static void rows_arrive_and_stay_until_the_second_next_call(void **unused)
{
    (void)unused;
    for (int round = 0; round < rounds; round++)
        exchange_some(1 + round % RANKS);
}

static void expect_states(int at, enum cuda_lsa_state one, enum cuda_lsa_state other)
{
    for (int r = 0; r < 2; r++)
        for (int i = 0; i < CUDA_LSA_CHUNKS; i++)
            assert_int_equal(side[at].state[r * CUDA_LSA_CHUNKS + i], r == 0 ? one : other);
}

/* The kernel ends, and the next one does not begin to wait again. */
static void rows_that_do_not_come_are_given_up_by_name(void **unused)
{
    (void)unused;
    begin(2);
    push(&side[0], 0, 64);
    for (int again = 0; again < 2; again++) {
        assert_int_equal(cuda_lsa_wait(side[0].lsa, 64, FIRST, SHORT, side[0].state, side[0].stream),
                         cudaSuccess);
        settle();
        expect_states(0, CUDA_LSA_WELL, CUDA_LSA_MISSING);
    }
}

static void rows_of_another_size_are_told(void **unused)
{
    (void)unused;
    begin(2);
    push(&side[0], 0, 64);
    push(&side[1], 0, 68);
    settle();
    assert_int_equal(cuda_lsa_wait(side[0].lsa, 64, FIRST, LONG, side[0].state, side[0].stream), cudaSuccess);
    settle();
    expect_states(0, CUDA_LSA_WELL, CUDA_LSA_OTHER_SIZE);
}

#ifndef STORES_IN_TURN
/* While the kernel runs, as the host looks at it. */
__attribute__((no_sanitize("thread"))) static int32_t look(int i)
{
    return side[0].state[i];
}

static void who_is_late_is_told_while_the_others_wait_and_may_still_come(void **unused)
{
    static const struct cuda_lsa_patience soon = {1000000, UINT64_C(60000000000)};

    (void)unused;
    begin(2);
    push(&side[0], 0, 64);
    assert_int_equal(cuda_lsa_wait(side[0].lsa, 64, FIRST, soon, side[0].state, side[0].stream), cudaSuccess);
    while (look(CUDA_LSA_CHUNKS) != CUDA_LSA_LATE)
        assert_int_equal(cudaStreamQuery(side[0].stream), cudaErrorNotReady);
    push(&side[1], 0, 64);
    settle();
    expect_states(0, CUDA_LSA_WELL, CUDA_LSA_WELL);
}
#endif

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_arrive_and_stay_until_the_second_next_call),
        cmocka_unit_test(rows_that_do_not_come_are_given_up_by_name),
        cmocka_unit_test(rows_of_another_size_are_told),
#ifndef STORES_IN_TURN
        cmocka_unit_test(who_is_late_is_told_while_the_others_wait_and_may_still_come),
#endif
    };

    if (argc > 1)
        seed = strtoull(argv[1], NULL, 10) * 0x9e3779b97f4a7c15U + 1;
    if (argc > 2 && atoi(argv[2]) < rounds)
        rounds = atoi(argv[2]);
    printf("seed %llu\n", (unsigned long long)seed);
    return cmocka_run_group_tests(tests, start, NULL);
}
