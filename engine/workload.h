/* workload.h - requests to measure with: made up from a seed, or read from a file
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * A made-up prompt is `input` token ids, each drawn evenly from the vocabulary. The draws and the arrivals
 * are counter based (engine/sampler), so they depend on the seed and on nothing else.
 *
 * A file holds a prompt a line. A line that begins with { is JSON: {"prompt": TEXT} or {"prompt_token_ids":
 * [...]}, and "max_tokens", the tokens of its answer, where it differs from the others; further keys are
 * passed over. Empty lines are too. A file with fewer prompts than are wanted is read again from its start.
 */
#ifndef WORKLOAD_H
#define WORKLOAD_H

#include "engine/base/arena.h"
#include "engine/base/status.h"
#include "engine/tokenizer.h"

#include <stdint.h>

struct workload_prompt {
    int64_t first; /* of its tokens in ids */
    int input;     /* tokens of the prompt */
    int output;    /* tokens of the answer */
};

struct workload {
    struct arena arena;
    int count;
    struct workload_prompt *prompts; /* [count] */
    int32_t *ids;
    int64_t *arrivals; /* [count] nanoseconds after the start, rising from 0 */
    int64_t input_tokens, output_tokens;
};

struct workload_options {
    int count;
    int input, output; /* tokens; input is not for files */
    int positions;     /* most tokens of a prompt and its answer; more are STATUS_BAD_INPUT */
    int vocabulary;
    uint64_t seed;
    double rate;      /* requests that arrive in a second, on average; infinite: all at the start */
    const char *path; /* NULL: made up */
    struct tokenizer *tokenizer; /* for text; may be NULL where there is none */
};

/* STATUS_BAD_INPUT names the file and the line. */
enum status workload_open(struct workload *w, const struct workload_options *options);

/* Takes a zeroed one. */
void workload_close(struct workload *w);

#endif
