/* cpu_pool.h - threads that work on one job together and sleep between jobs
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * The caller is part 0. The others watch for the next job for some microseconds, where every thread has a
 * processor of its own, and then sleep: an idle pool uses no processor. One caller at a time. */
#ifndef CPU_POOL_H
#define CPU_POOL_H

#include "engine/base/status.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>

/* A number that threads wait to see changed. */
struct cpu_gate {
    _Alignas(64) _Atomic uint32_t value;
    _Atomic uint32_t sleepers;
};

struct cpu_pool;

struct cpu_worker {
    pthread_t thread;
    struct cpu_pool *pool;
    int part;
};

struct cpu_pool {
    struct cpu_gate start; /* rises with every job */
    struct cpu_gate done;  /* rises when all workers have finished one */
    _Alignas(64) _Atomic int working;
    _Alignas(64) void (*stage)(const void *job, int part, int parts);
    const void *job;
    struct cpu_worker *workers; /* [threads]; 0 is the caller and not started */
    int threads;
    int started;
    bool stop;
    bool watches; /* every thread has a processor of its own, so waiting may take it */
    bool pinned;
    cpu_set_t allowed; /* the caller's processors before it was pinned */
};

/* Starts threads - 1 workers. `workers` is room for `threads` of them. `pinned` has a processor number for
 * each thread, the caller first, or is NULL. */
enum status cpu_pool_open(struct cpu_pool *pool, struct cpu_worker *workers, int threads, const int *pinned);

/* Calls stage(job, part, threads) for every part and returns when all have returned. */
void cpu_pool_run(struct cpu_pool *pool, void (*stage)(const void *job, int part, int parts),
                  const void *job);

/* Ends the workers; takes a zeroed pool. The caller may run where it could before. */
void cpu_pool_close(struct cpu_pool *pool);

#endif
