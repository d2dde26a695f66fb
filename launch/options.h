/* options.h - the command line and the environment, read once and checked
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * The options themselves, and struct options, stand in options_table.h. This is the only place that reads the
 * environment.
 *
 *     options_environment   before everything else
 *     options_parse         before MPI starts; --help and --version are answered without it */
#ifndef OPTIONS_H
#define OPTIONS_H

#include "engine/base/status.h"
#include "launch/options_table.h"

#include <limits.h>

/* What the surroundings say, all of it. Numbers that are not set are -1. */
struct environment {
    char cache[PATH_MAX];      /* root of the Hugging Face cache; "": not even HOME is set */
    int launcher_rank;         /* this rank by the launcher's word, before MPI is started */
    int launcher_tasks;        /* ranks of this job step by the launcher's word */
    const char *launcher_word; /* the variable that launcher_tasks comes from; NULL: none */
    int cpus_per_task;         /* what Slurm was asked for */
    bool open_mpi;             /* started by Open MPI's mpirun */
    bool no_color;
};

void options_environment(struct environment *e);

/* Fills *o with defaults, then from argv, which is only read. STATUS_USAGE: one sentence with option, value
 * and what is legal; *o is then undefined but for `command`, 0 or the command that was recognised. Not for
 * two threads at once. */
enum status options_parse(struct options *o, int argc, char *const *argv);

/* Do answers of `generate` go out as lines of JSON? */
bool options_output_json(const struct options *o);

#endif
