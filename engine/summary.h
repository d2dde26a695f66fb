/* summary.h - the last line of a run: what was done, how fast, and what the time went into
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Made to be judged and compared: two runs that print the same hash generated the same tokens. */
#ifndef SUMMARY_H
#define SUMMARY_H

#include "comm/grid.h"
#include "comm/watch.h"
#include "engine/balance.h"
#include "engine/base/status.h"

#include <jansson.h>
#include <stdint.h>

struct summary {
    int ranks;
    int tensor;
    const char *backend; /* kernels->name */
    const char *comm;    /* comm->kind */
    int64_t requests, refused;
    int64_t prompt_tokens, generated_tokens;  /* computed for the first time, and sampled */
    int64_t cached_tokens, recomputed_tokens; /* of prompts, found in the cache; and computed again */
    int64_t preemptions;
    bool speculates;
    int64_t drafts, draft_tokens, accepted_tokens; /* as scheduler has them */
    int64_t steps;
    double seconds;        /* from the first batch to the last, without waiting for input */
    double decode_seconds; /* of steps that only decoded, and the tokens of those */
    int64_t decode_tokens;
    double share[WATCH_PHASE_COUNT]; /* of all ranks' time, by phase; waiting is apart in `idle` */
    double idle;
    double
        imbalance; /* rows of the busiest rank over the mean, over all steps and layers; 1 without experts */
    const char *dispatch;   /* "node-once" or "direct" */
    bool nodes;             /* ranks stand on several nodes; then: */
    int64_t crossed;        /* rows that a dispatch sent to another node, and ... */
    int64_t crossed_direct; /* ... those that would have been sent straight */
    double waits;           /* of rank 0's host for its backend, in a layer of a step that only decodes */
    double result_waits;    /* the same, for the results of such a step */
    const int64_t
        *decoded;   /* [RECORDING_AGAIN + 1] steps that only decoded, as recorder has them; not owned */
    int64_t halved; /* steps whose rows went to experts as two cohorts, and ... */
    int64_t halved_planned;        /* ... those of them that the host planned: batches of prompts */
    uint64_t hash;                 /* of all tokens: in input order, or request by request */
    int64_t loose_products;        /* kernels->loose_products, then of all ranks: 0: the law held */
    const struct balance *balance; /* not owned; NULL: nothing is said of experts */
};

/* Adds up the phase times of all ranks into share and idle, and their loose products. Collective over the
 * world. */
enum status summary_gather(struct summary *s, struct comm *world);

/* What a closing line says of the law: the rule that `loose_products` gave up, with "; " behind it; "" for
 * none. */
void summary_law(int64_t loose_products, char *text, size_t size);

/* The line on stderr, at rank 0. */
void summary_log(const struct summary *s);

/* The same as a JSON object; NULL: no memory. */
json_t *summary_pack(const struct summary *s);

/* That object in a file. A file that cannot be written is STATUS_IO. */
enum status summary_write(const struct summary *s, const char *path);

/* Feeds one token into the hash. */
void summary_hash(struct summary *s, int32_t token);

/* Feeds a whole request, number `number` of the input, into a hash that does not depend on the order in which
 * requests end. */
void summary_hash_request(struct summary *s, int64_t number, const int32_t *tokens, int count);

#endif
