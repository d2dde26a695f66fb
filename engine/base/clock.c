/* clock.c - the time that steps are measured with
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/base/clock.h"

#include <time.h>

static const int64_t BILLION = 1000000000;

int64_t clock_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * BILLION + now.tv_nsec;
}

void clock_sleep(int64_t nanoseconds)
{
    struct timespec span = {.tv_sec = nanoseconds / BILLION, .tv_nsec = nanoseconds % BILLION};

    nanosleep(&span, NULL);
}
