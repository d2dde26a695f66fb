/* options_help.h - what --help prints
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef OPTIONS_HELP_H
#define OPTIONS_HELP_H

#include "launch/options_table.h"

#include <stdio.h>

/* The options of one command, grouped, each with its default; for command 0 the list of commands. */
void options_help(FILE *out, int command);

#endif
