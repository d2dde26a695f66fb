/* tokenizer_load.h - the parts of a tokenizer, read from a model's directory
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * tokenizer.json gives vocabulary, merges, added tokens and the pipeline; tokenizer_config.json the end token
 * and the chat template, which may also stand in chat_template.jinja. One arena holds it all. */
#ifndef TOKENIZER_LOAD_H
#define TOKENIZER_LOAD_H

#include "engine/base/arena.h"
#include "engine/base/status.h"
#include "engine/tokenizer_added.h"
#include "engine/tokenizer_characters.h"
#include "engine/tokenizer_merge.h"
#include "engine/tokenizer_pipeline.h"
#include "engine/tokenizer_split.h"
#include "engine/tokenizer_vocabulary.h"

#include <stdbool.h>

struct tokenizer_parts {
    struct arena arena; /* `extra` bytes of it are left for the caller */
    struct tokenizer_vocabulary vocabulary;
    struct tokenizer_merge merge;
    struct tokenizer_characters characters; /* of a vocabulary that is not byte-level */
    struct tokenizer_added added;
    struct tokenizer_pipeline pipeline;
    struct tokenizer_split *split;
    bool ignore_merges;        /* a piece that is a token as a whole is that token */
    const char *chat_template; /* NULL: none */
    int eos;                   /* -1: none */
};

enum status tokenizer_load(struct tokenizer_parts *out, const char *directory, size_t extra);

/* Takes zeroed parts. */
void tokenizer_load_close(struct tokenizer_parts *parts);

#endif
