/* main.c - the program: reads the command line and hands over to the command
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "launch/bench.h"
#include "launch/eplb_poc.h"
#include "launch/eplb_simulate.h"
#include "launch/eplb_tool.h"
#include "launch/inspect.h"
#include "launch/options.h"
#include "launch/options_help.h"
#include "launch/perplexity.h"
#include "launch/process.h"
#include "launch/selftest.h"
#include "launch/serve.h"
#include "launch/tokenize.h"
#include "launch/version.h"

#include <stdio.h>

/* One of the two functions is there. */
struct command {
    enum options_command command;
    int (*ranks)(const struct options *o,
                 const struct environment *e); /* on all ranks, over MPI; exit code */
    enum status (*alone)(const struct options *o, const struct environment *e, int answers);
};

/* Every command of options_table.c. */
static const struct command commands[] = {
    {.command = OPTIONS_GENERATE, .ranks = serve_generate},
    {.command = OPTIONS_INSPECT, .alone = inspect_run},
    {.command = OPTIONS_TOKENIZE, .alone = tokenize_run},
    {.command = OPTIONS_DETOKENIZE, .alone = tokenize_run},
    {.command = OPTIONS_PERPLEXITY, .ranks = perplexity_run},
    {.command = OPTIONS_BENCH_THROUGHPUT, .ranks = bench_throughput},
    {.command = OPTIONS_BENCH_LATENCY, .ranks = bench_latency},
    {.command = OPTIONS_BENCH_SELFTEST, .ranks = selftest_run},
    {.command = OPTIONS_EPLB_PLAN, .alone = eplb_tool_run},
    {.command = OPTIONS_EPLB_EVAL, .alone = eplb_tool_run},
    {.command = OPTIONS_EPLB_BOUND, .alone = eplb_tool_run},
    {.command = OPTIONS_EPLB_DIFF, .alone = eplb_tool_run},
    {.command = OPTIONS_EPLB_POC, .alone = eplb_poc_run},
    {.command = OPTIONS_EPLB_SIMULATE, .alone = eplb_simulate_run},
};

enum { COMMAND_COUNT = sizeof commands / sizeof commands[0] };

/* Commands that need no exchanges: started by a launcher, the first rank alone works. Answers go to the
 * descriptor `answers`, which the command closes; what libraries print to stdout goes to stderr. */
static int run_alone(const struct command *command, const struct options *o, const struct environment *e)
{
    int answers = -1;
    enum status status;

    if (e->launcher_rank > 0)
        return 0;
    status = process_save_stdout(&answers);
    if (status == STATUS_OK)
        status = command->alone(o, e, answers);
    if (status != STATUS_OK)
        process_print(-1, status);
    return status_exit_code(status);
}

static const struct command *find(int command)
{
    for (int i = 0; i < COMMAND_COUNT; i++)
        if ((int)commands[i].command == command)
            return &commands[i];
    return NULL;
}

/* --help and --version, before MPI starts; once, whatever the number of ranks. */
static int answer(const struct options *o, const struct environment *e)
{
    if (e->launcher_rank > 0)
        return 0;
    if (o->request == OPTIONS_VERSION)
        version_print(stdout);
    else
        options_help(stdout, o->command);
    return fflush(stdout) == 0 ? 0 : status_exit_code(STATUS_IO);
}

/* A wrong command line. Where ranks that were given a right one wait for this one, they must learn of it. */
static int refuse(const struct command *command, const struct environment *e, enum status status)
{
    if (command && command->ranks && e->launcher_tasks > 1)
        return process_refuse(e, status);
    if (e->launcher_rank <= 0)
        process_print(-1, status);
    return status_exit_code(status);
}

int main(int argc, char **argv)
{
    static struct options options;
    static struct environment environment;
    const struct command *command;
    enum status status;

    options_environment(&environment);
    status = options_parse(&options, argc, argv);
    if (status != STATUS_OK)
        return refuse(find(options.command), &environment, status);
    if (options.request != OPTIONS_RUN)
        return answer(&options, &environment);
    command = find(options.command);
    if (options.dry_run)
        return inspect_dry_run(&options, &environment);
    return command->ranks ? command->ranks(&options, &environment)
                          : run_alone(command, &options, &environment);
}
