/* generate.h - prompts in, text out: the main job
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Rank 0 reads prompts, schedules, samples and writes; all other ranks follow its batches. As text, answers
 * go out in input order, token by token, each ended by a newline. What bad input gets is said in
 * docs/running.md and docs/requests.md. */
#ifndef GENERATE_H
#define GENERATE_H

#include "engine/answer.h"
#include "engine/chat.h"
#include "engine/engine.h"
#include "engine/intake.h"
#include "engine/printer.h"
#include "engine/prompts.h"
#include "engine/scheduler.h"
#include "engine/summary.h"
#include "engine/tokenizer.h"

#include <signal.h>

struct generate_options {
    int input;  /* descriptor, rank 0 */
    int output; /* descriptor, rank 0 */
    enum prompts_form form;
    bool chat;         /* each prompt is a user's message */
    bool literal_text; /* tokens that are spelled in a prompt or message are plain text */
    bool input_json;   /* each line is a request, as docs/requests.md has it */
    bool output_json;  /* answers are lines of JSON */
    bool whole;        /* of those, only the last one of each request */
    bool ordered;      /* in input order */
    struct request_options request;
    bool prefix_caching;               /* equal beginnings of prompts are computed once */
    const volatile sig_atomic_t *stop; /* becomes non-zero when the run shall end; NULL: never */
};

struct generate {
    struct engine *engine;
    struct generate_options options;
    struct summary summary;

    /* rank 0 */
    struct arena arena;
    struct tokenizer *tokenizer;
    const struct chat *chat;
    struct scheduler scheduler;
    struct prompts prompts;
    struct intake intake;
    char chat_missing[256]; /* why there is no chat */
    struct printer printer; /* answers as text */
    struct answer answer;   /* answers as JSON */
};

/* Rank 0 opens tokenizer, chat renderer, scheduler; other ranks nothing. Not collective. */
enum status generate_open(struct generate *g, struct engine *engine, const struct generate_options *options);

/* Collective: serves until the input ends. *refused counts prompts that were refused, each reported on
 * stderr. */
enum status generate_run(struct generate *g, int64_t *refused);

/* Takes a zeroed one. */
void generate_close(struct generate *g);

#endif
