/* answer.h - answers as lines of JSON: new tokens as they come, and the whole of each request at its end
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * The lines are described in docs/requests.md. Lines of different requests alternate, and requests end as
 * they end, unless input order is asked for: then one request is shown at a time. Every line is valid UTF-8.
 */
#ifndef ANSWER_H
#define ANSWER_H

#include "engine/base/arena.h"
#include "engine/detokenizer.h"
#include "engine/scheduler.h"

#include <stdint.h>

enum { ANSWER_HELD = 256, ANSWER_ERROR_BYTES = 1024 };

struct answer_options {
    int output;   /* descriptor */
    bool whole;   /* only the last line of each request */
    bool ordered; /* in input order */
};

struct answer {
    struct answer_options options;
    const struct tokenizer *tokenizer; /* NULL: texts are null */
    struct answer_stream *streams;     /* [scheduler's capacity] what is out of each request */
    struct answer_error *held;         /* [ANSWER_HELD] errors that wait for their turn, oldest first */
    int held_count;
    char *room; /* text of one token */
    size_t room_bytes;
    char *buffer; /* lines that are not written yet */
    size_t used;
    /* told of each finished request */
    void (*each)(void *context, const struct request *r);
    void *context;
};

enum status answer_open(struct answer *a, struct arena *arena, const struct answer_options *options,
                        const struct tokenizer *t, int capacity);

/* Is there room for another error? With input order it waits for the requests before it. */
bool answer_has_room(const struct answer *a);

/* The request called `id` (JSON), the next that would be added, is answered by `text` and nothing else. */
enum status answer_refuse(struct answer *a, const struct scheduler *s, const char *id, const char *text);

/* Writes what can be written now and drops requests that are finished and out. */
enum status answer_show(struct answer *a, struct scheduler *s);

#endif
