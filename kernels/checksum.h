/* checksum.h - a sum that tells whether memory arrived as it was sent
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Every word of 32 bits is mixed with its place, and all are added modulo 2^64: in any order and in any
 * parts, so that the threads of a device get the sum of a host. A word that has changed always changes the
 * sum. Words that have changed places, or are missing, do so but by chance. */
#ifndef CHECKSUM_H
#define CHECKSUM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* What the word at byte `at` adds: a different number for each value of the word. */
#define CHECKSUM_WORD(word, at)                                                                              \
    CHECKSUM_FOLD(((uint64_t)(word) + (uint64_t)(at)*0x9e3779b97f4a7c15u) * 0xbf58476d1ce4e5b9u)
#define CHECKSUM_FOLD(x) ((x) ^ (x) >> 32)

/* `sum` with the bytes that stand at `at` of something; zeros fill up a last word. */
static inline uint64_t checksum_add(uint64_t sum, const void *data, size_t bytes, size_t at)
{
    const unsigned char *from = (const unsigned char *)data;

    for (size_t i = 0; i < bytes; i += sizeof(uint32_t)) {
        uint32_t word = 0;

        memcpy(&word, from + i, bytes - i < sizeof word ? bytes - i : sizeof word);
        sum += CHECKSUM_WORD(word, at + i);
    }
    return sum;
}

#endif
