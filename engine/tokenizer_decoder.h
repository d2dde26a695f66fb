/* tokenizer_decoder.h - what a token shows, as the decoder of tokenizer.json says
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * ByteLevel, or a sequence of Replace, ByteFallback, Fuse and Strip in this order, of which any may be
 * missing. All but Strip looks at one token alone, so it is done when the tokens are read; Strip takes
 * characters from the beginning of a whole text, see detokenizer.h. */
#ifndef TOKENIZER_DECODER_H
#define TOKENIZER_DECODER_H

#include "engine/base/status.h"

#include <stdbool.h>
#include <stddef.h>

enum { TOKENIZER_DECODER_REPLACES = 4, TOKENIZER_DECODER_TEXT = 16 };

struct tokenizer_decoder_replace {
    char from[TOKENIZER_DECODER_TEXT], to[TOKENIZER_DECODER_TEXT];
    size_t from_bytes, to_bytes; /* `to` is not longer than `from`, which is not empty */
};

struct tokenizer_decoder {
    bool byte_level;
    struct tokenizer_decoder_replace replaces[TOKENIZER_DECODER_REPLACES];
    int replace_count;
    bool byte_fallback; /* "<0x0A>" is the byte 10 */
    bool fused;
    char strip[5]; /* the character that is stripped, NUL-terminated */
    int strip_count;
};

/* STATUS_BAD_INPUT: empty, longer than TOKENIZER_DECODER_TEXT, or growing text. */
enum status tokenizer_decoder_add(struct tokenizer_decoder *d,
                                  const struct tokenizer_decoder_replace *replace);

/* The byte that a name such as "<0x0A>" stands for; -1: it is another name. */
int tokenizer_decoder_byte(const char *name, size_t bytes);

/* What a token of this name shows, into out (at most `bytes`); returns how many. Not for byte-level tokens.
 */
size_t tokenizer_decoder_show(const struct tokenizer_decoder *d, const char *name, size_t bytes, char *out);

#endif
