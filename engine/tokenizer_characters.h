/* tokenizer_characters.h - what merging begins with when tokens are spelled in characters, not in bytes
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Each character is its own token; one that the vocabulary lacks becomes the tokens "<0xXX>" of its bytes, or
 * the token for what is unknown. */
#ifndef TOKENIZER_CHARACTERS_H
#define TOKENIZER_CHARACTERS_H

#include "engine/base/status.h"
#include "engine/tokenizer_merge.h"
#include "engine/tokenizer_vocabulary.h"
#include "engine/tokens.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tokenizer_characters {
    bool byte_fallback;
    bool fuse_unknown;  /* several unknown characters are one unknown token */
    int32_t unknown;    /* -1: none */
    int32_t bytes[256]; /* the tokens "<0xXX>"; -1: none */
};

/* Looks up the tokens of bytes. `unknown` is set by the caller. */
void tokenizer_characters_open(struct tokenizer_characters *c, const struct tokenizer_vocabulary *v);

/* Appends the ids of a piece, valid UTF-8. STATUS_BAD_INPUT: a character without any token, or a piece over
 * the limit. */
enum status tokenizer_characters_piece(const struct tokenizer_characters *c,
                                       const struct tokenizer_vocabulary *v, struct tokenizer_merge *m,
                                       const char *piece, size_t bytes, struct tokens *out);

#endif
