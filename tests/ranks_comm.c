/* ranks_comm.c - exchanges deliver every byte to its place, whichever way they travel
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "comm/comm.h"
#include "comm/comm_alone.h"
#include "comm/comm_mpi.h"
#include "comm/comm_shared.h"
#include "comm/relay.h"
#include "engine/base/arena.h"
#include "engine/base/clock.h"
#include "tests/ranks.h"
#ifdef RANKS_COMM_DEVICE
#include "comm/comm_nccl_team.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/cuda_entries.h"
#include "tests/hostgpu/hosted.h"
#endif

enum { MOST = 200000, LIMIT = 64, ROUNDS = 1200, PIECE = RELAY_FIRST + 100 };

/* node_limit: what is really one node behaves as several. */
enum way { BY_MPI, BY_MPI_IN_PIECES, BY_SHARED, BY_DEVICE };

static uint64_t state;       /* of the random numbers that all ranks draw alike */
static uint64_t local_state; /* of those that differ */
static struct arena memory;
static unsigned char *outgoing;

/* From the printed seed, at the start of each test. */
static void start_numbers(void)
{
    state = ranks_seed;
    local_state = ranks_seed + (uint64_t)ranks_rank;
}

static uint64_t draw_from(uint64_t *s)
{
    uint64_t x = *s += 0x9e3779b97f4a7c15U;

    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
    return x ^ (x >> 31);
}

static int draw(int below)
{
    return (int)(draw_from(&state) % (uint64_t)below);
}

/* Mostly short, now and then long, often nothing; never more than `most`. */
static size_t draw_size(size_t most)
{
    int kind = draw(10);
    size_t small = most < 300 ? most : 300;

    if (kind < 3)
        return 0;
    return (size_t)draw((int)(kind < 9 ? small : most) + 1);
}

/* Between emulated devices: the program is built a second time for it. The first line is the whole. */
static enum status open_device(MPI_Comm mpi, int nodes, size_t most, struct comm **out);

static enum status open_comm(enum way way, int node_limit, MPI_Comm mpi, size_t most, struct comm **out)
{
    switch (way) {
    case BY_MPI:
        return comm_mpi_open(mpi, most, out);
    case BY_MPI_IN_PIECES:
        return comm_mpi_open_in_pieces(mpi, most, PIECE, out);
    case BY_SHARED:
        return comm_shared_open_divided(mpi, most, node_limit, out);
    case BY_DEVICE:
        return open_device(mpi, node_limit, most, out);
    }
    return STATUS_BUG;
}

/* A result and what must be in it: segments one behind the other, each with a pattern of its own. */
struct result {
    const unsigned char *data;
    int count;
    size_t bytes[LIMIT];
    unsigned key[LIMIT];
};

struct line {
    struct comm *comm;
    int world[LIMIT]; /* ranks of MPI_COMM_WORLD */
    struct result result;
    struct result before;
    size_t bytes[LIMIT * LIMIT];
};

static struct line lines[2];
static unsigned round_number;

/* Ranks of a node do not follow each other; 0: of all ranks. */
static int nodes;

static enum status open_device(MPI_Comm mpi, int node_count, size_t most, struct comm **out)
{
#ifdef RANKS_COMM_DEVICE
    struct comm *whole = lines[0].comm, *inner;

    nodes = node_count;
    TRY(comm_mpi_open(mpi, most, &inner));
    return hosted_open(inner, whole, ranks_rank / 2, ranks_rank, whole ? 0 : nodes, most, out);
#else
    (void)mpi, (void)node_count, (void)most, (void)out;
    return STATUS_BUG;
#endif
}

static unsigned key_of(int from, int to)
{
    uint64_t s = round_number * 1000003U + (unsigned)from * 1009U + (unsigned)to + 1;

    return (unsigned)draw_from(&s);
}

static unsigned char pattern(unsigned key, size_t i)
{
    return (unsigned char)(key + i * 7 + (i >> 8) * 3);
}

static void write_pattern(unsigned char *to, unsigned key, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        to[i] = pattern(key, i);
}

static void check(const struct result *result, const char *when)
{
    const unsigned char *at = result->data;

    for (int s = 0; s < result->count; s++) {
        for (size_t i = 0; i < result->bytes[s]; i++)
            if (at[i] != pattern(result->key[s], i))
                fail_msg("round %u, segment %d of %d, byte %zu of %zu is wrong %s", round_number, s,
                         result->count, i, result->bytes[s], when);
        at += result->bytes[s];
    }
}

static struct result *next_result(struct line *line)
{
    line->before = line->result;
    memset(&line->result, 0, sizeof line->result);
    return &line->result;
}

/* The result of the call before this one is still whole. */
static void check_both(struct line *line)
{
    check(&line->result, "after its call");
    if (line->comm->size > 1) /* a group of one gives back the caller's memory */
        check(&line->before, "after the next call");
}

static void send_each(struct line *line, const unsigned char *data, const unsigned *keys)
{
    struct comm *c = line->comm;
    struct result *result = next_result(line);
    const void *got;

    assert_ok(c->exchange(c, data, line->bytes, &got));
    result->data = got;
    result->count = c->size;
    for (int s = 0; s < c->size; s++) {
        result->bytes[s] = line->bytes[s * c->size + c->rank];
        result->key[s] = keys[s];
    }
    check_both(line);
}

/* spread: random sizes; else one rank gets all there is room for. */
static void do_exchange(struct line *line, bool spread)
{
    struct comm *c = line->comm;
    int one = draw(c->size);
    bool stays = nodes > 0 && line == &lines[0] && draw(2) == 0;
    unsigned keys[LIMIT];
    unsigned char *at = outgoing;

    for (int s = 0; s < c->size; s++)
        for (int d = 0; d < c->size; d++)
            line->bytes[s * c->size + d] = stays && s % nodes != d % nodes ? 0
                                           : spread   ? draw_size((size_t)(MOST / c->size))
                                           : d == one ? (size_t)(MOST / c->size)
                                                      : 0;
    for (int d = 0; d < c->size; d++) {
        size_t bytes = line->bytes[c->rank * c->size + d];

        write_pattern(at, key_of(line->world[c->rank], line->world[d]), bytes);
        at += bytes;
        keys[d] = key_of(line->world[d], line->world[c->rank]);
    }
    send_each(line, at == outgoing ? NULL : outgoing, keys);
}

/* root -1: everybody gets it. */
static void do_gather(struct line *line, int root)
{
    struct comm *c = line->comm;
    struct result *result = next_result(line);
    const void *got;

    for (int s = 0; s < c->size; s++)
        line->bytes[s] = draw_size((size_t)(MOST / c->size));
    write_pattern(outgoing, key_of(line->world[c->rank], 0), line->bytes[c->rank]);
    if (root < 0)
        assert_ok(c->all_gather(c, outgoing, line->bytes, &got));
    else
        assert_ok(c->gather(c, root, outgoing, line->bytes, &got));
    result->data = got;
    result->count = root < 0 || root == c->rank ? c->size : 0;
    assert_true(result->count > 0 || c->size == 1 || got == NULL);
    for (int s = 0; s < c->size; s++) {
        result->bytes[s] = line->bytes[s];
        result->key[s] = key_of(line->world[s], 0);
    }
    if (c->size > 1)
        memset(outgoing, 0xee, line->bytes[c->rank]); /* the caller's memory is free again */
    check_both(line);
}

static void do_broadcast(struct line *line)
{
    struct comm *c = line->comm;
    struct result *result = next_result(line);
    int root = draw(c->size);
    size_t bytes = draw_size(MOST);
    size_t told = c->rank == root ? bytes : 0;
    const void *got;

    write_pattern(outgoing, key_of(line->world[root], 0), bytes);
    assert_ok(c->broadcast(c, root, c->rank == root ? outgoing : NULL, &told, &got));
    assert_int_equal(told, bytes);
    result->data = got;
    result->count = 1;
    result->bytes[0] = bytes;
    result->key[0] = key_of(line->world[root], 0);
    if (c->size > 1)
        memset(outgoing, 0xee, bytes);
    check_both(line);
}

static void do_reduce(struct line *line)
{
    struct comm *c = line->comm;
    enum comm_operation operation = (enum comm_operation)draw(3);
    int count = draw(COMM_REDUCE_LIMIT + 1);
    int64_t values[COMM_REDUCE_LIMIT];
    int64_t wanted[COMM_REDUCE_LIMIT] = {0};

    if (strcmp(c->kind, "nccl") == 0) {
        assert_int_equal(c->reduce(c, operation, values, count), STATUS_BUG);
        return;
    }
    next_result(line);
    for (int r = 0; r < c->size; r++)
        for (int i = 0; i < count; i++) {
            int64_t value = (int64_t)(key_of(line->world[r], i) % 2000001) - 1000000;

            if (r == 0)
                wanted[i] = value;
            else if (operation == COMM_SUM)
                wanted[i] += value;
            else if (operation == COMM_MIN ? value < wanted[i] : value > wanted[i])
                wanted[i] = value;
            if (r == c->rank)
                values[i] = value;
        }
    assert_ok(c->reduce(c, operation, values, count));
    assert_memory_equal(values, wanted, (size_t)count * sizeof *values);
    check_both(line);
}

/* What one call delivered is what the next one sends. */
static void do_chain(struct line *line)
{
    struct comm *c = line->comm;
    size_t bytes = draw_size((size_t)(MOST / c->size));
    unsigned keys[LIMIT];
    const void *all;

    for (int i = 0; i < c->size * c->size; i++)
        line->bytes[i] = bytes;
    write_pattern(outgoing, key_of(line->world[c->rank], 0), bytes);
    next_result(line);
    assert_ok(c->all_gather(c, outgoing, line->bytes, &all));
    for (int s = 0; s < c->size; s++)
        keys[s] = key_of(line->world[c->rank], 0);
    send_each(line, all, keys);
}

static void do_one(struct line *line)
{
    round_number++;
    switch (draw(8)) {
    case 0:
    case 1:
        do_exchange(line, true);
        break;
    case 2:
        do_exchange(line, false);
        break;
    case 3:
        do_gather(line, -1);
        break;
    case 4:
        do_gather(line, draw(line->comm->size));
        break;
    case 5:
        do_broadcast(line);
        break;
    case 6:
        do_reduce(line);
        break;
    default:
        do_chain(line);
        break;
    }
}

static void open_line(struct line *line, enum way way, int node_limit, MPI_Comm mpi)
{
    MPI_Group ours;
    MPI_Group all;

    memset(line, 0, sizeof *line);
    assert_all_ok(open_comm(way, node_limit, mpi, MOST, &line->comm));
    MPI_Comm_group(mpi, &ours);
    MPI_Comm_group(MPI_COMM_WORLD, &all);
    for (int r = 0; r < line->comm->size; r++)
        MPI_Group_translate_ranks(ours, 1, &r, all, &line->world[r]);
    MPI_Group_free(&ours);
    MPI_Group_free(&all);
}

/* Random calls, alternating as it comes between all ranks and pairs of them; now and then a rank is late. */
static void exchange_at_random(enum way way, int node_limit, int rounds)
{
    MPI_Comm pair;
    uint64_t after;
    int line;

    start_numbers();
    MPI_Comm_split(MPI_COMM_WORLD, ranks_rank / 2, 0, &pair);
    open_line(&lines[0], way, node_limit, MPI_COMM_WORLD);
    open_line(&lines[1], way, node_limit, pair);
    for (int round = 0; round < rounds; round++) {
        if (draw_from(&local_state) % 50 == 0)
            clock_sleep((int64_t)(draw_from(&local_state) % 3000000));
        line = draw(3) == 0;
        after = state + 1;
        do_one(&lines[line]);
        state = after; /* a group of one draws less */
    }
    assert_all(true);
    lines[1].comm->close(lines[1].comm);
    lines[0].comm->close(lines[0].comm);
    MPI_Comm_free(&pair);
}

#ifdef RANKS_COMM_DEVICE
static void devices_deliver_every_byte(void **unused)
{
    (void)unused;
    exchange_at_random(BY_DEVICE, 2, ROUNDS / 4);
}

/* As between processes: too much for one is refused by all, and nothing is sent. */
static void too_many_bytes_for_a_device_are_refused_by_all_alike(void **unused)
{
    size_t bytes[LIMIT * LIMIT] = {0};
    size_t whole = 1001;
    struct comm *c;
    const void *got;

    (void)unused;
    memset(lines, 0, sizeof lines);
    assert_all_ok(open_comm(BY_DEVICE, 0, MPI_COMM_WORLD, 1000, &c));
    bytes[ranks_size - 1] = 1001;
    assert_all(c->exchange(c, NULL, bytes, &got) == STATUS_BUG);
    assert_all(strstr(status_text(), "1001") && strstr(status_text(), "1000"));
    bytes[0] = 0;
    assert_all(c->broadcast(c, 0, NULL, &whole, &got) == STATUS_BUG);
    assert_all(strstr(status_text(), "1001") && strstr(status_text(), "1000"));
    memset(bytes, 0, sizeof bytes);
    assert_all_ok(c->exchange(c, NULL, bytes, &got)); /* and the group still works */
    c->close(c);
}

/* One call that all make, then two that wait for what nobody sends. */
static void queue_three(struct comm_nccl_team *team, struct kernels *k, char *room)
{
    static const char *const names[] = {"first", "second", "third"};
    int next = (ranks_rank + 1) % ranks_size;
    cudaStream_t stream = team->device->stream;

    for (int i = 0; i < 3; i++) {
        struct comm_nccl_call *call;

        assert_ok(comm_nccl_team_begin(team, names[i], &call));
        call->peers = 1;
        call->least = call->most = next;
        if (i == 0)
            ncclAllGather(room, room, 1, ncclUint8, team->member[0], stream);
        else
            ncclRecv(room, 1, ncclUint8, next, team->member[0], stream);
        assert_ok(comm_nccl_team_end(team));
        if (i == 0)
            assert_ok(k->wait(k));
    }
}

static void a_failure_names_the_first_call_that_has_not_ended_and_ends_it(void **unused)
{
    struct comm_nccl_team team;
    struct kernels *k;
    struct comm *inner;
    void *room;

    (void)unused;
    if (ranks_size == 1)
        return;
    assert_all_ok(comm_mpi_open(MPI_COMM_WORLD, 1000, &inner));
    assert_all_ok(cuda_open(&(struct module_request){.device = ranks_rank}, &k));
    assert_all_ok(k->alloc(k, LIMIT, "what arrives", &room));
    assert_all_ok(comm_nccl_team_open(&team, &cuda_entries_of(k)->device, &cuda_entries_of(k)->record, inner,
                                      STATUS_OK));
    queue_three(&team, k, room);
    assert_all(true);
    assert_all(comm_nccl_team_error(&team, 0, ncclSystemError, "a test") == STATUS_UNAVAILABLE);
    assert_all(strstr(status_text(), "a test, communicator of all ranks: NCCL says") &&
               strstr(status_text(), "under way: second, the 2nd of"));
    assert_all(k->wait(k) == STATUS_UNAVAILABLE);
    assert_all(cudaStreamSynchronize(team.device->stream) == cudaSuccess);
    comm_nccl_team_close(&team);
    k->release(k, room);
    k->close(k);
    inner->close(inner);
}
#else
static void mpi_delivers_every_byte(void **unused)
{
    (void)unused;
    exchange_at_random(BY_MPI, 0, ROUNDS);
}

static void messages_in_pieces_arrive_whole(void **unused)
{
    (void)unused;
    exchange_at_random(BY_MPI_IN_PIECES, 0, ROUNDS / 3);
}

static void shared_memory_delivers_every_byte(void **unused)
{
    (void)unused;
    exchange_at_random(BY_SHARED, 0, 2 * ROUNDS);
}

static void nodes_of_one_two_and_three_ranks_deliver_every_byte(void **unused)
{
    (void)unused;
    for (int limit = 1; limit <= 3; limit++)
        if (ranks_size > limit)
            exchange_at_random(BY_SHARED, limit, ROUNDS / 2);
}

/* The same sequence of calls gives the same bytes whatever carries them. */
static void both_kinds_agree(void **unused)
{
    size_t bytes[LIMIT * LIMIT];
    struct comm *a;
    struct comm *b;

    (void)unused;
    start_numbers();
    assert_all_ok(comm_mpi_open(MPI_COMM_WORLD, MOST, &a));
    assert_all_ok(comm_shared_open(MPI_COMM_WORLD, MOST, &b));
    assert_all(ranks_size == 1 || (strcmp(a->kind, "mpi") == 0 && strcmp(b->kind, "shared") == 0));
    for (int round = 0; round < 200; round++) {
        size_t mine = 0;
        size_t arriving = 0;
        const void *from_a;
        const void *from_b;

        for (int i = 0; i < ranks_size * ranks_size; i++)
            bytes[i] = draw_size((size_t)(MOST / ranks_size));
        for (int r = 0; r < ranks_size; r++) {
            mine += bytes[ranks_rank * ranks_size + r];
            arriving += bytes[r * ranks_size + ranks_rank];
        }
        for (size_t i = 0; i < mine; i++)
            outgoing[i] = (unsigned char)draw_from(&local_state);
        assert_ok(a->exchange(a, outgoing, bytes, &from_a));
        assert_ok(b->exchange(b, outgoing, bytes, &from_b));
        assert_true(arriving == 0 || memcmp(from_a, from_b, arriving) == 0);
    }
    assert_all(true);
    a->close(a);
    b->close(b);
}

static void too_many_bytes_are_refused_by_all_alike(void **unused)
{
    static const enum way ways[] = {BY_MPI, BY_SHARED};
    int64_t one = 1;

    (void)unused;
    if (ranks_size == 1)
        return;
    for (int w = 0; w < 2; w++) {
        size_t bytes[LIMIT * LIMIT] = {0};
        size_t whole = 1001;
        struct comm *c;
        const void *got;

        assert_all_ok(open_comm(ways[w], 0, MPI_COMM_WORLD, 1000, &c));
        bytes[ranks_size - 1] = 1001; /* from rank 0 to the last */
        assert_all(c->exchange(c, outgoing, bytes, &got) == STATUS_BUG);
        assert_all(strstr(status_text(), "1001") && strstr(status_text(), "1000"));
        assert_all(c->all_gather(c, outgoing, bytes, &got) == STATUS_BUG);
        assert_all(c->gather(c, 0, outgoing, bytes, &got) == STATUS_BUG);
        assert_all(c->broadcast(c, 0, outgoing, &whole, &got) == STATUS_BUG);
        assert_all(strstr(status_text(), "1001") && strstr(status_text(), "1000"));
        assert_all(c->reduce(c, COMM_SUM, &one, COMM_REDUCE_LIMIT + 1) == STATUS_BUG);
        one = 1;
        assert_all_ok(c->reduce(c, COMM_SUM, &one, 1)); /* and the group still works */
        assert_all(one == ranks_size);
        c->close(c);
    }
}

static void a_window_that_does_not_fit_is_refused_in_words(void **unused)
{
    struct comm *c;

    (void)unused;
    if (ranks_size == 1)
        return;
    assert_all(comm_shared_open(MPI_COMM_WORLD, (size_t)1 << 44, &c) == STATUS_NO_MEMORY);
    assert_all(strstr(status_text(), "shared memory") && strstr(status_text(), "--comm mpi"));
}

static void a_group_of_one_copies_nothing(void **unused)
{
    const size_t bytes = 5;
    size_t told = 5;
    struct comm *c;
    const void *got;

    (void)unused;
    assert_all_ok(comm_shared_open(MPI_COMM_SELF, MOST, &c));
    assert_all(strcmp(c->kind, "alone") == 0 && c->size == 1 && c->rank == 0);
    assert_ok(c->exchange(c, outgoing, &bytes, &got));
    assert_all(got == outgoing);
    assert_ok(c->broadcast(c, 0, outgoing, &told, &got));
    assert_all(got == outgoing && told == 5);
    c->close(c);
    assert_all_ok(comm_mpi_open(MPI_COMM_SELF, MOST, &c));
    assert_all(strcmp(c->kind, "alone") == 0);
    c->close(c);
}

#endif

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
#ifdef RANKS_COMM_DEVICE
        cmocka_unit_test(devices_deliver_every_byte),
        cmocka_unit_test(too_many_bytes_for_a_device_are_refused_by_all_alike),
        cmocka_unit_test(a_failure_names_the_first_call_that_has_not_ended_and_ends_it),
#else
        cmocka_unit_test(a_group_of_one_copies_nothing),
        cmocka_unit_test(mpi_delivers_every_byte),
        cmocka_unit_test(messages_in_pieces_arrive_whole),
        cmocka_unit_test(shared_memory_delivers_every_byte),
        cmocka_unit_test(nodes_of_one_two_and_three_ranks_deliver_every_byte),
        cmocka_unit_test(both_kinds_agree),
        cmocka_unit_test(too_many_bytes_are_refused_by_all_alike),
        cmocka_unit_test(a_window_that_does_not_fit_is_refused_in_words),
#endif
    };

    if (arena_open(&memory, "what is sent", MOST) != STATUS_OK ||
        arena_take(&memory, MOST, "what is sent", &outgoing) != STATUS_OK)
        return 1;
    return ranks_run(argc, argv, tests, sizeof tests / sizeof *tests);
}
