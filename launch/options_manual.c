/* options_manual.c - the manual page, as scdoc reads it
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "launch/options_manual.h"

#include "launch/options_table.h"

#include <string.h>

/* Text in which nothing is markup. */
static void print_plain(FILE *out, const char *text)
{
    for (; *text; text++) {
        if (strchr("\\*_#<>[]|.~-", *text))
            fputc('\\', out);
        fputc(*text, out);
    }
}

/* "*-m*, *--model* _DIR_", then its help, indented by a tab. */
static void print_row(FILE *out, const struct options_row *row)
{
    const char *preset = options_table_default(row);

    if (row->letter)
        fprintf(out, "*\\-%c*, ", row->letter);
    if (row->also) {
        fputs("*\\-", out);
        print_plain(out, row->also);
        fputs("*, ", out);
    }
    fputs("*\\-\\-", out);
    print_plain(out, row->name);
    fputc('*', out);
    if (row->value) {
        fputs(" _", out);
        print_plain(out, row->value);
        fputc('_', out);
    }
    fputs("\n\t", out);
    print_plain(out, row->help);
    if (preset) {
        fputs(" (default: ", out);
        print_plain(out, preset);
        fputc(')', out);
    }
    fputs("\n\n", out);
}

/* Options that all commands have stand in one place behind them. */
static bool belongs(const struct options_row *row, const struct options_command_row *command)
{
    bool common = row->commands == OPTIONS_ALL;

    return command ? !common && (row->commands & (unsigned)command->command) : common;
}

static void print_options(FILE *out, const struct options_command_row *command)
{
    for (const struct options_section *const *s = options_table_sections; *s; s++)
        for (int i = 0; i < (*s)->count; i++)
            if (belongs(&(*s)->rows[i], command))
                print_row(out, &(*s)->rows[i]);
}

static void print_command(FILE *out, const struct options_command_row *command)
{
    const struct options_row *row;

    fputs("## switchyard ", out);
    print_plain(out, command->name);
    fputs("\n\n*switchyard ", out);
    print_plain(out, command->name);
    fputc('*', out);
    for (int i = 0; (row = options_table_row(i)); i++)
        if (row->needed & (unsigned)command->command) {
            fputs(" *\\-\\-", out);
            print_plain(out, row->name);
            fputs("* _", out);
            print_plain(out, row->value);
            fputc('_', out);
        }
    fputs(" \\[option\\]\\.\\.\\.", out);
    if (command->operands) {
        fputs(" _", out);
        print_plain(out, command->operands);
        fputc('_', out);
    }
    fputs("\n\n", out);
    print_plain(out, command->help);
    fputs("\\.\n\n", out);
    print_options(out, command);
}

void options_manual(FILE *out, const char *version)
{
    fprintf(
        out,
        "switchyard(1) \"switchyard %s\"\n\n"
        "# NAME\n\nswitchyard - serve Mixture-of-Experts language models over many processes\n\n"
        "# SYNOPSIS\n\n*switchyard* _command_ \\[option\\]\\.\\.\\.\n\n"
        "*mpirun \\-np* _ranks_ *switchyard generate \\-\\-model* _directory_ < prompts.txt\n\n"
        "# DESCRIPTION\n\n"
        "Switchyard runs a model over the ranks of an MPI job\\. The same prompts, options and seed give the "
        "same text at any number of ranks and in any layout\\. Answers go to standard output, everything "
        "else to standard error\\. Names of options are those of vLLM where it has the option; long names "
        "may be shortened as long as they stay unique\\.\n\n"
        "# COMMANDS\n\n",
        version);
    for (const struct options_command_row *c = options_table_commands; c->name; c++)
        print_command(out, c);
    fputs("# OPTIONS OF ALL COMMANDS\n\n", out);
    print_options(out, NULL);
    fputs("# ENVIRONMENT\n\n"
          "There is no variable of its own\\. *HF\\_HUB\\_CACHE*, else *HF\\_HOME*, else *HOME* say where "
          "the local "
          "Hugging Face cache is; *NO\\_COLOR* is respected; ranks, tasks and processors come from Open MPI, "
          "MPICH, PMIx and Slurm\\.\n\n"
          "# EXIT STATUS\n\n"
          "*0*\n\tall that was asked was done\n\n"
          "*64*\n\tthe command line is wrong, or a layout does not fit the ranks\n\n"
          "*65*\n\ta file or a prompt holds something illegal\n\n"
          "*66*\n\ta file that was named is not there or cannot be opened\n\n"
          "*69*\n\ta rank was lost, or the run was asked to stop\n\n"
          "*70*\n\tthe program contradicts itself; please report it\n\n"
          "*74*\n\treading or writing failed\n\n"
          "*75*\n\tmemory is not enough\n\n"
          "# SEE ALSO\n\n*mpirun*(1), *sbatch*(1)\n",
          out);
}
