/* hosted.c - exchanges between emulated devices as if they moved memory of the host, so that tests of those
 * fit
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "tests/hostgpu/hosted.h"

#include "comm/comm_nccl.h"
#include "comm/comm_nccl_team.h"
#include "comm/layout.h"
#include "kernels/cuda/cuda.h"

#include <stdlib.h>
#include <string.h>

enum { KEPT = 2, RANKS = 64 };

struct hosted {
    struct comm table; /* first, so that a pointer to the table is one to this */
    struct comm *inner, *rows;
    void *sent;        /* of the device */
    char *overwritten; /* what stands there after the call */
    struct {
        char *host;
        const void *device;
        size_t bytes;
    } result[KEPT];
    int last;
    unsigned exchanges; /* every other one is begun and ended apart */
    int nodes;
};

static struct kernels *device;
static int users;

static struct hosted *hosted_of(struct comm *c)
{
    return (struct hosted *)(void *)c;
}

/* Where `mine` is for the device. */
static enum status bring(struct hosted *h, const void *mine, size_t bytes, const void **there)
{
    *there = h->sent;
    if (mine && mine == h->result[h->last].host) {
        *there = h->result[h->last].device;
        return STATUS_OK;
    }
    return mine && bytes > 0 ? device->upload(device, h->sent, mine, bytes) : STATUS_OK;
}

static enum status take(struct hosted *h, const void *arrived, size_t bytes, size_t sent, const void **out)
{
    TRY(device->upload(device, h->sent, h->overwritten, sent));
    h->last = (h->last + 1) % KEPT;
    h->result[h->last].device = arrived;
    h->result[h->last].bytes = bytes;
    for (int i = 0; i < KEPT; i++)
        if (h->result[i].bytes > 0)
            TRY(device->download(device, h->result[i].host, h->result[i].device, h->result[i].bytes));
    *out = h->result[h->last].host;
    return STATUS_OK;
}

static enum status broadcast(struct comm *c, int root, const void *data, size_t *bytes, const void **out)
{
    struct hosted *h = hosted_of(c);
    size_t sent = c->rank == root ? *bytes : 0;
    const void *there, *arrived;

    TRY(bring(h, data, sent, &there));
    TRY(h->rows->broadcast(h->rows, root, there, bytes, &arrived));
    return take(h, arrived, *bytes, sent, out);
}

static enum status all_gather(struct comm *c, const void *mine, const size_t *bytes, const void **all)
{
    struct hosted *h = hosted_of(c);
    const void *there, *arrived;

    TRY(bring(h, mine, bytes[c->rank], &there));
    TRY(h->rows->all_gather(h->rows, there, bytes, &arrived));
    return take(h, arrived, layout_sum(bytes, c->size, 1), bytes[c->rank], all);
}

static enum status gather(struct comm *c, int root, const void *mine, const size_t *bytes, const void **all)
{
    struct hosted *h = hosted_of(c);
    const void *there, *arrived;
    enum status status;

    TRY(bring(h, mine, bytes[c->rank], &there));
    TRY(h->rows->gather(h->rows, root, there, bytes, &arrived));
    status = take(h, arrived, c->rank == root ? layout_sum(bytes, c->size, 1) : 0, bytes[c->rank], all);
    if (c->rank != root)
        *all = arrived;
    return status;
}

/* An exchange goes by the nodes' communicators when nothing leaves a node, and only then. */
static enum status check_way(const struct hosted *h, const size_t *bytes)
{
    const struct comm_nccl_team *team = comm_nccl_team_of(h->rows);
    const char *name = team->recent[(team->called - 1) % COMM_NCCL_TEAM_RECENT].name;
    int size = h->table.size;
    bool stays = h->nodes > 0;

    for (int pair = 0; stays && pair < size * size; pair++)
        stays = bytes[pair] == 0 || pair / size % h->nodes == pair % size % h->nodes;
    if (strcmp(name, stays ? "exchange inside the node" : "exchange") != 0)
        return FAIL(STATUS_BUG, "what %s nodes went by '%s'", stays ? "stays in" : "leaves", name);
    return STATUS_OK;
}

static enum status exchange(struct comm *c, const void *mine, const size_t *bytes, const void **arrivals)
{
    struct hosted *h = hosted_of(c);
    size_t sent = layout_sum(bytes + (ptrdiff_t)c->rank * c->size, c->size, 1);
    const void *there, *arrived;

    TRY(bring(h, mine, sent, &there));
    h->exchanges++;
    if (!h->rows->exchange_begin || h->exchanges % 2)
        TRY(h->rows->exchange(h->rows, there, bytes, &arrived));
    else
        TRY(h->rows->exchange_begin(h->rows, there, bytes, &arrived));
    TRY(check_way(h, bytes));
    if (h->rows->exchange_end && h->exchanges % 2 == 0)
        TRY(h->rows->exchange_end(h->rows, arrived));
    return take(h, arrived, layout_sum(bytes + c->rank, c->size, c->size), sent, arrivals);
}

static enum status reduce(struct comm *c, enum comm_operation operation, int64_t *values, int count)
{
    struct hosted *h = hosted_of(c);

    return h->rows->reduce(h->rows, operation, values, count);
}

static void close_all(struct comm *c)
{
    struct hosted *h = hosted_of(c);

    h->rows->close(h->rows);
    h->inner->close(h->inner);
    device->release(device, h->sent);
    for (int i = 0; i < KEPT; i++)
        free(h->result[i].host);
    free(h->overwritten);
    free(h);
    if (--users == 0)
        device->close(device);
}

enum status hosted_open(struct comm *inner, struct comm *whole, int part, int number, int nodes, size_t most,
                        struct comm **out)
{
    struct hosted *h = calloc(1, sizeof *h);
    int32_t node[RANKS];

    if (users++ == 0)
        TRY(cuda_open(&(struct module_request){.device = number}, &device));
    h->inner = inner;
    TRY(device->alloc(device, most, "what is sent", &h->sent));
    h->overwritten = malloc(most);
    memset(h->overwritten, 0xee, most);
    for (int i = 0; i < KEPT; i++)
        h->result[i].host = malloc(most);
    TRY(comm_nccl_open(device, inner, whole ? hosted_of(whole)->rows : NULL, part, most, &h->rows));
    h->table = (struct comm){.kind = h->rows->kind,
                             .rank = h->rows->rank,
                             .size = h->rows->size,
                             .broadcast = broadcast,
                             .all_gather = all_gather,
                             .gather = gather,
                             .exchange = exchange,
                             .reduce = reduce,
                             .close = close_all};
    *out = &h->table;
    h->nodes = nodes;
    for (int r = 0; nodes > 0 && r < inner->size; r++)
        node[r] = r % nodes;
    return nodes > 0 ? comm_nccl_open_nodes(h->rows, node) : STATUS_OK;
}
