/* tokenizer_split.h - cut text into the pieces that merges may not cross, by the patterns of tokenizer.json
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * open, add one step per Split in the order of the file, run as often as needed, close. Each step cuts the
 * pieces of the one before. The patterns are written for Oniguruma and run by PCRE2: \s and \S become the
 * Unicode property White_Space, and spellings that the two libraries read differently are refused by name.
 * One run at a time per splitter. */
#ifndef TOKENIZER_SPLIT_H
#define TOKENIZER_SPLIT_H

#include "engine/base/arena.h"
#include "engine/base/status.h"

#include <stdbool.h>
#include <stddef.h>

struct tokenizer_split; /* private; lies in the arena it was opened with */

enum tokenizer_split_keep {
    TOKENIZER_SPLIT_ALL,     /* "Isolated": matches and the gaps between them become pieces */
    TOKENIZER_SPLIT_GAPS,    /* "Removed": matches are dropped */
    TOKENIZER_SPLIT_MATCHES, /* "Removed" with invert: gaps are dropped */
    TOKENIZER_SPLIT_NEXT,    /* "MergedWithNext": a match and the gap behind it are one piece */
};

enum { TOKENIZER_SPLIT_STEPS = 8, TOKENIZER_SPLIT_PATTERN_BYTES = 16384 };

enum status tokenizer_split_open(struct tokenizer_split **out, struct arena *arena);

/* Gives back what PCRE2 holds, before the arena is closed; takes NULL. */
void tokenizer_split_close(struct tokenizer_split *split);

/* One more step; `literal`: the pattern is plain text, not an expression. STATUS_BAD_INPUT says what is wrong
 * with it. */
enum status tokenizer_split_add(struct tokenizer_split *split, const char *pattern, size_t bytes,
                                enum tokenizer_split_keep keep, bool literal);

/* Who gets the pieces: never empty, from left to right. A failure of `take` ends the run. */
struct tokenizer_split_taker {
    enum status (*take)(void *context, const char *piece, size_t bytes);
    void *context;
};

/* Cuts `text`, which must be valid UTF-8. Without a step the whole text is one piece. */
enum status tokenizer_split_run(struct tokenizer_split *split, const char *text, size_t bytes,
                                const struct tokenizer_split_taker *taker);

#endif
