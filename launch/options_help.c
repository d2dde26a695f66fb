/* options_help.c - what --help prints
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "launch/options_help.h"

#include <string.h>

enum { HELP_COLUMN = 8, HELP_WIDTH = 100 };

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
    const char *preset = row->preset ? row->preset : row->unset;
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
    if (row->type == OPTIONS_FLAG)
        preset = "off";
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
    for (int i = 0; i < OPTIONS_COMMAND_COUNT; i++)
        fprintf(out, "  %-12s %s\n", options_table_commands[i].name, options_table_commands[i].help);
    fputs("\n'switchyard COMMAND --help' lists the options of a command, 'switchyard --version' what it was "
          "built with.\n",
          out);
}

void options_help(FILE *out, int command)
{
    if (!command) {
        print_commands(out);
        return;
    }
    for (int i = 0; i < OPTIONS_COMMAND_COUNT; i++)
        if (options_table_commands[i].command == command)
            fprintf(out, "switchyard %s --model DIR|ORG/NAME [OPTION]...: %s\n",
                    options_table_commands[i].name, options_table_commands[i].help);
    for (int group = 0; group < OPTIONS_GROUP_COUNT; group++) {
        bool begun = false;

        for (int i = 0; i < options_table_rows; i++) {
            const struct options_row *row = &options_table[i];

            if ((int)row->group != group || !(row->commands & (unsigned)command))
                continue;
            if (!begun)
                fprintf(out, "\n%s\n", options_table_group(row->group));
            begun = true;
            print_row(out, row);
        }
    }
}
