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
#include "engine/logits.h"
#include "engine/sampler.h"

enum request_state { REQUEST_WAITING, REQUEST_RUNNING, REQUEST_FINISHED };
enum request_finish { FINISH_NONE, FINISH_STOP, FINISH_LENGTH, FINISH_CANCELLED, FINISH_ERROR };

enum {
    REQUEST_ID_BYTES = 512, /* of an id in JSON, with its end */
    REQUEST_STOP_IDS = 64,
    REQUEST_BIASES = 1024,
    REQUEST_TOP = 20, /* most likely tokens that can be asked for beside each token */
};

/* Are logarithms of probabilities wanted, and of how many tokens beside the one that stands there? */
struct request_logprobs {
    bool wanted;
    int top; /* 0 ... REQUEST_TOP */
};

/* What the user asked for, beside the prompt. What pointers point to is copied where the request has a store,
 * and must outlive it where it has none. */
struct request_options {
    struct sampling sampling;
    struct logits_change change;
    int max_tokens;
    int min_tokens; /* before so many the text does not end, but for max_tokens */
    int priority;   /* the lower, the sooner it runs; 0 unless said otherwise */
    bool ignore_eos;
    const char *const *stops;
    int stop_count;
    const int32_t *stop_ids; /* tokens that end it, beside the model's */
    int stop_id_count;
    struct request_logprobs logprobs, prompt_logprobs;
    const char *id;  /* what it is called in answers, as JSON; NULL: it has no name */
    int index;       /* of this completion among `copies` of one prompt */
    int copies;      /* 0 counts as 1 */
    bool own_stream; /* its random numbers come from `stream`; otherwise from its number */
    uint64_t stream;
};

/* A token and the logarithm of its probability. */
struct request_choice {
    int32_t token;
    float logprob;
};

/* Room for what a request brings along, beside tokens and pages. */
struct request_store {
    char id[REQUEST_ID_BYTES];
    char stop_text[DETOKENIZER_STOP_LIMIT][DETOKENIZER_STOP_BYTES];
    const char *stops[DETOKENIZER_STOP_LIMIT];
    int32_t stop_ids[REQUEST_STOP_IDS];
    struct logits_bias biases[REQUEST_BIASES];
    struct request_choice *choices; /* [positions, 1 + REQUEST_TOP], touched only where asked for */
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
    struct request_options options;      /* pointers lead to where they stay */
    uint64_t stream;                     /* of its random numbers */
    int measured;                        /* prompt tokens whose logprobs are known, the first one counted */
    struct request_store *store;         /* NULL: none */
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
    int vocabulary;
    float *changed;  /* [V] logits of one request as it changed them */
    int32_t *counts; /* [V] zero */
};

enum status request_ground_open(struct request_ground *g, struct arena *arena, int vocabulary,
                                const struct tokenizer *tokenizer, const int *stop_ids, int stop_count);

/* Gives r, zeroed or used before, a store for prompts of up to `positions` tokens. */
enum status request_attach(struct request *r, struct arena *arena, int positions);

/* Sets r to its beginning; its prompt of `count` tokens stands in r->tokens, which holds `positions`.
 * STATUS_BAD_INPUT says why it can never run. */
enum status request_start(struct request *r, const struct request_ground *g, int64_t number, int count,
                          int positions, const struct request_options *options);

/* Does a run before b? By rising priority, then in input order: never both, and never neither. */
bool request_before(const struct request *a, const struct request *b);

/* How many of `rows` rows that a step has room for the request can take at once; at least one. *spare rows of
 * the step can want logits, beside one for each request; what it takes of them is taken off. */
int request_most_rows(const struct request *r, int rows, int *spare);

/* May keys and values of its prompt come from the cache? Not where every row must be computed for its logits.
 */
bool request_reads_cache(const struct request *r);

/* The logits that the piece of the step wants, which brings `rows` more positions into the cache; those
 * beyond the last token are of drafts, which stand behind it in r->tokens. */
void request_wants(const struct request *r, int rows, struct batch_piece *piece);

/* Takes the results of a piece that wanted some: measures the prompt, samples and appends, as long as what is
 * sampled are the drafts and one token more. r->finish says whether it has ended; the scheduler then gives
 * its pages back. results [wanted rows of the piece]. */
enum status request_take(struct request *r, const struct request_ground *g, const struct batch_piece *piece,
                         const struct head_result *results);

/* Of token `position`, whose logprobs were wanted: itself first, then the most likely ones. A position of the
 * prompt must be below r->measured, and not the first. */
const struct request_choice *request_choices(const struct request *r, int position, int *count);

#endif
