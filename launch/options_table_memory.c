/* options_table_memory.c - options: how much memory is taken and how much is done at a time
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "launch/options_table.h"

#include <limits.h>

static const struct options_row rows[] = {
    {.name = "kv-cache-memory",
     .value = "BYTES",
     .type = OPTIONS_SIZE,
     .field = OPTIONS_FIELD(kv_cache_memory),
     .commands = OPTIONS_PLANNING,
     .unset = "by --gpu-memory-utilization",
     .help = "memory of each rank for keys and values, such as 512M or 2GiB"},
    {.name = "gpu-memory-utilization",
     .value = "X",
     .type = OPTIONS_DOUBLE,
     .least = 0,
     .above = true,
     .most = 1,
     .preset = "0.9",
     .field = OPTIONS_FIELD(gpu_memory_utilization),
     .commands = OPTIONS_PLANNING,
     .help = "share that a rank may use: of all memory of its GPU, weights and libraries included; on "
             "processors of the memory that is free after loading, which the ranks of a node divide"},
    {.name = "max-model-len",
     .value = "N",
     .type = OPTIONS_WHOLE,
     .least = 1,
     .most = INT_MAX,
     .unset = "the model's own",
     .field = OPTIONS_FIELD(max_model_len),
     .commands = OPTIONS_PLANNING,
     .help = "most tokens of a prompt and its completion together"},
    {.name = "max-num-seqs",
     .value = "N",
     .type = OPTIONS_WHOLE,
     .least = 1,
     .most = 65536,
     .preset = "256",
     .field = OPTIONS_FIELD(max_num_seqs),
     .commands = OPTIONS_PLANNING,
     .help = "most prompts that are worked on at a time"},
    {.name = "max-num-batched-tokens",
     .value = "N",
     .type = OPTIONS_WHOLE,
     .least = 1,
     .most = 1 << 20,
     .preset = "2048",
     .field = OPTIONS_FIELD(max_num_batched_tokens),
     .commands = OPTIONS_PLANNING,
     .help = "most tokens of one step; longer prompts take several"},
    {.name = "speculative-config",
     .value = "JSON",
     .type = OPTIONS_STRING,
     .unset = "none",
     .field = OPTIONS_FIELD(speculative.config),
     .commands = OPTIONS_CHOOSING | OPTIONS_INSPECT,
     .help =
         "guess tokens by what stands behind the same words earlier in prompt and answer, and check several "
         "in one step; the tokens stay the same: {\"method\": \"ngram\", \"num_speculative_tokens\": 3, "
         "\"prompt_lookup_min\": 2, \"prompt_lookup_max\": 5}"},
    {.name = "no-enable-prefix-caching",
     .type = OPTIONS_FLAG,
     .field = OPTIONS_FIELD(no_enable_prefix_caching),
     .commands = OPTIONS_GENERATE,
     .help = "compute every prompt whole, also where an earlier one began alike; the text is the same"},
};

const struct options_section options_table_memory = {"Memory and batches", rows,
                                                     sizeof rows / sizeof rows[0]};
