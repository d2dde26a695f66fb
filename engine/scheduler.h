/* scheduler.h - which requests run, and what each step computes (rank 0 only)
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Requests are numbered in input order and run by priority, then in that order. They wait until their data
 * group has cache pages for their whole length, so a running request is never put aside; they join and leave
 * between steps. A step takes one token of every request that decodes, then prompts in order as far as the
 * budget goes: a long prompt is cut, and its bytes do not change by that. */
#ifndef SCHEDULER_H
#define SCHEDULER_H

#include "comm/grid.h"
#include "engine/base/arena.h"
#include "engine/batch.h"
#include "engine/head.h"
#include "engine/queue.h"
#include "engine/request.h"

struct scheduler_limits {
    int sequences; /* --max-num-seqs: running at once, over all groups */
    int rows;      /* --max-num-batched-tokens */
    int positions; /* --max-model-len */
    int pages_per_group;
    int groups;
    int vocabulary;
};

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
    int32_t *free_pages; /* [groups, pages_per_group] stacks */
    int *free_count;     /* [groups] */
    int *reserved;       /* [groups] pages promised to running requests and not yet handed out */
    int *load;           /* [groups] running requests */
    int *take;           /* [sequences] rows of each in the step */

    int64_t prompt_tokens, generated_tokens; /* computed and sampled so far */
};

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
