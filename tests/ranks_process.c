/* ranks_process.c - ranks that agree on failure, compare what must be equal, and open their exchanges
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "launch/process.h"

#include "engine/base/clock.h"
#include "tests/ranks.h"

#include <signal.h>
#include <stdbool.h>
#include <sys/wait.h>

enum { CAPTURE_BYTES = 4096 };

static struct process process;
static const struct environment nothing = {.launcher_rank = -1, .launcher_tasks = -1, .cpus_per_task = -1};

/* What rank 0 writes to stderr between begin and end. */
static struct capture {
    FILE *file;
    int stderr_before;
    char text[CAPTURE_BYTES];
} capture;

static void capture_begin(void)
{
    fflush(stderr);
    capture.file = tmpfile();
    assert_non_null(capture.file);
    capture.stderr_before = dup(STDERR_FILENO);
    dup2(fileno(capture.file), STDERR_FILENO);
}

static const char *capture_end(void)
{
    ssize_t got;

    fflush(stderr);
    dup2(capture.stderr_before, STDERR_FILENO);
    close(capture.stderr_before);
    got = pread(fileno(capture.file), capture.text, sizeof capture.text - 1, 0);
    capture.text[got > 0 ? got : 0] = '\0';
    fclose(capture.file);
    return capture.text;
}

static bool printed(const char *text, const char *words)
{
    if (ranks_rank > 0 ? *text == '\0' : strstr(text, words) != NULL)
        return true;
    fprintf(stderr, "printed \"%s\", not \"%s\"\n", text, words);
    return false;
}

static int lines_of(const char *text)
{
    int lines = 0;

    for (; *text; text++)
        lines += *text == '\n';
    return lines;
}

static void ranks_and_nodes_are_found(void **state)
{
    (void)state;
    assert_all_ok(process_open(&process, &nothing));
    assert_all(process.running && !process.ours && !process.told);
    assert_all(process.rank == ranks_rank && process.ranks == ranks_size);
    assert_all(process.nodes == 1 && process.node == 0);
    assert_all(process.node_rank == ranks_rank && process.node_size == ranks_size);
    assert_all(process.node_most == ranks_size);
    assert_all((process.answers >= 0) == (ranks_rank == 0));
}

static void when_all_went_well_nothing_is_said(void **state)
{
    const char *text;
    enum status status;

    (void)state;
    capture_begin();
    status = process_agree(&process, STATUS_OK);
    text = capture_end();
    assert_all(status == STATUS_OK && !process.told && *text == '\0');
}

static void one_failure_is_known_to_all_and_printed_once(void **state)
{
    (void)state;
    for (int r = 0; r < ranks_size; r++) {
        char words[64];
        char line[96];
        enum status mine = STATUS_OK;
        enum status all;
        const char *text;

        snprintf(words, sizeof words, "shard %d is truncated", r);
        snprintf(line, sizeof line, "rank %d: ranks_process.c:", r);
        if (ranks_rank == r)
            mine = FAIL(STATUS_BAD_INPUT, "shard %d is truncated", r);
        else
            FAIL(STATUS_BUG, "something old");
        capture_begin();
        all = process_agree(&process, mine);
        text = capture_end();
        assert_all(all == STATUS_BAD_INPUT);
        assert_all(strcmp(status_text(), words) == 0);
        assert_all(strncmp(status_place(), "ranks_process.c:", 16) == 0);
        assert_all(printed(text, line) && printed(text, words));
        assert_all(lines_of(text) == (ranks_rank == 0));
        assert_all(process.told);
        process.told = false;
    }
}

static void of_many_failures_the_first_speaks(void **state)
{
    char count[64];
    const char *text;
    enum status all;

    (void)state;
    capture_begin();
    all = process_agree(&process, FAIL(STATUS_NO_INPUT, "rank %d misses its file", ranks_rank));
    text = capture_end();
    assert_all(all == STATUS_NO_INPUT && strcmp(status_text(), "rank 0 misses its file") == 0);
    snprintf(count, sizeof count, "(all %d ranks failed)", ranks_size);
    assert_all(ranks_size == 1 || printed(text, count));
    assert_all(lines_of(text) == (ranks_rank == 0));
    /* What all know already is not said twice. */
    capture_begin();
    all = process_agree(&process, FAIL(STATUS_IO, "again"));
    text = capture_end();
    assert_all(all == STATUS_IO && *text == '\0');
    process.told = false;
}

static void a_wrong_command_line_names_no_place_in_the_program(void **state)
{
    const char *text;
    enum status mine = STATUS_OK;
    enum status all;

    (void)state;
    if (ranks_rank == ranks_size - 1)
        mine = FAIL(STATUS_USAGE, "--threads: 'x' is not a whole number");
    capture_begin();
    all = process_agree(&process, mine);
    text = capture_end();
    assert_all(all == STATUS_USAGE);
    assert_all(printed(text, "switchyard: --threads: 'x' is not a whole number\n"));
    process.told = false;
}

static void what_differs_is_named_with_its_ranks(void **state)
{
    const char *text;
    enum status all;

    (void)state;
    assert_all_ok(process_compare(&process, "model", 0x123456789abcdef0u));
    if (ranks_size == 1)
        return;
    capture_begin();
    all = process_compare(&process, "model", ranks_rank == ranks_size - 1 ? 7 : 0x100000007u);
    text = capture_end();
    assert_all(all == STATUS_BAD_INPUT && process.told);
    snprintf(capture.text + CAPTURE_BYTES / 2, 128,
             ": rank %d differs from rank 0 in its model:", ranks_size - 1);
    assert_all(printed(text, capture.text + CAPTURE_BYTES / 2));
    process.told = false;
    capture_begin();
    all = process_compare(&process, "options", ranks_rank == 0);
    text = capture_end();
    assert_all(all == STATUS_BAD_INPUT);
    assert_all(printed(text, ranks_size == 2 ? "rank 1 differs" : "ranks 1, 2"));
    assert_all(lines_of(text) == (ranks_rank == 0));
    process.told = false;
}

static void the_least_and_the_most_are_known(void **state)
{
    int least = 0;
    int most = 0;

    (void)state;
    assert_all_ok(process_extent(&process, 10 - ranks_rank, &least, &most));
    assert_all(least == 10 - (ranks_size - 1) && most == 10);
    assert_all_ok(process_extent(&process, ranks_rank - 3, &least, &most));
    assert_all(least == -3 && most == ranks_size - 4);
}

static void a_nodes_ranks_show_each_other_what_they_have(void **state)
{
    char all[64][16] = {{0}};
    char mine[16];
    bool right = true;

    (void)state;
    snprintf(mine, sizeof mine, "rank %d", ranks_rank);
    assert_all(ranks_size <= 64);
    assert_all_ok(process_node_gather(&process, mine, sizeof mine, all));
    for (int i = 0; i < ranks_size; i++) {
        snprintf(mine, sizeof mine, "rank %d", i);
        right = right && strcmp(all[i], mine) == 0;
    }
    assert_all(right);
}

static void exchanges_open_by_name_and_by_themselves(void **state)
{
    static const struct {
        enum options_comm asked;
        const char *kind;
    } cases[] = {{OPTIONS_COMM_AUTO, "shared"}, {OPTIONS_COMM_SHARED, "shared"}, {OPTIONS_COMM_MPI, "mpi"}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (int tensor = 1; tensor <= ranks_size; tensor++) {
            struct comm *world = NULL;
            struct comm *group = NULL;
            int64_t ones = 1;
            int64_t numbers = ranks_rank;
            int first = ranks_rank / tensor * tensor;

            if (ranks_size % tensor)
                continue;
            assert_all_ok(process_comms(&process, cases[i].asked, tensor, 1 << 16, 1 << 12, &world, &group));
            assert_all(world->size == ranks_size && world->rank == ranks_rank);
            assert_all(group->size == tensor && group->rank == ranks_rank % tensor);
            assert_all(strcmp(world->kind, ranks_size == 1 ? "alone" : cases[i].kind) == 0);
            assert_all(strcmp(group->kind, tensor == 1 ? "alone" : cases[i].kind) == 0);
            assert_all_ok(world->reduce(world, COMM_SUM, &ones, 1));
            assert_all(ones == ranks_size);
            assert_all_ok(group->reduce(group, COMM_SUM, &numbers, 1));
            assert_all(numbers == (int64_t)tensor * first + (int64_t)tensor * (tensor - 1) / 2);
            group->close(group);
            world->close(world);
        }
}

static void one_of_several_tasks_that_sees_itself_alone_is_refused(void **state)
{
    struct environment e = nothing;
    struct process alone;
    enum status status;

    (void)state;
    if (ranks_size > 1)
        return;
    e.launcher_tasks = 4;
    e.launcher_rank = 0;
    e.launcher_word = "SLURM_STEP_NUM_TASKS";
    status = process_open(&alone, &e);
    assert_int_equal(status, STATUS_UNAVAILABLE);
    assert_false(alone.running || alone.told);
    assert_non_null(
        strstr(status_text(), "SLURM_STEP_NUM_TASKS says that this is one of 4 tasks, but MPI sees one"));
    assert_non_null(strstr(status_text(), "MPI"));
    e.launcher_rank = 2; /* the first task speaks for all */
    assert_int_equal(process_open(&alone, &e), STATUS_UNAVAILABLE);
    capture_begin();
    assert_int_equal(process_end(&alone, STATUS_UNAVAILABLE), 69);
    assert_string_equal(capture_end(), "");
    e.launcher_tasks = 1;
    assert_int_equal(process_open(&alone, &e), STATUS_OK);
    assert_int_equal(process_end(&alone, STATUS_OK), 0);
}

/* The signal that ends a process which gets a second SIGTERM so long after the first; 0: it goes on. */
static int ended_by(int64_t nanoseconds)
{
    pid_t child = fork();
    int how = 0;

    if (child == 0) {
        raise(SIGTERM);
        if (nanoseconds > 0)
            clock_sleep(nanoseconds);
        raise(SIGTERM);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &how, 0), child);
    return WIFSIGNALED(how) ? WTERMSIG(how) : 0;
}

static void the_first_sigterm_is_noted_and_a_later_one_ends_the_process(void **state)
{
    const int64_t second = 1000000000;
    struct sigaction now;
    struct process p;
    int64_t start;
    int how;

    (void)state;
    assert_all_ok(process_open(&p, &nothing));
    assert_all(!*p.stop);
    /* As Slurm sends two at a job's time limit. One that had to wait for a processor is no witness. */
    do {
        start = clock_now();
        how = ended_by(0);
    } while (how != 0 && clock_now() - start >= second);
    assert_all(how == 0);
    assert_all(ended_by(second + second / 10) == SIGTERM);
    raise(SIGTERM);
    assert_all(*p.stop == 1);
    sigaction(SIGPIPE, NULL, &now);
    assert_all(now.sa_handler == SIG_IGN);
    assert_all(process_end(&p, STATUS_OK) == 0);
}

static void a_failure_that_all_know_ends_without_violence(void **state)
{
    enum status mine = ranks_rank == ranks_size - 1 ? FAIL(STATUS_NO_MEMORY, "no room") : STATUS_OK;
    const char *text;
    int code;

    (void)state;
    capture_begin();
    code = process_end(&process, process_agree(&process, mine));
    text = capture_end();
    assert_all(code == 75);
    assert_all(printed(text, "no room") && lines_of(text) == (ranks_rank == 0));
    assert_all(!process.running);
}

static void the_librarys_name_and_version_are_short(void **state)
{
    char text[64];

    (void)state;
    process_library(text);
    if (strncmp(text, "Open MPI ", 9) != 0 && strncmp(text, "MPICH ", 6) != 0)
        return; /* another library: its own words */
    assert_all(strspn(strrchr(text, ' ') + 1, "0123456789.abrc") == strlen(strrchr(text, ' ') + 1));
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_and_nodes_are_found),
        cmocka_unit_test(when_all_went_well_nothing_is_said),
        cmocka_unit_test(one_failure_is_known_to_all_and_printed_once),
        cmocka_unit_test(of_many_failures_the_first_speaks),
        cmocka_unit_test(a_wrong_command_line_names_no_place_in_the_program),
        cmocka_unit_test(what_differs_is_named_with_its_ranks),
        cmocka_unit_test(the_least_and_the_most_are_known),
        cmocka_unit_test(a_nodes_ranks_show_each_other_what_they_have),
        cmocka_unit_test(exchanges_open_by_name_and_by_themselves),
        cmocka_unit_test(one_of_several_tasks_that_sees_itself_alone_is_refused),
        cmocka_unit_test(the_librarys_name_and_version_are_short),
        cmocka_unit_test(a_failure_that_all_know_ends_without_violence),
        cmocka_unit_test(the_first_sigterm_is_noted_and_a_later_one_ends_the_process),
    };

    return ranks_run(argc, argv, tests, sizeof tests / sizeof *tests);
}
