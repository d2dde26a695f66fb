/* options_table.h - every command and option: where values go, what is legal, what help says
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Parsing, --help and the hash that ranks compare are derived from the table. It lies in sections, one file
 * options_table_NAME.c for each, which are also the headings of help.
 *
 * A new option is a field of struct options and a row in the section where a user would look for it. One name
 * may have several rows, when no command has two of them: --input takes other words in tokenize.
 *
 * A new command is
 *     a bit in enum options_command; the sets below it say which commands share the options of a model, of
 *         ranks and memory, of sampling, so most commands take theirs by joining sets
 *     a row in options_table_commands (options_table.c): its name, "bench latency" when it is one of several
 *         that share their first word, its operands and a line of help
 *     options of its own: a struct of its own in struct options, a section options_table_NAME.c listed in
 *         options_table.c and launch/meson.build
 *     a row in the table of launch/main.c: the function that runs it, on all ranks or on the first alone */
#ifndef OPTIONS_TABLE_H
#define OPTIONS_TABLE_H

#include "engine/detokenizer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bits, because an option may belong to several. */
enum options_command {
    OPTIONS_GENERATE = 1 << 0,
    OPTIONS_TOKENIZE = 1 << 1,
    OPTIONS_DETOKENIZE = 1 << 2,
    OPTIONS_PERPLEXITY = 1 << 3,
    OPTIONS_INSPECT = 1 << 4,
    OPTIONS_BENCH_THROUGHPUT = 1 << 5,
    OPTIONS_BENCH_LATENCY = 1 << 6,
    OPTIONS_EPLB_PLAN = 1 << 7,
    OPTIONS_EPLB_EVAL = 1 << 8,
    OPTIONS_EPLB_BOUND = 1 << 9,
    OPTIONS_EPLB_DIFF = 1 << 10,
    OPTIONS_EPLB_POC = 1 << 11,
    OPTIONS_EPLB_SIMULATE = 1 << 12,
    OPTIONS_BENCH_SELFTEST = 1 << 13,
};

/* Sets of commands that share options. */
enum options_commands {
    OPTIONS_TEXTS = OPTIONS_TOKENIZE | OPTIONS_DETOKENIZE,
    OPTIONS_BENCH = OPTIONS_BENCH_THROUGHPUT | OPTIONS_BENCH_LATENCY,
    /* load a model over ranks: a dry run */
    OPTIONS_LOADING = OPTIONS_GENERATE | OPTIONS_PERPLEXITY | OPTIONS_BENCH,
    /* compute on ranks: the backend and the exchanges, processors, the watchdog */
    OPTIONS_COMPUTING = OPTIONS_LOADING | OPTIONS_BENCH_SELFTEST,
    /* say how a model would lie on ranks: the layout, memory and batches, the backend */
    OPTIONS_PLANNING = OPTIONS_LOADING | OPTIONS_INSPECT,
    OPTIONS_SAMPLING = OPTIONS_GENERATE,
    /* choose tokens */
    OPTIONS_CHOOSING = OPTIONS_GENERATE | OPTIONS_BENCH,
    OPTIONS_WITH_MODEL = OPTIONS_PLANNING | OPTIONS_TEXTS,
    OPTIONS_ALL = 0x7fffffff,
};

/* What the command line asks for. */
enum options_request { OPTIONS_RUN, OPTIONS_HELP, OPTIONS_VERSION };

enum options_input { OPTIONS_LINES, OPTIONS_TEXT, OPTIONS_JSONL };
enum options_output { OPTIONS_OUTPUT_AUTO, OPTIONS_OUTPUT_TEXT, OPTIONS_OUTPUT_JSONL };
enum options_backend {
    OPTIONS_BACKEND_AUTO,
    OPTIONS_BACKEND_REFERENCE,
    OPTIONS_BACKEND_CPU,
    OPTIONS_BACKEND_CUDA
};
enum options_path { OPTIONS_PATH_AUTO, OPTIONS_PATH_PORTABLE, OPTIONS_PATH_AVX2, OPTIONS_PATH_AVX512 };
enum options_cache { OPTIONS_CACHE_AUTO, OPTIONS_CACHE_BFLOAT16 };
enum options_comm { OPTIONS_COMM_AUTO, OPTIONS_COMM_MPI, OPTIONS_COMM_SHARED };

enum { OPTIONS_TOP_K_MODEL = -2 }; /* top_k was not given */

enum { OPTIONS_OPERAND_LIMIT = 1024, OPTIONS_LIST_LIMIT = 32 };

/* The value of an option of type OPTIONS_WHOLES. */
struct options_wholes {
    int count;
    int value[OPTIONS_LIST_LIMIT];
};

/* Of the command inspect. */
struct options_inspect {
    struct options_wholes ranks;
    int nodes;
    size_t memory; /* bytes for each rank; 0: what this machine has free */
};

/* Forms of problems and of plans; the first: nothing was said. */
enum options_eplb_form {
    OPTIONS_EPLB_AUTO,
    OPTIONS_EPLB_TEXT,
    OPTIONS_EPLB_JSONL,
    OPTIONS_EPLB_JSON,
    OPTIONS_EPLB_CSV,
};

enum { OPTIONS_EPLB_ALL = -1 }; /* loads, one after the other */

/* Of the commands eplb plan, eval and so on. */
struct options_eplb {
    int input, format;         /* enum options_eplb_form */
    int policy, levels, split; /* enum planned_policy, plan_levels, plan_split */
    double tolerance;
    int slots, redundant, ranks, nodes, groups; /* 0: not given */
    int max_moves;
    const char *previous, *placement; /* files; NULL: none */
    size_t expert_bytes;              /* 0: not given */
    double skew;

    /* an imagined cluster */
    const char *topology; /* hwloc's description; NULL: ranks and nodes say it */
    struct options_wholes redundants, intervals;
    int window;
    double share;
    int load; /* enum simulate_load, or OPTIONS_EPLB_ALL */
    size_t row_bytes;
    double rate;                                                /* TFLOP/s of a rank */
    double memory_bandwidth, node_bandwidth, network_bandwidth; /* GB/s of a rank */
};

struct options_balancer {
    bool enable;
    int redundant;
    int window;
    int interval; /* 0: never */
    int load;     /* enum load_way */
    int dispatch; /* enum replicas_policy */
    int staging;
    bool force;
    bool share; /* one copy of each expert on a node */
    bool precision;
    double precision_budget; /* [0, 1] */
    int precision_min_rows;
    const char *placement; /* NULL: none */
    const char *config;    /* JSON that has been taken into the fields above; NULL: none */
};

struct options_speculative {
    const char *config; /* JSON that is taken into the fields below; NULL: no speculation */
    int tokens;         /* 0: none */
    int least, most;    /* tokens of an n-gram */
};

/* Strings point into argv. Fields that hold one of the enums above are int, because the table writes them. */
struct options {
    int command; /* enum options_command; 0 when only help or version was asked for */
    int request; /* enum options_request */

    /* what stands on the line beside options, as many as the command's row allows */
    const char *operands[OPTIONS_OPERAND_LIMIT];
    int operand_count;

    /* model, input and output */
    const char *model;
    int input;              /* enum options_input */
    const char *input_file; /* NULL: stdin */
    int output;             /* enum options_output */
    bool no_stream;
    bool ordered;
    bool chat;
    bool add_special_tokens;
    bool literal_text;
    const char *stats; /* NULL: none */
    const char *trace; /* likewise */
    bool trace_routes;

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
    int min_tokens;
    float repetition_penalty; /* NAN: not given, the model's own */
    float presence_penalty;
    float frequency_penalty;
    struct options_wholes stop_token_ids;
    int logprobs; /* -1: none */
    int prompt_logprobs;

    /* machine and ranks */
    int backend;               /* enum options_backend */
    const char *cuda_module;   /* NULL: found */
    bool exact;                /* only products that keep the law */
    bool separate_allocations; /* of the memory of devices */
    int cpu_path;              /* enum options_path */
    int kv_cache_dtype;        /* enum options_cache */
    int threads;               /* 0: chosen by topology */
    int comm;                  /* enum options_comm */
    int device_exchange;       /* enum comm_device_way */
    bool enforce_eager;        /* no step is recorded and replayed */
    bool enable_dbo;           /* exchanges beside products, steps in two cohorts */
    int dispatch;              /* enum dispatch_way */
    int node_size;             /* ranks; 0: those of a machine */
    int tensor_parallel_size;
    int expert_parallel_size; /* 0: all ranks */

    struct options_balancer balancer;

    /* memory and batches */
    size_t kv_cache_memory;        /* bytes per rank; 0: by gpu_memory_utilization */
    double gpu_memory_utilization; /* (0, 1] of what the backend has free */
    int max_model_len;             /* 0: the model's own */
    int max_num_seqs;
    int max_num_batched_tokens;
    struct options_speculative speculative;
    bool no_enable_prefix_caching;

    /* texts that are evaluated */
    struct {
        int window; /* tokens; 0: what the model or --max-model-len allows */
        int stride; /* tokens; 0: half a window */
    } evaluation;
    bool json;               /* the report, instead of text */
    const char *output_json; /* the report as well; NULL: none */

    /* what is measured */
    struct {
        const char *dataset; /* NULL: random prompts */
        int num_prompts, num_warmups;
        int input_len, output_len;
        double request_rate; /* infinite: all at once */
        int batch_size, num_iters, num_iters_warmup;
        bool enable_prefix_caching;
    } bench;

    struct {
        int rounds;  /* of each check, at most; 0: the check's own */
        size_t size; /* bytes of what is copied, and most that is exchanged */
    } selftest;

    struct options_inspect inspect;
    struct options_eplb eplb;

    bool dry_run;
    double watchdog_timeout; /* seconds; 0: no watchdog */
    bool verbose;
};

struct options_command_row {
    int command;      /* one enum options_command */
    const char *name; /* one word, or two with a blank between; NULL ends the table */
    const char *help;
    const char *operands; /* what stands for them in help: "FILE..."; NULL: none are legal */
    int least, most;      /* how many operands, at most OPTIONS_OPERAND_LIMIT */
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
    OPTIONS_WHOLES,  /* struct options_wholes: "1 2 8", "1,2,8" or several uses */
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
    unsigned commands; /* bits of enum options_command */
    unsigned needed;   /* those of them that cannot do without; for strings */
    char letter;       /* short name; 0: none */
    bool above;        /* least itself is not legal */
    bool local;        /* ranks may differ in it */
};

/* Place of a field, for rows. */
#define OPTIONS_FIELD(name) offsetof(struct options, name)

struct options_section {
    const char *title;
    const struct options_row *rows;
    int count;
};

extern const struct options_section options_table_input, options_table_sampling, options_table_ranks,
    options_table_balancer, options_table_memory, options_table_evaluation, options_table_bench,
    options_table_inspect, options_table_eplb, options_table_run;

/* In the order of help; NULL ends the list. */
extern const struct options_section *const options_table_sections[];

/* Row `index` of all sections together; NULL behind the last. */
const struct options_row *options_table_row(int index);

extern const struct options_command_row options_table_commands[];

/* The default in words, as help shows it; NULL: none to show. */
const char *options_table_default(const struct options_row *row);

/* NULL: there is no such command. */
const struct options_command_row *options_table_command(int command);

#endif
