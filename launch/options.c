/* options.c - the command line and the environment, read once and checked
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "launch/options.h"

#include "comm/comm_device.h"
#include "comm/dispatch.h"
#include "launch/options_balancer.h"
#include "launch/options_speculative.h"
#include "launch/options_value.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    ROW_LIMIT = 256,
    LONG_FIRST = 256, /* what getopt returns for row 0; below are letters */
    NAME_BYTES = 64,
    LIST_BYTES = 512,
};

/* -- the environment --- */

/* The whole number in a variable, -1 when it is not set or none. */
static int variable_number(const char *name)
{
    const char *text = getenv(name);
    char *end;
    long number;

    if (!text || !*text)
        return -1;
    number = strtol(text, &end, 10);
    return *end || number < 0 || number > INT_MAX ? -1 : (int)number;
}

/* The first of these variables that holds a number, in *name, and the number. */
static int variable_first(const char *const *names, const char **name)
{
    for (; *names; names++) {
        int number = variable_number(*names);

        if (number >= 0) {
            *name = *names;
            return number;
        }
    }
    *name = NULL;
    return -1;
}

static const char *variable_text(const char *name)
{
    const char *text = getenv(name);

    return text && *text ? text : NULL;
}

/* A path too long for the system is no path. */
static void cache_path(char out[PATH_MAX], const char *root, const char *rest)
{
    if (snprintf(out, PATH_MAX, "%s%s", root, rest) >= PATH_MAX)
        out[0] = '\0';
}

void options_environment(struct environment *e)
{
    /* The launcher that started this very process comes first: an mpirun inside a Slurm job leaves Slurm's
     * variables, which speak of mpirun's own daemons. SLURM_NTASKS is no witness: a plain command in a batch
     * script sees it too. */
    static const char *const tasks[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS", NULL};
    static const char *const ranks[] = {"OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "SLURM_PROCID",
                                        NULL};
    const char *hub = variable_text("HF_HUB_CACHE");
    const char *root = variable_text("HF_HOME");
    const char *home = variable_text("HOME");
    const char *ignored;

    memset(e, 0, sizeof *e);
    if (hub)
        cache_path(e->cache, hub, "");
    else if (root)
        cache_path(e->cache, root, "/hub");
    else if (home)
        cache_path(e->cache, home, "/.cache/huggingface/hub");
    e->launcher_tasks = variable_first(tasks, &e->launcher_word);
    e->launcher_rank = variable_first(ranks, &ignored);
    e->cpus_per_task = variable_number("SLURM_CPUS_PER_TASK");
    e->open_mpi = variable_number("OMPI_COMM_WORLD_SIZE") > 0;
    e->no_color = variable_text("NO_COLOR") != NULL;
}

/* -- names --- */

/* Letters to change, add or drop to make one word of the other. */
static int word_distance(const char *a, const char *b)
{
    int row[NAME_BYTES + 1];
    int lengths[2] = {(int)strnlen(a, NAME_BYTES), (int)strnlen(b, NAME_BYTES)};

    for (int j = 0; j <= lengths[1]; j++)
        row[j] = j;
    for (int i = 1; i <= lengths[0]; i++) {
        int corner = row[0];

        row[0] = i;
        for (int j = 1; j <= lengths[1]; j++) {
            int change = corner + (a[i - 1] != b[j - 1]);
            int shift = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;

            corner = row[j];
            row[j] = change < shift ? change : shift;
        }
    }
    return row[lengths[1]];
}

static bool near(int distance, const char *word)
{
    return distance <= 2 + (int)strlen(word) / 6 && distance < (int)strlen(word);
}

/* -- commands --- */

/* Words of `name` that stand at the start of the arguments; 0 unless all of them do. */
static int words_found(const char *name, int argc, char *const *argv)
{
    int words = 0;

    for (;;) {
        size_t length = strcspn(name, " ");

        if (words == argc || strlen(argv[words]) != length || strncmp(argv[words], name, length) != 0)
            return 0;
        words++;
        if (!name[length])
            return words;
        name += length + 1;
    }
}

/* The command that these arguments start with, and how many of them name it; NULL: none. */
static const struct options_command_row *command_find(int argc, char *const *argv, int *words)
{
    for (const struct options_command_row *c = options_table_commands; c->name; c++) {
        *words = words_found(c->name, argc, argv);
        if (*words)
            return c;
    }
    return NULL;
}

/* Is this the first word of a name of two, "bench latency"? */
static bool command_starts(const struct options_command_row *command, const char *word)
{
    return strncmp(command->name, word, strlen(word)) == 0 && command->name[strlen(word)] == ' ';
}

/* "generate, tokenize and detokenize": all names, or those of two words that start with `first`. */
static void list_commands(char out[static LIST_BYTES], const char *first)
{
    const struct options_command_row *last = NULL;
    size_t used = 0;

    out[0] = '\0';
    for (const struct options_command_row *c = options_table_commands;; c++) {
        if (c->name && first && !command_starts(c, first))
            continue;
        if (last && used < LIST_BYTES)
            used += (size_t)snprintf(out + used, LIST_BYTES - used, "%s%s",
                                     used == 0 ? "" : (c->name ? ", " : " and "), last->name);
        if (!c->name)
            return;
        last = c;
    }
}

static enum status unknown_command(const char *word)
{
    const struct options_command_row *nearest = options_table_commands;
    char names[LIST_BYTES];
    int best = INT_MAX;

    list_commands(names, word);
    if (names[0])
        return FAIL(STATUS_USAGE, "'%s' needs another word: there are %s", word, names);
    list_commands(names, NULL);
    for (const struct options_command_row *c = options_table_commands; c->name; c++) {
        int distance = word_distance(word, c->name);

        if (distance < best) {
            best = distance;
            nearest = c;
        }
    }
    if (word[0] == '-')
        return FAIL(STATUS_USAGE, "the first argument must be a command (%s), not '%s'", names, word);
    if (near(best, word))
        return FAIL(STATUS_USAGE, "there is no command '%s'; did you mean '%s'?", word, nearest->name);
    return FAIL(STATUS_USAGE, "there is no command '%s'; there are %s", word, names);
}

static const char *command_name(const struct options *o)
{
    return options_table_command(o->command)->name;
}

/* -- options --- */

/* `argument` as it was typed, with dashes and perhaps a value, names no option of this command. */
static enum status unknown_option(const struct options *o, const char *argument)
{
    char name[NAME_BYTES];
    const char *bare = argument + strspn(argument, "-");
    const struct options_row *nearest = NULL;
    const struct options_row *row;
    int best = INT_MAX;
    int starts = 0;

    snprintf(name, sizeof name, "%.*s", (int)strcspn(bare, "="), bare);
    for (int i = 0; (row = options_table_row(i)); i++) {
        int distance = word_distance(name, row->name);

        if (!(row->commands & (unsigned)o->command)) {
            if (strcmp(row->name, name) == 0)
                return FAIL(STATUS_USAGE, "--%s is no option of the command '%s'", name, command_name(o));
            continue;
        }
        starts += strncmp(row->name, name, strlen(name)) == 0;
        if (distance < best) {
            best = distance;
            nearest = row;
        }
    }
    if (starts > 1)
        return FAIL(STATUS_USAGE, "'%s' may stand for several options; write out the one that is meant",
                    argument);
    if (nearest && near(best, name))
        return FAIL(STATUS_USAGE, "there is no option '%s'; did you mean --%s?", argument, nearest->name);
    return FAIL(STATUS_USAGE, "there is no option '%s'; 'switchyard %s --help' lists all", argument,
                command_name(o));
}

/* -- parsing --- */

/* getopt's two descriptions of the options of one command. */
struct grammar {
    struct option longs[2 * ROW_LIMIT + 1];
    char shorts[2 * ROW_LIMIT + 3];
};

static void grammar_make(struct grammar *g, int command)
{
    const struct options_row *row;
    int longs = 0;
    int shorts = 0;

    memset(g, 0, sizeof *g);
    g->shorts[shorts++] = '-'; /* arguments that are no options come in their place */
    g->shorts[shorts++] = ':'; /* a missing value is told from an unknown option */
    for (int i = 0; i < ROW_LIMIT && (row = options_table_row(i)); i++) {
        int takes = row->value ? required_argument : no_argument;

        if (!(row->commands & (unsigned)command))
            continue;
        g->longs[longs++] = (struct option){row->name, takes, NULL, LONG_FIRST + i};
        if (row->also)
            g->longs[longs++] = (struct option){row->also, takes, NULL, LONG_FIRST + i};
        if (row->letter) {
            g->shorts[shorts++] = row->letter;
            if (row->value)
                g->shorts[shorts++] = ':';
        }
    }
}

/* The row that getopt's answer stands for; NULL: none. */
static const struct options_row *row_of(int answer, int command)
{
    const struct options_row *row;

    if (answer >= LONG_FIRST)
        return options_table_row(answer - LONG_FIRST);
    for (int i = 0; (row = options_table_row(i)); i++)
        if (answer && row->letter == answer && (row->commands & (unsigned)command))
            return row;
    return NULL;
}

/* Is this argument the name of an option, and so not meant as a file or a model? */
static bool names_option(const char *argument, int command)
{
    const struct options_row *row;

    if (strncmp(argument, "--", 2) != 0)
        return false;
    for (int i = 0; (row = options_table_row(i)); i++)
        if ((row->commands & (unsigned)command) && strcmp(row->name, argument + 2) == 0)
            return true;
    return false;
}

static enum status take_option(struct options *o, const struct options_row *row, const char *value)
{
    char legal[OPTIONS_LEGAL_BYTES];

    if (row->type == OPTIONS_STRING && names_option(value, o->command))
        return FAIL(STATUS_USAGE, "--%s needs a value, but the option %s follows it", row->name, value);
    if (row->type == OPTIONS_STRINGS && o->stop_count == DETOKENIZER_STOP_LIMIT)
        return FAIL(STATUS_USAGE, "--%s: '%s' is one too many, at most %d may be given", row->name, value,
                    DETOKENIZER_STOP_LIMIT);
    if (options_value_store(o, row, value))
        return STATUS_OK;
    options_value_legal(row, legal);
    return FAIL(STATUS_USAGE, "--%s: '%s' is not %s", row->name, value, legal);
}

/* What getopt did not understand. */
static enum status refuse(const struct options *o, int answer, const char *argument)
{
    const struct options_row *row = row_of(optopt, o->command);
    char legal[OPTIONS_LEGAL_BYTES];

    if (answer == ':' && row) {
        options_value_legal(row, legal);
        return FAIL(STATUS_USAGE, "--%s needs a value: %s", row->name, legal);
    }
    if (row)
        return FAIL(STATUS_USAGE, "--%s takes no value, but got '%s'", row->name, argument);
    return unknown_option(o, argument);
}

/* An argument that is no option: one more of the list before it, or an operand. */
static enum status take_operand(struct options *o, const struct options_row *before, const char *word)
{
    const struct options_command_row *command = options_table_command(o->command);

    if (before && before->type == OPTIONS_WHOLES && options_value_store(o, before, word))
        return STATUS_OK;
    if (command->most == 0)
        return FAIL(STATUS_USAGE, "'%s' belongs to no option", word);
    if (o->operand_count == command->most || o->operand_count == OPTIONS_OPERAND_LIMIT)
        return FAIL(STATUS_USAGE, "'%s' is one too many: %s takes %d %s", word, command->name,
                    o->operand_count, command->operands);
    o->operands[o->operand_count++] = word;
    return STATUS_OK;
}

/* Options that say something of lines of JSON need such an output. */
static enum status check_output(const struct options *o)
{
    const char *name = o->no_stream              ? "no-stream"
                       : o->ordered              ? "ordered"
                       : o->logprobs >= 0        ? "logprobs"
                       : o->prompt_logprobs >= 0 ? "prompt-logprobs"
                                                 : NULL;

    if (name && !options_output_json(o))
        return FAIL(STATUS_USAGE, "--%s needs --output jsonl", name);
    if (o->chat && o->input == OPTIONS_JSONL)
        return FAIL(STATUS_USAGE,
                    "--chat is for plain prompts; with --input jsonl a request brings \"messages\"");
    return STATUS_OK;
}

/* The option that makes every step wait for all counts, so that none goes to places known before; NULL: none
 * does. */
static const char *counting_option(const struct options *o)
{
    bool balanced = o->balancer.dispatch == REPLICAS_FLOW || o->balancer.dispatch == REPLICAS_FEWEST;

    return o->trace_routes ? "--trace-routes" : balanced ? "--eplb-dispatch flow or fewest" : NULL;
}

/* What would leave --dispatch lsa without effect. */
static enum status check_stores(const struct options *o)
{
    if (o->backend == OPTIONS_BACKEND_REFERENCE || o->backend == OPTIONS_BACKEND_CPU)
        return FAIL(STATUS_USAGE, "--dispatch lsa is for rows on GPUs, but --backend is %s",
                    o->backend == OPTIONS_BACKEND_CPU ? "cpu" : "reference");
    if (o->device_exchange == COMM_DEVICE_HOST)
        return FAIL(STATUS_USAGE, "--dispatch lsa needs NCCL, but --device-exchange is host");
    if (counting_option(o))
        return FAIL(STATUS_USAGE,
                    "--dispatch lsa has no effect with %s, which needs all counts in every step",
                    counting_option(o));
    return STATUS_OK;
}

/* What would leave --enable-dbo without effect. */
static enum status check_overlap(const struct options *o)
{
    if (o->backend == OPTIONS_BACKEND_REFERENCE || o->backend == OPTIONS_BACKEND_CPU)
        return FAIL(STATUS_USAGE, "--enable-dbo is for exchanges between GPUs, but --backend is %s",
                    o->backend == OPTIONS_BACKEND_CPU ? "cpu" : "reference");
    if (o->device_exchange == COMM_DEVICE_HOST)
        return FAIL(STATUS_USAGE,
                    "--enable-dbo lets GPUs work beside NCCL's exchanges, but --device-exchange is host");
    return STATUS_OK;
}

/* What would leave no memory to share experts in. */
static enum status check_sharing(const struct options *o)
{
    if (o->backend == OPTIONS_BACKEND_CUDA)
        return FAIL(STATUS_USAGE,
                    "--share-experts is for experts in the memory of processors, but --backend is cuda");
    if (o->comm == OPTIONS_COMM_MPI)
        return FAIL(STATUS_USAGE, "--share-experts needs exchanges by shared memory, but --comm is mpi");
    return STATUS_OK;
}

/* What is missing, and what is wrong only together. */
static enum status check_together(const struct options *o)
{
    const struct options_command_row *command = options_table_command(o->command);
    const struct options_row *row;

    for (int i = 0; (row = options_table_row(i)); i++)
        if ((row->needed & (unsigned)o->command) &&
            !*(const char *const *)(const void *)((const char *)o + row->field))
            return FAIL(STATUS_USAGE, "%s needs --%s %s", command->name, row->name, row->value);
    if (o->operand_count < command->least)
        return FAIL(STATUS_USAGE, "%s needs %s", command->name, command->operands);
    if (o->cpu_path != OPTIONS_PATH_AUTO && o->backend == OPTIONS_BACKEND_REFERENCE)
        return FAIL(STATUS_USAGE, "--cpu-path chooses a path of the backend cpu, but --backend is reference");
    if (o->cpu_path != OPTIONS_PATH_AUTO && o->backend == OPTIONS_BACKEND_CUDA)
        return FAIL(STATUS_USAGE, "--cpu-path chooses a path of the backend cpu, but --backend is cuda");
    if (o->device_exchange != COMM_DEVICE_AUTO &&
        (o->backend == OPTIONS_BACKEND_REFERENCE || o->backend == OPTIONS_BACKEND_CPU))
        return FAIL(STATUS_USAGE, "--device-exchange is for rows on GPUs, but --backend is %s",
                    o->backend == OPTIONS_BACKEND_CPU ? "cpu" : "reference");
    if (o->enforce_eager && (o->backend == OPTIONS_BACKEND_REFERENCE || o->backend == OPTIONS_BACKEND_CPU))
        return FAIL(STATUS_USAGE, "--enforce-eager is for steps on GPUs, but --backend is %s",
                    o->backend == OPTIONS_BACKEND_CPU ? "cpu" : "reference");
    if (o->dispatch == DISPATCH_LSA)
        TRY(check_stores(o));
    if (o->enable_dbo)
        TRY(check_overlap(o));
    if (o->balancer.share)
        TRY(check_sharing(o));
    if (o->trace_routes && !o->trace)
        return FAIL(STATUS_USAGE, "--trace-routes needs --trace FILE");
    return o->command == OPTIONS_GENERATE ? check_output(o) : STATUS_OK;
}

/* Everything behind the command's name, up to the end or to a question that is answered instead. */
static enum status parse_rest(struct options *o, int argc, char *const *argv)
{
    const struct options_row *before = NULL;
    struct grammar grammar;

    grammar_make(&grammar, o->command);
    optind = 0; /* glibc: start afresh */
    opterr = 0;
    while (o->request == OPTIONS_RUN) {
        int answer = getopt_long_only(argc, argv, grammar.shorts, grammar.longs, NULL);

        if (answer == -1)
            break;
        if (answer == '?' || answer == ':')
            return refuse(o, answer, argv[optind - 1]);
        if (answer == 1) {
            TRY(take_operand(o, before, optarg));
            continue;
        }
        before = row_of(answer, o->command);
        TRY(take_option(o, before, optarg));
    }
    if (o->request == OPTIONS_RUN)
        for (; optind < argc; optind++) /* behind "--" */
            TRY(take_operand(o, NULL, argv[optind]));
    return STATUS_OK;
}

/* "bench --help", "help bench": the list of commands, as there is no command of that name alone. */
static bool asks_for_list(int argc, char *const *argv)
{
    char names[LIST_BYTES];

    if (argc < 2 || (strcmp(argv[1], "--help") != 0 && strcmp(argv[1], "-h") != 0))
        return false;
    list_commands(names, argv[0]);
    return names[0] != '\0';
}

/* --help or --version in front of everything; false: neither. */
static bool parse_question(struct options *o, int argc, char *const *argv)
{
    const char *first = argv[0];
    const struct options_command_row *command;
    int words;

    if (strcmp(first, "--version") == 0)
        o->request = OPTIONS_VERSION;
    if (strcmp(first, "--help") == 0 || strcmp(first, "-h") == 0 || strcmp(first, "help") == 0) {
        command = command_find(argc - 1, argv + 1, &words);
        o->request = OPTIONS_HELP;
        o->command = command ? command->command : 0;
    }
    if (asks_for_list(argc, argv))
        o->request = OPTIONS_HELP;
    return o->request != OPTIONS_RUN;
}

bool options_output_json(const struct options *o)
{
    return o->output == OPTIONS_OUTPUT_AUTO ? o->input == OPTIONS_JSONL : o->output == OPTIONS_OUTPUT_JSONL;
}

enum status options_parse(struct options *o, int argc, char *const *argv)
{
    const struct options_command_row *command;
    char names[LIST_BYTES];
    int words;

    options_value_defaults(o, 0);
    if (argc < 2) {
        list_commands(names, NULL);
        return FAIL(STATUS_USAGE, "no command given; there are %s", names);
    }
    if (parse_question(o, argc - 1, argv + 1))
        return STATUS_OK;
    command = command_find(argc - 1, argv + 1, &words);
    if (!command)
        return unknown_command(argv[1]);
    options_value_defaults(o, command->command);
    /* getopt takes the first element for the program's name: here the command's last word. */
    TRY(parse_rest(o, argc - words, argv + words));
    if (o->request != OPTIONS_RUN)
        return STATUS_OK;
    TRY(options_balancer_check(&o->balancer));
    TRY(options_speculative_check(&o->speculative));
    return check_together(o);
}
