/* options_table_balancer.c - options: how experts are balanced over ranks
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "launch/options_table.h"

#include "eplb/load.h"
#include "eplb/replicas.h"

static const struct options_word dispatches[] = {{"auto", REPLICAS_AUTO},
                                                 {"flow", REPLICAS_FLOW},
                                                 {"fewest", REPLICAS_FEWEST},
                                                 {"even", REPLICAS_EVEN},
                                                 {NULL, 0}};

static const struct options_word loads[] = {
    {"last", LOAD_LAST}, {"window", LOAD_WINDOW}, {"ewma", LOAD_EWMA}, {NULL, 0}};

static const struct options_row rows[] = {
    {.name = "enable-eplb",
     .type = OPTIONS_FLAG,
     .field = OPTIONS_FIELD(balancer.enable),
     .commands = OPTIONS_PLANNING,
     .help = "balance the experts' work over the ranks: share rows among copies of an expert, move experts "
             "when that "
             "pays; answers stay the same"},
    {.name = "num-redundant-experts",
     .value = "R",
     .type = OPTIONS_WHOLE,
     .least = 0,
     .most = 65536,
     .preset = "0",
     .field = OPTIONS_FIELD(balancer.redundant),
     .commands = OPTIONS_PLANNING,
     .help = "slots per layer, over all ranks, beside one for each expert; they hold copies of busy experts"},
    {.name = "eplb-window-size",
     .value = "N",
     .type = OPTIONS_WHOLE,
     .least = 4,
     .most = 100000,
     .preset = "50",
     .field = OPTIONS_FIELD(balancer.window),
     .commands = OPTIONS_PLANNING,
     .help = "batches whose load is kept, to plan for and to judge plans by"},
    {.name = "eplb-load",
     .value = "last|window|ewma",
     .type = OPTIONS_WORD,
     .words = loads,
     .preset = "last",
     .field = OPTIONS_FIELD(balancer.load),
     .commands = OPTIONS_PLANNING,
     .help = "what plans are made for; last: the last batches one by one; window: all that are kept, "
             "together; ewma: a "
             "moving average, in which the newest batch weighs 0.3"},
    {.name = "eplb-step-interval",
     .value = "N",
     .type = OPTIONS_WHOLE,
     .least = 0,
     .most = 1000000,
     .preset = "32",
     .field = OPTIONS_FIELD(balancer.interval),
     .commands = OPTIONS_PLANNING,
     .help = "batches from one plan to the next; 0: experts stay where they start"},
    {.name = "eplb-dispatch",
     .value = "auto|flow|fewest|even",
     .type = OPTIONS_WORD,
     .words = dispatches,
     .preset = "auto",
     .field = OPTIONS_FIELD(balancer.dispatch),
     .commands = OPTIONS_PLANNING,
     .help = "how copies of an expert share its rows; flow: so that the busiest rank has fewest rows; "
             "fewest: so that "
             "it has fewest experts to read; auto: what takes less time of these; even: by a hash, to "
             "compare with. On GPUs small batches take the hash for auto too"},
    {.name = "eplb-staging",
     .value = "N",
     .type = OPTIONS_WHOLE,
     .least = 1,
     .most = 1024,
     .preset = "2",
     .field = OPTIONS_FIELD(balancer.staging),
     .commands = OPTIONS_PLANNING,
     .help = "experts that a rank can take in at a time: all the memory that moving needs"},
    {.name = "expert-placement",
     .value = "FILE",
     .type = OPTIONS_STRING,
     .unset = "none",
     .field = OPTIONS_FIELD(balancer.placement),
     .commands = OPTIONS_PLANNING,
     .help =
         "start with experts where FILE has them, if it fits; generate writes it at the end; maps of SGLang "
         "and vLLM are "
         "read too"},
    {.name = "eplb-config",
     .value = "JSON",
     .type = OPTIONS_STRING,
     .unset = "none",
     .field = OPTIONS_FIELD(balancer.config),
     .commands = OPTIONS_PLANNING,
     .help =
         "vLLM's way to say it: {\"window_size\": 50, \"step_interval\": 32, \"num_redundant_experts\": 16}"},
    {.name = "eplb-force",
     .type = OPTIONS_FLAG,
     .field = OPTIONS_FIELD(balancer.force),
     .commands = OPTIONS_PLANNING,
     .help = "move experts at every step, whether it pays or not; for tests"},
    {.name = "share-experts",
     .type = OPTIONS_FLAG,
     .field = OPTIONS_FIELD(balancer.share),
     .commands = OPTIONS_PLANNING,
     .help =
         "the ranks of a node map one copy of each expert, in shared memory: copies take no memory there and "
         "moves no bytes, but a rank may have to read memory of another socket; for the backends cpu and "
         "reference, with or without --enable-eplb"},
    {.name = "precision-balance",
     .type = OPTIONS_FLAG,
     .field = OPTIONS_FIELD(balancer.precision),
     .commands = OPTIONS_LOADING,
     .help =
         "ranks that stay overloaded in a batch of prompts multiply experts at the backend's lower precision "
         "for that batch. Lossy: answers change, and depend on what else is in a batch. Needs "
         "experts of BF16, and GPUs or processors with AVX512_BF16"},
    {.name = "precision-budget",
     .value = "SHARE",
     .type = OPTIONS_DOUBLE,
     .least = 0,
     .most = 1,
     .preset = "0.6",
     .field = OPTIONS_FIELD(balancer.precision_budget),
     .commands = OPTIONS_LOADING,
     .help = "most of a layer's rows that --precision-balance may lower, over all ranks"},
    {.name = "precision-min-rows",
     .value = "N",
     .type = OPTIONS_WHOLE,
     .least = 0,
     .most = 1e9,
     .preset = "2048",
     .field = OPTIONS_FIELD(balancer.precision_min_rows),
     .commands = OPTIONS_LOADING,
     .help =
         "rows in a layer, a token counting once for each of its experts, below which nothing is lowered"},
};

const struct options_section options_table_balancer = {"The balancer", rows, sizeof rows / sizeof rows[0]};
