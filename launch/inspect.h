/* inspect.h - what a model is, and what its ranks would take, from the headers of its files
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef INSPECT_H
#define INSPECT_H

#include "engine/budget_nearest.h"
#include "engine/census.h"
#include "launch/options.h"

#include <stdio.h>

/* One number of ranks. */
struct inspect_plan {
    struct budget budget;
    struct budget_nearest nearest; /* nothing in it when the plan fits */
};

struct inspect_report {
    const struct engine *engine; /* read, for what the model is */
    struct census census;
    struct inspect_plan plan[OPTIONS_LIST_LIMIT];
    int plans;
    double seconds; /* that reading and planning took */
};

/* The command: this process alone, whatever the ranks. Answers go to the descriptor `answers`, which is
 * closed. A plan that does not fit is an answer, no failure. */
enum status inspect_run(const struct options *o, const struct environment *e, int answers);

/* --dry-run of any command that loads a model: on all of its ranks, in place of the command. Returns main's
 * exit code. */
int inspect_dry_run(const struct options *o, const struct environment *e);

void inspect_text(FILE *out, const struct inspect_report *r);
void inspect_json(FILE *out, const struct inspect_report *r);

#endif
