/* tokenizer_pipeline.h - what tokenizer.json says to do with text before and behind the model
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * The normalizer, the pre-tokenizer, the post-processor and the decoder. What would change an id or a byte of
 * text and is not known here is refused by name. */
#ifndef TOKENIZER_PIPELINE_H
#define TOKENIZER_PIPELINE_H

#include "engine/base/arena.h"
#include "engine/base/status.h"
#include "engine/json.h"
#include "engine/tokenizer_decoder.h"
#include "engine/tokenizer_normal.h"
#include "engine/tokenizer_split.h"

#include <stdbool.h>
#include <stdint.h>

enum { TOKENIZER_PIPELINE_EXTRA = 16 /* ids the post-processor may put on one side */ };

struct tokenizer_pipeline {
    struct tokenizer_normal normal; /* text between the added tokens of the text as it came */
    struct tokenizer_normal blanks; /* what the pre-tokenizer makes of blanks (Metaspace), text between all */
    bool byte_level;                /* the vocabulary is spelled in bytes, else in characters */
    bool prefix_space; /* text between added tokens gets a blank in front unless it begins with one */
    struct tokenizer_decoder decoder;
    int32_t before[TOKENIZER_PIPELINE_EXTRA];
    int before_count;
    int32_t after[TOKENIZER_PIPELINE_EXTRA];
    int after_count;
};

/* Reads all four from the root of tokenizer.json; the steps of the pre-tokenizer go into `split`. */
enum status tokenizer_pipeline_read(struct tokenizer_pipeline *out, struct arena *arena,
                                    const struct json_at *root, struct tokenizer_split *split);

/* Bytes that tokenizer_pipeline_read takes at most. */
size_t tokenizer_pipeline_room(void);

#endif
