/* options_table.c - the commands, and the sections of options
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "launch/options_table.h"

const struct options_command_row options_table_commands[] = {
    {OPTIONS_GENERATE, "generate", "complete prompts from standard input, one a line, on any number of ranks",
     NULL, 0, 0},
    {OPTIONS_TOKENIZE, "tokenize", "text to token ids", NULL, 0, 0},
    {OPTIONS_DETOKENIZE, "detokenize", "token ids to text", NULL, 0, 0},
    {OPTIONS_PERPLEXITY, "perplexity", "how well the model predicts texts, on any number of ranks", "FILE...",
     1, OPTIONS_OPERAND_LIMIT},
    {OPTIONS_INSPECT, "inspect",
     "what a model is, and what its ranks would take, from the headers of its files", NULL, 0, 0},
    {OPTIONS_BENCH_THROUGHPUT, "bench throughput",
     "how fast many requests are served, and how long each waits", NULL, 0, 0},
    {OPTIONS_BENCH_LATENCY, "bench latency", "how long one batch takes from its prompts to its last token",
     NULL, 0, 0},
    {OPTIONS_BENCH_SELFTEST, "bench selftest",
     "is every entry of the backend right on this machine, and how fast are memory and exchanges", NULL, 0,
     0},
    {OPTIONS_EPLB_PLAN, "eplb plan", "decide which rank holds which expert, from loads in a file", "[FILE]",
     0, 1},
    {OPTIONS_EPLB_EVAL, "eplb eval", "how well a placement serves loads", "[FILE]", 0, 1},
    {OPTIONS_EPLB_BOUND, "eplb bound", "what no placement can do better than", "[FILE]", 0, 1},
    {OPTIONS_EPLB_DIFF, "eplb diff", "what moves between two placements", "FILE FILE", 2, 2},
    {OPTIONS_EPLB_POC, "eplb poc", "the published experiment with 128 experts and 10,000 tokens", NULL, 0, 0},
    {OPTIONS_EPLB_SIMULATE, "eplb simulate", "a recorded run on an imagined cluster, under every policy",
     "FILE", 1, 1},
    {0, NULL, NULL, NULL, 0, 0},
};

const struct options_section *const options_table_sections[] = {
    &options_table_input,
    &options_table_sampling,
    &options_table_ranks,
    &options_table_balancer,
    &options_table_memory,
    &options_table_evaluation,
    &options_table_bench,
    &options_table_inspect,
    &options_table_eplb,
    &options_table_run,
    NULL,
};

const struct options_row *options_table_row(int index)
{
    for (const struct options_section *const *s = options_table_sections; *s; s++) {
        if (index < (*s)->count)
            return &(*s)->rows[index];
        index -= (*s)->count;
    }
    return NULL;
}

const struct options_command_row *options_table_command(int command)
{
    for (const struct options_command_row *c = options_table_commands; c->name; c++)
        if (c->command == command)
            return c;
    return NULL;
}

const char *options_table_default(const struct options_row *row)
{
    if (row->type == OPTIONS_FLAG)
        return "off";
    return row->preset ? row->preset : row->unset;
}
