/* ranks_stores.c - exchanges by stores between emulated devices deliver what exchanges between hosts deliver,
 * in recorded steps too, and so do those that go beside a step, by stores and by NCCL
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "comm/comm_mpi.h"
#include "comm/comm_nccl.h"
#include "comm/comm_nccl_lsa.h"
#include "comm/comm_nccl_team.h"
#include "engine/base/clock.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/cuda_entries.h"
#include "tests/ranks.h"

enum { MOST = 60000, WINDOW = 20000, ROUNDS = 150, LIMIT = 8 };
enum { STEPS = 50, RECORDED = 3, PAIR = 40, BETWEEN = 8 };

static struct kernels *device;
static struct comm *host, *rows, *stores;
static void *sent; /* [MOST] of the device */
static uint64_t state;

/* A result and what must be in it. */
static struct result {
    const void *there;
    size_t bytes;
    unsigned char want[MOST];
} results[2];

/* The same on all ranks. */
static size_t draw(size_t below)
{
    uint64_t x = state += 0x9e3779b97f4a7c15U;

    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
    return (size_t)((x ^ (x >> 27)) >> 16) % below;
}

/* Equal sizes, in words mostly and mostly with room in the window; or any. */
static void draw_sizes(size_t *bytes)
{
    size_t ranks = (size_t)ranks_size, kind = draw(8), most = kind == 0 ? MOST / ranks : WINDOW / ranks;
    size_t same = kind == 1 ? draw(most) : draw(most / 16 + 1) * (kind < 5 ? 16 : 4);

    for (size_t i = 0; i < ranks * ranks; i++)
        bytes[i] = kind == 2 ? draw(most) : same;
}

static void check(const struct result *r, const char *when, int round)
{
    static unsigned char came[MOST];

    assert_ok(device->download(device, came, r->there, r->bytes));
    if (memcmp(came, r->want, r->bytes) != 0)
        fail_msg("round %d: %zu bytes are not those of the hosts %s", round, r->bytes, when);
}

/* At once, beside, or in what goes beside only what was queued before. */
static void exchange_somehow(const size_t *bytes, const void **there)
{
    size_t way = draw(3);

    if (way == 0) {
        assert_ok(stores->exchange(stores, sent, bytes, there));
        return;
    }
    if (way == 1) {
        assert_ok(stores->exchange_begin(stores, sent, bytes, there));
    } else {
        assert_ok(stores->aside(stores, true));
        assert_ok(stores->back(stores, NULL));
        assert_ok(stores->aside(stores, false));
        assert_ok(stores->exchange(stores, sent, bytes, there));
        assert_ok(stores->back(stores, *there));
    }
    assert_ok(stores->exchange_end(stores, *there));
}

static void exchange_once(int round)
{
    static unsigned char outgoing[MOST], other[MOST];
    struct result *now = &results[round % 2], *before = &results[(round + 1) % 2];
    size_t bytes[LIMIT * LIMIT], out = 0;
    const void *want;

    draw_sizes(bytes);
    now->bytes = 0;
    for (int r = 0; r < ranks_size; r++) {
        out += bytes[ranks_rank * ranks_size + r];
        now->bytes += bytes[r * ranks_size + ranks_rank];
    }
    for (size_t i = 0; i < out; i++)
        outgoing[i] = (unsigned char)(draw(256) + (size_t)ranks_rank * 31);
    /* Ranks that sent less have drawn less. */
    state = ranks_seed + (uint64_t)round * 1000003U;
    assert_ok(device->upload(device, sent, outgoing, out));
    exchange_somehow(bytes, &now->there);
    assert_ok(device->upload(device, sent, other, out)); /* queued behind: the caller's memory is free */
    assert_ok(host->exchange(host, outgoing, bytes, &want));
    memcpy(now->want, want, now->bytes);
    check(now, "after their call", round);
    check(before, "after the next call", round);
}

static int start(void **unused)
{
    (void)unused;
    return cuda_open(&(struct module_request){.device = ranks_rank}, &device) != STATUS_OK ||
           device->alloc(device, MOST, "what is sent", &sent) != STATUS_OK ||
           comm_mpi_open(MPI_COMM_WORLD, MOST, &host) != STATUS_OK ||
           comm_nccl_open(device, host, NULL, 0, MOST, &rows) != STATUS_OK ||
           comm_nccl_lsa_open(device, rows, WINDOW, &stores) != STATUS_OK;
}

static int end(void **unused)
{
    (void)unused;
    stores->close(stores);
    rows->close(rows);
    host->close(host);
    device->release(device, sent);
    device->close(device);
    return 0;
}

static void stores_deliver_what_hosts_do(void **unused)
{
    (void)unused;
    state = ranks_seed;
    results[0].there = results[1].there = sent;
    for (int round = 0; round < ROUNDS; round++) {
        if (draw(40) == (size_t)ranks_rank)
            clock_sleep(2000000);
        exchange_once(round);
    }
    assert_all(true);
}

/* -- recorded steps --- */

enum { HALVES = 4 }; /* exchanges of a layer in halves: rows of both, results of both */

/* Of a step's exchanges: by stores, by NCCL on a second stream, by stores there as in layers in halves. */
enum way { STORES, BESIDE, STORES_IN_HALVES, WAYS };

/* [1, ranks x PAIR] each: what is sent, what it grows by, what came in all, and what only takes time. */
static struct matrix mine, ones, sum, idle, half[HALVES];
static struct matrix *const numbers_of_all[] = {&mine,    &ones,    &sum,     &idle,
                                                &half[0], &half[1], &half[2], &half[3]};
enum { NUMBERS = sizeof numbers_of_all / sizeof *numbers_of_all };

static void fill(struct matrix x, float number)
{
    static float numbers[LIMIT * PAIR];

    for (int i = 0; i < x.columns; i++)
        numbers[i] = number;
    assert_ok(device->upload(device, x.data, numbers, (size_t)x.columns * sizeof *numbers));
}

static void add(struct matrix to, struct matrix more)
{
    assert_int_equal(cuda_rows_add(to, more, cuda_entries_of(device)->device.stream), cudaSuccess);
}

static void add_arrived(const void *there)
{
    struct matrix came = sum;

    came.data = (float *)(uintptr_t)there;
    add(sum, came);
}

static void take_time(void)
{
    for (int i = 0; i < BETWEEN; i++)
        add(idle, ones);
}

/* Every exchange sends numbers one greater than those before. What comes is read late. */
static void queue_call(const size_t *bytes, bool beside)
{
    const void *there;

    add(mine, ones);
    assert_ok(beside ? rows->exchange_begin(rows, mine.data, bytes, &there)
                     : stores->exchange(stores, mine.data, bytes, &there));
    take_time();
    if (beside)
        assert_ok(rows->exchange_end(rows, there));
    add_arrived(there);
}

static void begin_half(int i, const size_t *bytes, const void **there)
{
    take_time();
    add(half[i], ones);
    assert_ok(stores->exchange_begin(stores, half[i].data, bytes, &there[i]));
}

/* In the order of engine/experts.c: rows of both halves leave, results of each behind its own rows. Both
 * results are read last. */
static void queue_halves(const size_t *bytes)
{
    const void *there[HALVES];

    begin_half(0, bytes, there);
    begin_half(1, bytes, there);
    for (int i = 0; i < 2; i++) {
        assert_ok(stores->exchange_end(stores, there[i]));
        take_time();
        add_arrived(there[i]);
        begin_half(i + 2, bytes, there);
    }
    assert_ok(stores->exchange_end(stores, there[2]));
    assert_ok(stores->exchange_end(stores, there[3]));
    take_time();
    add_arrived(there[2]);
    add_arrived(there[3]);
}

static void queue_step(int calls, enum way way)
{
    size_t bytes[LIMIT * LIMIT];

    for (int i = 0; i < ranks_size * ranks_size; i++)
        bytes[i] = PAIR * sizeof(float);
    for (int c = 0; c < calls; c++) {
        if (way == STORES_IN_HALVES)
            queue_halves(bytes);
        else
            queue_call(bytes, way == BESIDE);
    }
}

/* A step of `calls` exchanges, or layers of them, the same on all ranks; how many of them were replayed. */
static int step_once(int calls, enum way kind)
{
    static const int32_t position;
    const int32_t key = calls * WAYS + (int32_t)kind;
    struct recording r = {.key = &key, .count = 1, .positions = &position, .rows = 1};
    enum recording_way way = RECORDING_NONE;

    if (calls <= RECORDED)
        assert_ok(device->record(device, &r, &way));
    if (way != RECORDING_AGAIN)
        queue_step(calls, kind);
    if (way == RECORDING_NEW)
        assert_ok(device->recorded(device, STATUS_OK));
    return way == RECORDING_AGAIN ? calls : 0;
}

static void replay(enum way way)
{
    static float came[LIMIT * PAIR];
    int seen[RECORDED + 1] = {0}, all = 0, replayed = 0, wanted = 0,
                        times = way == STORES_IN_HALVES ? HALVES : 1;

    state = ranks_seed;
    for (int i = 0; i < NUMBERS; i++) {
        assert_ok(kernels_matrix(device, 1, ranks_size * PAIR, "numbers", numbers_of_all[i]));
        fill(*numbers_of_all[i], 0);
    }
    fill(mine, 1000.0f * (float)ranks_rank);
    for (int i = 0; i < HALVES; i++)
        fill(half[i], 1000.0f * (float)ranks_rank);
    fill(ones, 1);
    for (int step = 0; step < STEPS; step++) {
        /* Each is recorded and replayed once; then they come as they are drawn. */
        int calls = step < 3 * RECORDED ? 1 + step % RECORDED : 1 + (int)draw(RECORDED + 1);

        if (draw(8) == (size_t)ranks_rank)
            clock_sleep(1000000);
        all += calls;
        wanted += calls <= RECORDED && seen[calls]++ >= 2 ? calls : 0;
        replayed += step_once(calls, way);
    }
    assert_ok(device->download(device, came, sum.data, (size_t)sum.columns * sizeof *came));
    for (int i = 0; i < sum.columns; i++)
        if (came[i] != (float)(times * (all * 1000 * (i / PAIR) + all * (all + 1) / 2)))
            fail_msg("%d exchanges, %d of them replayed: what came from rank %d makes %.0f", all, replayed,
                     i / PAIR, (double)came[i]);
    assert_int_equal(replayed, wanted);
    for (int i = 0; i < NUMBERS; i++)
        device->release(device, numbers_of_all[i]->data);
    assert_all(true);
}

static void replayed_stores_deliver_as_well(void **unused)
{
    (void)unused;
    replay(STORES);
}

static void replayed_exchanges_beside_deliver_as_well(void **unused)
{
    (void)unused;
    replay(BESIDE);
}

static void stores_in_halves_deliver_as_well(void **unused)
{
    (void)unused;
    replay(STORES_IN_HALVES);
}

/* What is stored on the device's stream would not be in turn. */
static void stores_at_once_are_refused_before_those_beside_have_ended(void **unused)
{
    size_t bytes[LIMIT * LIMIT];
    const void *there, *other;

    (void)unused;
    for (int i = 0; i < ranks_size * ranks_size; i++)
        bytes[i] = PAIR;
    assert_ok(stores->exchange_begin(stores, sent, bytes, &there));
    assert_all(stores->exchange(stores, sent, bytes, &other) == STATUS_BUG);
    assert_ok(stores->exchange_end(stores, there));
    assert_ok(stores->exchange(stores, sent, bytes, &other));
    assert_all(device->wait(device) == STATUS_OK);
}

/* NCCL ends a communicator only when nothing that was captured holds calls of it. */
static void a_failure_while_a_step_is_recorded_breaks_the_recording_off(void **unused)
{
    static const int32_t position, key = 1 << 20;
    struct recording r = {.key = &key, .count = 1, .positions = &position, .rows = 1};
    enum recording_way way = RECORDING_NONE;
    size_t bytes[LIMIT * LIMIT];
    const void *there;

    (void)unused;
    if (ranks_size == 1)
        return;
    for (int i = 0; i < ranks_size * ranks_size; i++)
        bytes[i] = PAIR;
    for (int step = 0; step < 2; step++) {
        assert_ok(device->record(device, &r, &way));
        assert_ok(rows->exchange(rows, sent, bytes, &there));
    }
    assert_int_equal(way, RECORDING_NEW);
    assert_all(comm_nccl_team_error(comm_nccl_team_of(rows), 0, ncclSystemError, "a test") ==
               STATUS_UNAVAILABLE);
    assert_all(device->recorded(device, STATUS_UNAVAILABLE) == STATUS_UNAVAILABLE);
    assert_all(device->wait(device) == STATUS_UNAVAILABLE);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(stores_deliver_what_hosts_do, start),
        cmocka_unit_test(replayed_stores_deliver_as_well),
        cmocka_unit_test(replayed_exchanges_beside_deliver_as_well),
        cmocka_unit_test(stores_in_halves_deliver_as_well),
        cmocka_unit_test(stores_at_once_are_refused_before_those_beside_have_ended),
        cmocka_unit_test_teardown(a_failure_while_a_step_is_recorded_breaks_the_recording_off, end)};

    return ranks_run(argc, argv, tests, sizeof tests / sizeof *tests);
}
