/* futex.h - sleep until a word in shared memory changes
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * The word may lie in memory that several processes share. */
#ifndef FUTEX_H
#define FUTEX_H

#include <stdatomic.h>
#include <stdint.h>

/* Sleeps while *word is `seen`, until a wake, a signal, or `nanoseconds` have passed. May return early. */
void futex_wait(_Atomic uint32_t *word, uint32_t seen, int64_t nanoseconds);

/* Wakes all that sleep on this word. */
void futex_wake(_Atomic uint32_t *word);

#endif
