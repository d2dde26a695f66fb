/* tokenizer_merge.h - byte pair encoding of one piece of text
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * The adjacent pair of lowest rank is merged, the leftmost of equals, until no pair has a rank. A heap makes
 * that n log n, so that a piece may be megabytes long. */
#ifndef TOKENIZER_MERGE_H
#define TOKENIZER_MERGE_H

#include "engine/base/arena.h"
#include "engine/base/status.h"
#include "engine/tokens.h"

#include <stddef.h>
#include <stdint.h>

enum { TOKENIZER_MERGE_PIECE_LIMIT = 4 << 20 /* symbols that one piece begins with */ };

struct tokenizer_pair {
    int32_t left, right; /* ids; left -1: a free place */
    uint32_t rank;
    int32_t id; /* of what the two become */
};

struct tokenizer_symbol; /* private */

struct tokenizer_merge {
    struct tokenizer_pair *pairs; /* by hash of (left, right) */
    size_t mask;
    int32_t byte_ids[256];            /* the token of each single byte; -1: none */
    struct tokenizer_symbol *symbols; /* scratch of one piece */
    int32_t symbol_count;
    uint64_t *heap; /* rank << 32 | place of the left symbol */
    size_t heap_count;
};

/* Room for `count` pairs; the single bytes have no token yet. */
enum status tokenizer_merge_open(struct tokenizer_merge *m, struct arena *arena, size_t count);

/* Bytes that tokenizer_merge_open takes at most (mostly scratch that short pieces never touch). */
size_t tokenizer_merge_room(size_t count);

/* A pair that is added again has its later rank. */
void tokenizer_merge_add(struct tokenizer_merge *m, const struct tokenizer_pair *pair);

/* One piece: start, push each symbol that it begins with, and finish, which merges and appends the ids.
 * STATUS_BAD_INPUT: a piece over the limit. */
void tokenizer_merge_start(struct tokenizer_merge *m);
enum status tokenizer_merge_push(struct tokenizer_merge *m, int32_t id);
enum status tokenizer_merge_finish(struct tokenizer_merge *m, struct tokens *out);

/* The same for a piece whose symbols are its bytes. STATUS_BAD_INPUT: a byte without a token. */
enum status tokenizer_merge_piece(struct tokenizer_merge *m, const char *piece, size_t bytes,
                                  struct tokens *out);

#endif
