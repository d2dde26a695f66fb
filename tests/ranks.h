/* ranks.h - cmocka under mpiexec: every rank runs every test, rank 0 reports
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 *     int main(int argc, char **argv)
 *     {
 *         const struct CMUnitTest tests[] = {cmocka_unit_test(rows_come_back), ...};
 *
 *         return ranks_run(argc, argv, tests, sizeof tests / sizeof *tests);
 *     }
 *
 * The first argument is the number of ranks there must be: a launcher of another MPI starts that many
 * programs of one rank each, and they would all pass. A second argument of "loud" lets all ranks write to
 * stderr at once; else only rank 0 does, and what the others wrote is shown with "rank N: " in front when
 * they fail.
 *
 * An assertion that fails on one rank leaves the others waiting in the next exchange. So where ranks can
 * differ, use assert_all, which fails on all of them; after any other failure the rank ends the whole job at
 * once. */
#ifndef RANKS_H
#define RANKS_H

#include "engine/base/status.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int ranks_rank;        /* of this process in MPI_COMM_WORLD, once ranks_run was called */
static int ranks_size;        /* of MPI_COMM_WORLD */
static uint64_t ranks_seed;   /* for random inputs; the same on all ranks, printed by rank 0 */
static int ranks_agreed;      /* the present failure is one that all ranks know of */
static int ranks_stderr = -1; /* the true stderr while this rank's goes to `ranks_kept` */
static FILE *ranks_kept;

/* Collective: true on all ranks or failed on all; the ranks where it is false say so. */
#define assert_all(condition) ranks_assert(!!(condition), #condition, __FILE__, __LINE__)

/* Collective: the call returned STATUS_OK on all ranks; its words are shown where it did not. */
#define assert_all_ok(call)                                                                                  \
    do {                                                                                                     \
        enum status assert_status_ = (call);                                                                 \
        if (assert_status_ != STATUS_OK)                                                                     \
            fprintf(stderr, "%s: %s\n", status_place(), status_text());                                      \
        ranks_assert(assert_status_ == STATUS_OK, #call, __FILE__, __LINE__);                                \
    } while (0)

/* Not collective: for calls whose failure ends the test on this rank and so the job. */
#define assert_ok(call)                                                                                      \
    do {                                                                                                     \
        enum status assert_status_ = (call);                                                                 \
        if (assert_status_ != STATUS_OK)                                                                     \
            fail_msg("%s: %s: %s", #call, status_place(), status_text());                                    \
    } while (0)

static inline void ranks_assert(int holds, const char *words, const char *file, int line)
{
    int everywhere;

    MPI_Allreduce(&holds, &everywhere, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
    if (everywhere)
        return;
    if (!holds)
        fprintf(stderr, "%s:%d: on rank %d this is false: %s\n", file, line, ranks_rank, words);
    ranks_agreed = 1;
    _assert_true(0, words, file, line);
}

/* Show what this rank kept, line by line with its number. */
static inline void ranks_show(void)
{
    char line[1024];

    if (!ranks_kept)
        return;
    fflush(stderr);
    rewind(ranks_kept);
    while (fgets(line, sizeof line, ranks_kept))
        dprintf(ranks_stderr, "rank %d: %s%s", ranks_rank, line, strchr(line, '\n') ? "" : "\n");
    fseek(ranks_kept, 0, SEEK_END);
}

/* Ranks other than 0: stdout nowhere, stderr aside until it is known whether this rank fails. */
static inline void ranks_quiet(int loud)
{
    int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);

    if (nowhere >= 0) {
        dup2(nowhere, STDOUT_FILENO);
        close(nowhere);
    }
    unsetenv("CMOCKA_XML_FILE");
    if (loud)
        return;
    ranks_kept = tmpfile();
    if (!ranks_kept)
        return;
    fflush(stderr);
    ranks_stderr = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    dup2(fileno(ranks_kept), STDERR_FILENO);
}

/* What the arguments behind the number of ranks say. */
static inline void ranks_arguments(int argc, char **argv)
{
    int loud = 0;

    ranks_seed = (uint64_t)time(NULL);
    for (int i = 2; i < argc; i++) {
        if (strncmp(argv[i], "seed=", 5) == 0)
            ranks_seed = strtoull(argv[i] + 5, NULL, 10);
        loud |= strcmp(argv[i], "loud") == 0;
    }
    MPI_Bcast(&ranks_seed, 1, MPI_UINT64_T, 0, MPI_COMM_WORLD);
    if (ranks_rank == 0)
        fprintf(stderr, "seed=%llu\n", (unsigned long long)ranks_seed);
    else
        ranks_quiet(loud);
}

/* Runs all tests on all ranks; the result is main's, the same everywhere. */
static inline int ranks_run(int argc, char **argv, const struct CMUnitTest *tests, size_t count)
{
    int given;
    int bad = 0;
    int worst;

    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &given);
    MPI_Comm_rank(MPI_COMM_WORLD, &ranks_rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks_size);
    if (argc < 2 || atoi(argv[1]) != ranks_size) {
        fprintf(stderr,
                "%s: %s ranks were asked for, MPI made %d: launcher and library do not belong together\n",
                argv[0], argc < 2 ? "no number of" : argv[1], ranks_size);
        MPI_Abort(MPI_COMM_WORLD, 1);
    }
    ranks_arguments(argc, argv);
    for (size_t i = 0; i < count; i++) {
        ranks_agreed = 0;
        if (_cmocka_run_group_tests(tests[i].name, &tests[i], 1, NULL, NULL) == 0)
            continue;
        bad = 1;
        if (!ranks_agreed) {
            ranks_show();
            dprintf(ranks_stderr < 0 ? STDERR_FILENO : ranks_stderr,
                    "rank %d: failed alone in %s, so the job ends here\n", ranks_rank, tests[i].name);
            MPI_Abort(MPI_COMM_WORLD, 1);
        }
    }
    if (bad)
        ranks_show();
    MPI_Allreduce(&bad, &worst, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
    MPI_Finalize();
    return worst;
}

#endif
