/* watch_guard.c - threads that see a dead process at once and a wait that lasts too long
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "comm/watch_guard.h"

#include "comm/futex.h"
#include "comm/watch_phase.h"
#include "engine/base/clock.h"
#include "engine/base/log.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
    LOOK_MILLISECONDS = 1000,
    LEAVE_MILLISECONDS = 2000,
    LAST_MILLISECONDS = 5000,
    STACK_BYTES = 256 << 10,
    PRIORITY = -15
};

static const int64_t SECOND = 1000000000;
static const int START_FACTOR = 10; /* ranks read their weights at very different speeds */

/* True for the one process of the node that may write the line. */
static bool may_tell(struct watch_guard *g)
{
    int32_t nobody = 0;

    return atomic_compare_exchange_strong(&g->board->told, &nobody, 1);
}

/* For the first of both threads that has something to say. */
static bool may_fail(struct watch_guard *g)
{
    return !atomic_exchange(&g->failing, true);
}

/* The text is there. Main finds it in its wait, or is woken for it. */
static void fail(struct watch_guard *g, bool aloud)
{
    _Atomic uint32_t *bell;

    if (aloud && may_tell(g))
        log_line(LOG_ERROR, "%s", g->text);
    atomic_store(&g->failed, true);
    bell = atomic_load(&g->bell);
    if (bell)
        futex_wake(bell);
}

/* Nothing to do for one that ends by its own decision. */
static void fail_for_death(struct watch_guard *g, const struct watch_seat *dead)
{
    char place[64];

    if (atomic_load(&dead->leaving) || !may_fail(g))
        return;
    watch_seat_place(dead, place, sizeof place);
    snprintf(g->text, sizeof g->text, "rank %d (pid %d on %s) has died while in %s", atomic_load(&dead->rank),
             atomic_load(&dead->pid), g->host, place);
    fail(g, true);
}

static void process_ended(struct watch_guard *g, int seat)
{
    const struct watch_seat *dead = &g->board->seat[seat];

    close(g->descriptors[seat].fd);
    g->descriptors[seat].fd = -1;
    if (atomic_load(&dead->leaving) && g->abandoned == 0)
        g->abandoned = clock_now() + LAST_MILLISECONDS * (SECOND / 1000);
    fail_for_death(g, dead);
}

/* Has the present wait lasted too long? Time in which this process itself was stopped does not count, and a
 * sign of life of any rank of the node starts the count anew. */
static void look_at_wait(struct watch_guard *g)
{
    const struct watch_seat *mine = &g->board->seat[g->me];
    uint32_t number = atomic_load(&mine->wait_number);
    enum watch_phase phase = (enum watch_phase)atomic_load(&mine->phase);
    int64_t now = clock_now();
    int64_t passed = now - g->looked < 2 * SECOND ? now - g->looked : 2 * SECOND;
    double limit = g->patience * (phase == WATCH_START || phase == WATCH_LOAD ? START_FACTOR : 1);
    uint32_t pulse = 0;
    char place[64];
    char culprit[256];

    for (int i = 0; i < g->count; i++)
        pulse += atomic_load(&g->board->seat[i].heartbeat);
    g->silent = (number & 1) && number == g->wait_number && pulse == g->pulse ? g->silent + passed : 0;
    g->wait_number = number;
    g->pulse = pulse;
    g->looked = now;
    if (limit <= 0 || (double)g->silent < limit * (double)SECOND || !may_fail(g))
        return;
    watch_seat_place(mine, place, sizeof place);
    watch_seat_culprit(g->board, g->count, g->me, g->host, culprit, sizeof culprit);
    snprintf(g->text, sizeof g->text, "rank %d has waited %.0f s in %s for %s", atomic_load(&mine->rank),
             (double)g->silent / (double)SECOND, place, culprit);
    fail(g, true);
}

/* Main may use this time to say why and to end the job; then this process ends, whatever it is doing. */
static void end_process(struct watch_guard *g)
{
    struct pollfd *stop = &g->descriptors[g->count];

    if (poll(stop, 1, LEAVE_MILLISECONDS) > 0)
        return;
    if (atomic_load(&g->board->seat[g->me].leaving) && poll(stop, 1, LAST_MILLISECONDS) > 0)
        return;
    _exit(status_exit_code(STATUS_UNAVAILABLE));
}

/* The other ranks will be missed, but nobody needs to hear of it twice. */
static void look_for_abandoned(struct watch_guard *g)
{
    if (g->abandoned == 0 || clock_now() < g->abandoned || !may_fail(g))
        return;
    snprintf(g->text, sizeof g->text, "another rank of this node has left the run");
    fail(g, false);
}

static void hurry(void)
{
    setpriority(PRIO_PROCESS, (id_t)gettid(), PRIORITY); /* a wish: a dying job leaves little time */
}

static void *look(void *argument)
{
    struct watch_guard *g = argument;
    nfds_t count = (nfds_t)g->count + 1;

    hurry();
    g->looked = clock_now();
    while (!atomic_load(&g->failed)) {
        int ready = poll(g->descriptors, count, LOOK_MILLISECONDS);

        if (ready > 0 && g->descriptors[g->count].revents)
            return NULL;
        for (int i = 0; ready > 0 && i < g->count; i++)
            if (g->descriptors[i].fd >= 0 && g->descriptors[i].revents)
                process_ended(g, i);
        look_for_abandoned(g);
        look_at_wait(g);
    }
    end_process(g);
    return NULL;
}

/* The lock comes when its owner dies or closes. */
static void *inherit(void *argument)
{
    struct watch_guard *g = argument;
    struct watch_seat *next = &g->board->seat[(g->me + 1) % g->count];
    int got;

    hurry();
    got = pthread_mutex_lock(&next->life);
    if (got == EOWNERDEAD)
        fail_for_death(g, next);
    if (got == 0 || got == EOWNERDEAD)
        pthread_mutex_unlock(&next->life);
    return NULL;
}

/* Without pidfd, or when the other lives in another name space of process ids, -1: poll passes over it. */
static int descriptor_of(const struct watch_seat *seat, uint64_t space)
{
#ifdef SYS_pidfd_open
    if (space != 0 && atomic_load(&seat->pid_space) == space)
        return (int)syscall(SYS_pidfd_open, (pid_t)atomic_load(&seat->pid), 0);
#else
    (void)seat;
    (void)space;
#endif
    return -1;
}

enum status watch_guard_prepare(struct watch_guard *g)
{
    pthread_mutex_t *life = &g->board->seat[g->me].life;
    pthread_mutexattr_t attributes;
    int error;

    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    error = pthread_mutex_init(life, &attributes);
    pthread_mutexattr_destroy(&attributes);
    if (error == 0)
        error = pthread_mutex_lock(life);
    return error == 0 ? STATUS_OK
                      : FAIL(STATUS_UNAVAILABLE, "the watchdog gets no lock: %s", strerror(error));
}

static enum status open_descriptors(struct watch_guard *g, struct arena *arena)
{
    uint64_t space = watch_seat_pid_space();

    TRY(arena_take_array(arena, (size_t)g->count + 1, sizeof *g->descriptors, "descriptors of the watchdog",
                         &g->descriptors));
    for (int i = 0; i < g->count; i++) {
        g->descriptors[i].fd = i == g->me ? -1 : descriptor_of(&g->board->seat[i], space);
        g->descriptors[i].events = POLLIN;
    }
    g->descriptors[g->count].fd = eventfd(0, EFD_CLOEXEC);
    g->descriptors[g->count].events = POLLIN;
    if (g->descriptors[g->count].fd < 0)
        return FAIL(STATUS_UNAVAILABLE, "the watchdog gets no event descriptor: %s", strerror(errno));
    return STATUS_OK;
}

static void stop_looker(struct watch_guard *g)
{
    uint64_t one = 1;

    if (write(g->descriptors[g->count].fd, &one, sizeof one) == (ssize_t)sizeof one)
        pthread_join(g->looker, NULL);
}

static int start_threads(struct watch_guard *g)
{
    pthread_attr_t attributes;
    int error;

    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    error = pthread_create(&g->looker, &attributes, look, g);
    if (error == 0 && g->count > 1) {
        error = pthread_create(&g->heir, &attributes, inherit, g);
        if (error)
            stop_looker(g);
    }
    pthread_attr_destroy(&attributes);
    return error;
}

enum status watch_guard_open(struct watch_guard *g, struct arena *arena)
{
    sigset_t all;
    sigset_t before;
    int error;

    TRY(open_descriptors(g, arena));
    tzset(); /* the clock's files are read now, not when a line is due */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for the main thread */
    error = start_threads(g);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error)
        return FAIL(STATUS_UNAVAILABLE, "the watchdog's threads could not be started: %s", strerror(error));
    g->running = true;
    return STATUS_OK;
}

void watch_guard_close(struct watch_guard *g)
{
    if (!g->running)
        return;
    pthread_mutex_unlock(&g->board->seat[g->me].life);
    if (g->count > 1)
        pthread_join(g->heir, NULL);
    stop_looker(g);
    for (int i = 0; i <= g->count; i++)
        if (g->descriptors[i].fd >= 0)
            close(g->descriptors[i].fd);
    g->running = false;
}
