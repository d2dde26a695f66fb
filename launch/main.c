/* main.c - the program: reads the command line and hands over to the command
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "launch/options.h"
#include "launch/options_help.h"
#include "launch/process.h"
#include "launch/serve.h"
#include "launch/tokenize.h"
#include "launch/topology.h"

#include <stdio.h>

/* Commands that need no exchanges: started by a launcher, the first rank alone works. */
static int run_alone(const struct options *o, const struct environment *e)
{
    int answers = -1;
    enum status status;

    if (e->launcher_rank > 0)
        return 0;
    status = process_save_stdout(&answers);
    if (status == STATUS_OK)
        status = tokenize_run(o, e, answers);
    if (status != STATUS_OK)
        process_print(-1, status);
    return status_exit_code(status);
}

struct command {
    enum options_command command;
    bool ranks; /* runs on all of them */
    int (*run)(const struct options *o, const struct environment *e);
};

static const struct command commands[] = {
    {OPTIONS_GENERATE, true, serve_generate},
    {OPTIONS_TOKENIZE, false, run_alone},
    {OPTIONS_DETOKENIZE, false, run_alone},
};

enum { COMMAND_COUNT = sizeof commands / sizeof commands[0] };

static const struct command *find(int command)
{
    for (int i = 0; i < COMMAND_COUNT; i++)
        if ((int)commands[i].command == command)
            return &commands[i];
    return NULL;
}

static void print_version(void)
{
#ifdef __clang__
    const char *compiler = __VERSION__;
#else
    const char *compiler = "gcc " __VERSION__;
#endif
    char mpi[64];

    process_library(mpi);
    printf("switchyard %s\ncompiler   %s\nmpi        %s\nhwloc      %s\nbackends   reference, cpu\n",
           SWITCHYARD_VERSION, compiler, mpi, topology_library());
}

/* --help and --version, before MPI starts; once, whatever the number of ranks. */
static int answer(const struct options *o, const struct environment *e)
{
    if (e->launcher_rank > 0)
        return 0;
    if (o->request == OPTIONS_VERSION)
        print_version();
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
    enum status status;

    options_environment(&environment);
    status = options_parse(&options, argc, argv);
    if (status != STATUS_OK)
        return refuse(find(options.command), &environment, status);
    if (options.request != OPTIONS_RUN)
        return answer(&options, &environment);
    return find(options.command)->run(&options, &environment);
}
