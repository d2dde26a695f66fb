/* sampler.h - the next token from logits: a pure function of logits, parameters, seed, request and position
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef SAMPLER_H
#define SAMPLER_H

#include "engine/base/arena.h"
#include "engine/base/status.h"

#include <stdint.h>

/* Names and meanings are those of vLLM's sampling parameters. */
struct sampling {
    float temperature; /* 0: greedy */
    float top_p;       /* (0, 1]; 1: off */
    float min_p;       /* [0, 1]; 0: off */
    int top_k;         /* 0 or -1: off */
    uint64_t seed;
};

enum { SAMPLER_CANDIDATES = 64 }; /* more than these are not worth gathering one by one */

/* STATUS_BAD_INPUT names the field and its legal values. */
enum status sampler_check(const struct sampling *how);

/* How many of the best candidates decide the token: 1 for greedy, top_k up to SAMPLER_CANDIDATES, 0 when all
 * logits are needed. */
int sampler_needs(const struct sampling *how);

/* The random number of a position of a request: 53 bits, in [0, 1). Philox4x32-10 (Salmon, Moraes, Dror,
 * Shaw: Parallel random numbers, as easy as 1, 2, 3; SC 2011) with the seed as key and (request, position) as
 * counter, so no state is kept and no draw depends on another. */
double sampler_uniform(uint64_t seed, uint64_t request, uint64_t position);

struct sampler; /* workspace for a vocabulary */

/* Ids from `limit` on are never chosen: a model's vocabulary may be larger than its tokenizer's. */
enum status sampler_open(struct sampler **out, struct arena *arena, int vocabulary, int limit);

/* From `count` (value, id) pairs, falling, the lower id first on ties, as kernels' candidates give them; at
 * least sampler_needs of them, or the whole vocabulary when that is smaller. When all logits are at hand, ids
 * is NULL and values holds count logits by id; the token is the same. (Whoever makes candidates leaves out
 * ids from the limit on: they would take the place of others.)
 *
 * The order is vLLM's: temperature, min_p, top_k, top_p, then one draw along the candidates in falling order.
 * A logit that is not a number, or minus infinity, is never chosen; when none is left the status is
 * STATUS_BUG. */
enum status sampler_pick(struct sampler *s, const struct sampling *how, const float *values,
                         const int32_t *ids, int count, uint64_t request, uint64_t position, int32_t *token);

#endif
