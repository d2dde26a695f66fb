/* options_completion.h - completion of the command line in bash
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef OPTIONS_COMPLETION_H
#define OPTIONS_COMPLETION_H

#include <stdio.h>

/* A script that bash reads: commands, options, their words, directories and files, out of the table that
 * parses them. It needs nothing but bash. */
void options_completion(FILE *out);

#endif
