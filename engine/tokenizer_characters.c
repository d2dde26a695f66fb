/* tokenizer_characters.c - what merging begins with when tokens are spelled in characters, not in bytes
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/tokenizer_characters.h"
#include "engine/utf8.h"

#include <stdio.h>

void tokenizer_characters_open(struct tokenizer_characters *c, const struct tokenizer_vocabulary *v)
{
    for (unsigned byte = 0; byte < 256; byte++) {
        char name[8];
        int length = snprintf(name, sizeof name, "<0x%02X>", byte);

        c->bytes[byte] = tokenizer_vocabulary_find_name(v, name, (size_t)length);
    }
}

/* Are there tokens for all bytes of a character? */
static bool has_bytes(const struct tokenizer_characters *c, const char *character, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (c->bytes[(unsigned char)character[i]] < 0)
            return false;
    return c->byte_fallback;
}

/* What is unknown waits in *pending until a character that is known, or the end. Tokens of bytes do not call
 * it: then they stand before it, as with Hugging Face tokenizers. */
static enum status push_pending(const struct tokenizer_characters *c, struct tokenizer_merge *m,
                                bool *pending)
{
    if (*pending)
        TRY(tokenizer_merge_push(m, c->unknown));
    *pending = false;
    return STATUS_OK;
}

static enum status push_character(const struct tokenizer_characters *c, const struct tokenizer_vocabulary *v,
                                  struct tokenizer_merge *m, const char *character, size_t length,
                                  bool *pending)
{
    int32_t id = tokenizer_vocabulary_find(v, character, length);

    if (id >= 0) {
        TRY(push_pending(c, m, pending));
        return tokenizer_merge_push(m, id);
    }
    if (has_bytes(c, character, length)) {
        for (size_t i = 0; i < length; i++)
            TRY(tokenizer_merge_push(m, c->bytes[(unsigned char)character[i]]));
        return STATUS_OK;
    }
    if (c->unknown < 0)
        return FAIL(STATUS_BAD_INPUT, "the vocabulary has no token for character U+%04X of the text",
                    (unsigned)utf8_code(character, length));
    if (!c->fuse_unknown)
        TRY(push_pending(c, m, pending));
    *pending = true;
    return STATUS_OK;
}

enum status tokenizer_characters_piece(const struct tokenizer_characters *c,
                                       const struct tokenizer_vocabulary *v, struct tokenizer_merge *m,
                                       const char *piece, size_t bytes, struct tokens *out)
{
    bool pending = false;
    size_t length;

    tokenizer_merge_start(m);
    for (size_t at = 0; at < bytes; at += length) {
        utf8_step(piece + at, bytes - at, &length);
        TRY(push_character(c, v, m, piece + at, length, &pending));
    }
    TRY(push_pending(c, m, &pending));
    return tokenizer_merge_finish(m, out);
}
