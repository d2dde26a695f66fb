/* race.h - put before C files that the race detector watches: gcc leaves calls of memcpy and memset alone
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef HOSTGPU_RACE_H
#define HOSTGPU_RACE_H

#include <stddef.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif
void *race_memcpy(void *to, const void *from, size_t bytes);
void *race_memset(void *p, int value, size_t bytes);
#ifdef __cplusplus
}
#else
#undef memcpy
#undef memset
#define memcpy(to, from, bytes) race_memcpy(to, from, bytes)
#define memset(p, value, bytes) race_memset(p, value, bytes)
#endif

#endif
