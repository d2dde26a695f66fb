/* tokenizer_vocabulary.h - tokens by their bytes and by their id
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * tokenizer.json spells the bytes of byte-level tokens in GPT-2's alphabet of 256 printable characters (a
 * blank is U+0120). Here they are kept as the bytes they stand for. A token with a character outside of that
 * alphabet is kept as it stands; no text leads to it but as an added token. Other vocabularies spell their
 * tokens in the characters of normalized text; what such a token shows may differ and is kept beside it. */
#ifndef TOKENIZER_VOCABULARY_H
#define TOKENIZER_VOCABULARY_H

#include "engine/base/arena.h"
#include "engine/base/status.h"
#include "engine/tokenizer_decoder.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TOKENIZER_VOCABULARY_LIMIT = 1 << 24 /* ids */ };

struct tokenizer_entry {
    const char *bytes; /* NULL: no token has this id */
    uint32_t length;
    bool spelled; /* found by its bytes: text may lead to it */
    bool special;
};

struct tokenizer_shown {
    const char *bytes; /* NULL: what the entry has */
    uint32_t length;
};

struct tokenizer_vocabulary {
    bool byte_level;                 /* names are spelled in GPT-2's alphabet */
    struct tokenizer_entry *entries; /* [size] by id */
    struct tokenizer_shown *shown;   /* [size] */
    int size;                        /* one more than the largest id */
    uint32_t *slots;                 /* id + 1 by hash of the bytes; 0: free */
    size_t mask;
    size_t longest; /* bytes of the longest token */
    char *text;     /* the bytes of all tokens, one after another */
    char *shown_text;
    size_t text_bytes; /* room of each */
    size_t text_used;
};

/* Room for ids 0 ... size - 1, `count` tokens and `text_bytes` bytes of them. */
enum status tokenizer_vocabulary_open(struct tokenizer_vocabulary *v, struct arena *arena, bool byte_level,
                                      int size, size_t count, size_t text_bytes);

/* Bytes that tokenizer_vocabulary_open takes at most. */
size_t tokenizer_vocabulary_room(int size, size_t count, size_t text_bytes);

/* A token of the model, spelled as in the file. An id that is taken is STATUS_BAD_INPUT. */
enum status tokenizer_vocabulary_add(struct tokenizer_vocabulary *v, int id, const char *name, size_t bytes);

/* An added token, which stands for its own content; the model may have it too, under the same id. */
enum status tokenizer_vocabulary_add_content(struct tokenizer_vocabulary *v, int id, const char *content,
                                             size_t bytes, bool special);

/* Notes what each token shows, once all are there. Byte-level tokens show their bytes without it. */
enum status tokenizer_vocabulary_show(struct tokenizer_vocabulary *v,
                                      const struct tokenizer_decoder *decoder);

/* The id of a token by its bytes, -1: none. */
int tokenizer_vocabulary_find(const struct tokenizer_vocabulary *v, const char *bytes, size_t length);

/* The id of a token of the model by its name in the file, -1: none. */
int tokenizer_vocabulary_find_name(const struct tokenizer_vocabulary *v, const char *name, size_t bytes);

/* The id of the token that two tokens make when written together, -1: none. */
int tokenizer_vocabulary_find_pair(const struct tokenizer_vocabulary *v, int left, int right);

#endif
