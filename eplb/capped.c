/* capped.c - batches routed under a ceiling for every rank, while replicas come and go
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * A maximum flow by shortest paths, breadth first from all experts with rows left. A path goes to a host, and
 * from there on with rows of another expert to one of its other hosts, until a rank has room. */
#include "eplb/capped.h"

#include <string.h>

static enum status open_batch(struct capped_batch *b, struct arena *arena, const struct capped *c)
{
    size_t experts = (size_t)c->experts, slots = (size_t)c->slots, ranks = (size_t)c->ranks;

    b->bytes = (slots + experts + ranks) * sizeof(int64_t);
    TRY(arena_take(arena, b->bytes, "rows of a batch", &b->flow));
    b->left = b->flow + slots;
    b->room = b->left + experts;
    return arena_take_array(arena, (size_t)c->words, sizeof *b->reached, "ranks reached", &b->reached);
}

enum status capped_open(struct capped *c, struct arena *arena, int experts, const int32_t *rank_first,
                        int ranks, int batches)
{
    size_t e = (size_t)experts, p = (size_t)ranks, slots = (size_t)rank_first[ranks];
    int32_t *rank;

    *c = (struct capped){.experts = experts,
                         .slots = (int)slots,
                         .ranks = ranks,
                         .words = (ranks + 63) / 64,
                         .batches = batches};
    TRY(arena_take_array(arena, slots, sizeof *rank, "ranks of slots", &rank));
    TRY(arena_take_array(arena, slots, sizeof *c->item, "experts of slots", &c->item));
    TRY(arena_take_array(arena, e, sizeof *c->replicas, "replicas", &c->replicas));
    TRY(arena_take_array(arena, e * (size_t)c->words, sizeof *c->host, "hosts", &c->host));
    TRY(arena_take_array(arena, e * p, sizeof *c->slot_at, "slots of hosts", &c->slot_at));
    TRY(arena_take_array(arena, p + 1, sizeof *c->rank_first, "slots of ranks", &c->rank_first));
    TRY(arena_take_array(arena, (size_t)batches, sizeof *c->batch, "batches", &c->batch));
    TRY(arena_take_array(arena, slots + e + p, sizeof *c->kept, "rows put by", &c->kept));
    TRY(arena_take_array(arena, p, sizeof *c->from_expert, "paths", &c->from_expert));
    TRY(arena_take_array(arena, e, sizeof *c->from_rank, "paths", &c->from_rank));
    TRY(arena_take_array(arena, e, sizeof *c->queue, "queue", &c->queue));
    TRY(arena_take_array(arena, (e + 63) / 64, sizeof *c->seen, "experts seen", &c->seen));
    for (int b = 0; b < batches; b++)
        TRY(open_batch(&c->batch[b], arena, c));
    memcpy(c->rank_first, rank_first, sizeof *rank_first * (p + 1));
    memset(c->item, -1, sizeof *c->item * slots);
    for (int r = 0; r < ranks; r++) {
        for (int s = rank_first[r]; s < rank_first[r + 1]; s++)
            rank[s] = r;
    }
    c->rank = rank;
    return STATUS_OK;
}

void capped_set(struct capped *c, int slot, int expert)
{
    int before = c->item[slot], rank = c->rank[slot];
    uint64_t bit = (uint64_t)1 << (rank % 64);

    if (before >= 0) {
        c->host[(ptrdiff_t)before * c->words + rank / 64] &= ~bit;
        c->replicas[before]--;
    }
    c->item[slot] = expert;
    if (expert >= 0) {
        c->host[(ptrdiff_t)expert * c->words + rank / 64] |= bit;
        c->slot_at[(ptrdiff_t)expert * c->ranks + rank] = slot;
        c->replicas[expert]++;
    }
}

void capped_release(struct capped *c, int b, int slot)
{
    struct capped_batch *batch = &c->batch[b];
    int64_t rows = batch->flow[slot];

    if (rows == 0)
        return;
    batch->flow[slot] = 0;
    batch->room[c->rank[slot]] += rows;
    batch->left[c->item[slot]] += rows;
    batch->rest += rows;
}

void capped_keep(struct capped *c, int b)
{
    memcpy(c->kept, c->batch[b].flow, c->batch[b].bytes);
    c->kept_rest = c->batch[b].rest;
}

void capped_restore(struct capped *c, int b)
{
    memcpy(c->batch[b].flow, c->kept, c->batch[b].bytes);
    c->batch[b].rest = c->kept_rest;
}

static bool first_time(struct capped *c, int expert)
{
    uint64_t bit = (uint64_t)1 << (expert % 64);
    bool first = !(c->seen[expert / 64] & bit);

    c->seen[expert / 64] |= bit;
    return first;
}

/* The experts whose rows on a full rank could go elsewhere join the queue. */
static int join(struct capped *c, const struct capped_batch *batch, int rank, int tail)
{
    for (int s = c->rank_first[rank]; s < c->rank_first[rank + 1]; s++) {
        int e = c->item[s];

        if (batch->flow[s] > 0 && c->replicas[e] > 1 && first_time(c, e)) {
            c->from_rank[e] = rank;
            c->queue[tail++] = e;
        }
    }
    return tail;
}

/* A rank with room that rows left can reach, -1: none. */
static int find_room(struct capped *c, struct capped_batch *batch)
{
    int head = 0, tail = 0;

    memset(c->seen, 0, sizeof *c->seen * (((size_t)c->experts + 63) / 64));
    memset(batch->reached, 0, sizeof *batch->reached * (size_t)c->words);
    for (int e = 0; e < c->experts; e++) {
        if (batch->left[e] > 0) {
            first_time(c, e);
            c->from_rank[e] = -1;
            c->queue[tail++] = e;
        }
    }
    while (head < tail) {
        int e = c->queue[head++];

        for (int w = 0; w < c->words; w++) {
            uint64_t fresh = c->host[(ptrdiff_t)e * c->words + w] & ~batch->reached[w];

            batch->reached[w] |= fresh;
            for (; fresh; fresh &= fresh - 1) {
                int r = w * 64 + __builtin_ctzll(fresh);

                c->from_expert[r] = e;
                if (batch->room[r] > 0)
                    return r;
                tail = join(c, batch, r, tail);
            }
        }
    }
    return -1;
}

/* The path to rank r takes as many rows as its narrowest part lets. */
static void push_path(struct capped *c, struct capped_batch *batch, int r)
{
    int64_t rows = batch->room[r];
    int e;

    for (int at = r;; at = c->from_rank[e]) {
        e = c->from_expert[at];
        if (c->from_rank[e] < 0) {
            rows = batch->left[e] < rows ? batch->left[e] : rows;
            break;
        } else {
            int64_t there = batch->flow[c->slot_at[(ptrdiff_t)e * c->ranks + c->from_rank[e]]];

            rows = there < rows ? there : rows;
        }
    }
    batch->room[r] -= rows;
    for (int at = r;; at = c->from_rank[e]) {
        e = c->from_expert[at];
        batch->flow[c->slot_at[(ptrdiff_t)e * c->ranks + at]] += rows;
        if (c->from_rank[e] < 0)
            break;
        batch->flow[c->slot_at[(ptrdiff_t)e * c->ranks + c->from_rank[e]]] -= rows;
    }
    batch->left[e] -= rows;
    batch->rest -= rows;
}

void capped_route(struct capped *c, int b)
{
    struct capped_batch *batch = &c->batch[b];
    int r;

    while (batch->rest > 0 && (r = find_room(c, batch)) >= 0)
        push_path(c, batch, r);
    if (batch->rest == 0)
        memset(batch->reached, 0, sizeof *batch->reached * (size_t)c->words);
}

/* Rows of an expert go where most room is, as far as there is some. */
static void pour(struct capped *c, struct capped_batch *batch, int e)
{
    while (batch->left[e] > 0) {
        int best = -1;
        int64_t rows;

        for (int w = 0; w < c->words; w++) {
            for (uint64_t bits = c->host[(ptrdiff_t)e * c->words + w]; bits; bits &= bits - 1) {
                int r = w * 64 + __builtin_ctzll(bits);

                if (best < 0 || batch->room[r] > batch->room[best])
                    best = r;
            }
        }
        if (best < 0 || batch->room[best] <= 0)
            return;
        rows = batch->left[e] < batch->room[best] ? batch->left[e] : batch->room[best];
        batch->flow[c->slot_at[(ptrdiff_t)e * c->ranks + best]] += rows;
        batch->room[best] -= rows;
        batch->left[e] -= rows;
        batch->rest -= rows;
    }
}

void capped_start(struct capped *c, int b, const int64_t *demand, int64_t ceiling)
{
    struct capped_batch *batch = &c->batch[b];

    memset(batch->flow, 0, batch->bytes);
    batch->rest = 0;
    batch->demand = demand;
    batch->ceiling = ceiling;
    for (int r = 0; r < c->ranks; r++)
        batch->room[r] = ceiling;
    for (int e = 0; e < c->experts; e++) {
        batch->left[e] = demand[e];
        batch->rest += demand[e];
    }
    for (int several = 0; several < 2; several++) { /* experts with one host have no choice */
        for (int e = 0; e < c->experts; e++) {
            if ((c->replicas[e] > 1) == several)
                pour(c, batch, e);
        }
    }
    capped_route(c, b);
}
