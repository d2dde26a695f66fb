/* clock.h - the time that steps are measured with
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef CLOCK_H
#define CLOCK_H

#include <stdint.h>

/* Nanoseconds of a clock that never goes back (CLOCK_MONOTONIC); comparable between processes of one machine.
 */
int64_t clock_now(void);

/* Sleep for `nanoseconds`; shorter when a signal comes. */
void clock_sleep(int64_t nanoseconds);

#endif
