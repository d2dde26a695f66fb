/* ranks_mover.c - memory that moves between emulated devices arrives, beside what they do meanwhile
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "comm/comm_mpi.h"
#include "comm/comm_nccl.h"
#include "comm/comm_nccl_mover.h"
#include "kernels/checksum.h"
#include "kernels/cuda/cuda.h"
#include "tests/ranks.h"

enum { ROOM = 12000, PIECES = 5, SIZE = ROOM * PIECES, SUMS = 3, ROUNDS = 25, MOST = 4096, LIMIT = 8 };

static struct kernels *device;
static struct comm *host, *rows;
static struct mover *mover;
static unsigned char *source, *target, *kept, *came; /* [SIZE] of the device */
static unsigned char lies[SIZE];                     /* what is in `target` */
static uint64_t state;

/* The same on all ranks. */
static size_t draw(size_t below)
{
    uint64_t x = state += 0x9e3779b97f4a7c15U;

    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
    return (size_t)((x ^ (x >> 27)) >> 16) % below;
}

static int open_all(void **unused)
{
    unsigned char **const memory[] = {&source, &target, &kept, &came};

    (void)unused;
    assert_all_ok(cuda_open(&(struct module_request){.device = ranks_rank}, &device));
    for (int i = 0; i < 4; i++) {
        void *p;

        assert_all_ok(device->alloc(device, SIZE, "memory", &p));
        *memory[i] = p;
    }
    assert_all_ok(comm_mpi_open(MPI_COMM_WORLD, MOST, &host));
    assert_all_ok(comm_nccl_open(device, host, NULL, 0, MOST, &rows));
    assert_all_ok(comm_nccl_mover_open(device, rows, SUMS, &mover));
    return 0;
}

static int close_all(void **unused)
{
    (void)unused;
    mover->close(mover);
    rows->close(rows);
    host->close(host);
    device->release(device, source);
    device->release(device, target);
    device->release(device, kept);
    device->release(device, came);
    device->close(device);
    return 0;
}

/* Piece i has a place of its own in what its sender has and in what its receiver gets. */
static int draw_pieces(struct mover_piece *pieces)
{
    int count = 1 + (int)draw(PIECES);

    for (int i = 0; i < count; i++) {
        size_t first = (size_t)i * ROOM + draw(100) * 4;

        pieces[i] = (struct mover_piece){.from = (int)draw((size_t)ranks_size),
                                         .to = (int)draw((size_t)ranks_size),
                                         .source = source + first,
                                         .target = target + first,
                                         .bytes = 4 + draw(draw(2) ? ROOM / 4 - 101 : 40) * 4,
                                         .at = draw(1000) * 4,
                                         .sum = (int)draw(SUMS)};
    }
    return count;
}

/* What rank `from` has at that place in that round. */
static unsigned char content(int from, int round, size_t place)
{
    uint64_t x = (uint64_t)(from + 1) * 1000003u + (uint64_t)round * 8191u + place;

    return (unsigned char)((x * 0x9e3779b97f4a7c15u) >> 56);
}

static void note_arrivals(const struct mover_piece *pieces, int count, int round, uint64_t *sent,
                          uint64_t *held)
{
    memset(sent, 0, SUMS * sizeof *sent);
    memset(held, 0, SUMS * sizeof *held);
    for (int i = 0; i < count; i++) {
        const struct mover_piece *p = &pieces[i];
        size_t first = (size_t)((const unsigned char *)p->source - source);
        unsigned char bytes[ROOM];
        uint64_t sum;

        for (size_t k = 0; k < p->bytes; k++)
            bytes[k] = content(p->from, round, first + k);
        sum = checksum_add(0, bytes, p->bytes, p->at);
        if (p->from == ranks_rank)
            sent[p->sum] += sum;
        if (p->to != ranks_rank)
            continue;
        held[p->sum] += sum;
        memcpy(lies + first, bytes, p->bytes);
    }
}

static void expect(const unsigned char *there, const unsigned char *want, const char *what, int round)
{
    static unsigned char found[SIZE];

    assert_ok(device->download(device, found, there, SIZE));
    if (memcmp(found, want, SIZE) != 0)
        fail_msg("round %d: %s", round, what);
}

static void expect_sums(const uint64_t *sent, const uint64_t *held, int round)
{
    uint64_t left[SUMS], arrived[SUMS];
    bool ready = false;

    while (!ready)
        assert_ok(mover->ready(mover, &ready, left, arrived));
    if (memcmp(left, sent, sizeof left) != 0 || memcmp(arrived, held, sizeof arrived) != 0)
        fail_msg("round %d: checksums are not those of the host", round);
}

/* Rows of a step, which no order of streams keeps apart from what moves. */
static void exchange_rows(void)
{
    size_t bytes[LIMIT * LIMIT];
    const void *there;

    for (int i = 0; i < ranks_size * ranks_size; i++)
        bytes[i] = 64;
    assert_ok(rows->exchange(rows, source, bytes, &there));
}

/* The device writes what is sent just before, still reads what lies in the targets, exchanges rows before or
 * after, and reads what came just after; the host waits for none of it. Exchanges run in the host's order, so
 * rows after what moves are behind it whether or not `join` is right. */
static void a_round(int round)
{
    static unsigned char before[SIZE], outgoing[SIZE];
    struct mover_piece pieces[PIECES];
    uint64_t sent[SUMS], held[SUMS];
    int count, parts = 1 + (int)draw(2);
    bool rows_first = draw(2);
    int64_t waits = device->waits;

    memcpy(before, lies, SIZE);
    for (size_t i = 0; i < SIZE; i++)
        outgoing[i] = content(ranks_rank, round, i);
    count = draw_pieces(pieces);
    assert_ok(device->copy(device, kept, target, SIZE));
    assert_ok(device->upload(device, source, outgoing, SIZE));
    if (rows_first)
        exchange_rows();
    assert_ok(mover->begin(mover));
    for (int part = 0; part < parts; part++)
        assert_ok(mover->send(mover, pieces + count * part / parts,
                              count * (part + 1) / parts - count * part / parts));
    if (!rows_first)
        exchange_rows();
    assert_ok(mover->join(mover));
    assert_ok(device->copy(device, came, target, SIZE));
    assert_true(device->waits == waits);
    note_arrivals(pieces, count, round, sent, held);
    expect(kept, before, "what lay in the targets was overwritten while it was read", round);
    expect(came, lies, "what came is not what was sent", round);
    expect_sums(sent, held, round);
}

static void memory_arrives_between_what_is_queued_before_and_after(void **unused)
{
    (void)unused;
    state = ranks_seed;
    for (int round = 0; round < ROUNDS; round++)
        a_round(round);
    assert_all(true);
}

/* A rank that has not come yet keeps what goes to it and comes from it under way, and nothing else. */
static void devices_work_while_memory_is_under_way(void **unused)
{
    int last = ranks_size - 1;
    struct mover_piece pieces[2] = {{.from = ranks_rank,
                                     .to = (ranks_rank + 1) % ranks_size,
                                     .source = source,
                                     .target = target,
                                     .bytes = ROOM},
                                    {.from = (ranks_rank + last) % ranks_size,
                                     .to = ranks_rank,
                                     .source = source,
                                     .target = target,
                                     .bytes = ROOM}};
    uint64_t sent[SUMS], held[SUMS];
    unsigned char word[4];
    bool ready = false;
    int64_t one = 1;

    (void)unused;
    if (ranks_size == 1)
        return;
    if (ranks_rank != last) {
        assert_ok(mover->begin(mover));
        assert_ok(mover->send(mover, pieces, 2));
        assert_ok(device->copy(device, came, kept, SIZE));
        assert_ok(device->wait(device));
        assert_ok(device->download(device, word, came, sizeof word));
        assert_ok(mover->ready(mover, &ready, sent, held));
        assert_true(ranks_rank != 0 || !ready);
    }
    assert_ok(host->reduce(host, COMM_MIN, &one, 1));
    if (ranks_rank == last) {
        assert_ok(mover->begin(mover));
        assert_ok(mover->send(mover, pieces, 2));
    }
    for (ready = false; !ready;)
        assert_ok(mover->ready(mover, &ready, sent, held));
    assert_all(true);
}

static void pieces_that_are_not_of_words_are_refused(void **unused)
{
    struct mover_piece piece = {
        .from = ranks_rank, .to = ranks_rank, .source = source, .target = target, .bytes = 6};

    (void)unused;
    assert_all(mover->send(mover, &piece, 1) != STATUS_OK);
    piece.bytes = 8, piece.sum = SUMS;
    assert_all(mover->send(mover, &piece, 1) == STATUS_BUG);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(memory_arrives_between_what_is_queued_before_and_after, open_all),
        cmocka_unit_test(devices_work_while_memory_is_under_way),
        cmocka_unit_test_teardown(pieces_that_are_not_of_words_are_refused, close_all),
    };

    return ranks_run(argc, argv, tests, sizeof tests / sizeof *tests);
}
