/* options_table_evaluation.c - options: how texts are evaluated
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "launch/options_table.h"

#include <limits.h>

static const struct options_row rows[] = {
    {.name = "window",
     .value = "N",
     .type = OPTIONS_WHOLE,
     .least = 2,
     .most = INT_MAX,
     .unset = "--max-model-len, else the model's own",
     .field = OPTIONS_FIELD(evaluation.window),
     .commands = OPTIONS_PERPLEXITY,
     .help = "tokens that the model sees at once; a text that fits is read in one window, a longer one in "
             "windows that start --stride tokens apart"},
    {.name = "stride",
     .value = "N",
     .type = OPTIONS_WHOLE,
     .least = 1,
     .most = INT_MAX,
     .unset = "half a window",
     .field = OPTIONS_FIELD(evaluation.stride),
     .commands = OPTIONS_PERPLEXITY,
     .help = "tokens from the start of a window to that of the next, less than a window; every token but the "
             "first of a text counts once, with --window minus --stride tokens before it at least"},
};

const struct options_section options_table_evaluation = {"Evaluation", rows, sizeof rows / sizeof rows[0]};
