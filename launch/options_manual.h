/* options_manual.h - the manual page, as scdoc reads it
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef OPTIONS_MANUAL_H
#define OPTIONS_MANUAL_H

#include <stdio.h>

/* switchyard(1): every command with its options, out of the table that parses them. */
void options_manual(FILE *out, const char *version);

#endif
