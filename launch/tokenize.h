/* tokenize.h - the commands `tokenize` and `detokenize`: a line out for each line in
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 *                lines                       jsonl
 *     tokenize   text -> "12 7 5"            {"text": ...} -> {"ids": [12, 7, 5]}
 *                                            {"messages": [{"role", "content"}, ...],
 *                                             "add_generation_prompt": true,
 *                                             "chat_template_kwargs": {"enable_thinking": true}}
 *                                                -> {"ids": [...], "prompt": ...}
 *     detokenize "12 7 5" -> text            {"ids": [12, 7, 5]} -> {"text": ...}
 *
 * With jsonl a line that cannot be answered becomes {"error": ...}. With lines it becomes an empty line, its
 * reason goes to the log, and the end is STATUS_BAD_INPUT. A line ends with LF or CRLF. detokenize shows
 * special tokens, so that it is the inverse; text that holds line ends needs jsonl. */
#ifndef TOKENIZE_H
#define TOKENIZE_H

#include "engine/base/status.h"
#include "launch/options.h"

#include <stdbool.h>
#include <stdio.h>

struct tokenize_job {
    const char *directory; /* needs tokenizer.json; "messages" also the model_type of config.json */
    int input;             /* descriptor */
    FILE *output;          /* flushed after each line */
    bool jsonl;
    bool detokenize;
    bool add_special_tokens; /* what the post-processor adds, such as BOS; never to messages */
    bool literal_text;       /* tokens that are spelled in a text, or in a message, are plain text */
};

/* Reads input to its end. A failure of one line is no failure here, but for `lines`. */
enum status tokenize_lines(const struct tokenize_job *job);

/* The same as the command line asks for it; answers go to the descriptor `answers`, which is closed. */
enum status tokenize_run(const struct options *o, const struct environment *e, int answers);

#endif
