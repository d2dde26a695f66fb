/* stores.c - rows stored into the windows of other ranks arrive, and are not overwritten before they are read
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * The kernels of cuda_lsa.cu alone: the ranks are streams of one device and their windows its memory, so that
 * the race detector sees all sides. Arguments: the seed, and the most rounds. Built with -DSTORES_IN_TURN all
 * ranks have stored before one waits, for an interpreter that runs a kernel to its end at once; and nothing
 * is recorded. */
#include "kernels/cuda/cuda_launch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
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
    cudaStream_t stream, beside;
    cudaEvent_t before, here[CUDA_LSA_PLACES];
    struct cuda_lsa lsa;
    char *window;
    uint32_t *rows;            /* on the device: what the next exchange or step sends ... */
    uint32_t *kept;            /* ... and what came in all exchanges of a step */
    uint32_t *sent[EXCHANGES]; /* pinned */
    uint32_t *came[EXCHANGES]; /* pinned: as it lies there after the next call, too */
    volatile int32_t *state;   /* pinned */
    char **reached;            /* pinned */
    uint64_t *first;           /* pinned: the number of the first exchange */
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
              cudaMalloc((void **)&s->rows, PLACE) || cudaMalloc((void **)&s->kept, PLACE) ||
              cudaMalloc((void **)&s->lsa.window, RANKS * sizeof(char *)) ||
              cudaMalloc((void **)&s->lsa.number, sizeof FIRST) ||
              cudaMallocHost((void **)&s->first, sizeof FIRST) ||
              cudaMallocHost((void **)&s->reached, RANKS * sizeof(char *)) ||
              cudaMallocHost((void **)(uintptr_t)&s->state, STATES * sizeof(int32_t));

    bad = bad || cudaStreamCreateWithFlags(&s->beside, cudaStreamNonBlocking) ||
          cudaEventCreateWithFlags(&s->before, cudaEventDisableTiming);
    for (int i = 0; i < CUDA_LSA_PLACES && !bad; i++)
        bad = cudaEventCreateWithFlags(&s->here[i], cudaEventDisableTiming);
    for (int e = 0; e < EXCHANGES && !bad; e++)
        bad = cudaMallocHost((void **)&s->sent[e], PLACE) || cudaMallocHost((void **)&s->came[e], PLACE);
    return bad;
}

static int start(void **unused)
{
    (void)unused;
    if (cuda_lsa_load() != cudaSuccess)
        return 1;
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
        *s->first = FIRST;
        s->lsa.place = PLACE;
        s->lsa.rank = r;
        s->lsa.ranks = ranks;
        assert_int_equal(cudaMemcpyAsync((void *)(uintptr_t)s->lsa.window, s->reached,
                                         (size_t)ranks * sizeof(char *), cudaMemcpyHostToDevice, s->stream),
                         cudaSuccess);
        assert_int_equal(
            cudaMemcpyAsync(s->lsa.number, s->first, sizeof FIRST, cudaMemcpyHostToDevice, s->stream),
            cudaSuccess);
        assert_int_equal(
            cudaMemsetAsync(s->window + CUDA_LSA_PLACES * PLACE, 0, cuda_plan_flag_bytes(ranks), s->stream),
            cudaSuccess);
    }
    settle();
}

static void draw_rows(struct side *s, int e, size_t bytes)
{
    size_t all = bytes * (size_t)s->lsa.ranks;

    for (size_t i = 0; i < all / 4; i++)
        s->sent[e][i] = draw(1 << 30);
    assert_int_equal(cudaMemcpyAsync(s->rows, s->sent[e], all, cudaMemcpyHostToDevice, s->stream),
                     cudaSuccess);
}

static int turn_of(int e)
{
    return e % CUDA_LSA_PLACES;
}

static void push(struct side *s, int e, size_t bytes)
{
    draw_rows(s, e, bytes);
    assert_int_equal(cuda_lsa_push(s->lsa, s->rows, bytes, turn_of(e), s->stream), cudaSuccess);
}

/* What came in exchange e, as it is when this is reached. */
static void read_back(struct side *s, int e, size_t bytes)
{
    assert_int_equal(cudaMemcpyAsync(s->came[e], s->window + cuda_lsa_place_at(PLACE, turn_of(e)),
                                     bytes * (size_t)s->lsa.ranks, cudaMemcpyDeviceToHost, s->stream),
                     cudaSuccess);
}

/* Rows are read after the next exchange has been waited for: the last moment that is allowed. */
static void wait_and_read(struct side *s, int e, const size_t *bytes)
{
    assert_int_equal(cuda_lsa_wait(s->lsa, bytes[e], LONG, s->state, s->stream), cudaSuccess);
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
    for (int again = 0; again < 2; again++) {
        push(&side[0], again, 64);
        assert_int_equal(cuda_lsa_wait(side[0].lsa, 64, SHORT, side[0].state, side[0].stream), cudaSuccess);
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
    assert_int_equal(cuda_lsa_wait(side[0].lsa, 64, LONG, side[0].state, side[0].stream), cudaSuccess);
    settle();
    expect_states(0, CUDA_LSA_WELL, CUDA_LSA_OTHER_SIZE);
}

#ifndef STORES_IN_TURN
enum { CALLS = 4, SMALL = PLACE / RANKS / CALLS, RECORDED = 2 };

/* The exchanges of a step, each with rows of its own. */
static void queue_step(struct side *s, int calls, int turn, bool meets)
{
    size_t all = (size_t)s->lsa.ranks * SMALL;

    if (meets)
        assert_int_equal(cuda_lsa_meet(s->lsa, LONG, s->state, s->stream), cudaSuccess);
    for (int c = 0; c < calls; c++) {
        size_t at = (size_t)c * all;
        char *place = s->window + cuda_lsa_place_at(PLACE, turn_of(turn + c));

        assert_int_equal(cuda_lsa_push(s->lsa, (char *)s->rows + at, SMALL, turn_of(turn + c), s->stream),
                         cudaSuccess);
        assert_int_equal(cuda_lsa_wait(s->lsa, SMALL, LONG, s->state, s->stream), cudaSuccess);
        assert_int_equal(
            cudaMemcpyAsync((char *)s->kept + at, place, all, cudaMemcpyDeviceToDevice, s->stream),
            cudaSuccess);
    }
}

static cudaGraphExec_t record_step(struct side *s, int calls, int turn)
{
    cudaGraphExec_t exec;
    cudaGraph_t graph;

    assert_int_equal(cudaStreamBeginCapture(s->stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
    queue_step(s, calls, turn, true);
    assert_int_equal(cudaStreamEndCapture(s->stream, &graph), cudaSuccess);
    assert_int_equal(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
    assert_int_equal(cudaGraphDestroy(graph), cudaSuccess);
    return exec;
}

static void check_step(int ranks, int e, int calls)
{
    for (int c = 0; c < calls; c++)
        for (int to = 0; to < ranks; to++)
            for (int from = 0; from < ranks; from++)
                if (memcmp(side[to].came[e] + (c * ranks + from) * (SMALL / 4),
                           side[from].sent[e] + (c * ranks + to) * (SMALL / 4), SMALL) != 0)
                    fail_msg("step %d, exchange %d of %d: what rank %d sent to rank %d of %d did not come", e,
                             c, calls, from, to, ranks);
}

/* Recorded steps of few and of many exchanges, and others between them, in any order and without a pause. */
static void replay_some(int ranks)
{
    cudaGraphExec_t exec[RECORDED][RANKS];
    int recorded[RECORDED], calls[EXCHANGES], turn = 0;
    bool meets = true; /* the first step comes behind recordings */

    begin(ranks);
    for (int i = 0; i < RECORDED; i++) {
        recorded[i] = 1 + (int)draw(CALLS);
        for (int r = 0; r < ranks; r++)
            exec[i][r] = record_step(&side[r], recorded[i], turn);
        turn += recorded[i];
    }
    for (int e = 0; e < EXCHANGES; e++) {
        int kind = (int)draw(RECORDED + 1);

        calls[e] = kind < RECORDED ? recorded[kind] : 1 + (int)draw(CALLS);
        for (int r = 0; r < ranks; r++) {
            draw_rows(&side[r], e, (size_t)calls[e] * SMALL);
            if (kind < RECORDED)
                assert_int_equal(cudaGraphLaunch(exec[kind][r], side[r].stream), cudaSuccess);
            else
                queue_step(&side[r], calls[e], turn, meets);
            assert_int_equal(
                cudaMemcpyAsync(side[r].came[e], side[r].kept, PLACE, cudaMemcpyDeviceToHost, side[r].stream),
                cudaSuccess);
        }
        turn += kind < RECORDED ? 0 : calls[e];
        meets = kind < RECORDED;
    }
    settle();
    for (int e = 0; e < EXCHANGES; e++)
        check_step(ranks, e, calls[e]);
    for (int i = 0; i < RECORDED; i++)
        for (int r = 0; r < ranks; r++)
            assert_int_equal(cudaGraphExecDestroy(exec[i][r]), cudaSuccess);
}

static void rows_arrive_in_recorded_steps_whatever_runs_between_them(void **unused)
{
    (void)unused;
    for (int round = 0; round < rounds; round++)
        replay_some(2 + round % (RANKS - 1));
}

/* -- steps in halves --- */

/* Exchange c of a layer goes on the second stream, as comm_nccl_lsa.c queues it. */
static void begin_half(struct side *s, int c, int turn)
{
    size_t all = (size_t)s->lsa.ranks * SMALL;
    int place = turn_of(turn + c);

    assert_int_equal(cudaEventRecord(s->before, s->stream), cudaSuccess);
    assert_int_equal(cudaStreamWaitEvent(s->beside, s->before, 0), cudaSuccess);
    assert_int_equal(cuda_lsa_push(s->lsa, (char *)s->rows + (size_t)c * all, SMALL, place, s->beside),
                     cudaSuccess);
    assert_int_equal(cuda_lsa_wait(s->lsa, SMALL, LONG, s->state, s->beside), cudaSuccess);
    assert_int_equal(cudaEventRecord(s->here[place], s->beside), cudaSuccess);
}

static void end_half(struct side *s, int c, int turn)
{
    assert_int_equal(cudaStreamWaitEvent(s->stream, s->here[turn_of(turn + c)], 0), cudaSuccess);
}

static void keep_half(struct side *s, int c, int turn)
{
    size_t all = (size_t)s->lsa.ranks * SMALL;

    assert_int_equal(cudaMemcpyAsync((char *)s->kept + (size_t)c * all,
                                     s->window + cuda_lsa_place_at(PLACE, turn_of(turn + c)), all,
                                     cudaMemcpyDeviceToDevice, s->stream),
                     cudaSuccess);
}

/* Rows of both halves, then results of each behind its own rows, which are all read last. */
static void queue_layer(struct side *s, int turn)
{
    begin_half(s, 0, turn);
    begin_half(s, 1, turn);
    for (int c = 0; c < 2; c++) {
        end_half(s, c, turn);
        keep_half(s, c, turn);
        begin_half(s, c + 2, turn);
    }
    end_half(s, 2, turn);
    end_half(s, 3, turn);
    keep_half(s, 2, turn);
    keep_half(s, 3, turn);
}

static void rows_of_halves_stay_until_they_are_read(void **unused)
{
    (void)unused;
    for (int round = 0; round < rounds; round++) {
        int ranks = 2 + round % (RANKS - 1);

        begin(ranks);
        for (int e = 0; e < EXCHANGES; e++)
            for (int r = 0; r < ranks; r++) {
                draw_rows(&side[r], e, (size_t)CALLS * SMALL);
                queue_layer(&side[r], e * CALLS);
                assert_int_equal(cudaMemcpyAsync(side[r].came[e], side[r].kept, PLACE, cudaMemcpyDeviceToHost,
                                                 side[r].stream),
                                 cudaSuccess);
            }
        settle();
        for (int e = 0; e < EXCHANGES; e++)
            check_step(ranks, e, CALLS);
    }
}

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
    assert_int_equal(cuda_lsa_wait(side[0].lsa, 64, soon, side[0].state, side[0].stream), cudaSuccess);
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
        cmocka_unit_test(rows_arrive_in_recorded_steps_whatever_runs_between_them),
        cmocka_unit_test(rows_of_halves_stay_until_they_are_read),
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
