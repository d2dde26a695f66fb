/* tokenizer_added.h - find the added tokens ("<|eot|>") that stand in text
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * The leftmost is found first, the longest of those that begin there. Two sets: tokens found in the text as
 * it came, and
 * ("normalized": true) tokens found in what is left of it after the normalizer. */
#ifndef TOKENIZER_ADDED_H
#define TOKENIZER_ADDED_H

#include "engine/base/arena.h"
#include "engine/base/status.h"
#include "engine/tokenizer_split.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tokenizer_added_token {
    const char *content; /* not owned */
    size_t bytes;
    int id;
    bool special;
    bool normalized;  /* looked for after the normalizer */
    bool lstrip;      /* takes the white space before it */
    bool rstrip;      /* and behind it */
    bool single_word; /* not beside a letter, digit or underscore */
};

struct tokenizer_added_node {
    int32_t token;   /* of the content that ends here; -1: none */
    int32_t child;   /* first of the nodes one byte on; 0: none */
    int32_t sibling; /* next of those that follow the same node; 0: none */
    unsigned char byte;
};

struct tokenizer_added_set {
    int32_t first[256]; /* node by first byte; 0: none */
    int count;
};

struct tokenizer_added {
    struct tokenizer_added_token *tokens;
    int count, capacity;
    struct tokenizer_added_node *nodes; /* of both sets; 0 is not used */
    size_t node_count, node_capacity;
    struct tokenizer_added_set sets[2]; /* by `normalized` */
    struct tokenizer_split *word;       /* matches one character of a word */
};

/* Room for `capacity` tokens of `bytes` bytes together. */
enum status tokenizer_added_open(struct tokenizer_added *a, struct arena *arena, int capacity, size_t bytes);

/* Bytes that tokenizer_added_open takes at most. */
size_t tokenizer_added_room(int capacity, size_t bytes);

/* Before the arena is closed; takes a zeroed set. */
void tokenizer_added_close(struct tokenizer_added *a);

enum status tokenizer_added_add(struct tokenizer_added *a, const struct tokenizer_added_token *token);

/* Who gets the parts, from left to right: text between tokens (token NULL, never empty), and tokens. */
struct tokenizer_added_taker {
    enum status (*take)(void *context, const char *text, size_t bytes,
                        const struct tokenizer_added_token *token);
    void *context;
};

/* A stretch of text, from one byte to before another. */
struct tokenizer_span {
    size_t begin, end;
};

/* Stretches in which no token is looked for: none begins or ends there, or reaches over one. In order, none
 * empty. */
struct tokenizer_literal {
    const char *origin; /* what the stretches are counted from; the text lies in it */
    const struct tokenizer_span *spans;
    int count;
};

/* Cuts `text`, valid UTF-8, at the tokens of one set. */
enum status tokenizer_added_run(const struct tokenizer_added *a, bool normalized,
                                const struct tokenizer_literal *literal, const char *text, size_t bytes,
                                const struct tokenizer_added_taker *taker);

#endif
