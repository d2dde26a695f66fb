/* options_table_input.c - options: what is read
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "launch/options_table.h"

static const struct options_word generate_inputs[] = {
    {"lines", OPTIONS_LINES}, {"text", OPTIONS_TEXT}, {"jsonl", OPTIONS_JSONL}, {NULL, 0}};
static const struct options_word generate_outputs[] = {
    {"text", OPTIONS_OUTPUT_TEXT}, {"jsonl", OPTIONS_OUTPUT_JSONL}, {NULL, 0}};
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
     .value = "lines|text|jsonl",
     .type = OPTIONS_WORD,
     .words = generate_inputs,
     .preset = "lines",
     .field = OPTIONS_FIELD(input),
     .commands = OPTIONS_GENERATE,
     .help = "lines: every line is a prompt; text: the whole input is one prompt; jsonl: every line is a "
             "request, a JSON object with its own sampling options, as docs/requests.md has it"},
    {.name = "output",
     .value = "text|jsonl",
     .type = OPTIONS_WORD,
     .words = generate_outputs,
     .unset = "jsonl with --input jsonl, else text",
     .field = OPTIONS_FIELD(output),
     .commands = OPTIONS_GENERATE,
     .help = "text: answers in input order, each ended by a newline; jsonl: a JSON object for new tokens as "
             "they come and one for each request that has ended, whichever ends first"},
    {.name = "no-stream",
     .type = OPTIONS_FLAG,
     .field = OPTIONS_FIELD(no_stream),
     .commands = OPTIONS_GENERATE,
     .help = "of --output jsonl, only the last line of each request"},
    {.name = "ordered",
     .type = OPTIONS_FLAG,
     .field = OPTIONS_FIELD(ordered),
     .commands = OPTIONS_GENERATE,
     .help = "with --output jsonl, answers in input order; text always is"},
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
    {.name = "literal-text",
     .type = OPTIONS_FLAG,
     .field = OPTIONS_FIELD(literal_text),
     .commands = OPTIONS_GENERATE | OPTIONS_TOKENIZE,
     .help =
         "the names of tokens in a text, such as <|eot|>, are plain text; in a chat only those that stand in "
         "messages. Without it they are the tokens, as with Hugging Face"},
    {.name = "add-special-tokens",
     .type = OPTIONS_FLAG,
     .field = OPTIONS_FIELD(add_special_tokens),
     .commands = OPTIONS_TOKENIZE,
     .help =
         "add the special tokens that the model's post-processor asks for, such as the beginning of a text"},
};

const struct options_section options_table_input = {"Input", rows, sizeof rows / sizeof rows[0]};
