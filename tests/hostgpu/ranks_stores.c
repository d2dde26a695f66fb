/* ranks_stores.c - exchanges by stores between emulated devices deliver what exchanges between hosts deliver
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "comm/comm_mpi.h"
#include "comm/comm_nccl.h"
#include "comm/comm_nccl_lsa.h"
#include "engine/base/clock.h"
#include "kernels/cuda/cuda.h"
#include "tests/ranks.h"

enum { MOST = 60000, WINDOW = 20000, ROUNDS = 150, LIMIT = 8 };

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
    assert_ok(stores->exchange(stores, sent, bytes, &now->there));
    assert_ok(device->upload(device, sent, other, out)); /* queued behind: the caller's memory is free */
    assert_ok(host->exchange(host, outgoing, bytes, &want));
    memcpy(now->want, want, now->bytes);
    check(now, "after their call", round);
    check(before, "after the next call", round);
}

static void stores_deliver_what_hosts_do(void **unused)
{
    (void)unused;
    state = ranks_seed;
    assert_all_ok(cuda_open(&(struct module_request){.device = ranks_rank}, &device));
    assert_all_ok(device->alloc(device, MOST, "what is sent", &sent));
    assert_all_ok(comm_mpi_open(MPI_COMM_WORLD, MOST, &host));
    assert_all_ok(comm_nccl_open(device, host, NULL, 0, MOST, &rows));
    assert_all_ok(comm_nccl_lsa_open(device, rows, WINDOW, &stores));
    results[0].there = results[1].there = sent;
    for (int round = 0; round < ROUNDS; round++) {
        if (draw(40) == (size_t)ranks_rank)
            clock_sleep(2000000);
        exchange_once(round);
    }
    assert_all(true);
    stores->close(stores);
    rows->close(rows);
    host->close(host);
    device->release(device, sent);
    device->close(device);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(stores_deliver_what_hosts_do)};

    return ranks_run(argc, argv, tests, 1);
}
