/* measure_bandwidth.c - how fast this machine reads memory: the bound that decode speed is held against
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * usage: measure_bandwidth [THREADS [MEBIBYTES]]; prints GB/s of the best of five reads. */
#include "engine/base/arena.h"
#include "engine/base/clock.h"

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS_MOST = 64, READS = 5, STREAMS = 4 };

struct part {
    uint64_t *words;
    size_t count;
    uint64_t sum;
    pthread_barrier_t *barrier;
};

/* Four streams, as the packed weights are read; xor keeps the compiler from dropping the loads. */
static uint64_t read_words(const uint64_t *words, size_t count)
{
    size_t quarter = count / STREAMS;
    uint64_t sum[8] = {0};

    for (size_t i = 0; i + 8 <= quarter; i += 8)
        for (size_t stream = 0; stream < STREAMS; stream++)
            for (size_t lane = 0; lane < 8; lane++)
                sum[lane] ^= words[stream * quarter + i + lane];
    return sum[0] ^ sum[1] ^ sum[2] ^ sum[3] ^ sum[4] ^ sum[5] ^ sum[6] ^ sum[7];
}

static void *work(void *context)
{
    struct part *part = context;

    memset(part->words, 1, part->count * sizeof *part->words);
    for (int i = 0; i < READS; i++) {
        pthread_barrier_wait(part->barrier);
        part->sum ^= read_words(part->words, part->count);
        pthread_barrier_wait(part->barrier);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    int threads = argc > 1 ? atoi(argv[1]) : 2;
    size_t bytes = (size_t)(argc > 2 ? atoi(argv[2]) : 1024) << 20;
    struct part part[THREADS_MOST];
    pthread_t thread[THREADS_MOST];
    pthread_barrier_t barrier;
    struct arena arena;
    double best = 0;
    uint64_t sum = 0;

    if (threads < 1 || threads > THREADS_MOST || bytes < (size_t)1 << 20)
        return 64;
    if (arena_open(&arena, "the read test", bytes) != STATUS_OK) {
        fprintf(stderr, "%s\n", status_text());
        return 75;
    }
    pthread_barrier_init(&barrier, NULL, (unsigned)threads + 1);
    for (int i = 0; i < threads; i++) {
        size_t count = bytes / sizeof(uint64_t) / (size_t)threads / 64 * 64;

        part[i] = (struct part){
            .words = (uint64_t *)(void *)arena.base + (size_t)i * count, .count = count, .barrier = &barrier};
        pthread_create(&thread[i], NULL, work, &part[i]);
    }
    for (int i = 0; i < READS; i++) {
        int64_t start;
        double rate;

        pthread_barrier_wait(&barrier);
        start = clock_now();
        pthread_barrier_wait(&barrier);
        rate = (double)bytes / (double)(clock_now() - start);
        best = rate > best ? rate : best;
    }
    for (int i = 0; i < threads; i++) {
        pthread_join(thread[i], NULL);
        sum ^= part[i].sum;
    }
    printf("%.1f\n", best);
    return sum == 42 ? 1 : 0;
}
