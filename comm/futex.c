/* futex.c - sleep until a word in shared memory changes
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "comm/futex.h"

#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const int64_t BILLION = 1000000000;

void futex_wait(_Atomic uint32_t *word, uint32_t seen, int64_t nanoseconds)
{
    struct timespec span = {.tv_sec = nanoseconds / BILLION, .tv_nsec = nanoseconds % BILLION};

    syscall(SYS_futex, word, FUTEX_WAIT, seen, &span, NULL, 0);
}

void futex_wake(_Atomic uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}
