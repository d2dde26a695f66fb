/* intake.h - lines of JSON into the scheduler: requests and their copies, cancels, names that must not come
 * twice
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * A line that cannot be served is answered by its own error; nothing else notices. */
#ifndef INTAKE_H
#define INTAKE_H

#include "engine/answer.h"
#include "engine/chat.h"
#include "engine/request_line.h"
#include "engine/scheduler.h"

#include <stdint.h>

enum { INTAKE_IDS = 1 << 16 }; /* at least so many requests back, an id must not come again */

struct intake_options {
    struct request_options defaults;
    const char *directory; /* of the model, for messages */
    int vocabulary;
    const struct chat *chat;     /* NULL: messages are refused */
    const char *chat_missing;    /* and this says why */
    bool literal_text;           /* tokens that are spelled in a prompt or a message are plain text */
    struct tokenizer *tokenizer; /* NULL: text prompts and messages are refused */
    size_t longest;              /* bytes of the longest prompt */
};

struct intake {
    struct intake_options options;
    struct scheduler *scheduler;
    struct answer *answer; /* NULL: errors go to stderr, and `blank` is told of each */
    void (*blank)(void *context);
    void *context;
    struct request_line *line;     /* of the request that waits, or was read last */
    struct tokens tokens;          /* its prompt */
    int64_t number;                /* of its line */
    uint64_t hash;                 /* of its id; 0: it is not to be remembered */
    int next;                      /* its next copy */
    bool waits;                    /* some of its copies are still to be added */
    struct chat_message *messages; /* [REQUEST_LINE_MESSAGE_LIMIT] */
    struct chat_prompt rendered;   /* of options.longest bytes */
    uint64_t *ids[2]; /* [2 * INTAKE_IDS] hashed sets of ids: the newer one, and the one before */
    int id_count;     /* in ids[0] */
    int64_t requests, refused;
};

/* Bytes of arena that it takes for prompts of so many tokens. */
size_t intake_bytes(const struct intake_options *options, int positions);

enum status intake_open(struct intake *in, struct arena *arena, const struct intake_options *options,
                        struct scheduler *s, struct answer *answer);
void intake_close(struct intake *in);

/* One line, the number-th of the input. Not while in->waits. */
enum status intake_line(struct intake *in, const char *text, size_t bytes, int64_t number);

/* A prompt as it is, or as a user's message; its id is its number. */
enum status intake_text(struct intake *in, const char *text, size_t bytes, bool chat, int64_t number);

/* Line `number` cannot even be read. */
enum status intake_unread(struct intake *in, int64_t number, const char *why);

/* Adds what waits as far as there is room. */
enum status intake_continue(struct intake *in);

#endif
