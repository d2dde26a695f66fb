/* options_table_run.c - options: the run itself
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "launch/options_table.h"

static const struct options_row rows[] = {
    {.name = "stats",
     .value = "FILE",
     .type = OPTIONS_STRING,
     .field = OPTIONS_FIELD(stats),
     .commands = OPTIONS_LOADING,
     .local = true,
     .unset = "none",
     .help = "write the figures of the closing line to FILE, as JSON"},
    {.name = "watchdog-timeout",
     .value = "SECONDS",
     .type = OPTIONS_DOUBLE,
     .least = 0,
     .most = 86400,
     .preset = "60",
     .field = OPTIONS_FIELD(watchdog_timeout),
     .commands = OPTIONS_LOADING,
     .help = "end the run when a rank keeps the others waiting for so long; 0: wait for ever"},
    {.name = "verbose",
     .letter = 'v',
     .type = OPTIONS_FLAG,
     .field = OPTIONS_FIELD(verbose),
     .commands = OPTIONS_ALL,
     .local = true,
     .help = "log more, on all ranks"},
    {.name = "help",
     .letter = 'h',
     .type = OPTIONS_ASK,
     .least = OPTIONS_HELP,
     .field = OPTIONS_FIELD(request),
     .local = true,
     .commands = OPTIONS_ALL,
     .help = "print this and end"},
    {.name = "version",
     .type = OPTIONS_ASK,
     .least = OPTIONS_VERSION,
     .field = OPTIONS_FIELD(request),
     .local = true,
     .commands = OPTIONS_ALL,
     .help = "print the version, what it was built with, and end"},
};

const struct options_section options_table_run = {"The run", rows, sizeof rows / sizeof rows[0]};
