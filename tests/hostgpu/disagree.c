/* disagree.c - ranks whose calls of NCCL do not fit are stopped and told apart; groups are split, aborts end
 * waits
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Each case is played by processes of their own, one for a rank and its emulated device, whose last words and
 * exit codes are what is looked at. */
#include <cuda_runtime_api.h>
#include <nccl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { RANKS = 4, WORDS = 8192, BYTES = 64, REFUSED = 97, PATIENCE = 30 };

/* Of the emulated device: from now on it says after so many seconds that nothing moves. */
void hostgpu_patience(int seconds);

/* One player. */
struct rank {
    ncclComm_t comm;
    cudaStream_t stream;
    int number, size;
    char *memory;      /* [size, BYTES] of the device */
    atomic_int *signs; /* that all players see */
};

static struct {
    int code[RANKS];
    char words[RANKS][WORDS];
} seen;

/* -- what players do --- */

static void must(int holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "disagree: %s\n", what);
    _exit(1);
}

static ncclResult_t state_of(ncclComm_t comm)
{
    ncclResult_t state = ncclSuccess;

    must(ncclCommGetAsyncError(comm, &state) == ncclSuccess, "no state");
    return state;
}

/* Until the call is no longer in progress. */
static void follow(ncclComm_t comm, ncclResult_t result)
{
    must(result == ncclSuccess || result == ncclInProgress, "a call was refused");
    while ((result = state_of(comm)) == ncclInProgress)
        usleep(100);
    must(result == ncclSuccess, "a call failed");
}

/* Until the stream is empty or NCCL has an error to tell. */
static ncclResult_t settle(struct rank *r, ncclComm_t comm)
{
    ncclResult_t state = ncclSuccess;

    while (state == ncclSuccess && cudaStreamQuery(r->stream) == cudaErrorNotReady) {
        usleep(200);
        state = state_of(comm);
    }
    return state;
}

/* As long as it takes until somebody finds what is wrong. */
static void linger(struct rank *r)
{
    for (;;) {
        cudaStreamQuery(r->stream);
        state_of(r->comm);
        usleep(200);
    }
}

/* The same where nobody will: it is said soon. */
static void linger_in_vain(struct rank *r)
{
    hostgpu_patience(1);
    linger(r);
}

static void sign(struct rank *r)
{
    atomic_fetch_add(r->signs, 1);
}

static void wait_for_signs(struct rank *r, int count)
{
    while (atomic_load(r->signs) < count)
        usleep(100);
}

static void send(struct rank *r, int peer, size_t count, ncclDataType_t type)
{
    follow(r->comm, ncclSend(r->memory, count, type, peer, r->comm, r->stream));
}

static void receive(struct rank *r, int peer, size_t count, ncclDataType_t type)
{
    follow(r->comm, ncclRecv(r->memory, count, type, peer, r->comm, r->stream));
}

static void gather(struct rank *r, size_t count)
{
    follow(r->comm, ncclAllGather(r->memory, r->memory, count, ncclUint8, r->comm, r->stream));
}

static void broadcast(struct rank *r, int root)
{
    follow(r->comm, ncclBroadcast(r->memory, r->memory, 8, ncclUint8, root, r->comm, r->stream));
}

static ncclConfig_t config_named(const char *name)
{
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;

    config.blocking = 0;
    config.commName = name;
    return config;
}

static void leave(ncclComm_t comm)
{
    follow(comm, ncclCommFinalize(comm));
    must(ncclCommDestroy(comm) == ncclSuccess, "not destroyed");
}

/* -- the game --- */

static void begin(struct rank *r, const ncclUniqueId *id)
{
    ncclConfig_t config = config_named("players");
    ncclResult_t result;

    must(cudaSetDevice(r->number) == cudaSuccess, "no device");
    must(cudaStreamCreateWithFlags(&r->stream, cudaStreamNonBlocking) == cudaSuccess, "no stream");
    must(cudaMalloc((void **)&r->memory, (size_t)r->size * BYTES) == cudaSuccess, "no memory");
    result = ncclCommInitRankConfig(&r->comm, r->size, *id, r->number, &config);
    follow(r->comm, result);
}

static pid_t start(struct rank *r, const ncclUniqueId *id, void (*what)(struct rank *r), int words)
{
    pid_t child = fork();

    if (child != 0)
        return child;
    alarm(PATIENCE);
    dup2(words, STDERR_FILENO);
    begin(r, id);
    what(r);
    _exit(0);
}

/* What was written before the last writer was gone. */
static void read_words(int from, char *words)
{
    size_t used = 0;
    ssize_t got;

    while (used < WORDS - 1 && (got = read(from, words + used, WORDS - 1 - used)) > 0)
        used += (size_t)got;
    words[used] = '\0';
    close(from);
}

/* All ranks do the same, each in its own way; exit codes and words are in `seen`. */
static void run(int ranks, void (*what)(struct rank *r))
{
    atomic_int *signs = mmap(NULL, sizeof *signs, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t child[RANKS];
    int from[RANKS];
    ncclUniqueId id;

    assert_ptr_not_equal(signs, MAP_FAILED);
    assert_int_equal(ncclGetUniqueId(&id), ncclSuccess);
    for (int r = 0; r < ranks; r++) {
        struct rank player = {.number = r, .size = ranks, .signs = signs};
        int ends[2];

        assert_int_equal(pipe(ends), 0);
        from[r] = ends[0];
        child[r] = start(&player, &id, what, ends[1]);
        assert_true(child[r] > 0);
        close(ends[1]);
    }
    for (int r = 0; r < ranks; r++) {
        int status;

        read_words(from[r], seen.words[r]);
        assert_int_equal(waitpid(child[r], &status, 0), child[r]);
        seen.code[r] = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    }
    munmap(signs, sizeof *signs);
}

static void expect(int rank, int code, const char *words)
{
    if (seen.code[rank] != code || !strstr(seen.words[rank], words))
        fail_msg("rank %d ended with %d, wanted %d and \"%s\"; it said:\n%s", rank, seen.code[rank], code,
                 words, seen.words[rank]);
}

/* Every rank is stopped, and every one tells both sides. */
static void expect_both(int ranks, const char *one, const char *other)
{
    for (int r = 0; r < ranks; r++) {
        expect(r, REFUSED, one);
        expect(r, REFUSED, other);
    }
}

static void expect_well(int ranks)
{
    for (int r = 0; r < ranks; r++)
        expect(r, 0, "");
}

/* -- calls that do not fit --- */

static void play_counts(struct rank *r)
{
    if (r->number == 0)
        send(r, 1, 8, ncclUint8);
    else
        receive(r, 0, 4, ncclUint8);
    linger(r);
}

static void another_count_is_told_by_both(void **unused)
{
    (void)unused;
    run(2, play_counts);
    expect_both(2, "rank 1 of /hostgpu-", "expects from rank 0: Send/Recv number 0 of 4 elements");
    expect_both(2, "rank 0 sends: Send/Recv number 0 of 8 elements", "");
}

static void play_types(struct rank *r)
{
    if (r->number == 0)
        send(r, 1, 8, ncclFloat32);
    else
        receive(r, 0, 8, ncclInt32);
    linger(r);
}

static void another_type_of_the_same_size_is_told_by_both(void **unused)
{
    (void)unused;
    run(2, play_types);
    expect_both(2, "expects from rank 0: Send/Recv number 0 of 8 elements, type 2",
                "sends: Send/Recv number 0 of 8 elements, type 7");
}

static void play_calls(struct rank *r)
{
    if (r->number == 0)
        gather(r, 8);
    else
        broadcast(r, 0);
    linger(r);
}

static void another_call_is_told_by_all(void **unused)
{
    (void)unused;
    run(3, play_calls);
    expect_both(3, "Broadcast number 0 of 8 elements", "AllGather number 0 of 8 elements");
}

static void play_roots(struct rank *r)
{
    broadcast(r, r->number == 2 ? 1 : 0);
    linger(r);
}

static void another_root_is_told_by_all(void **unused)
{
    (void)unused;
    run(3, play_roots);
    expect_both(3, "root 0", "root 1");
}

static void play_order(struct rank *r)
{
    if (r->number == 0)
        broadcast(r, 0);
    gather(r, 8);
    if (r->number != 0)
        broadcast(r, 0);
    linger(r);
}

static void another_order_is_told_by_both(void **unused)
{
    (void)unused;
    run(2, play_order);
    expect_both(2, "Broadcast number 0", "AllGather number 0");
}

static void play_one_more(struct rank *r)
{
    gather(r, 8);
    if (r->number == 0)
        gather(r, 8);
    broadcast(r, 0);
    linger(r);
}

static void a_call_too_many_is_told_by_both(void **unused)
{
    (void)unused;
    run(2, play_one_more);
    expect_both(2, "Broadcast number 1", "AllGather number 1");
}

/* Nothing comes behind the call too many: rank 0 has sent its part, and rank 1 goes. */
static void play_last(struct rank *r)
{
    gather(r, 8);
    must(settle(r, r->comm) == ncclSuccess, "not gathered");
    if (r->number == 0) {
        gather(r, 8);
        cudaStreamQuery(r->stream);
        sign(r);
        linger_in_vain(r);
    }
    wait_for_signs(r, 1);
    leave(r->comm);
}

static void what_was_never_received_is_told_by_who_leaves(void **unused)
{
    (void)unused;
    setenv("HOSTGPU_ORDER", "eager", 1); /* so that the part is on its way when rank 1 is told so */
    run(2, play_last);
    expect(1, REFUSED, "rank 0 has sent what rank 1 never received");
    expect(0, REFUSED, "waits for rank 1: AllGather number 1 of 8 elements");
}

/* Rank 0 waits for 1, which waits for 2, which does something else; each when the next one does so. */
static void play_waiting(struct rank *r)
{
    gather(r, 8);
    must(settle(r, r->comm) == ncclSuccess, "not gathered");
    wait_for_signs(r, 2 - r->number);
    if (r->number < 2) {
        receive(r, r->number + 1, 16, ncclUint8);
        cudaStreamQuery(r->stream);
    }
    sign(r);
    if (r->number < 2)
        linger_in_vain(r);
}

static void a_wait_without_end_tells_what_each_rank_does(void **unused)
{
    (void)unused;
    run(3, play_waiting);
    expect(2, 0, "");
    for (int r = 0; r < 2; r++) {
        expect(r, REFUSED, "nothing has moved for 1 s");
        expect(r, REFUSED, ": waits for rank 2: Send/Recv number 0 of 16 elements");
        expect(r, REFUSED, ": idle after 1 operations");
    }
    expect(0, REFUSED, ": waits for rank 1: Send/Recv number 0 of 16 elements"); /* which began last */
}

/* -- calls that no rank may make --- */

static void play_two_at_once(struct rank *r)
{
    ncclAllGather(r->memory, r->memory, 1, ncclUint8, r->comm, r->stream);
    ncclAllGather(r->memory, r->memory, 1, ncclUint8, r->comm, r->stream);
}

static void play_two_streams(struct rank *r)
{
    cudaStream_t other;

    cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking);
    ncclGroupStart();
    ncclAllGather(r->memory, r->memory, 1, ncclUint8, r->comm, r->stream);
    ncclAllGather(r->memory, r->memory, 1, ncclUint8, r->comm, other);
}

static void play_blocking(struct rank *r)
{
    ncclConfig_t config = config_named("blocks");
    ncclComm_t group;

    config.blocking = 1;
    ncclCommSplit(r->comm, 0, 0, &group, &config);
    linger(r);
}

static void play_not_finalized(struct rank *r)
{
    ncclCommDestroy(r->comm);
}

static void play_past_the_end(struct rank *r)
{
    ncclAllGather(r->memory, r->memory, BYTES + 1, ncclUint8, r->comm, r->stream);
}

static void what_no_rank_may_do_is_refused(void **unused)
{
    static const struct {
        void (*play)(struct rank *r);
        const char *words;
    } refused[] = {
        {play_two_at_once, "while one is in progress"},
        {play_two_streams, "two streams"},
        {play_blocking, "a communicator that blocks"},
        {play_not_finalized, "which is not finalized"},
        {play_past_the_end, "AllGather"},
    };

    (void)unused;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        run(1, refused[i].play);
        expect(0, REFUSED, refused[i].words);
    }
}

/* -- groups and aborts --- */

/* The numbers of the `size` ranks of a group in its order. */
static void members(struct rank *r, ncclComm_t group, int size, char *numbers)
{
    must(cudaMemsetAsync(r->memory, r->number, BYTES, r->stream) == cudaSuccess, "not written");
    follow(group, ncclAllGather(r->memory, r->memory + BYTES, 1, ncclUint8, group, r->stream));
    must(cudaMemcpyAsync(numbers, r->memory + BYTES, (size_t)size, cudaMemcpyDeviceToHost, r->stream) ==
             cudaSuccess,
         "not copied");
    must(settle(r, group) == ncclSuccess && cudaStreamSynchronize(r->stream) == cudaSuccess, "not gathered");
}

static ncclComm_t split(struct rank *r, int color, int key)
{
    ncclConfig_t config = config_named("group");
    ncclComm_t group = r->comm;
    ncclResult_t result = ncclCommSplit(r->comm, color, key, &group, &config);

    follow(r->comm, result);
    if (group)
        follow(group, ncclSuccess);
    return group;
}

/* Of four ranks those of one parity, the highest first; then pairs; then all but the last, in any key's
 * order.
 */
static void play_groups(struct rank *r)
{
    char *numbers;

    must(cudaMallocHost((void **)&numbers, RANKS) == cudaSuccess, "no memory");
    for (int round = 0; round < 6; round++) {
        ncclComm_t odd = split(r, r->number % 2, -r->number), pair = split(r, r->number / 2, r->number), rest;
        int first = r->number % 2, begins = r->number / 2 * 2;

        members(r, odd, 2, numbers);
        must(numbers[0] == first + 2 && numbers[1] == first, "not by parity");
        members(r, pair, 2, numbers);
        must(numbers[0] == begins && numbers[1] == begins + 1, "no pairs");
        leave(odd);
        leave(pair);
        rest = split(r, r->number == 3 ? NCCL_SPLIT_NOCOLOR : 7, 0);
        must(!rest == (r->number == 3), "who has no color has no group");
        if (!rest)
            continue;
        members(r, rest, 3, numbers);
        must(numbers[0] == 0 && numbers[1] == 1 && numbers[2] == 2,
             "equal keys are not in the order of the whole");
        leave(rest);
    }
    leave(r->comm);
}

static void groups_are_split_by_color_in_the_order_of_keys(void **unused)
{
    (void)unused;
    run(4, play_groups);
    expect_well(4);
}

/* The last rank gives up; the others wait for it, hear of it, and what they queued ends once they abort. */
static void play_abort(struct rank *r)
{
    gather(r, 8);
    must(settle(r, r->comm) == ncclSuccess, "not gathered");
    sign(r);
    wait_for_signs(r, r->size);
    if (r->number < r->size - 1) {
        receive(r, r->size - 1, 8, ncclUint8);
        must(settle(r, r->comm) == ncclRemoteError, "nobody has left");
        must(strstr(ncclGetLastError(r->comm), "remote rank 2 has left") != NULL, "not said who");
    }
    must(ncclCommAbort(r->comm) == ncclSuccess, "not aborted");
    must(cudaStreamSynchronize(r->stream) == cudaSuccess, "the stream has not ended");
}

static void an_abort_ends_what_is_queued_and_the_others_hear_of_it(void **unused)
{
    (void)unused;
    run(3, play_abort);
    expect_well(3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(another_count_is_told_by_both),
        cmocka_unit_test(another_type_of_the_same_size_is_told_by_both),
        cmocka_unit_test(another_call_is_told_by_all),
        cmocka_unit_test(another_root_is_told_by_all),
        cmocka_unit_test(another_order_is_told_by_both),
        cmocka_unit_test(a_call_too_many_is_told_by_both),
        cmocka_unit_test(what_no_rank_may_do_is_refused),
        cmocka_unit_test(groups_are_split_by_color_in_the_order_of_keys),
        cmocka_unit_test(an_abort_ends_what_is_queued_and_the_others_hear_of_it),
        cmocka_unit_test(a_wait_without_end_tells_what_each_rank_does),
        /* This one leaves its environment behind. */
        cmocka_unit_test(what_was_never_received_is_told_by_who_leaves),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
