/* options_table_input.c - options: what is read
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "launch/options_table.h"

static const struct options_word generate_inputs[] = {
    {"lines", OPTIONS_LINES}, {"text", OPTIONS_TEXT}, {NULL, 0}};
static const struct options_word tokenize_inputs[] = {
    {"lines", OPTIONS_LINES}, {"jsonl", OPTIONS_JSONL}, {NULL, 0}};

static const struct options_row rows[] = {
    {.name = "model",
     .letter = 'm',
     .value = "DIR|ORG/NAME",
     .type = OPTIONS_STRING,
     .field = OPTIONS_FIELD(model),
     .local = true,
     .commands = OPTIONS_WITH_MODEL,
     .needed = OPTIONS_WITH_MODEL,
     .help = "model directory as published on Hugging Face, or the name of a model in the local Hugging Face "
             "cache; nothing is ever downloaded"},
    {.name = "input",
     .value = "lines|text",
     .type = OPTIONS_WORD,
     .words = generate_inputs,
     .preset = "lines",
     .field = OPTIONS_FIELD(input),
     .commands = OPTIONS_GENERATE,
     .help = "lines: every line is a prompt; text: the whole input is one prompt"},
    {.name = "input",
     .value = "lines|jsonl",
     .type = OPTIONS_WORD,
     .words = tokenize_inputs,
     .preset = "lines",
     .field = OPTIONS_FIELD(input),
     .commands = OPTIONS_TEXTS,
     .help = "lines: every line is a text (ids with spaces between them for detokenize); jsonl: every line "
             "is a JSON object"},
    {.name = "input-file",
     .value = "FILE",
     .type = OPTIONS_STRING,
     .unset = "standard input",
     .local = true,
     .field = OPTIONS_FIELD(input_file),
     .commands = OPTIONS_GENERATE | OPTIONS_TEXTS,
     .help = "read the input from FILE"},
    {.name = "chat",
     .type = OPTIONS_FLAG,
     .field = OPTIONS_FIELD(chat),
     .commands = OPTIONS_GENERATE,
     .help = "each prompt is a user's message, put into the model's chat format"},
    {.name = "add-special-tokens",
     .type = OPTIONS_FLAG,
     .field = OPTIONS_FIELD(add_special_tokens),
     .commands = OPTIONS_TOKENIZE,
     .help =
         "add the special tokens that the model's post-processor asks for, such as the beginning of a text"},
};

const struct options_section options_table_input = {"Input", rows, sizeof rows / sizeof rows[0]};
