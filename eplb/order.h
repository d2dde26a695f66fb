/* order.h - sorting numbers with their owners, without taking memory
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef ORDER_H
#define ORDER_H

#include <stdint.h>
#include <string.h>

/* Sorts key[count] to rise; other [count] is overwritten. A key usually holds a number above and its owner
 * below, so that equal numbers keep the order of their owners. */
void order_rising(uint64_t *key, uint64_t *other, int count);

/* heap[count] has its least key on top, below every parent no lesser key but perhaps at `at`: puts that
 * right. */
void order_sink(uint64_t *heap, int count, int at);

/* A float that is not negative, as a key above an owner: keys rise with the number, then with the owner. */
static inline uint64_t order_key(float number, int owner)
{
    float positive = number + 0.0f; /* -0 is 0 */
    uint32_t bits;

    memcpy(&bits, &positive, sizeof bits);
    return (uint64_t)bits << 32 | (uint32_t)owner;
}

/* The same, falling with the number but still rising with the owner. */
static inline uint64_t order_key_falling(float number, int owner)
{
    return order_key(number, owner) ^ (uint64_t)UINT32_MAX << 32;
}

static inline int order_owner(uint64_t key)
{
    return (int)(uint32_t)key;
}

#endif
