/* process.h - the start and the end of a rank: MPI, stdout, signals, and agreeing on failure
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 *     process_open      MPI starts; stdout is set aside for answers
 *     process_agree     after each stage that can fail on one rank alone: all go on, or all end
 *     process_watch     nobody waits for ever from here on
 *     process_compare   for what must be equal everywhere
 *     process_comms     exchanges for the engine
 *     process_end       the way out, good or bad
 *
 * While ranks wait for each other here they sleep; a slow reader of weights costs the others no processor. */
#ifndef PROCESS_H
#define PROCESS_H

#include "comm/comm.h"
#include "engine/base/status.h"
#include "launch/options.h"

#include <mpi.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct process {
    int rank;
    int ranks;
    int node;      /* number of this rank's node, in order of the lowest rank on each */
    int nodes;     /* machines: sets of ranks that can share memory */
    int node_rank; /* among the ranks of this node */
    int node_size;
    int node_most; /* ranks on the fullest node */
    int answers; /* rank 0: the descriptor that was stdout; others: -1. Descriptor 1 is stderr from here on */
    const volatile sig_atomic_t
        *stop; /* becomes 1 with the first SIGTERM; one a second later ends the process */
    MPI_Comm node_comm;
    bool running; /* MPI runs: the functions below may be called */
    bool ours;    /* process_open started it, so process_end ends it */
    bool watched; /* process_watch has been called */
    bool told;    /* every rank knows of the failure and rank 0 has printed it */
};

/* Once, before anything else writes. After a failure, process_agree if p->running (so all ranks learn of it),
 * then process_end. STATUS_UNAVAILABLE where this is one of several tasks that do not know of each other,
 * because MPI library and launcher do not fit. SIGPIPE is ignored from here on. */
enum status process_open(struct process *p, const struct environment *e);

/* Collective. `mine` is how the last stage went here. STATUS_OK when it went well everywhere; else, on all
 * ranks, the status of the first rank that failed; rank 0 has printed "rank 3: weights.c:118: text", and
 * status_text() holds the words everywhere. */
enum status process_agree(struct process *p, enum status mine);

/* Collective. STATUS_BAD_INPUT on all ranks, printed by rank 0, names those whose `value` is not rank
 * 0's. what: "model", "options". */
enum status process_compare(struct process *p, const char *what, uint64_t value);

/* Collective: the least and the most of all ranks' values. */
enum status process_extent(struct process *p, int value, int *least, int *most);

/* Collective: all[ranks], the value of each rank. */
enum status process_gather(struct process *p, int value, int32_t *all);

/* Collective over the ranks of a node: all[node_size * bytes], in order of node ranks. */
enum status process_node_gather(struct process *p, const void *mine, size_t bytes, void *all);

/* Collective, agreed on: from now on a dead rank, or a wait beyond `patience` seconds (0: any), ends the run.
 */
enum status process_watch(struct process *p, double patience);

/* Collective, agreed on. *world over all ranks and *group over `tensor` consecutive ones, able to deliver so
 * many bytes in one call. auto: shared where some node has more than one rank, else mpi. A group of one rank
 * is always alone. Both are closed by their own close. */
enum status process_comms(struct process *p, enum options_comm kind, int tensor, size_t world_bytes,
                          size_t group_bytes, struct comm **world, struct comm **group);

/* Ends MPI and returns the exit code for main. A failure that the others do not know of is printed with its
 * rank and ends the whole job by process_fail. */
int process_end(struct process *p, enum status status);

/* For a rank that cannot take part because of `status` (its command line is wrong), in place of all of the
 * above but process_end: the ranks that call process_open and process_agree learn of it. Returns main's exit
 * code. */
int process_refuse(const struct environment *e, enum status status);

/* Prints "rank 3: weights.c:118: text" and ends the job on all ranks with the code of `status`. */
_Noreturn void process_fail(struct process *p, enum status status);

/* Opens what of descriptors 0, 1 and 2 is closed (as /dev/null), moves stdout to *answers and lets descriptor
 * 1 be stderr, so that nothing but answers reaches the reader. A stdout that was closed is STATUS_IO;
 * *answers is then -1. process_open does this by itself; for commands that run without MPI. */
enum status process_save_stdout(int *answers);

/* Prints this thread's failure as process_fail does, for a process without MPI. rank -1: none is named. */
void process_print(int rank, enum status status);

/* "Open MPI 4.1.4", "MPICH 4.0.2"; before and after MPI runs. */
void process_library(char text[static 64]);

#endif
