/* speculate.h - drafts of what requests will say next, out of what they have said (rank 0 only)
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * A draft is worth something only when it is found in far less time than a step takes, however long a text
 * is. So the texts lie where the backend looks them up, and a step brings it the few tokens that are new:
 * once, for all requests together.
 *
 *     speculate_ask    each request that could use drafts, then
 *     speculate_look   their drafts, which stand until the next speculate_ask */
#ifndef SPECULATE_H
#define SPECULATE_H

#include "engine/base/arena.h"
#include "kernels/kernels.h"

/* Names and meanings are those of vLLM's --speculative-config with the method "ngram". */
struct speculate_options {
    int drafts;            /* num_speculative_tokens, at most DRAFT_TOKENS_MOST; 0: off */
    int shortest, longest; /* prompt_lookup_min and prompt_lookup_max */
};

struct speculate {
    struct speculate_options options;
    struct kernels *kernels;
    int slots, positions;
    int32_t *history; /* [slots, positions] backend memory */
    int64_t *owner;   /* [slots] number of the request whose tokens stand there, -1: nobody's, and ... */
    int *known;       /* [slots] ... how many of them */
    struct draft_sequence *asked; /* [slots] */
    int count;                    /* of them */
    int32_t *found;               /* [slots, 1 + DRAFT_TOKENS_MOST] */
    bool looked;                  /* they are answered */
};

/* For requests in `slots` slots, of up to `positions` tokens. */
enum status speculate_open(struct speculate *s, struct arena *arena, struct kernels *k,
                           const struct speculate_options *options, int slots, int positions);

/* Up to `most` drafts, at most options.drafts, are wanted of request `number`, which runs in this slot and
 * has these tokens: the ones it had before, and more. It is the next to be asked for, counted from 0. */
enum status speculate_ask(struct speculate *s, int slot, int64_t number, const int32_t *tokens, int count,
                          int most);

enum status speculate_look(struct speculate *s);

/* Of the request that was asked for as number `index`. */
const int32_t *speculate_drafts(const struct speculate *s, int index, int *count);

#endif
