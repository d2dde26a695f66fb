/* tokenizer.h - text to token ids and back, as tokenizer.json defines them
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * BPE, in bytes or in characters with byte fallback, with what tokenizer.json puts before and behind it. The
 * ids equal those of Hugging Face tokenizers. Invalid UTF-8 becomes U+FFFD before anything else. */
#ifndef TOKENIZER_H
#define TOKENIZER_H

#include "engine/base/status.h"
#include "engine/tokenizer_added.h"
#include "engine/tokens.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tokenizer; /* private */

/* Reads DIR/tokenizer.json and DIR/tokenizer_config.json (the latter may be missing). */
enum status tokenizer_open(struct tokenizer **out, const char *directory);
void tokenizer_close(struct tokenizer *t); /* takes NULL */

enum {
    TOKENIZER_ADD_SPECIAL = 1, /* what the post-processor adds (BOS) */
    TOKENIZER_LITERAL = 2,     /* added tokens, special or not, are not looked for: all is plain text */
};

enum { TOKENIZER_TEXT_LIMIT = 16 << 20 /* bytes of one text; longer ones are STATUS_BAD_INPUT */ };

/* Appends the ids of `bytes` of text to *out, which is as before on failure. Takes no memory. Not safe from
 * two threads at once on one tokenizer. */
enum status tokenizer_encode(struct tokenizer *t, const char *text, size_t bytes, unsigned flags,
                             struct tokens *out);

/* The same for text that is plain in some stretches, such as what users wrote inside a chat: no added token
 * is found there, and nothing is added. The text must be valid UTF-8, the stretches in order. */
enum status tokenizer_encode_spans(struct tokenizer *t, const char *text, size_t bytes,
                                   const struct tokenizer_span *plain, int count, struct tokens *out);

/* One more than the largest id that has a token. Ids from here on must never be sampled. */
int tokenizer_size(const struct tokenizer *t);

/* The id of a token by its content ("<|eot|>"), -1: none. */
int tokenizer_find(const struct tokenizer *t, const char *content);

/* The bytes that token `id` stands for in text; not NUL-terminated; *bytes 0 for ids without a token.
 * *special: is it a special token (content such as "<|eot|>", not shown to users)? */
const char *tokenizer_bytes(const struct tokenizer *t, int id, size_t *bytes, bool *special);

/* The character that a decoder takes from the beginning of a whole text, at most *count times; *count 0:
 * none.
 */
const char *tokenizer_strip(const struct tokenizer *t, int *count);

/* Bytes of the longest token. */
size_t tokenizer_longest(const struct tokenizer *t);

/* The chat template text of tokenizer_config.json or chat_template.jinja, NULL: none. */
const char *tokenizer_chat_template(const struct tokenizer *t);

/* eos_token of tokenizer_config.json as an id, -1: none. */
int tokenizer_eos(const struct tokenizer *t);

#endif
