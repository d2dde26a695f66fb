/* options_completion.c - completion of the command line in bash
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "launch/options_completion.h"

#include "launch/options_table.h"

#include <string.h>

/* What may stand for a value, in the words of the script's function `complete_value`. */
static void print_kind(FILE *out, const struct options_row *row)
{
    if (row->type == OPTIONS_WORD) {
        fputs("words", out);
        for (const struct options_word *w = row->words; w->word; w++)
            fprintf(out, " %s", w->word);
    } else if (strncmp(row->value, "DIR", 3) == 0) {
        fputs("directories", out);
    } else if (strstr(row->value, "FILE")) {
        fputs("files", out);
    } else {
        fputs("nothing", out);
    }
}

/* All first words, or all second words behind `first`, each once. */
static void print_names(FILE *out, const char *first)
{
    size_t skip = first ? strlen(first) + 1 : 0;

    for (const struct options_command_row *c = options_table_commands; c->name; c++) {
        const struct options_command_row *before = options_table_commands;
        int length = (int)strcspn(c->name + skip, " ");

        if (first && (strncmp(c->name, first, skip - 1) != 0 || c->name[skip - 1] != ' '))
            continue;
        while (before != c &&
               (strncmp(before->name, c->name, skip + (size_t)length) != 0 ||
                (before->name[skip + (size_t)length] != ' ' && before->name[skip + (size_t)length])))
            before++;
        if (before == c)
            fprintf(out, "%.*s ", length, c->name + skip);
    }
}

/* "bench) seconds='throughput latency' ;;" for every first word of a name of two. */
static void print_seconds(FILE *out)
{
    for (const struct options_command_row *c = options_table_commands; c->name; c++) {
        const struct options_command_row *before = options_table_commands;
        size_t length = strcspn(c->name, " ");
        char first[64];

        while (before != c && strncmp(before->name, c->name, length + 1) != 0)
            before++;
        if (!c->name[length] || before != c || length >= sizeof first)
            continue;
        memcpy(first, c->name, length);
        first[length] = '\0';
        fprintf(out, "    %s) seconds='", first);
        print_names(out, first);
        fputs("' ;;\n", out);
    }
}

static void print_options(FILE *out, const struct options_command_row *command)
{
    const struct options_row *row;

    fprintf(out, "    '%s') options='", command->name);
    for (int i = 0; (row = options_table_row(i)); i++)
        if (row->commands & (unsigned)command->command)
            fprintf(out, "--%s ", row->name);
    fprintf(out, "' operands=%s ;;\n",
            command->operands && strstr(command->operands, "FILE") ? "files" : "nothing");
}

/* "'generate --input') words lines text" */
static void print_values(FILE *out, const struct options_command_row *command)
{
    const struct options_row *row;

    for (int i = 0; (row = options_table_row(i)); i++) {
        if (!(row->commands & (unsigned)command->command) || !row->value)
            continue;
        fprintf(out, "    '%s --%s'", command->name, row->name);
        if (row->letter)
            fprintf(out, " | '%s -%c'", command->name, row->letter);
        if (row->also)
            fprintf(out, " | '%s -%s'", command->name, row->also);
        fputs(") kind='", out);
        print_kind(out, row);
        fputs("' ;;\n", out);
    }
}

void options_completion(FILE *out)
{
    fputs("# switchyard - completion for bash, made from the program's table of options\n"
          "# SPDX-License-Identifier: Apache-2.0\n\n"
          "_switchyard_reply()\n{\n"
          "    local kind=$1 current=$2\n\n"
          "    case $kind in\n"
          "    words*) COMPREPLY=($(compgen -W \"${kind#words}\" -- \"$current\")) ;;\n"
          "    directories) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- "
          "\"$current\") ;;\n"
          "    files) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- \"$current\") "
          ";;\n"
          "    esac\n}\n\n"
          "_switchyard()\n{\n"
          "    local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}\n"
          "    local command=${COMP_WORDS[1]} first=2 commands seconds='' options='' operands=nothing "
          "kind=''\n\n"
          "    COMPREPLY=()\n"
          "    commands='",
          out);
    print_names(out, NULL);
    fputs("'\n"
          "    if ((COMP_CWORD == 1)); then\n"
          "        _switchyard_reply \"words $commands help --help --version\" \"$current\"\n"
          "        return\n    fi\n"
          "    case $command in\n"
          "    help) _switchyard_reply \"words $commands\" \"$current\"; return ;;\n",
          out);
    print_seconds(out);
    fputs("    esac\n"
          "    if [[ $seconds ]]; then\n"
          "        if ((COMP_CWORD == 2)); then\n"
          "            _switchyard_reply \"words $seconds --help\" \"$current\"\n"
          "            return\n        fi\n"
          "        command+=\" ${COMP_WORDS[2]}\" first=3\n    fi\n"
          "    # bash breaks --name=value into three words\n"
          "    if [[ $current == '=' ]]; then\n        current=''\n"
          "    elif [[ $before == '=' ]]; then\n        before=${COMP_WORDS[COMP_CWORD-2]}\n    fi\n"
          "    case $command in\n",
          out);
    for (const struct options_command_row *c = options_table_commands; c->name; c++)
        print_options(out, c);
    fputs("    esac\n    ((COMP_CWORD > first)) && case \"$command $before\" in\n", out);
    for (const struct options_command_row *c = options_table_commands; c->name; c++)
        print_values(out, c);
    fputs("    esac\n"
          "    if [[ $kind ]]; then\n        _switchyard_reply \"$kind\" \"$current\"\n"
          "    elif [[ $current == -* ]]; then\n        _switchyard_reply \"words $options\" \"$current\"\n"
          "    elif [[ $operands != nothing ]]; then\n        _switchyard_reply \"$operands\" \"$current\"\n"
          "    else\n        _switchyard_reply \"words $options\" \"$current\"\n    fi\n}\n\n"
          "complete -F _switchyard switchyard\n",
          out);
}
