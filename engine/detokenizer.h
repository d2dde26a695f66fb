/* detokenizer.h - tokens to text as they come: never half a character, stop strings found across tokens
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Bytes that may still become a character, and text that may still become a stop string, are held back.
 * Broken UTF-8 becomes U+FFFD, one per maximal subpart. */
#ifndef DETOKENIZER_H
#define DETOKENIZER_H

#include "engine/base/arena.h"
#include "engine/base/status.h"
#include "engine/tokenizer.h"

#include <stdbool.h>

enum { DETOKENIZER_STOP_LIMIT = 16, DETOKENIZER_STOP_BYTES = 256 };

/* One request's stream. Plain memory, fixed size, reusable: detokenizer_start resets it. */
struct detokenizer {
    const struct tokenizer *tokenizer;
    bool show_special;
    const char *const *stops; /* not owned */
    int stop_count;
    unsigned char tail[4]; /* bytes of a character that is not complete */
    int tail_bytes;
    int strip;                         /* how many characters the decoder may still take from the beginning */
    char held[DETOKENIZER_STOP_BYTES]; /* text that is a proper prefix of some stop string */
    int held_bytes;
    bool stopped; /* a stop string was seen; nothing more comes */
    int quiet;    /* stop strings do not count if they end in the next so many tokens; 0 after start */
};

/* Each stop string is 1 ... DETOKENIZER_STOP_BYTES - 1 bytes of UTF-8, else STATUS_BAD_INPUT. */
enum status detokenizer_start(struct detokenizer *d, const struct tokenizer *t, const char *const *stops,
                              int stop_count, bool show_special);

/* Between start and the first push: the tokens are a whole text, not what follows a prompt. Some decoders
 * take a blank from the beginning of a text, which the continuation of another text keeps. */
void detokenizer_whole(struct detokenizer *d);

/* The text that may be shown after one more token: at most `capacity` bytes to out (detokenizer_room always
 * suffices). A stop string and what follows it is not shown. */
enum status detokenizer_push(struct detokenizer *d, int id, char *out, size_t capacity, size_t *bytes);

/* The end of the stream: what was held back. */
enum status detokenizer_finish(struct detokenizer *d, char *out, size_t capacity, size_t *bytes);

/* Bytes that one push or finish can bring at most for this tokenizer. */
size_t detokenizer_room(const struct tokenizer *t);

#endif
