/* utf8.h - characters in bytes: which are whole, which are broken, which are not complete yet
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef UTF8_H
#define UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum utf8_kind {
    UTF8_WHOLE,      /* one character */
    UTF8_BROKEN,     /* a maximal subpart that no byte can complete: one U+FFFD */
    UTF8_UNFINISHED, /* the text ends inside a character that more bytes may complete */
};

enum { UTF8_REPLACEMENT_BYTES = 3 };

/* U+FFFD, what broken bytes become. */
extern const char utf8_replacement[UTF8_REPLACEMENT_BYTES + 1];

/* What stands at the front of `bytes` > 0 bytes, and its length (Unicode 15, table 3-7). */
enum utf8_kind utf8_step(const char *text, size_t bytes, size_t *length);

/* The code point of a whole character. */
uint32_t utf8_code(const char *character, size_t length);

/* Is every character of the text whole? */
bool utf8_valid(const char *text, size_t bytes);

/* Copies text, each broken part (an unfinished end too) as one U+FFFD, as Python's errors="replace" and
 * Rust's from_utf8_lossy do. Writes at most UTF8_REPLACEMENT_BYTES * bytes; returns how many. */
size_t utf8_repair(char *out, const char *text, size_t bytes);

/* The Unicode property White_Space. */
bool utf8_white_space(uint32_t code);

#endif
