/* chat_prompt.h - a prompt as a renderer writes it: the template's own text, and the content of messages
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * What comes from messages is written as content: its broken UTF-8 becomes U+FFFD, and its place is noted, so
 * that tokens which stand in it can be told from those of the template. What does not fit is counted all the
 * same. */
#ifndef CHAT_PROMPT_H
#define CHAT_PROMPT_H

#include "engine/tokenizer_added.h"

#include <stdbool.h>
#include <stddef.h>

struct chat_message {
    const char *role;    /* "system", "user", "assistant", "tool" */
    const char *content; /* UTF-8, NUL-terminated */
    size_t bytes;        /* of content, which may hold NUL */
};

/* What is to be rendered. */
struct chat_job {
    const struct chat_message *messages;
    int count;
    bool generation_prompt; /* open the assistant's turn */
    bool no_thinking;       /* enable_thinking is false; not given, it is true */
};

enum { CHAT_PROMPT_PARTS = 4 /* stretches of content that a message may have */ };

struct chat_prompt {
    char *text;
    size_t capacity;
    size_t bytes;
    struct tokenizer_span *content; /* NULL: not asked for; from left to right, none empty */
    int content_capacity;           /* CHAT_PROMPT_PARTS for each message suffice */
    int content_count;
};

/* A stretch of a message. */
struct chat_text {
    const char *text;
    size_t bytes;
};

/* Text of the template. */
void chat_prompt_put(struct chat_prompt *p, const char *text);

void chat_prompt_content(struct chat_prompt *p, struct chat_text text);
void chat_prompt_role(struct chat_prompt *p, const struct chat_message *message);

/* Content as the filter tojson writes it. */
void chat_prompt_json(struct chat_prompt *p, const struct chat_message *message);

bool chat_prompt_is_role(const struct chat_message *message, const char *role);
struct chat_text chat_prompt_text(const struct chat_message *message);

/* As Python's str.strip: white space at both ends. */
struct chat_text chat_prompt_trim(struct chat_text text);

/* As str.lstrip("\n") and str.rstrip("\n"). */
struct chat_text chat_prompt_lines_after(struct chat_text text);
struct chat_text chat_prompt_lines_before(struct chat_text text);

/* What stands behind the last `mark` and before the first; the whole text where there is none. */
struct chat_text chat_prompt_behind(struct chat_text text, const char *mark);
struct chat_text chat_prompt_before(struct chat_text text, const char *mark);

bool chat_prompt_holds(struct chat_text text, const char *mark);
bool chat_prompt_begins(struct chat_text text, const char *mark);
bool chat_prompt_ends(struct chat_text text, const char *mark);

#endif
