/* process.c - the start and the end of a rank: MPI, stdout, signals, and agreeing on failure
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "launch/process.h"

#include "comm/comm_alone.h"
#include "comm/comm_mpi.h"
#include "comm/comm_shared.h"
#include "comm/mpi_border.h"
#include "comm/wait.h"
#include "comm/watch.h"
#include "engine/base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LINE_BYTES = 2048, TEXT_BYTES = 1024, PLACE_BYTES = 96, NAMED_RANKS = 8 };

/* A launcher that is told to end the job may drop what it has not forwarded yet (MPICH's does): the words go
 * first. */
static const int64_t FORWARD_NANOSECONDS = 200000000;

/* Slurm sends two at a job's time limit, some milliseconds apart: what comes so soon after the first one is
 * meant as one with it. */
static const int64_t SAME_NANOSECONDS = 1000000000;

static volatile sig_atomic_t stop_asked;
static _Atomic int64_t stop_time; /* of the first one; 0: none came */

static void note_stop(int number)
{
    int64_t now = clock_now(), first = 0;

    if (atomic_compare_exchange_strong(&stop_time, &first, now)) {
        stop_asked = 1;
    } else if (now - first >= SAME_NANOSECONDS) {
        signal(number, SIG_DFL);
        raise(number); /* comes when this returns */
    }
}

/* A write to a reader that has gone is an error of the write; the first SIGTERM asks for an orderly end, and
 * ends a blocking read (no SA_RESTART); one that comes later ends the process. */
static void set_signals(void)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    struct sigaction note = {.sa_handler = note_stop};

    sigaction(SIGPIPE, &ignore, NULL);
    sigaction(SIGTERM, &note, NULL);
}

enum status process_save_stdout(int *answers)
{
    bool closed = fcntl(STDOUT_FILENO, F_GETFD) < 0;
    int filler;

    /* A file opened later must never get the number of a standard descriptor. */
    while ((filler = open("/dev/null", O_RDWR)) >= 0 && filler <= STDERR_FILENO)
        continue;
    if (filler >= 0)
        close(filler);
    *answers = closed ? -1 : fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (closed)
        return FAIL(STATUS_IO, "standard output is closed, so there is no place for answers");
    if (*answers < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
        return FAIL(STATUS_IO, "standard output cannot be set aside: %s", strerror(errno));
    return STATUS_OK;
}

void process_library(char text[static 64])
{
    char whole[MPI_MAX_LIBRARY_VERSION_STRING + 1];
    const char *name = "";
    const char *version = whole;
    int length = 0;

    MPI_Get_library_version(whole, &length);
    if (strncmp(whole, "Open MPI v", 10) == 0) {
        name = "Open MPI ";
        version = whole + 10;
    } else if (strncmp(whole, "MPICH Version:", 14) == 0) {
        name = "MPICH ";
        version = whole + 14 + strspn(whole + 14, " \t");
    }
    snprintf(text, 64, "%s%.*s", name, (int)strcspn(version, ",\n"), version);
}

/* -- waiting --- */

/* Waits for a request without keeping the processor from ranks that still work; the watchdog looks on. */
static enum status finish(MPI_Request *request, const char *what)
{
    struct wait wait;
    int64_t nap;
    int done = 0;
    enum status status;

    wait_open(&wait, 0, true, NULL);
    watch_wait_missing(NULL, -1);
    do {
        status = mpi_border_check(MPI_Test(request, &done, MPI_STATUS_IGNORE), what);
        if (status == STATUS_OK && !done)
            status = wait_round(&wait, &nap);
        if (status == STATUS_OK && !done && nap > 0)
            clock_sleep(nap);
    } while (status == STATUS_OK && !done);
    wait_close(&wait);
    return status;
}

static enum status reduce(int *values, int count, MPI_Op operation)
{
    MPI_Request request;

    TRY(mpi_border_check(
        MPI_Iallreduce(MPI_IN_PLACE, values, count, MPI_INT, operation, MPI_COMM_WORLD, &request),
        "to reduce over the ranks"));
    return finish(&request, "to reduce over the ranks");
}

static enum status broadcast(MPI_Comm comm, int root, void *bytes, size_t count)
{
    MPI_Request request;

    TRY(mpi_border_check(MPI_Ibcast(bytes, (int)count, MPI_BYTE, root, comm, &request), "to broadcast"));
    return finish(&request, "to broadcast");
}

enum status process_extent(struct process *p, int value, int *least, int *most)
{
    int both[2] = {value, -value};

    (void)p;
    TRY(reduce(both, 2, MPI_MIN));
    *least = both[0];
    *most = -both[1];
    return STATUS_OK;
}

enum status process_gather(struct process *p, int value, int32_t *all)
{
    MPI_Request request;
    int32_t mine = value;

    (void)p;
    TRY(mpi_border_check(MPI_Iallgather(&mine, 1, MPI_INT32_T, all, 1, MPI_INT32_T, MPI_COMM_WORLD, &request),
                         "to gather over the ranks"));
    return finish(&request, "to gather over the ranks");
}

enum status process_node_gather(struct process *p, const void *mine, size_t bytes, void *all)
{
    MPI_Request request;

    TRY(mpi_border_check(
        MPI_Iallgather(mine, (int)bytes, MPI_BYTE, all, (int)bytes, MPI_BYTE, p->node_comm, &request),
        "to gather over the ranks of a node"));
    return finish(&request, "to gather over the ranks of a node");
}

/* -- the start --- */

static enum status find_nodes(struct process *p)
{
    int leads;
    int before = 0;
    int counts[1];

    TRY(mpi_border_check(
        MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, p->rank, MPI_INFO_NULL, &p->node_comm),
        "to find the ranks of this node"));
    TRY(mpi_border_check(MPI_Comm_rank(p->node_comm, &p->node_rank), "to find the ranks of this node"));
    TRY(mpi_border_check(MPI_Comm_size(p->node_comm, &p->node_size), "to find the ranks of this node"));
    leads = p->node_rank == 0;
    TRY(mpi_border_check(MPI_Exscan(&leads, &before, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD), "to count nodes"));
    p->node = p->rank == 0 ? 0 : before;
    TRY(broadcast(p->node_comm, 0, &p->node, sizeof p->node));
    counts[0] = leads;
    TRY(reduce(counts, 1, MPI_SUM));
    p->nodes = counts[0];
    return process_extent(p, p->node_size, &counts[0], &p->node_most);
}

static enum status start_mpi(struct process *p)
{
    int already = 0;
    int level = MPI_THREAD_FUNNELED;

    MPI_Initialized(&already);
    if (!already)
        TRY(mpi_border_check(MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &level), "to start"));
    p->ours = !already;
    p->running = true;
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_set_errhandler(MPI_COMM_SELF, MPI_ERRORS_RETURN);
    TRY(mpi_border_check(MPI_Comm_rank(MPI_COMM_WORLD, &p->rank), "to count ranks"));
    TRY(mpi_border_check(MPI_Comm_size(MPI_COMM_WORLD, &p->ranks), "to count ranks"));
    if (level < MPI_THREAD_FUNNELED)
        return FAIL(STATUS_UNAVAILABLE, "this MPI library cannot run in a program with threads");
    return STATUS_OK;
}

/* Tasks that a launcher started together, but each of which MPI takes for a job of its own, would all read
 * the same input and write their answers over each other. */
static enum status check_launcher(struct process *p, const struct environment *e)
{
    char library[64];

    if (p->ranks > 1 || e->launcher_tasks <= 1)
        return STATUS_OK;
    process_library(library);
    if (p->ours)
        MPI_Finalize();
    p->running = false;
    p->told = e->launcher_rank > 0; /* the first task speaks for all */
    return FAIL(
        STATUS_UNAVAILABLE,
        "%s says that this is one of %d tasks, but MPI sees one rank alone: the launcher does not fit this "
        "program's MPI library, %s; Open MPI needs its own mpirun or 'srun --mpi=pmix', MPICH its own "
        "mpiexec "
        "or 'srun --mpi=pmi2'",
        e->launcher_word, e->launcher_tasks, library);
}

enum status process_open(struct process *p, const struct environment *e)
{
    enum status saved;

    memset(p, 0, sizeof *p);
    p->answers = -1;
    p->node_comm = MPI_COMM_NULL;
    p->ranks = p->nodes = p->node_size = p->node_most = 1;
    p->stop = &stop_asked;
    set_signals();
    saved = process_save_stdout(&p->answers);
    TRY(start_mpi(p));
    TRY(check_launcher(p, e));
    if (p->rank > 0) {
        if (p->answers >= 0)
            close(p->answers);
        p->answers = -1;
        saved = STATUS_OK;
    }
    TRY(find_nodes(p));
    /* Last, because it fails on rank 0 alone: the others are then past all exchanges above. */
    return saved;
}

/* -- agreement --- */

/* One write, so that lines of ranks never mix. */
static void print_line(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void print_line(const char *format, ...)
{
    char line[LINE_BYTES];
    va_list arguments;
    size_t used;

    va_start(arguments, format);
    vsnprintf(line, sizeof line - 1, format, arguments);
    va_end(arguments);
    used = strlen(line);
    line[used++] = '\n';
    if (write(STDERR_FILENO, line, used) < 0)
        return; /* stderr that is gone cannot be complained about */
}

/* A wrong command line needs no place in the program, and is wrong on all ranks as a rule. */
static void print_failure(int rank, enum status status, const char *place, const char *text,
                          const char *extent)
{
    if (status == STATUS_USAGE)
        print_line("switchyard: %s", text);
    else if (rank < 0)
        print_line("switchyard: %s: %s%s", place, text, extent);
    else
        print_line("rank %d: %s: %s%s", rank, place, text, extent);
}

void process_print(int rank, enum status status)
{
    print_failure(rank, status, status_place(), status_text(), "");
}

/* A failure as it travels. */
struct report {
    int status;
    char place[PLACE_BYTES];
    char text[TEXT_BYTES];
};

/* This thread's failure becomes that of another rank. */
static enum status adopt(const struct report *report)
{
    char file[PLACE_BYTES];
    const char *colon = strrchr(report->place, ':');

    snprintf(file, sizeof file, "%.*s", (int)strcspn(report->place, ":"), report->place);
    return status_fail((enum status)report->status, file, colon ? atoi(colon + 1) : 0, "%s", report->text);
}

enum status process_agree(struct process *p, enum status mine)
{
    int first = mine == STATUS_OK ? p->ranks : p->rank;
    int failed = mine != STATUS_OK;
    struct report report = {0};
    char extent[64] = "";

    TRY(reduce(&first, 1, MPI_MIN));
    if (first == p->ranks)
        return STATUS_OK;
    TRY(reduce(&failed, 1, MPI_SUM));
    if (first == p->rank) {
        report.status = (int)mine;
        snprintf(report.place, sizeof report.place, "%s", status_place());
        snprintf(report.text, sizeof report.text, "%s", status_text());
    }
    TRY(broadcast(MPI_COMM_WORLD, first, &report, sizeof report));
    if (failed > 1)
        snprintf(extent, sizeof extent, " (%s %d ranks failed)", failed == p->ranks ? "all" : "in all",
                 failed);
    if (p->rank == 0 && !p->told)
        print_failure(first, (enum status)report.status, report.place, report.text, extent);
    p->told = true;
    return adopt(&report);
}

/* The ranks that differ, "1, 5 and 3 more", into text. Collective. */
static enum status list_ranks(struct process *p, bool differs, int count, char *text, size_t size)
{
    size_t used = 0;
    int last = -1;

    for (int i = 0; i < count && i < NAMED_RANKS; i++) {
        int next = differs && p->rank > last ? p->rank : p->ranks;

        TRY(reduce(&next, 1, MPI_MIN));
        last = next;
        used += (size_t)snprintf(text + used, size - used, "%s%d", i ? ", " : "", next);
    }
    if (count > NAMED_RANKS)
        snprintf(text + used, size - used, " and %d more", count - NAMED_RANKS);
    return STATUS_OK;
}

enum status process_compare(struct process *p, const char *what, uint64_t value)
{
    uint64_t first = value;
    int differ;
    char ranks[160];
    enum status status;

    TRY(broadcast(MPI_COMM_WORLD, 0, &first, sizeof first));
    differ = value != first;
    TRY(reduce(&differ, 1, MPI_SUM));
    if (differ == 0)
        return STATUS_OK;
    TRY(list_ranks(p, value != first, differ, ranks, sizeof ranks));
    status =
        differ > 1
            ? FAIL(STATUS_BAD_INPUT,
                   "ranks %s differ from rank 0 in their %s: all ranks must be given the same", ranks, what)
            : FAIL(STATUS_BAD_INPUT,
                   "rank %s differs from rank 0 in its %s: all ranks must be given the same", ranks, what);
    if (p->rank == 0 && !p->told)
        process_print(-1, status);
    p->told = true;
    return status;
}

/* -- exchanges for the engine --- */

enum status process_watch(struct process *p, double patience)
{
    TRY(process_agree(p, watch_open(MPI_COMM_WORLD, patience)));
    p->watched = true;
    return STATUS_OK;
}

static enum status open_comm(MPI_Comm mpi, enum options_comm kind, size_t bytes, struct comm **out)
{
    int size;

    TRY(mpi_border_check(MPI_Comm_size(mpi, &size), "to count ranks"));
    if (size == 1)
        return comm_alone_open(out);
    return kind == OPTIONS_COMM_SHARED ? comm_shared_open(mpi, bytes, out) : comm_mpi_open(mpi, bytes, out);
}

enum status process_comms(struct process *p, enum options_comm kind, int tensor, size_t world_bytes,
                          size_t group_bytes, struct comm **world, struct comm **group)
{
    struct comm *all = NULL;
    struct comm *few = NULL;
    MPI_Comm part;
    enum status status;

    if (kind == OPTIONS_COMM_AUTO)
        kind = p->node_most > 1 ? OPTIONS_COMM_SHARED : OPTIONS_COMM_MPI;
    TRY(process_agree(p, open_comm(MPI_COMM_WORLD, kind, world_bytes, &all)));
    status =
        mpi_border_check(MPI_Comm_split(MPI_COMM_WORLD, p->rank / tensor, p->rank, &part), "to form groups");
    if (status == STATUS_OK) {
        status = open_comm(part, kind, group_bytes, &few);
        MPI_Comm_free(&part);
    }
    status = process_agree(p, status);
    if (status != STATUS_OK) {
        if (few)
            few->close(few);
        all->close(all);
        return status;
    }
    *world = all;
    *group = few;
    return STATUS_OK;
}

/* -- the end --- */

_Noreturn void process_fail(struct process *p, enum status status)
{
    watch_leave();
    if (!watch_told())
        print_failure(p->rank, status, status_place(), status_text(), "");
    clock_sleep(FORWARD_NANOSECONDS);
    if (p->running)
        MPI_Abort(MPI_COMM_WORLD, status_exit_code(status));
    _exit(status_exit_code(status));
}

int process_end(struct process *p, enum status status)
{
    if (status == STATUS_OK && p->answers >= 0 && close(p->answers) != 0)
        status = FAIL(STATUS_IO, "standard output: %s", strerror(errno));
    p->answers = -1;
    if (status != STATUS_OK && !p->told) {
        if (p->running && p->ranks > 1)
            process_fail(p, status);
        print_failure(p->rank, status, status_place(), status_text(), "");
    }
    if (p->watched)
        watch_close();
    p->watched = false;
    if (p->running && p->node_comm != MPI_COMM_NULL)
        MPI_Comm_free(&p->node_comm);
    if (p->running && p->ours)
        MPI_Finalize();
    p->running = false;
    return status_exit_code(status);
}

int process_refuse(const struct environment *e, enum status status)
{
    struct process p;
    enum status opened = process_open(&p, e);

    if (!p.running)
        return process_end(&p, opened);
    return process_end(&p, process_agree(&p, status));
}
