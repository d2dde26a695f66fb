/* cpu_pool.c - threads that work on one job together and sleep between jobs
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cpu/cpu_pool.h"

#include "engine/base/clock.h"

#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Stages of a step follow each other within microseconds; longer waits are for other ranks or for input. */
enum { WATCH_NANOSECONDS = 40000, LOOKS = 32, STACK_BYTES = 1 << 20 };

static void breathe(void)
{
#ifdef __x86_64__
    __builtin_ia32_pause();
#endif
}

/* Returns when the value is no longer `old`. */
static void gate_wait(struct cpu_gate *gate, uint32_t old, bool watch)
{
    int64_t begin = watch ? clock_now() : 0;

    while (watch && clock_now() - begin < WATCH_NANOSECONDS) {
        for (int look = 0; look < LOOKS; look++) {
            if (atomic_load_explicit(&gate->value, memory_order_acquire) != old)
                return;
            breathe();
        }
    }
    /* Whoever changes the value does so before he looks for sleepers, and the system compares the value again
     * before it lets us sleep: one of the two sees the other. */
    atomic_fetch_add(&gate->sleepers, 1);
    while (atomic_load(&gate->value) == old)
        syscall(SYS_futex, &gate->value, FUTEX_WAIT_PRIVATE, old, NULL, NULL, 0);
    atomic_fetch_sub(&gate->sleepers, 1);
}

static void gate_change(struct cpu_gate *gate)
{
    atomic_fetch_add(&gate->value, 1);
    if (atomic_load(&gate->sleepers) > 0)
        syscall(SYS_futex, &gate->value, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static void *work(void *argument)
{
    struct cpu_worker *worker = argument;
    struct cpu_pool *pool = worker->pool;

    for (uint32_t seen = 0;; seen++) {
        gate_wait(&pool->start, seen, pool->watches);
        if (pool->stop)
            return NULL;
        pool->stage(pool->job, worker->part, pool->threads);
        if (atomic_fetch_sub(&pool->working, 1) == 1)
            gate_change(&pool->done);
    }
}

static enum status pin_check(const int *pinned, int threads)
{
    for (int i = 0; pinned && i < threads; i++)
        if (pinned[i] < 0 || pinned[i] >= CPU_SETSIZE)
            return FAIL(STATUS_UNAVAILABLE, "thread %d cannot run on processor %d: processors are 0 to %d", i,
                        pinned[i], CPU_SETSIZE - 1);
    return STATUS_OK;
}

static enum status worker_start(struct cpu_worker *worker, const int *pinned)
{
    pthread_attr_t attributes;
    sigset_t all, before;
    int error;

    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    if (pinned) {
        cpu_set_t set;

        CPU_ZERO(&set);
        CPU_SET(*pinned, &set);
        pthread_attr_setaffinity_np(&attributes, sizeof set, &set);
    }
    /* Signals are for the thread that opened the pool. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&worker->thread, &attributes, work, worker);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (error && pinned)
        return FAIL(STATUS_UNAVAILABLE, "thread %d could not be started on processor %d (%s)", worker->part,
                    *pinned, strerror(error));
    if (error)
        return FAIL(STATUS_UNAVAILABLE, "thread %d could not be started (%s): use fewer threads",
                    worker->part, strerror(error));
    return STATUS_OK;
}

/* Processors that the threads have for themselves. */
static int processors(const cpu_set_t *allowed, const int *pinned, int threads)
{
    cpu_set_t set;

    if (!pinned)
        return CPU_COUNT(allowed);
    CPU_ZERO(&set);
    for (int i = 0; i < threads; i++)
        CPU_SET(pinned[i], &set);
    return CPU_COUNT(&set);
}

static enum status pin_caller(struct cpu_pool *pool, int processor)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(processor, &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0)
        return FAIL(STATUS_UNAVAILABLE,
                    "thread 0 cannot run on processor %d: it is not among those given to this process",
                    processor);
    pool->pinned = true;
    return STATUS_OK;
}

enum status cpu_pool_open(struct cpu_pool *pool, struct cpu_worker *workers, int threads, const int *pinned)
{
    enum status status;

    memset(pool, 0, sizeof *pool);
    if (threads < 1)
        return FAIL(STATUS_USAGE, "%d threads: at least 1 is needed", threads);
    TRY(pin_check(pinned, threads));
    CPU_ZERO(&pool->allowed);
    sched_getaffinity(0, sizeof pool->allowed, &pool->allowed);
    pool->workers = workers;
    pool->threads = threads;
    pool->started = 1;
    pool->watches = threads <= processors(&pool->allowed, pinned, threads);
    status = pinned ? pin_caller(pool, pinned[0]) : STATUS_OK;
    for (int i = 1; i < threads && status == STATUS_OK; i++) {
        workers[i] = (struct cpu_worker){.pool = pool, .part = i};
        status = worker_start(&workers[i], pinned ? &pinned[i] : NULL);
        if (status == STATUS_OK)
            pool->started++;
    }
    if (status != STATUS_OK)
        cpu_pool_close(pool);
    return status;
}

void cpu_pool_run(struct cpu_pool *pool, void (*stage)(const void *job, int part, int parts), const void *job)
{
    uint32_t before;

    if (pool->threads == 1) {
        stage(job, 0, 1);
        return;
    }
    before = atomic_load(&pool->done.value);
    pool->stage = stage;
    pool->job = job;
    atomic_store(&pool->working, pool->threads - 1);
    gate_change(&pool->start);
    stage(job, 0, pool->threads);
    gate_wait(&pool->done, before, pool->watches);
}

void cpu_pool_close(struct cpu_pool *pool)
{
    if (pool->started > 1) {
        pool->stop = true;
        gate_change(&pool->start);
        for (int i = 1; i < pool->started; i++)
            pthread_join(pool->workers[i].thread, NULL);
    }
    if (pool->pinned)
        sched_setaffinity(0, sizeof pool->allowed, &pool->allowed);
    memset(pool, 0, sizeof *pool);
}
