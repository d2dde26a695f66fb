/* wait.c - how long to pause, to yield and to sleep while something has not come yet
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "comm/wait.h"

#include "comm/mpi_border.h"
#include "comm/watch.h"
#include "engine/base/clock.h"

#include <sched.h>
#include <string.h>

static const int64_t YIELD_WOKEN = 50 * 1000;           /* somebody will wake this wait: then sleep soon */
static const int64_t YIELD_ASKING = 2 * 1000 * 1000;    /* nobody will: stay quick for the length of a step */
static const size_t MUCH = 64 << 10;                    /* bytes; an idle rank expects less */
static const int64_t YIELD_PER_BYTE = 5;                /* as if 200 MB/s could be moved */
static const int64_t YIELD_MOVING = 1000 * 1000 * 1000; /* and no longer than that */
static const int64_t LONGEST_MOVING = 50 * 1000;
static const int64_t FIRST_NAP = 20 * 1000;
static const int64_t LONGEST_ASKING = 5 * 1000 * 1000;
static const int64_t LONGEST_HELPING = 20 * 1000 * 1000; /* woken, but MPI may hold back something of ours */
static const int64_t LONGEST_WOKEN = 500 * 1000 * 1000;  /* a look at the watchdog */

static int mpi_users;

void wait_uses_mpi(int change)
{
    mpi_users += change;
}

void wait_open(struct wait *w, int pauses, bool asks, _Atomic uint32_t *bell)
{
    memset(w, 0, sizeof *w);
    w->pauses = pauses;
    w->asks = asks;
    w->bell = bell;
}

static void pause_processor(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static int64_t yield_time(const struct wait *w)
{
    int64_t moving;

    if (!w->asks)
        return YIELD_WOKEN;
    if (w->bytes < MUCH)
        return YIELD_ASKING;
    moving = w->bytes < (size_t)(YIELD_MOVING / YIELD_PER_BYTE) ? (int64_t)w->bytes * YIELD_PER_BYTE
                                                                : YIELD_MOVING;
    return YIELD_ASKING + moving;
}

static int64_t longer(int64_t nap, int64_t longest)
{
    if (nap == 0)
        return FIRST_NAP;
    return nap + nap / 2 < longest ? nap + nap / 2 : longest;
}

enum status wait_round(struct wait *w, int64_t *nap)
{
    bool helps = !w->asks && mpi_users > 0;
    int64_t now;

    *nap = 0;
    if (!w->begun) {
        watch_wait_begin(w->bell);
        w->begun = true;
    }
    TRY(watch_failure());
    if (w->pauses > 0) {
        w->pauses--;
        pause_processor();
        return STATUS_OK;
    }
    now = clock_now();
    if (w->yield_until == 0)
        w->yield_until = now + yield_time(w);
    if (now < w->yield_until) {
        sched_yield();
        return STATUS_OK;
    }
    if (helps)
        mpi_border_help();
    if (w->asks)
        w->nap = longer(w->nap, w->bytes < MUCH ? LONGEST_ASKING : LONGEST_MOVING);
    else
        w->nap = helps ? longer(w->nap, LONGEST_HELPING) : LONGEST_WOKEN;
    *nap = w->nap;
    return STATUS_OK;
}

void wait_again(struct wait *w)
{
    w->yield_until = 0;
    w->nap = 0;
}

void wait_close(struct wait *w)
{
    if (w->begun)
        watch_wait_end();
    w->begun = false;
}
