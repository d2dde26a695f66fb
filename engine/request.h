/* request.h - what one user asked for, and how it takes what a step brought (rank 0 only)
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * The scheduler decides when a request runs and on which pages; what it wants of a step and what it makes of
 * the logits is decided here, and depends on nothing but the request itself. */
#ifndef REQUEST_H
#define REQUEST_H

#include "engine/base/arena.h"
#include "engine/batch.h"
#include "engine/detokenizer.h"
#include "engine/head.h"
#include "engine/sampler.h"

enum request_state { REQUEST_WAITING, REQUEST_RUNNING, REQUEST_FINISHED };
enum request_finish { FINISH_NONE, FINISH_STOP, FINISH_LENGTH, FINISH_CANCELLED, FINISH_ERROR };

/* What the user asked for, beside the prompt. */
struct request_options {
    struct sampling sampling;
    int max_tokens;
    int priority; /* the lower, the sooner it runs; 0 unless said otherwise */
    bool ignore_eos;
    const char *const *stops;
    int stop_count;
};

struct request {
    int64_t number; /* in input order, from 0 */
    enum request_state state;
    enum request_finish finish;
    int32_t *tokens; /* prompt, then what was generated */
    int prompt;      /* tokens of the prompt */
    int count;       /* tokens so far */
    int computed;    /* positions whose keys and values are in the cache */
    int most;        /* tokens it may come to */
    int priority;
    int cached; /* prompt tokens whose keys and values were found in the cache */
    int group;
    int slot;
    struct sampling sampling;
    bool ignore_eos;
    int32_t *pages;                      /* [table pages] */
    int page_count;                      /* pages in use */
    int told;                            /* of these, those that the other ranks know */
    int found;                           /* of these, those that were found in the cache */
    int published;                       /* of these, those that others can find */
    uint64_t block;                      /* name of the last published block */
    int reached;                         /* most positions it has ever computed or found */
    int put_aside;                       /* times that its pages were taken away */
    struct detokenizer text;             /* finds stop strings */
    int64_t arrived, first_token, ended; /* clock_now */

    struct request *older, *newer; /* neighbours in input order, among those kept; NULL: none */
    int place;                     /* in the queue of waiting requests */
};

/* What all requests share. */
struct request_ground {
    const struct tokenizer *tokenizer; /* NULL: no text, so no stop strings */
    const int *stop_ids;               /* tokens that end a text, by the model */
    int stop_count;
    int id_limit; /* ids from here on are never sampled */
    struct sampler *sampler;
    char *scratch; /* text of one token */
    size_t scratch_bytes;
};

enum status request_ground_open(struct request_ground *g, struct arena *arena, int vocabulary,
                                const struct tokenizer *tokenizer, const int *stop_ids, int stop_count);

/* Sets r to its beginning; its prompt of `count` tokens stands in r->tokens, which holds `positions`.
 * STATUS_BAD_INPUT says why it can never run. */
enum status request_start(struct request *r, const struct request_ground *g, int64_t number, int count,
                          int positions, const struct request_options *options);

/* Does a run before b? By rising priority, then in input order: never both, and never neither. */
bool request_before(const struct request *a, const struct request *b);

/* How many of `rows` rows that a step has room for the request can take at once; at least one. */
int request_most_rows(const struct request *r, int rows);

/* May keys and values of its prompt come from the cache? Not where every row must be computed for its logits.
 */
bool request_reads_cache(const struct request *r);

/* The logits that the piece of the step wants, which brings `rows` more positions into the cache. */
void request_wants(const struct request *r, int rows, struct batch_piece *piece);

/* Takes the results of a piece that wanted some: samples and appends. r->finish says whether it has ended;
 * the scheduler then gives its pages back. */
enum status request_take(struct request *r, const struct request_ground *g, const struct head_result *result);

#endif
