/* comm_mpi.c - exchanges by MPI alone: works wherever MPI works
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "comm/comm_mpi.h"

#include "comm/comm_alone.h"
#include "comm/fold.h"
#include "comm/layout.h"
#include "comm/mpi_border.h"
#include "comm/relay.h"
#include "comm/comm_mpi_transfer.h"
#include "engine/base/arena.h"

#include <string.h>

enum { HALVES = 2 };

struct mpi_comm {
    struct comm table;  /* first: callers hold its address */
    struct arena arena; /* holds all of this, itself too */
    MPI_Comm mpi;
    struct layout layout;
    struct transfer transfer;
    int *world;   /* [size] ranks of MPI_COMM_WORLD */
    int *ranks;   /* [size] 0, 1, ... */
    size_t *each; /* [size] scratch of reduce */
    int half;     /* of the latest call */
    unsigned char *part[HALVES];
    bool failed; /* a call broke off, so closing cannot be collective */
};

static struct mpi_comm *of(struct comm *c)
{
    return (void *)c;
}

/* What a call delivers goes where the last call but one delivered. */
static unsigned char *next_half(struct mpi_comm *m)
{
    m->half = (m->half + 1) % HALVES;
    return m->part[m->half];
}

static enum status ended(struct mpi_comm *m, enum status status)
{
    if (status != STATUS_OK)
        m->failed = true;
    return status;
}

static enum status broadcast(struct comm *c, int root, const void *data, size_t *bytes, const void **out)
{
    struct mpi_comm *m = of(c);
    unsigned char *half = next_half(m);
    size_t length;

    if (c->rank == root)
        relay_fill(half, data, *bytes, m->layout.most);
    TRY(ended(m, relay_pass(&m->transfer, m->ranks, c->size, root, c->rank, half)));
    TRY(relay_length(half, m->layout.most, &length));
    *bytes = length;
    *out = half + RELAY_HEADER;
    return STATUS_OK;
}

/* Peers are asked in an order that differs from rank to rank, so that not all send to rank 0 first. */
static int peer(const struct comm *c, int step)
{
    return (c->rank + step) % c->size;
}

/* `mine` may be NULL where there is nothing to give. */
static void keep_own(unsigned char *to, const void *mine, size_t bytes)
{
    if (bytes > 0)
        memcpy(to, mine, bytes);
}

static enum status move_all(struct mpi_comm *m, unsigned char *half, const void *mine, const size_t *bytes)
{
    const struct comm *c = &m->table;

    for (int i = 1; i < c->size; i++)
        TRY(comm_mpi_transfer_receive(&m->transfer, peer(c, c->size - i),
                                      half + m->layout.from_at[peer(c, c->size - i)],
                                      bytes[peer(c, c->size - i)]));
    for (int i = 1; i < c->size; i++)
        TRY(comm_mpi_transfer_send(&m->transfer, peer(c, i), mine, bytes[c->rank]));
    keep_own(half + m->layout.from_at[c->rank], mine, bytes[c->rank]);
    return comm_mpi_transfer_finish(&m->transfer);
}

static enum status gather_all(struct mpi_comm *m, const void *mine, const size_t *bytes, size_t room,
                              const void **all)
{
    unsigned char *half;

    TRY(layout_gather(&m->layout, bytes, room));
    half = next_half(m);
    TRY(ended(m, move_all(m, half, mine, bytes)));
    *all = half;
    return STATUS_OK;
}

static enum status all_gather(struct comm *c, const void *mine, const size_t *bytes, const void **all)
{
    return gather_all(of(c), mine, bytes, of(c)->layout.most, all);
}

static enum status move_to_root(struct mpi_comm *m, unsigned char *half, const void *mine,
                                const size_t *bytes)
{
    const struct comm *c = &m->table;

    for (int i = 1; i < c->size; i++)
        TRY(comm_mpi_transfer_receive(&m->transfer, peer(c, i), half + m->layout.from_at[peer(c, i)],
                                      bytes[peer(c, i)]));
    keep_own(half + m->layout.from_at[c->rank], mine, bytes[c->rank]);
    return comm_mpi_transfer_finish(&m->transfer);
}

static enum status gather(struct comm *c, int root, const void *mine, const size_t *bytes, const void **all)
{
    struct mpi_comm *m = of(c);
    unsigned char *half;

    TRY(layout_gather(&m->layout, bytes, m->layout.most));
    half = next_half(m);
    if (c->rank == root) {
        TRY(ended(m, move_to_root(m, half, mine, bytes)));
    } else {
        TRY(ended(m, comm_mpi_transfer_send(&m->transfer, root, mine, bytes[c->rank])));
        TRY(ended(m, comm_mpi_transfer_finish(&m->transfer)));
    }
    *all = c->rank == root ? half : NULL;
    return STATUS_OK;
}

static enum status move_each(struct mpi_comm *m, unsigned char *half, const unsigned char *mine,
                             const size_t *bytes)
{
    const struct comm *c = &m->table;
    const size_t *sent = bytes + (size_t)c->rank * (size_t)c->size;

    for (int i = 1; i < c->size; i++) {
        int s = peer(c, c->size - i);

        TRY(comm_mpi_transfer_receive(&m->transfer, s, half + m->layout.from_at[s],
                                      bytes[(size_t)s * (size_t)c->size + (size_t)c->rank]));
    }
    for (int i = 1; i < c->size; i++) {
        int d = peer(c, i);

        if (sent[d] > 0)
            TRY(comm_mpi_transfer_send(&m->transfer, d, mine + m->layout.send_at[d], sent[d]));
    }
    if (sent[c->rank] > 0)
        memcpy(half + m->layout.from_at[c->rank], mine + m->layout.send_at[c->rank], sent[c->rank]);
    return comm_mpi_transfer_finish(&m->transfer);
}

static enum status exchange(struct comm *c, const void *mine, const size_t *bytes, const void **arrivals)
{
    struct mpi_comm *m = of(c);
    unsigned char *half;

    TRY(layout_exchange(&m->layout, bytes));
    half = next_half(m);
    TRY(ended(m, move_each(m, half, mine, bytes)));
    *arrivals = half;
    return STATUS_OK;
}

static enum status reduce(struct comm *c, enum comm_operation operation, int64_t *values, int count)
{
    struct mpi_comm *m = of(c);
    const void *all;

    TRY(fold_check(count));
    for (int r = 0; r < c->size; r++)
        m->each[r] = (size_t)count * sizeof *values;
    TRY(gather_all(m, values, m->each, fold_room(c->size), &all));
    fold_columns(operation, all, c->size, values, count);
    return STATUS_OK;
}

static void close(struct comm *c)
{
    struct mpi_comm *m = of(c);
    struct arena arena = m->arena;

    wait_uses_mpi(-1);
    if (!m->failed)
        MPI_Comm_free(&m->mpi);
    arena_close(&arena);
}

/* Reserved, not used, until touched; so the arrays' share is a generous guess. */
static size_t arena_bytes(int size, size_t part, size_t piece)
{
    size_t requests = 2 * (size_t)size * (1 + part / piece);

    return sizeof(struct mpi_comm) + HALVES * part + (requests + (size_t)size) * 64 + (64 << 10);
}

static enum status fill(struct mpi_comm *m, MPI_Comm mpi, size_t part, size_t piece)
{
    struct comm *c = &m->table;
    TRY(mpi_border_check(MPI_Comm_dup(mpi, &m->mpi), "to copy a communicator"));
    MPI_Comm_set_errhandler(m->mpi, MPI_ERRORS_RETURN);
    TRY(layout_open(&m->layout, &m->arena, c->rank, c->size, m->layout.most));
    TRY(arena_take_array(&m->arena, (size_t)c->size, sizeof *m->world, "ranks", &m->world));
    TRY(arena_take_array(&m->arena, (size_t)c->size, sizeof *m->ranks, "ranks", &m->ranks));
    TRY(arena_take_array(&m->arena, (size_t)c->size, sizeof *m->each, "sizes", &m->each));
    TRY(mpi_border_world_ranks(m->mpi, m->world));
    for (int r = 0; r < c->size; r++)
        m->ranks[r] = r;
    m->transfer.mpi = m->mpi;
    m->transfer.piece = piece;
    m->transfer.world = m->world;
    TRY(mpi_border_pauses(m->mpi, &m->transfer.pauses));
    TRY(comm_mpi_transfer_open(&m->transfer, &m->arena, 2 * (size_t)c->size, part));
    for (int h = 0; h < HALVES; h++)
        TRY(arena_take(&m->arena, part, "arrivals", &m->part[h]));
    return STATUS_OK;
}

static size_t part_bytes(int size, size_t most)
{
    return relay_buffer_bytes(fold_room(size) > most ? fold_room(size) : most);
}

size_t comm_mpi_bytes(int size, size_t most_bytes)
{
    return size > 1 ? HALVES * part_bytes(size, most_bytes) : 0;
}

enum status comm_mpi_open_in_pieces(MPI_Comm mpi, size_t most_bytes, size_t piece, struct comm **out)
{
    struct comm table = {.kind = "mpi",
                         .broadcast = broadcast,
                         .all_gather = all_gather,
                         .gather = gather,
                         .exchange = exchange,
                         .reduce = reduce,
                         .close = close};
    struct arena arena;
    struct mpi_comm *m;
    enum status status;
    size_t part;

    if (piece < RELAY_FIRST)
        return FAIL(STATUS_BUG, "messages in pieces of %zu bytes, at least %d are needed", piece,
                    RELAY_FIRST);
    TRY(mpi_border_check(MPI_Comm_rank(mpi, &table.rank), "to number ranks"));
    TRY(mpi_border_check(MPI_Comm_size(mpi, &table.size), "to count ranks"));
    if (table.size == 1)
        return comm_alone_open(out);
    part = part_bytes(table.size, most_bytes);
    TRY(arena_open(&arena, "exchanges by MPI", arena_bytes(table.size, part, piece)));
    status = arena_take(&arena, sizeof *m, "a group of ranks", &m);
    if (status == STATUS_OK) {
        m->table = table;
        m->layout.most = most_bytes;
        m->mpi = MPI_COMM_NULL;
        m->arena = arena;
        status = fill(m, mpi, part, piece);
        if (status != STATUS_OK && m->mpi != MPI_COMM_NULL)
            MPI_Comm_free(&m->mpi);
        arena = m->arena;
    }
    if (status != STATUS_OK) {
        arena_close(&arena);
        return status;
    }
    wait_uses_mpi(1);
    *out = &m->table;
    return STATUS_OK;
}

enum status comm_mpi_open(MPI_Comm mpi, size_t most_bytes, struct comm **out)
{
    return comm_mpi_open_in_pieces(mpi, most_bytes, COMM_MPI_TRANSFER_PIECE, out);
}
