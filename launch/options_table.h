/* options_table.h - every option of the command line: where its value goes, what is legal, what help says
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Parsing, --help and the hash that ranks compare are derived from the table; a new option is a field of
 * struct options and a row. */
#ifndef OPTIONS_TABLE_H
#define OPTIONS_TABLE_H

#include "engine/detokenizer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bits, because an option may belong to several. */
enum options_command { OPTIONS_GENERATE = 1, OPTIONS_TOKENIZE = 2, OPTIONS_DETOKENIZE = 4 };

/* What the command line asks for. */
enum options_request { OPTIONS_RUN, OPTIONS_HELP, OPTIONS_VERSION };

enum options_input { OPTIONS_LINES, OPTIONS_TEXT, OPTIONS_JSONL };
enum options_backend { OPTIONS_BACKEND_AUTO, OPTIONS_BACKEND_REFERENCE, OPTIONS_BACKEND_CPU };
enum options_path { OPTIONS_PATH_AUTO, OPTIONS_PATH_PORTABLE, OPTIONS_PATH_AVX2, OPTIONS_PATH_AVX512 };
enum options_comm { OPTIONS_COMM_AUTO, OPTIONS_COMM_MPI, OPTIONS_COMM_SHARED };

enum { OPTIONS_TOP_K_MODEL = -2 }; /* top_k was not given */

/* Strings point into argv. Fields that hold one of the enums above are int, because the table writes them. */
struct options {
    int command; /* enum options_command; 0 when only help or version was asked for */
    int request; /* enum options_request */

    /* model, input and output */
    const char *model;
    int input;              /* enum options_input */
    const char *input_file; /* NULL: stdin */
    bool chat;
    bool add_special_tokens;
    const char *stats; /* NULL: none */

    /* what is generated */
    int max_tokens;
    float temperature; /* NAN: not given, the model's own; so top_p and min_p */
    int top_k;         /* OPTIONS_TOP_K_MODEL: not given; 0 or -1: off */
    float top_p;
    float min_p;
    uint64_t seed;
    const char *stop[DETOKENIZER_STOP_LIMIT];
    int stop_count;
    bool ignore_eos;

    /* machine and ranks */
    int backend;  /* enum options_backend */
    int cpu_path; /* enum options_path */
    int threads;  /* 0: chosen by topology */
    int comm;     /* enum options_comm */
    int tensor_parallel_size;
    int expert_parallel_size; /* 0: all ranks */

    /* memory and batches */
    size_t kv_cache_memory;        /* bytes per rank; 0: by gpu_memory_utilization */
    double gpu_memory_utilization; /* (0, 1] of what the backend has free */
    int max_model_len;             /* 0: the model's own */
    int max_num_seqs;
    int max_num_batched_tokens;

    double watchdog_timeout; /* seconds; 0: no watchdog */
    bool verbose;
};

enum { OPTIONS_COMMAND_COUNT = 3 };

struct options_command_row {
    int command; /* one enum options_command */
    const char *name;
    const char *help;
};

enum options_type {
    OPTIONS_FLAG,    /* bool */
    OPTIONS_ASK,     /* int request: becomes `least` */
    OPTIONS_WHOLE,   /* int */
    OPTIONS_SEED,    /* uint64_t, the whole range */
    OPTIONS_REAL,    /* float */
    OPTIONS_DOUBLE,  /* double */
    OPTIONS_SIZE,    /* size_t, "2GiB" */
    OPTIONS_WORD,    /* int, one of `words` */
    OPTIONS_STRING,  /* const char *, not empty */
    OPTIONS_STRINGS, /* stop and stop_count: every use adds one */
};

enum options_group {
    OPTIONS_GROUP_INPUT,
    OPTIONS_GROUP_SAMPLING,
    OPTIONS_GROUP_RANKS,
    OPTIONS_GROUP_MEMORY,
    OPTIONS_GROUP_RUN,
    OPTIONS_GROUP_COUNT
};

struct options_word {
    const char *word; /* NULL ends a list */
    int value;
};

struct options_row {
    const char *name;  /* without dashes */
    const char *also;  /* another name, written with one dash ("tp"); NULL: none */
    const char *value; /* what stands for the value in help; NULL for flags */
    const char *help;
    const char *preset; /* default, in the words a user would type; NULL: the field starts as zero (real
                           numbers as NAN) */
    const char *unset;  /* what help calls the default when there is no preset; NULL: nothing */
    const struct options_word *words;
    double least, most; /* legal values of numbers */
    size_t field;       /* offset in struct options */
    enum options_type type;
    enum options_group group;
    unsigned commands; /* bits of enum options_command */
    char letter;       /* short name; 0: none */
    bool above;        /* least itself is not legal */
    bool local;        /* ranks may differ in it */
};

extern const struct options_row options_table[];
extern const int options_table_rows;

extern const struct options_command_row options_table_commands[OPTIONS_COMMAND_COUNT];

/* "generate"; "" for 0. */
const char *options_table_command(int command);

/* "Sampling" */
const char *options_table_group(enum options_group group);

#endif
