/* comm_shared.c - exchanges through memory that ranks of one node share; MPI carries what crosses nodes
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "comm/comm_shared.h"

#include "comm/comm_alone.h"
#include "comm/fold.h"
#include "comm/layout.h"
#include "comm/mailbox.h"
#include "comm/mpi_border.h"
#include "comm/node_map.h"
#include "comm/relay.h"
#include "comm/shared_window.h"
#include "comm/comm_mpi_transfer.h"
#include "comm/wait.h"
#include "comm/watch.h"
#include "engine/base/arena.h"
#include "engine/base/clock.h"

#include <string.h>

enum { PARTS = 3, NAMED = 8 };

struct shared_comm {
    struct comm table;  /* first: callers hold its address */
    struct arena arena; /* holds all of this but the window, itself too */
    MPI_Comm mpi;
    struct layout layout;
    struct transfer transfer; /* what crosses nodes */
    struct shared_window window;
    struct shared_window given; /* by `share`; zeroed: none */
    struct node_map map;
    int *world;             /* [size] ranks of MPI_COMM_WORLD */
    int *relays;            /* [nodes] scratch of broadcast */
    size_t *each;           /* [size] scratch of reduce */
    struct mailbox **boxes; /* [ranks of the node] */
    int index;              /* of this rank on its node */
    int count;              /* ranks of the node */
    size_t part_bytes;
    uint32_t call;  /* the number of the present call */
    int part;       /* which of the parts it uses */
    uint32_t begun; /* a call that all ranks of the node are known to have begun */
    bool failed;    /* a call broke off, so closing cannot be collective */
};

static struct shared_comm *of(struct comm *c)
{
    return (void *)c;
}

static enum status ended(struct shared_comm *s, enum status status)
{
    if (status != STATUS_OK)
        s->failed = true;
    return status;
}

/* What the present call delivers to the rank with this index on the node. */
static unsigned char *part_of(const struct shared_comm *s, int index)
{
    return s->window.part[index] + mailbox_bytes(s->count) + (size_t)s->part * s->part_bytes;
}

static int rank_at(const struct shared_comm *s, int index)
{
    return s->map.members[s->map.first[s->map.mine] + index];
}

static bool is_near(const struct shared_comm *s, int rank)
{
    return s->map.node[rank] == s->map.mine;
}

static int peer(const struct comm *c, int step)
{
    return (c->rank + step) % c->size;
}

/* ---- waiting ---- */

/* Tell the watchdog: ranks of this node by their index, then those whose messages are under way. */
static void name_missing(const struct shared_comm *s, const int *indices, int absent)
{
    int ranks[NAMED];
    int found = 0;

    for (int i = 0; i < absent && i < NAMED; i++)
        ranks[found++] = s->world[rank_at(s, indices[i])];
    found += comm_mpi_transfer_missing(&s->transfer, ranks + found, NAMED - found);
    watch_wait_missing(ranks, found);
}

/* Wait until the `count` ranks of the node from index `first` on have left their marks for this call, and all
 * messages are through. */
static enum status settle(struct shared_comm *s, int first, int count)
{
    struct mailbox *own = s->boxes[s->index];
    enum status status = STATUS_OK;
    int missing[NAMED];
    struct wait w;
    bool some;

    wait_open(&w, s->transfer.pauses, s->transfer.pending > 0, &own->posted);
    while (status == STATUS_OK) {
        uint32_t posted =
            atomic_load(&own->posted); /* before the marks are read, so that none is counted twice */
        int absent = mailbox_missing(own, first, count, s->index, s->call, missing, NAMED);
        int64_t nap = 0;

        status = comm_mpi_transfer_test(&s->transfer, &some);
        if (status != STATUS_OK || (absent == 0 && s->transfer.pending == 0))
            break;
        if (some)
            wait_again(&w);
        w.asks = s->transfer.pending > 0;
        w.bytes = s->transfer.bytes;
        status = wait_round(&w, &nap);
        if (nap > 0) {
            name_missing(s, missing, absent);
            if (absent > 0)
                mailbox_sleep(own, posted, absent, nap);
            else
                clock_sleep(nap);
        }
    }
    wait_close(&w);
    return status;
}

static enum status wait_for_start(struct shared_comm *s, int index, uint32_t call)
{
    struct mailbox *box = s->boxes[index];
    enum status status = STATUS_OK;
    struct wait w;

    wait_open(&w, s->transfer.pauses, false, &box->started);
    while (status == STATUS_OK && !mailbox_reached(atomic_load(&box->started), call)) {
        int64_t nap = 0;

        status = wait_round(&w, &nap);
        if (nap > 0) {
            name_missing(s, &index, 1);
            mailbox_sleep_for_start(box, call, nap);
        }
    }
    wait_close(&w);
    return status;
}

static void start(struct shared_comm *s)
{
    s->call++;
    s->part = (s->part + 1) % PARTS;
    mailbox_start(s->boxes[s->index], s->call);
}

/* Before anything is written into the present part: nobody on the node uses what it held three calls ago. */
static enum status own_part(struct shared_comm *s)
{
    uint32_t last = s->call - 1;

    if (mailbox_reached(s->begun, last))
        return STATUS_OK;
    for (int i = 0; i < s->count; i++)
        if (i != s->index)
            TRY(wait_for_start(s, i, last));
    s->begun = last;
    return STATUS_OK;
}

static void post_all(struct shared_comm *s)
{
    for (int i = 1; i < s->count; i++)
        mailbox_post(s->boxes[(s->index + i) % s->count], s->index, s->call);
}

/* Everybody on the node has left its mark, so everybody has begun this call. */
static enum status settle_all(struct shared_comm *s)
{
    TRY(settle(s, 0, s->count));
    s->begun = s->call;
    return STATUS_OK;
}

/* ---- broadcast: into the part of the root or of the first rank of another node, read there by all of the
 * node ---- */

static enum status pass_between_nodes(struct shared_comm *s, int root, unsigned char *part)
{
    if (s->map.nodes == 1)
        return STATUS_OK;
    for (int n = 0; n < s->map.nodes; n++)
        s->relays[n] = node_map_rank(&s->map, n, 0);
    s->relays[s->map.node[root]] = root;
    return relay_pass(&s->transfer, s->relays, s->map.nodes, s->map.node[root], s->map.mine, part);
}

static enum status run_broadcast(struct shared_comm *s, int root, const void *data, size_t bytes, int holder)
{
    unsigned char *part = part_of(s, holder);

    if (holder != s->index)
        return settle(s, holder, 1);
    TRY(own_part(s));
    if (s->table.rank == root) {
        relay_fill(part, data, bytes, s->layout.most);
        post_all(s);
        return pass_between_nodes(s, root, part);
    }
    TRY(pass_between_nodes(s, root, part));
    post_all(s);
    return STATUS_OK;
}

static enum status broadcast(struct comm *c, int root, const void *data, size_t *bytes, const void **out)
{
    struct shared_comm *s = of(c);
    int holder = is_near(s, root) ? s->map.index[root] : 0;
    size_t length;

    start(s);
    TRY(ended(s, run_broadcast(s, root, data, *bytes, holder)));
    TRY(relay_length(part_of(s, holder), s->layout.most, &length));
    *bytes = length;
    *out = part_of(s, holder) + RELAY_HEADER;
    return STATUS_OK;
}

/* ---- all_gather: into the part of the node's first rank, read there by all of the node ---- */

/* Rank s sends to one rank of each other node: the one with its own index, as far as there are so many. */
static enum status gather_between_nodes(struct shared_comm *s, unsigned char *whole, const void *mine,
                                        const size_t *bytes)
{
    const struct comm *c = &s->table;

    for (int i = 1; i < c->size; i++) {
        int from = peer(c, c->size - i);

        if (!is_near(s, from) && node_map_rank(&s->map, s->map.mine, s->map.index[from]) == c->rank)
            TRY(comm_mpi_transfer_receive(&s->transfer, from, whole + s->layout.from_at[from], bytes[from]));
    }
    for (int i = 1; i < s->map.nodes; i++) {
        int node = (s->map.mine + i) % s->map.nodes;

        TRY(comm_mpi_transfer_send(&s->transfer, node_map_rank(&s->map, node, s->index), mine,
                                   bytes[c->rank]));
    }
    return STATUS_OK;
}

static enum status run_all_gather(struct shared_comm *s, const void *mine, const size_t *bytes)
{
    unsigned char *whole = part_of(s, 0);
    int rank = s->table.rank;

    TRY(own_part(s));
    TRY(gather_between_nodes(s, whole, mine, bytes));
    if (bytes[rank] > 0)
        memcpy(whole + s->layout.from_at[rank], mine, bytes[rank]);
    /* A mark also answers for what this rank took from other nodes. */
    TRY(settle(s, 0, 0));
    post_all(s);
    return settle_all(s);
}

static enum status gather_all(struct shared_comm *s, const void *mine, const size_t *bytes, size_t room,
                              const void **all)
{
    TRY(layout_gather(&s->layout, bytes, room));
    start(s);
    TRY(ended(s, run_all_gather(s, mine, bytes)));
    *all = part_of(s, 0);
    return STATUS_OK;
}

static enum status all_gather(struct comm *c, const void *mine, const size_t *bytes, const void **all)
{
    return gather_all(of(c), mine, bytes, of(c)->layout.most, all);
}

static enum status reduce(struct comm *c, enum comm_operation operation, int64_t *values, int count)
{
    struct shared_comm *s = of(c);
    const void *all;

    TRY(fold_check(count));
    for (int r = 0; r < c->size; r++)
        s->each[r] = (size_t)count * sizeof *values;
    TRY(gather_all(s, values, s->each, fold_room(c->size), &all));
    fold_columns(operation, all, c->size, values, count);
    return STATUS_OK;
}

/* ---- gather: into the part of the root ---- */

static enum status run_gather(struct shared_comm *s, int root, const void *mine, const size_t *bytes)
{
    const struct comm *c = &s->table;
    size_t own = bytes[c->rank];

    TRY(own_part(s));
    if (is_near(s, root)) {
        if (own > 0)
            memcpy(part_of(s, s->map.index[root]) + s->layout.from_at[c->rank], mine, own);
        if (c->rank != root)
            mailbox_post(s->boxes[s->map.index[root]], s->index, s->call);
    } else {
        TRY(comm_mpi_transfer_send(&s->transfer, root, mine, own));
    }
    if (c->rank != root)
        return settle(s, 0, 0);
    for (int i = 1; i < c->size; i++)
        if (!is_near(s, peer(c, i)))
            TRY(comm_mpi_transfer_receive(&s->transfer, peer(c, i),
                                          part_of(s, s->index) + s->layout.from_at[peer(c, i)],
                                          bytes[peer(c, i)]));
    return settle_all(s);
}

static enum status gather(struct comm *c, int root, const void *mine, const size_t *bytes, const void **all)
{
    struct shared_comm *s = of(c);

    TRY(layout_gather(&s->layout, bytes, s->layout.most));
    start(s);
    TRY(ended(s, run_gather(s, root, mine, bytes)));
    *all = c->rank == root ? part_of(s, s->index) : NULL;
    return STATUS_OK;
}

/* ---- exchange: into the part of each receiver ---- */

static enum status exchange_between_nodes(struct shared_comm *s, const unsigned char *mine,
                                          const size_t *bytes)
{
    const struct comm *c = &s->table;
    const size_t *sent = bytes + (size_t)c->rank * (size_t)c->size;

    if (s->map.nodes == 1)
        return STATUS_OK;
    for (int i = 1; i < c->size; i++) {
        int from = peer(c, c->size - i);

        if (!is_near(s, from))
            TRY(comm_mpi_transfer_receive(&s->transfer, from, part_of(s, s->index) + s->layout.from_at[from],
                                          bytes[(size_t)from * (size_t)c->size + (size_t)c->rank]));
    }
    for (int i = 1; i < c->size; i++) {
        int to = peer(c, i);

        if (!is_near(s, to) && sent[to] > 0)
            TRY(comm_mpi_transfer_send(&s->transfer, to, mine + s->layout.send_at[to], sent[to]));
    }
    return STATUS_OK;
}

static enum status run_exchange(struct shared_comm *s, const unsigned char *mine, const size_t *bytes)
{
    const size_t *sent = bytes + (size_t)s->table.rank * (size_t)s->table.size;

    TRY(own_part(s));
    TRY(exchange_between_nodes(s, mine, bytes));
    for (int i = 1; i <= s->count; i++) { /* itself last: the others wait */
        int index = (s->index + i) % s->count;
        int to = rank_at(s, index);

        if (sent[to] > 0)
            memcpy(part_of(s, index) + s->layout.place_at[to], mine + s->layout.send_at[to], sent[to]);
        if (index != s->index)
            mailbox_post(s->boxes[index], s->index, s->call);
    }
    return settle_all(s);
}

static enum status exchange(struct comm *c, const void *mine, const size_t *bytes, const void **arrivals)
{
    struct shared_comm *s = of(c);

    TRY(layout_exchange(&s->layout, bytes));
    start(s);
    TRY(ended(s, run_exchange(s, mine, bytes)));
    *arrivals = part_of(s, s->index);
    return STATUS_OK;
}

/* ---- memory for others ---- */

static enum status share(struct comm *c, size_t bytes, int node_limit, const char *what, const char *advice,
                         void **part)
{
    struct shared_comm *s = of(c);
    int *rank;

    if (s->given.size > 0)
        return FAIL(STATUS_BUG, "shared memory for %s: some was given already", what);
    TRY(shared_window_open(&s->given, &s->arena, s->mpi, bytes, node_limit, what, advice));
    TRY(arena_take_array(&s->arena, (size_t)s->given.size, sizeof *rank, "ranks", &rank));
    TRY(mpi_border_check(MPI_Allgather(&c->rank, 1, MPI_INT, rank, 1, MPI_INT, s->given.node),
                         "to tell who shares memory"));
    for (int r = 0; r < c->size; r++)
        part[r] = NULL;
    for (int i = 0; i < s->given.size; i++)
        part[rank[i]] = s->given.part[i];
    return STATUS_OK;
}

/* ---- life ---- */

static void close(struct comm *c)
{
    struct shared_comm *s = of(c);
    struct arena arena = s->arena;

    if (s->map.nodes > 1)
        wait_uses_mpi(-1);
    if (!s->failed) {
        shared_window_close(&s->given);
        shared_window_close(&s->window);
        MPI_Comm_free(&s->mpi);
    }
    arena_close(&arena);
}

/* Which ranks share a node, as MPI says. */
static enum status map_nodes(struct shared_comm *s)
{
    struct comm *c = &s->table;
    int *leaders;
    int leader = c->rank;

    TRY(arena_take_array(&s->arena, (size_t)c->size, sizeof *leaders, "the map of nodes", &leaders));
    TRY(mpi_border_check(MPI_Bcast(&leader, 1, MPI_INT, 0, s->window.node), "to map nodes"));
    TRY(mpi_border_check(MPI_Allgather(&leader, 1, MPI_INT, leaders, 1, MPI_INT, s->mpi), "to map nodes"));
    TRY(node_map_open(&s->map, &s->arena, c->rank, c->size, leaders));
    s->index = s->window.rank;
    s->count = s->window.size;
    TRY(arena_take_array(&s->arena, (size_t)s->count, sizeof *s->boxes, "mailboxes", &s->boxes));
    for (int i = 0; i < s->count; i++)
        s->boxes[i] = (void *)s->window.part[i];
    return STATUS_OK;
}

static size_t window_bytes(int size, size_t part)
{
    return mailbox_bytes(size) + PARTS * part;
}

static enum status fill(struct shared_comm *s, MPI_Comm mpi, int node_limit)
{
    struct comm *c = &s->table;
    size_t count = (size_t)c->size;
    size_t messages;

    TRY(mpi_border_check(MPI_Comm_dup(mpi, &s->mpi), "to copy a communicator"));
    MPI_Comm_set_errhandler(s->mpi, MPI_ERRORS_RETURN);
    TRY(layout_open(&s->layout, &s->arena, c->rank, c->size, s->layout.most));
    TRY(arena_take_array(&s->arena, count, sizeof *s->world, "ranks", &s->world));
    TRY(arena_take_array(&s->arena, count, sizeof *s->relays, "ranks", &s->relays));
    TRY(arena_take_array(&s->arena, count, sizeof *s->each, "sizes", &s->each));
    TRY(mpi_border_world_ranks(s->mpi, s->world));
    TRY(shared_window_open(&s->window, &s->arena, s->mpi, window_bytes(c->size, s->part_bytes), node_limit,
                           "exchanges inside a node", "ask for smaller batches, or use --comm mpi"));
    TRY(map_nodes(s));
    s->transfer.mpi = s->mpi;
    s->transfer.piece = COMM_MPI_TRANSFER_PIECE;
    s->transfer.world = s->world;
    TRY(mpi_border_pauses(s->mpi, &s->transfer.pauses));
    messages = s->map.nodes > 1 ? 2 * count : 1;
    return comm_mpi_transfer_open(&s->transfer, &s->arena, messages, s->part_bytes);
}

/* Reserved, not used, until touched; so the arrays' share is a generous guess. */
static size_t arena_bytes(int size, size_t part)
{
    size_t requests = 2 * (size_t)size * (1 + part / COMM_MPI_TRANSFER_PIECE);

    return sizeof(struct shared_comm) + (requests + (size_t)size) * 128 + (64 << 10);
}

static size_t bytes_of_part(int size, size_t most)
{
    size_t bytes = relay_buffer_bytes(most > fold_room(size) ? most : fold_room(size));

    return (bytes + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
}

enum status comm_shared_open_divided(MPI_Comm mpi, size_t most_bytes, int node_limit, struct comm **out)
{
    struct comm table = {.kind = "shared",
                         .broadcast = broadcast,
                         .all_gather = all_gather,
                         .gather = gather,
                         .exchange = exchange,
                         .reduce = reduce,
                         .share = share,
                         .close = close};
    struct arena arena;
    struct shared_comm *s;
    enum status status;

    TRY(mpi_border_check(MPI_Comm_rank(mpi, &table.rank), "to number ranks"));
    TRY(mpi_border_check(MPI_Comm_size(mpi, &table.size), "to count ranks"));
    if (table.size == 1)
        return comm_alone_open(out);
    TRY(arena_open(&arena, "exchanges inside a node", arena_bytes(table.size, most_bytes)));
    status = arena_take(&arena, sizeof *s, "a group of ranks", &s);
    if (status == STATUS_OK) {
        s->table = table;
        s->layout.most = most_bytes;
        s->part_bytes = bytes_of_part(table.size, most_bytes);
        s->mpi = MPI_COMM_NULL;
        s->arena = arena;
        status = fill(s, mpi, node_limit);
        if (status != STATUS_OK && s->mpi != MPI_COMM_NULL)
            MPI_Comm_free(&s->mpi);
        arena = s->arena;
    }
    if (status != STATUS_OK) {
        arena_close(&arena);
        return status;
    }
    if (s->map.nodes > 1)
        wait_uses_mpi(1);
    *out = &s->table;
    return STATUS_OK;
}

size_t comm_shared_bytes(int size, size_t most_bytes)
{
    return size > 1 ? window_bytes(size, bytes_of_part(size, most_bytes)) : 0;
}

enum status comm_shared_open(MPI_Comm mpi, size_t most_bytes, struct comm **out)
{
    return comm_shared_open_divided(mpi, most_bytes, 0, out);
}
