/* options_table_inspect.c - options: where a model would run, and how that is told
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "launch/options_table.h"

static const struct options_row rows[] = {
    {.name = "ranks",
     .letter = 'r',
     .value = "P...",
     .type = OPTIONS_WHOLES,
     .least = 1,
     .most = 4096,
     .unset = "as few as the parallel sizes allow",
     .field = OPTIONS_FIELD(inspect.ranks),
     .commands = OPTIONS_INSPECT,
     .help = "ranks to plan for; several numbers give a table"},
    {.name = "nodes",
     .value = "N",
     .type = OPTIONS_WHOLE,
     .least = 1,
     .most = 4096,
     .preset = "1",
     .field = OPTIONS_FIELD(inspect.nodes),
     .commands = OPTIONS_INSPECT,
     .help = "machines that the ranks lie on, as many on each"},
    {.name = "memory",
     .value = "BYTES",
     .type = OPTIONS_SIZE,
     .unset = "what this machine has free, divided by the ranks of a machine; with --backend cuda its "
              "smallest GPU",
     .field = OPTIONS_FIELD(inspect.memory),
     .commands = OPTIONS_INSPECT,
     .help =
         "memory of each rank, such as 64GiB; with --backend cuda that of a device, of which a rank takes "
         "--gpu-memory-utilization"},
};

const struct options_section options_table_inspect = {"Inspection", rows, sizeof rows / sizeof rows[0]};
