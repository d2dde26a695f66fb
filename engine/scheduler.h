/* scheduler.h - which requests run, and what each step computes (rank 0 only)
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Requests are numbered in input order and run by priority, then in that order; they join and leave between
 * steps.
 *
 * Pages. A request starts when a data group has pages for all its tokens so far and one for each request that
 * runs there; it grows page by page. When its group has none left, the last in order of those behind it is
 * put aside: its pages go back, it waits at its old place, and computes again what the cache no longer holds,
 * the same bytes. A request that has nobody behind it stands still until pages come back. So the first in
 * order always goes on, and nothing is ever given up.
 *
 * Prefixes. A block of tokens that a page of the group holds is not computed again, and one that another
 * request computes in this step is waited for. Of the groups with room
 * the one that holds most of a prompt gets it, unless it runs more than PREFIX_LOAD requests more than
 * another with room; then, and among equals, the one that runs fewest.
 *
 * Rows. A step takes one token of every request that decodes, then prompts, which share what is left
 * (engine/share.h). Rows that are left then are drafts of requests that decode, as far as there are pages
 * that nobody else will need soon. What is sampled decides how many of them count; keys and values of the
 * others are overwritten by the rows of later steps, and never looked at before. */
#ifndef SCHEDULER_H
#define SCHEDULER_H

#include "comm/grid.h"
#include "engine/base/arena.h"
#include "engine/batch.h"
#include "engine/head.h"
#include "engine/page_pool.h"
#include "engine/queue.h"
#include "engine/request.h"
#include "engine/share.h"
#include "engine/speculate.h"

struct scheduler_limits {
    int sequences; /* --max-num-seqs: running at once, over all groups */
    int rows;      /* --max-num-batched-tokens */
    int wanted;    /* rows of a step that can want logits; at least one of each sequence always can */
    int positions; /* --max-model-len */
    int pages_per_group;
    int groups;
    int vocabulary;
    bool prefix_caching;
    struct speculate *speculate; /* proposes drafts; NULL: there are none */
};

enum { PREFIX_LOAD = 2 };

struct scheduler {
    struct scheduler_limits limits;
    struct request_ground ground;

    int capacity;           /* requests kept at once: waiting, running, or finished and not yet dropped */
    struct request *store;  /* [capacity] */
    struct request **spare; /* [capacity] those that are not in use, the next to be taken on top */
    int spare_count;
    struct request *oldest, *newest; /* ends of the list of those kept, in input order */
    int64_t added;                   /* requests so far; the number of the next */
    struct queue waiting;
    struct request **running; /* [sequences] by slot, NULL: free */
    struct request **order;   /* [sequences] those running, by request_before */
    int running_count;
    struct page_pool *pool;   /* [groups] */
    int *load;                /* [groups] running requests */
    int *promised;            /* [groups] pages that running requests still need for the tokens they have */
    int *found;               /* [groups] pages that hold the beginning of a request; -1: no room for it */
    int *take;                /* [sequences] rows of each in the step */
    int found_room;           /* pages found in the cache that a step can still name */
    struct request **wanting; /* [sequences] those among whom `share` divides rows; then those with drafts */
    struct share share;

    /* so far */
    int64_t prompt_tokens;     /* computed for the first time */
    int64_t cached_tokens;     /* of prompts, found in the cache instead */
    int64_t recomputed_tokens; /* computed again, after their pages were taken away */
    int64_t generated_tokens;
    int64_t preemptions;
    int64_t drafts;          /* times that a request brought drafts into a step, ... */
    int64_t draft_tokens;    /* ... how many in all, ... */
    int64_t accepted_tokens; /* ... and tokens that came with them beside one */

    int64_t looked; /* nanoseconds that looking for the drafts of the last step took */
};

/* Address space for what scheduler_open takes for pages. */
size_t scheduler_page_bytes(int groups, int pages_per_group);

enum status scheduler_open(struct scheduler *s, struct arena *arena, const struct scheduler_limits *limits,
                           const struct tokenizer *tokenizer, const int *stop_ids, int stop_count);

/* Is there room for one more request? */
bool scheduler_has_room(const struct scheduler *s);

/* Where the tokens of the next request are to be written (capacity limits.positions), before scheduler_add.
 */
struct tokens scheduler_prompt(struct scheduler *s);

/* The next request; its prompt of `count` tokens stands at scheduler_prompt's ids. STATUS_BAD_INPUT says why
 * a request can never run; then nothing was added. */
enum status scheduler_add(struct scheduler *s, int count, const struct request_options *options);

/* Fills the batch with the next step. No rows: nothing can run now. */
enum status scheduler_fill(struct scheduler *s, struct batch *b);

/* Takes what the step brought: samples, appends, finishes. results [wanted rows of b]. */
enum status scheduler_advance(struct scheduler *s, const struct batch *b, const struct head_result *results);

/* Ends a request that waits or runs, with FINISH_CANCELLED; one that has finished stays as it is. Between
 * steps: not after scheduler_fill and before its scheduler_advance. */
void scheduler_cancel(struct scheduler *s, struct request *r);

/* The oldest request still kept, NULL: none; r->newer leads on in input order. */
struct request *scheduler_oldest(struct scheduler *s);

/* Forgets a finished request; any, in whatever order. Its place is free for another, so r is not to be used
 * any more. */
void scheduler_drop(struct scheduler *s, struct request *r);

/* Are all requests finished? */
bool scheduler_idle(const struct scheduler *s);

#endif
