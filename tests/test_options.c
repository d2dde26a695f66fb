/* test_options.c - the command line: what is legal, what is refused and in which words
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "launch/options.h"
#include "launch/options_help.h"
#include "launch/options_value.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ARGUMENT_LIMIT = 64, LINE_BYTES = 1024 };

static struct options got;

/* Parses "generate --model x ...", split at blanks. The words live until the next call. */
static enum status parse(const char *line)
{
    static char copy[LINE_BYTES];
    char *arguments[ARGUMENT_LIMIT] = {(char *)"switchyard"};
    int count = 1;

    snprintf(copy, sizeof copy, "%s", line);
    for (char *word = strtok(copy, " "); word && count < ARGUMENT_LIMIT - 1; word = strtok(NULL, " "))
        arguments[count++] = word;
    memset(&got, 0xA5, sizeof got);
    return options_parse(&got, count, arguments);
}

static void takes(const char *line)
{
    if (parse(line) != STATUS_OK)
        fail_msg("'%s' is refused: %s", line, status_text());
}

static void refuses(const char *line, const char *words)
{
    if (parse(line) != STATUS_USAGE)
        fail_msg("'%s' is taken", line);
    if (!strstr(status_text(), words))
        fail_msg("'%s' gets \"%s\", not \"%s\"", line, status_text(), words);
}

#define GENERATE "generate --model x "

/* The start of a line for a command that has this option: its name, what it needs, and its operands. */
static void start_line(char out[static LINE_BYTES], const struct options_row *row)
{
    const struct options_command_row *command = options_table_commands;
    const struct options_row *other;
    int used;

    while (command->name && !(row->commands & (unsigned)command->command))
        command++;
    assert_non_null(command->name);
    used = snprintf(out, LINE_BYTES, "%s ", command->name);
    for (int i = 0; (other = options_table_row(i)); i++)
        if (other->needed & (unsigned)command->command)
            used += snprintf(out + used, LINE_BYTES - (size_t)used, "--%s x ", other->name);
    for (int i = 0; i < command->least; i++)
        used += snprintf(out + used, LINE_BYTES - (size_t)used, "x ");
    if (command->command == OPTIONS_GENERATE) /* some options need it */
        snprintf(out + used, LINE_BYTES - (size_t)used, "--output jsonl --enable-eplb ");
}

/* The table keeps what options_table.h promises of rows. */
static void every_row_can_be_told_from_the_others(void **state)
{
    const struct options_row *row, *other;

    (void)state;
    for (int i = 0; (row = options_table_row(i)); i++) {
        unsigned bits = 0;

        for (int j = 0; j < i && (other = options_table_row(j)); j++)
            if ((row->commands & other->commands) &&
                (strcmp(row->name, other->name) == 0 || (row->letter && row->letter == other->letter) ||
                 (row->also && other->also && strcmp(row->also, other->also) == 0)))
                fail_msg("a command has two options --%s or -%c", row->name, row->letter);
        for (const struct options_command_row *c = options_table_commands; c->name; c++)
            bits |= row->commands & (unsigned)c->command;
        if (!bits)
            fail_msg("--%s belongs to no command", row->name);
        assert_int_equal(row->needed & ~row->commands, 0);
        if (row->needed)
            assert_int_equal(row->type, OPTIONS_STRING);
        assert_true(row->field < sizeof(struct options));
        assert_int_equal(row->value == NULL, row->type == OPTIONS_FLAG || row->type == OPTIONS_ASK);
    }
    for (const struct options_command_row *c = options_table_commands; c->name; c++) {
        assert_int_equal(c->command & (c->command - 1), 0);
        assert_ptr_equal(options_table_command(c->command), c);
        assert_true(c->least <= c->most && c->most <= OPTIONS_OPERAND_LIMIT);
        assert_int_equal(c->operands == NULL, c->most == 0);
    }
}

static void what_is_not_given_has_its_default(void **state)
{
    (void)state;
    takes("generate --model models/demo");
    assert_int_equal(got.command, OPTIONS_GENERATE);
    assert_int_equal(got.request, OPTIONS_RUN);
    assert_string_equal(got.model, "models/demo");
    assert_int_equal(got.input, OPTIONS_LINES);
    assert_null(got.input_file);
    assert_false(got.chat);
    assert_null(got.stats);
    assert_int_equal(got.max_tokens, 128);
    assert_true(isnan(got.temperature) && isnan(got.top_p) && isnan(got.min_p));
    assert_int_equal(got.top_k, OPTIONS_TOP_K_MODEL);
    assert_int_equal(got.seed, 0);
    assert_int_equal(got.stop_count, 0);
    assert_false(got.ignore_eos);
    assert_int_equal(got.backend, OPTIONS_BACKEND_AUTO);
    assert_int_equal(got.cpu_path, OPTIONS_PATH_AUTO);
    assert_int_equal(got.threads, 0);
    assert_int_equal(got.comm, OPTIONS_COMM_AUTO);
    assert_int_equal(got.tensor_parallel_size, 1);
    assert_int_equal(got.expert_parallel_size, 0);
    assert_int_equal(got.kv_cache_memory, 0);
    assert_true(got.gpu_memory_utilization == 0.9);
    assert_int_equal(got.max_model_len, 0);
    assert_int_equal(got.max_num_seqs, 256);
    assert_int_equal(got.max_num_batched_tokens, 2048);
    assert_true(got.watchdog_timeout == 60.0);
    assert_false(got.verbose);
}

static void every_option_lands_in_its_field(void **state)
{
    (void)state;
    takes("generate -m x --input text --input-file f --chat -n 7 --temperature 0.5 --top-k 40 --top-p 0.25 "
          "--min-p 0.125 "
          "--seed 18446744073709551615 --stop a --stop=b --ignore-eos --backend cpu --cpu-path avx2 "
          "--threads 3 "
          "--comm shared --tensor-parallel-size 2 --expert-parallel-size 4 --kv-cache-memory 2GiB "
          "--gpu-memory-utilization 0.5 --max-model-len 1000 --max-num-seqs 8 --max-num-batched-tokens 64 "
          "--stats s "
          "--watchdog-timeout 2.5 --verbose");
    assert_int_equal(got.input, OPTIONS_TEXT);
    assert_string_equal(got.input_file, "f");
    assert_true(got.chat && got.ignore_eos && got.verbose);
    assert_int_equal(got.max_tokens, 7);
    assert_true(got.temperature == 0.5f && got.top_p == 0.25f && got.min_p == 0.125f);
    assert_int_equal(got.top_k, 40);
    assert_true(got.seed == UINT64_MAX);
    assert_int_equal(got.stop_count, 2);
    assert_string_equal(got.stop[0], "a");
    assert_string_equal(got.stop[1], "b");
    assert_int_equal(got.backend, OPTIONS_BACKEND_CPU);
    assert_int_equal(got.cpu_path, OPTIONS_PATH_AVX2);
    assert_int_equal(got.threads, 3);
    assert_int_equal(got.comm, OPTIONS_COMM_SHARED);
    assert_int_equal(got.tensor_parallel_size, 2);
    assert_int_equal(got.expert_parallel_size, 4);
    assert_true(got.kv_cache_memory == (size_t)2 << 30);
    assert_true(got.gpu_memory_utilization == 0.5);
    assert_int_equal(got.max_model_len, 1000);
    assert_int_equal(got.max_num_seqs, 8);
    assert_int_equal(got.max_num_batched_tokens, 64);
    assert_string_equal(got.stats, "s");
    assert_true(got.watchdog_timeout == 2.5);
    takes("tokenize -m x --input jsonl --add-special-tokens");
    assert_int_equal(got.input, OPTIONS_JSONL);
    assert_true(got.add_special_tokens);
    takes("detokenize -m x --input jsonl --input-file f");
    assert_int_equal(got.command, OPTIONS_DETOKENIZE);
    assert_int_equal(got.input, OPTIONS_JSONL);
}

static void short_names_and_joined_values_work(void **state)
{
    (void)state;
    takes("generate -mx -n5 -s 9 -t2 -v -tp 2");
    assert_string_equal(got.model, "x");
    assert_int_equal(got.max_tokens, 5);
    assert_int_equal(got.seed, 9);
    assert_int_equal(got.threads, 2);
    assert_int_equal(got.tensor_parallel_size, 2);
    assert_true(got.verbose);
    takes("generate -m x -tp=3 --temp 0 --top-k -1");
    assert_int_equal(got.top_k, -1);
    assert_int_equal(got.tensor_parallel_size, 3);
    takes(GENERATE "--max-tokens 1 --max-tokens 2");
    assert_int_equal(got.max_tokens, 2);
}

/* The edges of every number in the table: the least and the most are taken, what lies beyond is refused with
 * the option, the value and what is legal. */
static void every_number_has_its_limits(void **state)
{
    const struct options_row *row;
    char line[2 * LINE_BYTES];
    char start[LINE_BYTES];

    (void)state;
    for (int i = 0; (row = options_table_row(i)); i++) {
        bool whole = row->type == OPTIONS_WHOLE;
        char legal[OPTIONS_LEGAL_BYTES];

        if (!whole && row->type != OPTIONS_REAL && row->type != OPTIONS_DOUBLE)
            continue;
        start_line(start, row);
        options_value_legal(row, legal);
        snprintf(line, sizeof line, "%s --%s %.0f", start, row->name, row->most);
        takes(line);
        snprintf(line, sizeof line, "%s --%s %.0f", start, row->name, row->least);
        if (row->above)
            refuses(line, legal);
        else
            takes(line);
        snprintf(line, sizeof line, "%s --%s %.0f", start, row->name, row->least - 1);
        refuses(line, legal);
        if (!isinf(row->most)) { /* where it is, "inf" was just taken */
            snprintf(line, sizeof line, "%s --%s %.0f", start, row->name, row->most + 1);
            refuses(line, legal);
            snprintf(line, sizeof line, "%s --%s 99999999999999999999", start, row->name);
            refuses(line, legal);
            snprintf(line, sizeof line, "%s --%s inf", start, row->name);
            refuses(line, legal);
        }
        for (const char *const *bad = (const char *const[]){"abc", "1x", "0x10", "nan", "1,5", "--", NULL};
             *bad; bad++) {
            snprintf(line, sizeof line, "%s --%s %s", start, row->name, *bad);
            refuses(line, row->name);
            refuses(line, *bad);
            refuses(line, legal);
        }
        if (whole) {
            snprintf(line, sizeof line, "%s --%s 1.5", start, row->name);
            refuses(line, legal);
        }
    }
}

static void every_word_is_one_of_its_list(void **state)
{
    const struct options_row *row;
    char line[2 * LINE_BYTES];
    char start[LINE_BYTES];

    (void)state;
    for (int i = 0; (row = options_table_row(i)); i++) {
        if (row->type != OPTIONS_WORD)
            continue;
        start_line(start, row);
        for (const struct options_word *w = row->words; w->word; w++) {
            snprintf(line, sizeof line, "%s --%s %s", start, row->name, w->word);
            takes(line);
            assert_int_equal(*(const int *)(const void *)((const char *)&got + row->field), w->value);
            assert_non_null(strstr(row->value, w->word));
        }
        snprintf(line, sizeof line, "%s --%s nonsense", start, row->name);
        refuses(line, "'nonsense' is not one of");
        refuses(line, row->words[0].word);
    }
}

static void sizes_have_units(void **state)
{
    static const struct {
        const char *text;
        size_t bytes;
    } legal[] = {{"4096", 4096},
                 {"1K", 1024},
                 {"1k", 1024},
                 {"512M", 512u << 20},
                 {"512MB", 512u << 20},
                 {"2GiB", (size_t)2 << 30},
                 {"1.5G", (size_t)3 << 29},
                 {"1T", (size_t)1 << 40},
                 {"7B", 7}};
    static const char *const wrong[] = {"",   "0",     "-1",  "G",  ".5G",  "1.",      "1.G",
                                        "2X", "2GiBs", "1e9", " 1", "0x10", "9999999T"};
    size_t bytes = 0;

    (void)state;
    for (size_t i = 0; i < sizeof legal / sizeof legal[0]; i++) {
        assert_true(options_value_bytes(legal[i].text, &bytes));
        if (bytes != legal[i].bytes)
            fail_msg("%s is read as %zu", legal[i].text, bytes);
    }
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        if (options_value_bytes(wrong[i], &bytes))
            fail_msg("'%s' is taken for %zu bytes", wrong[i], bytes);
    refuses(GENERATE "--kv-cache-memory lots",
            "--kv-cache-memory: 'lots' is not a number of bytes such as 512M or 2GiB");
}

static void seeds_are_whole_numbers_of_64_bits(void **state)
{
    (void)state;
    takes(GENERATE "--seed 18446744073709551615");
    assert_true(got.seed == UINT64_MAX);
    refuses(GENERATE "--seed 18446744073709551616",
            "--seed: '18446744073709551616' is not a whole number from 0 to");
    refuses(GENERATE "--seed -1", "--seed: '-1' is not a whole number");
    refuses(GENERATE "--seed 1.0", "--seed");
}

static void what_only_lines_of_json_can_show_needs_them(void **state)
{
    (void)state;
    refuses(GENERATE "--no-stream", "--no-stream needs --output jsonl");
    refuses(GENERATE "--ordered", "--ordered needs --output jsonl");
    refuses(GENERATE "--input jsonl --output text --logprobs 0", "--logprobs needs --output jsonl");
    refuses(GENERATE "--prompt-logprobs 5", "--prompt-logprobs needs --output jsonl");
    refuses(GENERATE "--input jsonl --chat", "--chat is for plain prompts");
    takes(GENERATE "--input jsonl --no-stream --ordered --logprobs 0 --prompt-logprobs 20");
    assert_true(options_output_json(&got));
    takes(GENERATE "--output jsonl --ordered --chat");
    assert_true(options_output_json(&got));
    takes(GENERATE "--input jsonl --output text --min-tokens 4 --stop-token-ids 1,2 3");
    assert_false(options_output_json(&got));
    assert_int_equal(got.stop_token_ids.count, 3);
}

static void what_is_for_the_balancer_needs_it(void **state)
{
    (void)state;
    refuses(GENERATE "--num-redundant-experts 4", "--num-redundant-experts is for the balancer");
    refuses(GENERATE "--expert-placement x", "add --enable-eplb");
    takes(GENERATE "--enable-eplb --eplb-config {\"window_size\":9,\"num_redundant_experts\":5}");
    assert_true(got.balancer.window == 9 && got.balancer.redundant == 5);
    refuses(GENERATE "--enable-eplb --eplb-config {\"size\":3}", "'size' is not known");
    refuses(GENERATE "--share-experts --backend cuda", "but --backend is cuda");
    refuses(GENERATE "--share-experts --comm mpi", "but --comm is mpi");
}

static void stop_strings_are_counted_and_measured(void **state)
{
    char line[LINE_BYTES] = GENERATE;
    char long_text[DETOKENIZER_STOP_BYTES + 1];
    char *with_empty[] = {(char *)"switchyard", (char *)"generate", (char *)"-m",
                          (char *)"x",          (char *)"--stop",   (char *)""};

    (void)state;
    for (int i = 0; i < DETOKENIZER_STOP_LIMIT; i++)
        strcat(line, "--stop s ");
    takes(line);
    assert_int_equal(got.stop_count, DETOKENIZER_STOP_LIMIT);
    strcat(line, "--stop last");
    refuses(line, "--stop: 'last' is one too many, at most 16 may be given");
    memset(long_text, 'a', sizeof long_text);
    long_text[DETOKENIZER_STOP_BYTES - 1] = '\0';
    snprintf(line, sizeof line, GENERATE "--stop %s", long_text);
    takes(line);
    long_text[DETOKENIZER_STOP_BYTES - 1] = 'a';
    long_text[DETOKENIZER_STOP_BYTES] = '\0';
    snprintf(line, sizeof line, GENERATE "--stop %s", long_text);
    refuses(line, "is not a text of 1 to 255 bytes");
    assert_int_equal(options_parse(&got, 6, with_empty), STATUS_USAGE);
    takes(GENERATE "--stop --chat");
    assert_string_equal(got.stop[0], "--chat");
    assert_false(got.chat);
}

static void what_is_misspelt_gets_the_nearest_name(void **state)
{
    (void)state;
    refuses(GENERATE "--temprature 1", "there is no option '--temprature'; did you mean --temperature?");
    refuses(GENERATE "--max-token-s 1", "did you mean --max-tokens?");
    refuses(GENERATE "--ignore_eos", "did you mean --ignore-eos?");
    refuses(GENERATE "--tensor-parallel=2x", "--tensor-parallel-size: '2x' is not a whole number");
    refuses(GENERATE "--frobnicate-the-thing", "'switchyard generate --help' lists all");
    refuses(GENERATE "-z", "there is no option '-z'");
    refuses(GENERATE "--max 3", "may stand for several options");
    refuses("generat -m x", "there is no command 'generat'; did you mean 'generate'?");
    refuses("server", "there is no command 'server'; there are generate, tokenize, detokenize");
    refuses("--model x generate", "the first argument must be a command");
    refuses("", "no command given");
}

static void what_is_missing_or_too_much_is_said(void **state)
{
    (void)state;
    refuses("generate", "generate needs --model");
    refuses("tokenize", "tokenize needs --model");
    refuses("generate --model", "--model needs a value");
    refuses(GENERATE "--max-tokens", "--max-tokens needs a value: a whole number from 1 to 2147483647");
    refuses("generate -m", "--model needs a value");
    refuses("generate --model --chat", "--model needs a value, but the option --chat follows it");
    refuses(GENERATE "--chat=yes", "--chat takes no value");
    refuses(GENERATE "hello", "'hello' belongs to no option");
    refuses(GENERATE "-- hello", "'hello' belongs to no option");
    refuses("tokenize -m x --temperature 1", "--temperature is no option of the command 'tokenize'");
    refuses("generate -m x --add-special-tokens",
            "--add-special-tokens is no option of the command 'generate'");
    refuses("generate -m x --input json", "--input: 'json' is not one of lines, text, jsonl");
    refuses("tokenize -m x --input text", "--input: 'text' is not one of lines, jsonl");
    refuses(GENERATE "--backend reference --cpu-path avx2", "--cpu-path chooses a path of the backend cpu");
    refuses(GENERATE "--backend cpu --device-exchange nccl", "--device-exchange is for rows on GPUs");
    refuses(GENERATE "--backend reference --device-exchange host", "--device-exchange is for rows on GPUs");
}

static void help_and_version_are_answered_first(void **state)
{
    (void)state;
    takes("--help");
    assert_int_equal(got.request, OPTIONS_HELP);
    assert_int_equal(got.command, 0);
    takes("-h");
    assert_int_equal(got.request, OPTIONS_HELP);
    takes("help inspect");
    assert_int_equal(got.command, OPTIONS_INSPECT);
    takes("help tokenize");
    assert_int_equal(got.command, OPTIONS_TOKENIZE);
    takes("--version");
    assert_int_equal(got.request, OPTIONS_VERSION);
    takes("generate --help --nonsense");
    assert_int_equal(got.request, OPTIONS_HELP);
    assert_int_equal(got.command, OPTIONS_GENERATE);
    takes("generate --version");
    assert_int_equal(got.request, OPTIONS_VERSION);
}

static void help_shows_every_option_with_its_default(void **state)
{
    const struct options_row *row;
    char *text = NULL;
    size_t bytes;

    (void)state;
    for (const struct options_command_row *c = options_table_commands; c->name; c++) {
        unsigned command = (unsigned)c->command;
        FILE *out = open_memstream(&text, &bytes);

        options_help(out, (int)command);
        fclose(out);
        for (int i = 0; (row = options_table_row(i)); i++) {
            char name[80];
            bool shown;

            snprintf(name, sizeof name, "--%s%s%s\n", row->name, row->value ? " " : "",
                     row->value ? row->value : "");
            shown = strstr(text, name) != NULL;
            if (shown != ((row->commands & command) != 0))
                fail_msg("help of %s %s %s", c->name, shown ? "shows" : "lacks", name);
            if (shown && row->value && strcmp(row->name, "model") != 0)
                assert_true(row->preset || row->unset);
        }
        for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
            if (line[0] == ' ' && strlen(line) > 100)
                fail_msg("a line of %zu columns: %s", strlen(line), line);
        free(text);
    }
}

static void ranks_with_equal_options_have_equal_hashes(void **state)
{
    static const char *const different[] = {"--max-tokens 9",
                                            "--temperature 0",
                                            "--top-k 5",
                                            "--top-p 0.5",
                                            "--min-p 0.5",
                                            "--seed 1",
                                            "--stop a",
                                            "--ignore-eos",
                                            "--backend cpu",
                                            "--cpu-path portable",
                                            "--comm mpi",
                                            "-tp 2",
                                            "--chat",
                                            "--kv-cache-memory 1M",
                                            "--gpu-memory-utilization 1",
                                            "--max-num-seqs 2",
                                            "--input text",
                                            "--max-model-len 9",
                                            "--max-num-batched-tokens 9",
                                            "--watchdog-timeout 1"};
    static const char *const local[] = {"--threads 2", "--verbose", "--stats f", "--input-file f"};
    char line[256];
    uint64_t plain;

    (void)state;
    takes(GENERATE);
    plain = options_value_hash(&got);
    for (size_t i = 0; i < sizeof different / sizeof different[0]; i++) {
        snprintf(line, sizeof line, GENERATE "%s", different[i]);
        takes(line);
        if (options_value_hash(&got) == plain)
            fail_msg("%s does not change the hash", different[i]);
    }
    for (size_t i = 0; i < sizeof local / sizeof local[0]; i++) {
        snprintf(line, sizeof line, GENERATE "%s", local[i]);
        takes(line);
        if (options_value_hash(&got) != plain)
            fail_msg("%s changes the hash", local[i]);
    }
}

static void clear_environment(void)
{
    static const char *const names[] = {"HF_HOME",
                                        "HF_HUB_CACHE",
                                        "HOME",
                                        "NO_COLOR",
                                        "PMI_SIZE",
                                        "PMI_RANK",
                                        "PMIX_RANK",
                                        "OMPI_COMM_WORLD_SIZE",
                                        "SLURM_STEP_NUM_TASKS",
                                        "SLURM_PROCID",
                                        "SLURM_CPUS_PER_TASK",
                                        "OMPI_COMM_WORLD_RANK"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        unsetenv(names[i]);
}

static void the_model_cache_is_where_hugging_face_puts_it(void **state)
{
    struct environment e;

    (void)state;
    clear_environment();
    options_environment(&e);
    assert_string_equal(e.cache, "");
    setenv("HOME", "/home/ann", 1);
    options_environment(&e);
    assert_string_equal(e.cache, "/home/ann/.cache/huggingface/hub");
    setenv("HF_HOME", "/data/hf", 1);
    options_environment(&e);
    assert_string_equal(e.cache, "/data/hf/hub");
    setenv("HF_HUB_CACHE", "/data/hub", 1);
    options_environment(&e);
    assert_string_equal(e.cache, "/data/hub");
}

static void the_launcher_that_started_this_process_is_believed(void **state)
{
    struct environment e;

    (void)state;
    clear_environment();
    setenv("SLURM_NTASKS", "8", 1);
    options_environment(&e);
    assert_int_equal(e.launcher_tasks, -1);
    assert_int_equal(e.launcher_rank, -1);
    assert_null(e.launcher_word);
    assert_int_equal(e.cpus_per_task, -1);
    assert_false(e.open_mpi || e.no_color);
    setenv("SLURM_STEP_NUM_TASKS", "2", 1);
    setenv("SLURM_PROCID", "1", 1);
    setenv("SLURM_CPUS_PER_TASK", "4", 1);
    setenv("NO_COLOR", "1", 1);
    options_environment(&e);
    assert_int_equal(e.launcher_tasks, 2);
    assert_int_equal(e.launcher_rank, 1);
    assert_string_equal(e.launcher_word, "SLURM_STEP_NUM_TASKS");
    assert_int_equal(e.cpus_per_task, 4);
    assert_true(e.no_color);
    /* mpirun inside that job step: the step's tasks are mpirun's daemons */
    setenv("OMPI_COMM_WORLD_SIZE", "1", 1);
    setenv("OMPI_COMM_WORLD_RANK", "0", 1);
    options_environment(&e);
    assert_int_equal(e.launcher_tasks, 1);
    assert_int_equal(e.launcher_rank, 0);
    assert_true(e.open_mpi);
    setenv("OMPI_COMM_WORLD_SIZE", "eight", 1);
    options_environment(&e);
    assert_int_equal(e.launcher_tasks, 2);
    assert_false(e.open_mpi);
    clear_environment();
    unsetenv("SLURM_NTASKS");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_given_has_its_default),
        cmocka_unit_test(every_option_lands_in_its_field),
        cmocka_unit_test(every_row_can_be_told_from_the_others),
        cmocka_unit_test(short_names_and_joined_values_work),
        cmocka_unit_test(every_number_has_its_limits),
        cmocka_unit_test(every_word_is_one_of_its_list),
        cmocka_unit_test(sizes_have_units),
        cmocka_unit_test(seeds_are_whole_numbers_of_64_bits),
        cmocka_unit_test(what_only_lines_of_json_can_show_needs_them),
        cmocka_unit_test(what_is_for_the_balancer_needs_it),
        cmocka_unit_test(stop_strings_are_counted_and_measured),
        cmocka_unit_test(what_is_misspelt_gets_the_nearest_name),
        cmocka_unit_test(what_is_missing_or_too_much_is_said),
        cmocka_unit_test(help_and_version_are_answered_first),
        cmocka_unit_test(help_shows_every_option_with_its_default),
        cmocka_unit_test(ranks_with_equal_options_have_equal_hashes),
        cmocka_unit_test(the_model_cache_is_where_hugging_face_puts_it),
        cmocka_unit_test(the_launcher_that_started_this_process_is_believed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
