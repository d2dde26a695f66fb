/* tokenizer_pipeline.h - what tokenizer.json says to do with text before and behind the model
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * The normalizer, the pre-tokenizer, the post-processor and the decoder. What would change an id or a byte of
 * text and is not known here is refused by name. */
#ifndef TOKENIZER_PIPELINE_H
#define TOKENIZER_PIPELINE_H

#include "engine/base/status.h"
#include "engine/json.h"
#include "engine/tokenizer_split.h"

#include <stdbool.h>
#include <stdint.h>

enum { TOKENIZER_PIPELINE_EXTRA = 16 /* ids the post-processor may put on one side */ };

struct tokenizer_pipeline {
    bool prefix_space; /* text between added tokens gets a blank in front unless it begins with one */
    int32_t before[TOKENIZER_PIPELINE_EXTRA];
    int before_count;
    int32_t after[TOKENIZER_PIPELINE_EXTRA];
    int after_count;
};

/* Reads all four from the root of tokenizer.json; the steps of the pre-tokenizer go into `split`. */
enum status tokenizer_pipeline_read(struct tokenizer_pipeline *out, const struct json_at *root,
                                    struct tokenizer_split *split);

#endif
