/* options_help.c - what --help prints
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "launch/options_help.h"

#include <string.h>

enum { HELP_COLUMN = 8, HELP_WIDTH = 100, COMMAND_WIDTH = 17 };

/* Words of `text` in lines of HELP_WIDTH, indented by HELP_COLUMN. */
static void print_wrapped(FILE *out, const char *text)
{
    int column = 0;

    while (*text) {
        int length = (int)strcspn(text, " ");

        if (column == 0 || column + 1 + length > HELP_WIDTH) {
            fprintf(out, "%s%*s", column ? "\n" : "", HELP_COLUMN, "");
            column = HELP_COLUMN;
        } else {
            fputc(' ', out);
            column++;
        }
        fprintf(out, "%.*s", length, text);
        column += length;
        text += length;
        text += strspn(text, " ");
    }
    fputc('\n', out);
}

static void print_row(FILE *out, const struct options_row *row)
{
    const char *preset = options_table_default(row);
    char text[1024];

    fputs("  ", out);
    if (row->letter)
        fprintf(out, "-%c, ", row->letter);
    if (row->also)
        fprintf(out, "-%s, ", row->also);
    fprintf(out, "--%s", row->name);
    if (row->value)
        fprintf(out, " %s", row->value);
    fputc('\n', out);
    if (preset)
        snprintf(text, sizeof text, "%s (default: %s)", row->help, preset);
    else
        snprintf(text, sizeof text, "%s", row->help);
    print_wrapped(out, text);
}

static void print_commands(FILE *out)
{
    fputs("Switchyard serves Mixture-of-Experts language models over many processes.\n\n"
          "  switchyard COMMAND [OPTION]...\n"
          "  mpirun -np RANKS switchyard generate --model DIR < prompts.txt\n\n"
          "Commands\n",
          out);
    for (const struct options_command_row *c = options_table_commands; c->name; c++)
        fprintf(out, "  %-*s %s\n", COMMAND_WIDTH, c->name, c->help);
    fputs("\n'switchyard COMMAND --help' lists the options of a command, 'switchyard --version' what it was "
          "built with.\n",
          out);
}

/* "switchyard perplexity --model DIR|ORG/NAME [OPTION]... FILE..." */
static void print_usage(FILE *out, const struct options_command_row *command)
{
    const struct options_row *row;

    fprintf(out, "switchyard %s", command->name);
    for (int i = 0; (row = options_table_row(i)); i++)
        if (row->needed & (unsigned)command->command)
            fprintf(out, " --%s %s", row->name, row->value);
    fprintf(out, " [OPTION]...%s%s: %s\n", command->operands ? " " : "",
            command->operands ? command->operands : "", command->help);
}

void options_help(FILE *out, int command)
{
    if (!command) {
        print_commands(out);
        return;
    }
    print_usage(out, options_table_command(command));
    for (const struct options_section *const *s = options_table_sections; *s; s++) {
        bool begun = false;

        for (int i = 0; i < (*s)->count; i++) {
            const struct options_row *row = &(*s)->rows[i];

            if (!(row->commands & (unsigned)command))
                continue;
            if (!begun)
                fprintf(out, "\n%s\n", (*s)->title);
            begun = true;
            print_row(out, row);
        }
    }
}
