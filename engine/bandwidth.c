/* bandwidth.c - how fast memory and exchanges of this run are
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/bandwidth.h"

#include "engine/base/clock.h"
#include "kernels/checksum.h"

#include <string.h>

enum { COLUMNS = 1024, WARM = 2, MOST_CALLS = 20, WORD = sizeof(uint32_t) };

static const int64_t ENOUGH_NANOSECONDS = 100000000; /* of repetitions */

/* -- memory --- */

struct lane {
    struct kernels *k;
    struct matrix to, from;
    void *host;
    size_t bytes;
    int32_t *order;
};

static enum status call_memory(const struct lane *l, enum bandwidth_memory way)
{
    struct kernels *k = l->k;

    switch (way) {
    case BANDWIDTH_ADD:
        return k->add(k, l->to, l->from);
    case BANDWIDTH_GATHER:
        return k->gather(k, l->to, l->from, l->order, NULL);
    case BANDWIDTH_UPLOAD:
        return k->upload(k, l->from.data, l->host, l->bytes);
    default:
        return k->download(k, l->host, l->from.data, l->bytes);
    }
}

static enum status time_memory(const struct lane *l, enum bandwidth_memory way, double *seconds)
{
    int64_t begin = 0, spent = 0;
    int calls = 0;

    for (int i = -WARM; i < MOST_CALLS && spent < ENOUGH_NANOSECONDS; i++) {
        if (i == 0) {
            TRY(l->k->wait(l->k));
            begin = clock_now();
        }
        TRY(call_memory(l, way));
        if (i < 0)
            continue;
        calls++;
        if (calls % 4 == 0) { /* a call may only queue its work */
            TRY(l->k->wait(l->k));
            spent = clock_now() - begin;
        }
    }
    TRY(l->k->wait(l->k));
    *seconds = (double)(clock_now() - begin) / 1e9 / calls;
    return STATUS_OK;
}

/* Matrices without gaps. */
static enum status open_lane(struct lane *l, struct arena *arena, size_t bytes)
{
    int rows = (int)(bytes / (COLUMNS * sizeof(float)));
    struct kernels *k = l->k;
    void *to, *from;

    if (rows < 1)
        rows = 1;
    l->bytes = (size_t)rows * COLUMNS * sizeof(float);
    TRY(arena_take(arena, l->bytes, "numbers", &l->host));
    TRY(arena_take_array(arena, (size_t)rows, sizeof *l->order, "rows in turn", &l->order));
    memset(l->host, 0, l->bytes); /* so that its pages are there */
    for (int r = 0; r < rows; r++)
        l->order[r] = r;
    TRY(k->alloc(k, l->bytes, "numbers", &to));
    l->to = (struct matrix){.data = to, .rows = rows, .columns = COLUMNS, .stride = COLUMNS};
    TRY(k->alloc(k, l->bytes, "numbers", &from));
    l->from = (struct matrix){.data = from, .rows = rows, .columns = COLUMNS, .stride = COLUMNS};
    return STATUS_OK;
}

enum status bandwidth_memory(struct kernels *k, enum bandwidth_memory way, size_t bytes,
                             struct bandwidth *out)
{
    static const struct {
        const char *what;
        int passes; /* over so many bytes */
    } ways[BANDWIDTH_MEMORIES] = {[BANDWIDTH_ADD] = {"x += y", 3},
                                  [BANDWIDTH_GATHER] = {"rows copied", 2},
                                  [BANDWIDTH_UPLOAD] = {"to the backend", 1},
                                  [BANDWIDTH_DOWNLOAD] = {"from the backend", 1}};
    struct lane lane = {.k = k};
    struct arena arena;
    enum status status;
    double seconds = 0;

    TRY(arena_open(&arena, "bandwidth", 2 * bytes + ((size_t)16 << 20)));
    status = open_lane(&lane, &arena, bytes);
    if (status == STATUS_OK)
        status = time_memory(&lane, way, &seconds);
    k->release(k, lane.from.data);
    k->release(k, lane.to.data);
    arena_close(&arena);
    *out = (struct bandwidth){
        .what = ways[way].what, .bytes = lane.bytes * (size_t)ways[way].passes, .seconds = seconds};
    return status;
}

/* -- exchanges --- */

struct trade {
    struct kernels *k;
    struct comm *rows;
    enum bandwidth_exchange way;
    size_t each;        /* bytes of one rank's part of what arrives */
    size_t sent, taken; /* by this rank */
    size_t *bytes;      /* [size] or [size, size] */
    unsigned char *host;
    void *mine;
    const void *arrived;
};

static const char *const NAMES[BANDWIDTH_EXCHANGES] = {[BANDWIDTH_BROADCAST] = "broadcast",
                                                       [BANDWIDTH_ALL_GATHER] = "all gather",
                                                       [BANDWIDTH_ALL_TO_ALL] = "all to all",
                                                       [BANDWIDTH_BESIDE] = "all to all apart"};

/* Byte i of what rank `from` sends to rank `to`. */
static unsigned char pattern(int from, int to, size_t i)
{
    return (unsigned char)(i * 7 + i / 251 + (size_t)from * 31 + (size_t)to * 17 + 1);
}

static enum status call_exchange(struct trade *t)
{
    struct comm *c = t->rows;
    size_t bytes = t->sent;

    switch (t->way) {
    case BANDWIDTH_BROADCAST:
        return c->broadcast(c, 0, t->mine, &bytes, &t->arrived);
    case BANDWIDTH_ALL_GATHER:
        return c->all_gather(c, t->mine, t->bytes, &t->arrived);
    case BANDWIDTH_BESIDE:
        TRY(c->exchange_begin(c, t->mine, t->bytes, &t->arrived));
        return c->exchange_end(c, t->arrived);
    default:
        return c->exchange(c, t->mine, t->bytes, &t->arrived);
    }
}

static bool each_its_own(const struct trade *t)
{
    return t->way == BANDWIDTH_ALL_TO_ALL || t->way == BANDWIDTH_BESIDE;
}

/* What this rank sends, in the backend's memory. */
static enum status fill(struct trade *t)
{
    for (size_t i = 0; i < t->sent; i++)
        t->host[i] = each_its_own(t) ? pattern(t->rows->rank, (int)(i / t->each), i % t->each)
                                     : pattern(t->rows->rank, 0, i);
    TRY(t->k->upload(t->k, t->mine, t->host, t->sent));
    return t->k->wait(t->k);
}

static enum status compare(struct trade *t)
{
    int mine = t->rows->rank;

    TRY(t->k->download(t->k, t->host, t->arrived, t->taken));
    for (size_t i = 0; i < t->taken; i++) {
        int from = t->way == BANDWIDTH_BROADCAST ? 0 : (int)(i / t->each);
        unsigned char want = pattern(from, each_its_own(t) ? mine : 0, i % t->each);

        if (t->host[i] != want)
            return FAIL(STATUS_BUG,
                        "%s of %zu bytes: byte %zu of what rank %d got from rank %d is %d, not %d",
                        NAMES[t->way], t->taken, i % t->each, mine, from, t->host[i], want);
    }
    return STATUS_OK;
}

static enum status open_trade(struct trade *t, struct arena *arena, size_t bytes)
{
    size_t size = (size_t)t->rows->size;

    t->each = t->way == BANDWIDTH_BROADCAST ? bytes : bytes / size / WORD * WORD;
    if (t->each < WORD)
        t->each = WORD;
    t->taken = t->way == BANDWIDTH_BROADCAST ? t->each : t->each * size;
    t->sent = each_its_own(t) ? t->taken : t->each;
    TRY(arena_take_array(arena, size * size, sizeof *t->bytes, "sizes", &t->bytes));
    TRY(arena_take_array(arena, t->taken, 1, "bytes", &t->host));
    for (size_t i = 0; i < size * size; i++)
        t->bytes[i] = t->each;
    TRY(t->k->alloc(t->k, t->sent, "bytes to send", &t->mine));
    return fill(t);
}

/* Every rank makes the same calls: their number may not depend on a clock. */
static enum status time_exchange(struct trade *t, struct comm *world, double *seconds)
{
    int64_t begin = 0, spent;

    for (int i = -WARM; i < MOST_CALLS; i++) {
        if (i == 0) {
            int64_t together = 0;

            TRY(t->k->wait(t->k));
            TRY(world->reduce(world, COMM_SUM, &together, 1));
            begin = clock_now();
        }
        TRY(call_exchange(t));
        TRY(t->k->wait(t->k));
        if (i < 0)
            TRY(compare(t));
    }
    spent = clock_now() - begin;
    TRY(world->reduce(world, COMM_MAX, &spent, 1));
    *seconds = (double)spent / 1e9 / MOST_CALLS;
    return STATUS_OK;
}

enum status bandwidth_exchange(struct kernels *k, struct comm *rows, struct comm *world,
                               enum bandwidth_exchange way, size_t bytes, struct bandwidth *out)
{
    struct trade trade = {.k = k, .rows = rows, .way = way};
    struct arena arena;
    enum status status;
    double seconds = 0;

    TRY(arena_open(&arena, "bandwidth", bytes + ((size_t)16 << 20)));
    status = open_trade(&trade, &arena, bytes);
    if (status == STATUS_OK)
        status = time_exchange(&trade, world, &seconds);
    k->release(k, trade.mine);
    arena_close(&arena);
    *out = (struct bandwidth){.what = NAMES[way], .bytes = trade.taken, .seconds = seconds};
    return status;
}

/* -- moves --- */

struct shift {
    struct kernels *k;
    struct mover *mover;
    int rank, ranks, before; /* before: whose memory comes here */
    size_t bytes;
    unsigned char *host;
    void *mine, *arrived;
    struct mover_piece *pieces; /* [ranks] */
    uint64_t *sent, *held;      /* [sums] */
};

static enum status open_shift(struct shift *s, struct arena *arena)
{
    struct kernels *k = s->k;

    TRY(arena_take_array(arena, s->bytes, 1, "bytes", &s->host));
    TRY(arena_take_array(arena, (size_t)s->ranks, sizeof *s->pieces, "moves", &s->pieces));
    TRY(arena_take_array(arena, (size_t)s->mover->sums, sizeof *s->sent, "checksums", &s->sent));
    TRY(arena_take_array(arena, (size_t)s->mover->sums, sizeof *s->held, "checksums", &s->held));
    TRY(k->alloc(k, s->bytes, "bytes to send", &s->mine));
    TRY(k->alloc(k, s->bytes, "bytes that arrive", &s->arrived));
    for (int r = 0; r < s->ranks; r++)
        s->pieces[r] = (struct mover_piece){.from = r,
                                            .to = (r + 1) % s->ranks,
                                            .source = s->mine,
                                            .target = s->arrived,
                                            .bytes = s->bytes,
                                            .sum = r};
    for (size_t i = 0; i < s->bytes; i++)
        s->host[i] = pattern(s->rank, s->pieces[s->rank].to, i);
    TRY(k->upload(k, s->mine, s->host, s->bytes));
    return k->wait(k);
}

static enum status call_mover(struct shift *s)
{
    struct mover *m = s->mover;
    bool ready = false;

    TRY(m->begin(m));
    TRY(m->send(m, s->pieces, s->ranks));
    TRY(m->join(m));
    TRY(s->k->wait(s->k));
    TRY(m->ready(m, &ready, s->sent, s->held));
    if (!ready)
        return FAIL(STATUS_BUG, "a move of %zu bytes is under way though what is behind it has been done",
                    s->bytes);
    return STATUS_OK;
}

static enum status compare_shift(struct shift *s)
{
    uint64_t sum = checksum_add(0, s->host, s->bytes, 0);

    if (s->sent[s->rank] != sum)
        return FAIL(STATUS_BUG, "a move of %zu bytes: rank %d sent other bytes by their checksum", s->bytes,
                    s->rank);
    TRY(s->k->download(s->k, s->host, s->arrived, s->bytes));
    for (size_t i = 0; i < s->bytes; i++) {
        unsigned char want = pattern(s->before, s->rank, i);

        if (s->host[i] != want)
            return FAIL(STATUS_BUG,
                        "a move of %zu bytes: byte %zu of what rank %d got from rank %d is %d, not %d",
                        s->bytes, i, s->rank, s->before, s->host[i], want);
    }
    if (s->held[s->before] != checksum_add(0, s->host, s->bytes, 0))
        return FAIL(STATUS_BUG, "a move of %zu bytes: rank %d holds other bytes by their checksum", s->bytes,
                    s->rank);
    return STATUS_OK;
}

static enum status time_moves(struct shift *s, struct comm *world, double *seconds)
{
    int64_t begin, spent, together = 0;

    TRY(call_mover(s));
    TRY(compare_shift(s));
    TRY(world->reduce(world, COMM_SUM, &together, 1));
    begin = clock_now();
    for (int i = 0; i < MOST_CALLS; i++)
        TRY(call_mover(s));
    spent = clock_now() - begin;
    TRY(world->reduce(world, COMM_MAX, &spent, 1));
    *seconds = (double)spent / 1e9 / MOST_CALLS;
    return STATUS_OK;
}

enum status bandwidth_move(struct kernels *k, struct mover *m, struct comm *world, size_t bytes,
                           struct bandwidth *out)
{
    struct shift shift = {.k = k,
                          .mover = m,
                          .rank = world->rank,
                          .ranks = world->size,
                          .before = (world->rank + world->size - 1) % world->size,
                          .bytes = bytes};
    struct arena arena;
    enum status status;
    double seconds = 0;

    TRY(arena_open(&arena, "bandwidth", bytes + ((size_t)16 << 20)));
    status = open_shift(&shift, &arena);
    if (status == STATUS_OK)
        status = time_moves(&shift, world, &seconds);
    k->release(k, shift.arrived);
    k->release(k, shift.mine);
    arena_close(&arena);
    *out = (struct bandwidth){.what = "to the next rank", .bytes = bytes, .seconds = seconds};
    return status;
}
