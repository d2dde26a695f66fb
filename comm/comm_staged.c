/* comm_staged.c - exchanges of rows that lie in a backend's own memory, by copies through host memory
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "comm/comm_staged.h"

#include "comm/fold.h"
#include "comm/layout.h"
#include "kernels/host.h"

enum { PARTS = 3 }; /* what arrived is good until the second next call */

struct staged {
    struct comm table; /* first, so that a pointer to the table is one to this */
    struct comm *inner;
    struct kernels *kernels;
    struct host_memory memory;
    size_t most;
    void *sent;           /* [most] host */
    void *arrived[PARTS]; /* [most] of the backend */
    int next;
};

static struct staged *staged_of(struct comm *c)
{
    return (struct staged *)(void *)c;
}

/* What this rank sends, in host memory. */
static enum status bring(struct staged *s, const void *mine, size_t bytes)
{
    if (bytes > s->most)
        return FAIL(STATUS_BUG, "%zu bytes are sent at once, there is room for %zu", bytes, s->most);
    return s->kernels->download(s->kernels, s->sent, mine, bytes);
}

/* What arrived, in the backend's memory. */
static enum status take(struct staged *s, const void *host, size_t bytes, const void **out)
{
    void *to = s->arrived[s->next];

    if (bytes > s->most)
        return FAIL(STATUS_BUG, "%zu bytes arrive at once, there is room for %zu", bytes, s->most);
    s->next = (s->next + 1) % PARTS;
    TRY(s->kernels->upload(s->kernels, to, host, bytes));
    *out = to;
    return STATUS_OK;
}

static enum status broadcast(struct comm *c, int root, const void *data, size_t *bytes, const void **out)
{
    struct staged *s = staged_of(c);
    const void *host;

    if (c->rank == root)
        TRY(bring(s, data, *bytes));
    TRY(s->inner->broadcast(s->inner, root, s->sent, bytes, &host));
    return take(s, host, *bytes, out);
}

static enum status all_gather(struct comm *c, const void *mine, const size_t *bytes, const void **all)
{
    struct staged *s = staged_of(c);
    const void *host;

    TRY(bring(s, mine, bytes[c->rank]));
    TRY(s->inner->all_gather(s->inner, s->sent, bytes, &host));
    return take(s, host, layout_sum(bytes, c->size, 1), all);
}

static enum status gather(struct comm *c, int root, const void *mine, const size_t *bytes, const void **all)
{
    struct staged *s = staged_of(c);
    const void *host;

    TRY(bring(s, mine, bytes[c->rank]));
    TRY(s->inner->gather(s->inner, root, s->sent, bytes, &host));
    *all = NULL;
    return c->rank == root ? take(s, host, layout_sum(bytes, c->size, 1), all) : STATUS_OK;
}

static enum status exchange(struct comm *c, const void *mine, const size_t *bytes, const void **arrivals)
{
    struct staged *s = staged_of(c);
    const void *host;

    TRY(bring(s, mine, layout_sum(bytes + (ptrdiff_t)c->rank * c->size, c->size, 1)));
    TRY(s->inner->exchange(s->inner, s->sent, bytes, &host));
    return take(s, host, layout_sum(bytes + c->rank, c->size, c->size), arrivals);
}

static void close_all(struct comm *c)
{
    struct staged *s = staged_of(c);
    struct host_memory memory;

    if (!c)
        return;
    for (int i = 0; i < PARTS; i++)
        if (s->arrived[i])
            s->kernels->release(s->kernels, s->arrived[i]);
    memory = s->memory; /* the table lies in it */
    host_close(&memory);
}

/* *out is set as soon as there is something to close. */
static enum status open_in(struct host_memory *memory, struct comm *inner, struct kernels *k, size_t most,
                           struct staged **out)
{
    struct staged *s;
    void *space;

    TRY(host_alloc(memory, sizeof *s, "exchanges through host memory", &space));
    s = *out = space;
    *s = (struct staged){.table = {.kind = inner->kind,
                                   .rank = inner->rank,
                                   .size = inner->size,
                                   .broadcast = broadcast,
                                   .all_gather = all_gather,
                                   .gather = gather,
                                   .exchange = exchange,
                                   .reduce = fold_no_rows,
                                   .close = close_all},
                         .inner = inner,
                         .kernels = k,
                         .most = most};
    TRY(host_alloc(memory, most, "rows to send", &s->sent));
    for (int i = 0; i < PARTS; i++)
        TRY(k->alloc(k, most, "rows that arrive", &s->arrived[i]));
    return STATUS_OK;
}

enum status comm_staged_open(struct comm *inner, struct kernels *kernels, size_t most, struct comm **out)
{
    struct host_memory memory = {0};
    struct staged *s = NULL;
    enum status status = open_in(&memory, inner, kernels, most, &s);

    if (!s) {
        host_close(&memory);
        return status;
    }
    s->memory = memory;
    if (status != STATUS_OK)
        close_all(&s->table);
    else
        *out = &s->table;
    return status;
}

size_t comm_staged_bytes(const struct kernels *k, size_t most)
{
    return PARTS * kernels_piece_bytes(k, most);
}

size_t comm_staged_host_bytes(size_t most)
{
    return sizeof(struct staged) + most;
}
