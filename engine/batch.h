/* batch.h - the one message: all that the ranks must agree on for a step
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Rank 0 fills a batch and broadcasts it; followers receive it and hold no policy, no scheduler and no random
 * numbers. Rows stand grouped by piece, pieces grouped by data group in rising order; so every rank derives
 * from the batch alone which rows its group computes and which of those it owns. */
#ifndef BATCH_H
#define BATCH_H

#include "comm/comm.h"
#include "comm/grid.h"
#include "engine/base/arena.h"
#include "engine/base/status.h"
#include "kernels/kernels.h"

#include <stdint.h>

/* Which logits of a piece are wanted. */
enum batch_want {
    BATCH_WANT_NONE,       /* a prompt that goes on in a later step */
    BATCH_WANT_CANDIDATES, /* the `keep` best of the last row */
    BATCH_WANT_LOGITS,     /* all logits of the last row */
    BATCH_WANT_ALL,        /* all logits of every row (perplexity, tests) */
    BATCH_WANT_EACH, /* the rows are a token and drafts of those behind it: the `keep` best of every row,
                        0: all logits */
};

/* Consecutive tokens of one sequence. */
struct batch_piece {
    int32_t sequence; /* slot of the sequence, 0 ... max_sequences - 1 of its group's table */
    int32_t group;    /* data group that holds its keys and values */
    int32_t first_row;
    int32_t rows;
    int32_t position;    /* of the first row */
    int32_t want;        /* enum batch_want */
    int32_t keep;        /* candidates wanted, for BATCH_WANT_CANDIDATES and BATCH_WANT_EACH */
    int32_t first_page;  /* index into pages of the new pages this piece brings */
    int32_t new_pages;   /* appended to the sequence's page table */
    int32_t found_pages; /* of these the first, which hold keys and values already; position stands behind
                            them. A piece at position found_pages * PAGE_ROWS starts a new table, so each at 0
                            does. */
};

/* An expert gets another slot, see engine/migrate.h. */
struct batch_move {
    int32_t layer; /* with experts, counted from 0 */
    int32_t slot;
    int32_t expert;
    int32_t source; /* slot that holds it */
};

enum { BATCH_MOVES = 30 }; /* in a batch, at most: what one group of moves holds */

enum { BATCH_STOP = 1, BATCH_IDLE = 2 }; /* flags */

struct batch {
    uint64_t number;            /* of this step, rising by one */
    uint64_t placement_version; /* experts lie where this version says */
    uint32_t flags;
    int32_t piece_count;
    int32_t row_count;
    int32_t page_count;
    int32_t move_count;         /* moves that begin with this batch */
    struct batch_piece *pieces; /* [max_sequences] */
    int32_t *tokens;            /* [max_rows] */
    int32_t *pages;             /* [max_pages] new pages, referred to by the pieces */
    struct batch_move *moves;   /* [BATCH_MOVES] */

    int max_pieces, max_rows, max_pages;
    void *wire;        /* the encoded message, as broadcast */
    size_t wire_bytes; /* of the last one sent or received */
};

/* The most new pages that the pieces of a step can need for `rows` rows, and room for pages that are found:
 * those of a sequence of `positions`, or as many as rows. max_pages of a batch is the sum. */
int batch_new_pages(int max_rows, int max_pieces);
int batch_found_pages(int max_rows, int positions);

/* Bytes of the largest message of these sizes: what the world's comm must be able to broadcast. */
size_t batch_message_bytes(int max_pieces, int max_rows, int max_pages);

/* Memory for batches of up to these sizes. */
enum status batch_open(struct batch *b, struct arena *arena, int max_pieces, int max_rows, int max_pages);

/* Are most of its rows those of prompts, several of a sequence at once? */
bool batch_prompts(const struct batch *b);

/* Does it bring no more of any sequence than a token and drafts? */
bool batch_decodes(const struct batch *b);

/* Rows of the piece that want logits: the last ones. */
int batch_piece_wanted(const struct batch_piece *p);

/* Does the piece start a new page table? */
bool batch_starts(const struct batch_piece *p);

/* Empty it for the next step: number + 1, everything else zero. */
void batch_clear(struct batch *b);

/* STATUS_BUG names the field that contradicts the rules above; there are at most `groups` data groups. Pieces
 * bring at least one row; first_row and first_page count on from piece to piece. */
enum status batch_check(const struct batch *b, int groups);

/* Rank 0 of `world`: check it, broadcast it. */
enum status batch_send(struct batch *b, struct comm *world);

/* Other ranks: wait for the next one, check it, fill b. Nothing need be cleared before. */
enum status batch_receive(struct batch *b, struct comm *world);

/* Rows of group `group`: contiguous. A group without rows has count 0 and stands behind those before it. */
struct range batch_group_rows(const struct batch *b, int group);

/* Rows that want logits, over all groups, in row order: how many, and (when out is not NULL) which. */
int batch_wanted(const struct batch *b, int32_t *out);

#endif
