/* report.h - what a command has found out, on standard output and in a file
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * For rank 0, at the end of a run, and for commands without ranks. */
#ifndef REPORT_H
#define REPORT_H

#include "engine/base/status.h"

#include <jansson.h>
#include <stdio.h>

/* A stream to `answers` (struct process), which stays open itself. */
enum status report_open(int answers, FILE **out);

/* STATUS_IO when not all that was written to it went through. */
enum status report_close(FILE *out);

/* The same at the end of a command; `status` is how it went until here, and stays when that was a failure. */
enum status report_end(FILE *out, enum status status);

/* Writes the object with all digits, and a newline. A NULL object is what jansson makes of too little memory.
 */
enum status report_json(FILE *out, const json_t *object);

/* The same into a file. */
enum status report_file(const char *option, const char *path, const json_t *object);

/* Can the file be written? To be asked before a long run. `option` is for the message. */
enum status report_check(const char *option, const char *path);

/* Text as a JSON string, also where it is not UTF-8. */
json_t *report_text(const char *text);

#endif
