/* evaluate.h - how well the model predicts given texts: nats and perplexity
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Each text is tokenized, with the begin-of-text token where the tokenizer adds one, and read in windows
 * (engine/windows). Windows are sequences like any others: many run at once, on all data groups, and their
 * prompts are cut as the step's budget says; no number depends on that. What a text costs is the sum of its
 * tokens' nats in the order of the text.
 *
 * Texts come in loads that fit a pool of tokens, so memory does not grow with their number or length. */
#ifndef EVALUATE_H
#define EVALUATE_H

#include "engine/engine.h"
#include "engine/tokenizer.h"
#include "engine/windows.h"

#include <signal.h>

struct evaluate_options {
    const char *const *paths;
    int count;
    int window, stride;                /* tokens; 0 < stride < window */
    const volatile sig_atomic_t *stop; /* becomes non-zero when the run shall end; NULL: never */
};

struct evaluate_text {
    int64_t bytes;   /* of the file */
    int64_t tokens;  /* predicted: all but the first */
    int64_t windows; /* that they were read in */
    double nats;     /* sum of -log p over them */
};

/* A window that is being read. */
struct evaluate_window {
    struct window window;
    int start; /* of its first token in the pool */
    int group;
    int first_page; /* its pages follow each other in the group's pool */
    int done;       /* tokens computed */
};

struct evaluate {
    struct engine *engine;
    struct evaluate_options options;

    /* rank 0 */
    struct arena arena;
    struct tokenizer *tokenizer;
    struct evaluate_text *texts; /* [count]; results once evaluate_run has ended */
    char *bytes;                 /* of one file */
    struct tokens pool;          /* tokens of the load's texts, one after the other */
    double *nats;                /* [pool] of each token */
    int next_text;               /* the first one behind the load */

    struct evaluate_window *windows; /* [max_sequences] of this round */
    int window_count;
    int *pages_used;           /* [groups] in this round */
    int *rows_left;            /* [groups] in this round */
    int32_t *targets, *places; /* [max_rows] of a step: token that follows, and its place in the pool */
    double *step_nats;         /* [max_rows] */
    int64_t tokens_done, steps;
    int64_t shown; /* when progress was told last */
};

/* Rank 0 opens the tokenizer and takes memory; all ranks what scoring needs. Not collective. */
enum status evaluate_open(struct evaluate *e, struct engine *engine, const struct evaluate_options *options);

/* Collective: reads all texts. Fails on rank 0 alone for a text that cannot be read or has nothing to
 * predict; all ranks have then ended orderly and must agree. */
enum status evaluate_run(struct evaluate *e);

/* Takes a zeroed one. */
void evaluate_close(struct evaluate *e);

/* STATUS_NO_INPUT or STATUS_BAD_INPUT names the first file that is not there, is no file, is empty or too
 * long: to be asked before the weights are read. */
enum status evaluate_check(const char *const *paths, int count);

#endif
