/* plan_batches.c - exchanges that make a plan for one load one for batches that may come
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "eplb/plan_batches.h"

#include <stdbool.h>
#include <string.h>

enum kind {
    EVEN,  /* replicas share alike */
    ALONE, /* experts that no other rank has: no less than the mean */
    KINDS
};

/* What a rank has before and after a change. */
enum { HAD_A = 1, HAS_A = 2, HAD_B = 4, HAS_B = 8 };

/* `from` gives a away for b; with a slot `with`, that gives b for a. */
struct change {
    int from, with; /* slots; with -1: a has one replica less, and b one more */
    int a, b;
    int a_now, a_next, b_now, b_next; /* replicas */
    int touched;                      /* ranks */
};

/* What one replica of a and of b weighs before and after a change. */
struct weights {
    int64_t had_a, has_a, had_b, has_b;
};

struct plan_batches {
    const struct plan_shape *shape;
    int batches, words;

    /* the layer */
    int32_t *item;         /* [R] expert of a slot */
    int32_t *replicas;     /* [E] */
    int32_t *rank;         /* [R] of a slot */
    uint64_t *host;        /* [E, words] bit r: rank r holds a replica */
    int count;             /* batches */
    const int64_t **rows;  /* [batches] of the layer, [E] each */
    int64_t *mean;         /* [batches] of the ranks that hold something */
    int64_t *load[KINDS];  /* [batches, P] */
    int32_t *first[KINDS]; /* [batches] the busiest rank, the lowest of those */
    bool nodes;            /* keep what they have */

    uint8_t *bits;    /* [P] of the change at hand */
    int32_t *touched; /* [P] ranks that have some */
    uint64_t random;
};

enum status plan_batches_open(struct plan_batches **out, struct arena *arena, const struct plan_shape *shape,
                              int batches)
{
    size_t experts = (size_t)shape->experts, ranks = (size_t)shape->ranks, count = (size_t)batches;
    size_t slots = (size_t)shape->rank_first[shape->ranks], words = (ranks + 63) / 64;
    struct plan_batches *b;

    if (batches > PLAN_BATCHES_MOST)
        return FAIL(STATUS_BUG, "a planner for %d batches, %d at most", batches, PLAN_BATCHES_MOST);
    TRY(arena_take(arena, sizeof *b, "planner for batches", &b));
    *b = (struct plan_batches){.shape = shape, .batches = batches, .words = (int)words};
    TRY(arena_take_array(arena, experts, sizeof *b->replicas, "replica counts", &b->replicas));
    TRY(arena_take_array(arena, slots, sizeof *b->rank, "ranks of slots", &b->rank));
    TRY(arena_take_array(arena, experts * words, sizeof *b->host, "hosts", &b->host));
    TRY(arena_take_array(arena, count, sizeof *b->rows, "batches", &b->rows));
    TRY(arena_take_array(arena, count, sizeof *b->mean, "mean loads", &b->mean));
    for (int kind = 0; kind < KINDS; kind++) {
        TRY(arena_take_array(arena, count * ranks, sizeof *b->load[kind], "rank loads", &b->load[kind]));
        TRY(arena_take_array(arena, count, sizeof *b->first[kind], "busiest ranks", &b->first[kind]));
    }
    TRY(arena_take_array(arena, ranks, sizeof *b->bits, "ranks of a change", &b->bits));
    TRY(arena_take_array(arena, ranks, sizeof *b->touched, "ranks of a change", &b->touched));
    for (int r = 0; r < shape->ranks; r++)
        for (int s = shape->rank_first[r]; s < shape->rank_first[r + 1]; s++)
            b->rank[s] = r;
    *out = b;
    return STATUS_OK;
}

static bool holds(const struct plan_batches *b, int expert, int rank)
{
    return b->host[(ptrdiff_t)expert * b->words + rank / 64] >> (rank % 64) & 1;
}

static void flip(struct plan_batches *b, int expert, int rank)
{
    b->host[(ptrdiff_t)expert * b->words + rank / 64] ^= (uint64_t)1 << (rank % 64);
}

static int below(struct plan_batches *b, int n)
{
    b->random = b->random * 6364136223846793005u + 1442695040888963407u;
    return (int)((b->random >> 33) * (uint64_t)n >> 31);
}

/* Does a rank of this rank's node, but not the rank, hold the expert? */
static bool near_holds(const struct plan_batches *b, int expert, int rank)
{
    const int32_t *node = b->shape->rank_node;

    for (int r = 0; r < b->shape->ranks; r++)
        if (r != rank && node[r] == node[rank] && holds(b, expert, r))
            return true;
    return false;
}

/* -- loads of ranks --- */

/* One replica's, when there are so many. */
static int64_t weight(enum kind kind, int64_t rows, int replicas)
{
    if (kind == EVEN)
        return rows / replicas;
    return replicas == 1 ? rows : 0;
}

static void find_first(struct plan_batches *b, enum kind kind, int k)
{
    const int64_t *load = b->load[kind] + (ptrdiff_t)k * b->shape->ranks;
    int first = 0;

    for (int r = 1; r < b->shape->ranks; r++)
        first = load[r] > load[first] ? r : first;
    b->first[kind][k] = first;
}

static int64_t at_least(const struct plan_batches *b, enum kind kind, int k)
{
    return kind == ALONE ? b->mean[k] : 0;
}

/* Of the busiest ranks, over the batches. */
static int64_t sum_most(const struct plan_batches *b)
{
    int64_t sum = 0;

    for (int kind = 0; kind < KINDS; kind++)
        for (int k = 0; k < b->count; k++) {
            int64_t most = b->load[kind][(ptrdiff_t)k * b->shape->ranks + b->first[kind][k]];

            sum += most > at_least(b, kind, k) ? most : at_least(b, kind, k);
        }
    return sum;
}

static enum status take_layer(struct plan_batches *b, struct placement *p, int layer, const int64_t *batch)
{
    int ranks = b->shape->ranks, live = 0;

    b->item = p->expert + (ptrdiff_t)layer * p->slots;
    memset(b->replicas, 0, sizeof *b->replicas * (size_t)p->experts);
    memset(b->host, 0, sizeof *b->host * (size_t)p->experts * (size_t)b->words);
    for (int r = 0; r < ranks; r++) {
        bool some = false;

        for (int s = p->rank_first[r]; s < p->rank_first[r + 1]; s++) {
            if (b->item[s] < 0)
                continue;
            some = true;
            b->replicas[b->item[s]]++;
            flip(b, b->item[s], r);
        }
        live += some;
    }
    for (int k = 0; k < b->count; k++) {
        const int64_t *rows = batch + ((ptrdiff_t)k * p->layers + layer) * p->experts;

        b->rows[k] = rows;
        b->mean[k] = 0;
        for (int e = 0; e < p->experts; e++) {
            if (rows[e] < 0 || rows[e] > PLAN_BATCHES_LOAD - b->mean[k])
                return FAIL(STATUS_BAD_INPUT,
                            "batch %d: loads up to expert %d, which has %lld, not in 0 ... %lld", k, e,
                            (long long)rows[e], (long long)PLAN_BATCHES_LOAD);
            b->mean[k] += rows[e];
        }
        b->mean[k] /= live;
    }
    for (int kind = 0; kind < KINDS; kind++)
        for (int k = 0; k < b->count; k++) {
            int64_t *load = b->load[kind] + (ptrdiff_t)k * ranks;

            memset(load, 0, sizeof *load * (size_t)ranks);
            for (int s = 0; s < p->slots; s++)
                if (b->item[s] >= 0)
                    load[b->rank[s]] +=
                        weight((enum kind)kind, b->rows[k][b->item[s]], b->replicas[b->item[s]]);
            find_first(b, (enum kind)kind, k);
        }
    return STATUS_OK;
}

/* -- changes --- */

static struct weights weigh(const struct plan_batches *b, const struct change *c, enum kind kind, int k)
{
    int64_t a = b->rows[k][c->a], other = b->rows[k][c->b];

    return (struct weights){.had_a = weight(kind, a, c->a_now),
                            .has_a = weight(kind, a, c->a_next),
                            .had_b = weight(kind, other, c->b_now),
                            .has_b = weight(kind, other, c->b_next)};
}

static int64_t more(const struct weights *w, int bits)
{
    int64_t sum = 0;

    sum -= bits & HAD_A ? w->had_a : 0;
    sum += bits & HAS_A ? w->has_a : 0;
    sum -= bits & HAD_B ? w->had_b : 0;
    sum += bits & HAS_B ? w->has_b : 0;
    return sum;
}

/* The busiest rank of a batch after the change; all ranks are asked only when the busiest one is touched. */
static int64_t most_after(const struct plan_batches *b, const struct change *c, enum kind kind, int k)
{
    const int64_t *load = b->load[kind] + (ptrdiff_t)k * b->shape->ranks;
    struct weights w = weigh(b, c, kind, k);
    int64_t most = at_least(b, kind, k), here = load[b->first[kind][k]];
    bool all = b->bits[b->first[kind][k]] != 0;

    if (!all && here > most)
        most = here;
    for (int i = 0; i < (all ? b->shape->ranks : c->touched); i++) {
        int r = all ? i : b->touched[i];

        here = load[r] + more(&w, b->bits[r]);
        most = here > most ? here : most;
    }
    return most;
}

static int64_t sum_after(const struct plan_batches *b, const struct change *c)
{
    int64_t sum = 0;

    for (int kind = 0; kind < KINDS; kind++)
        for (int k = 0; k < b->count; k++)
            sum += most_after(b, c, (enum kind)kind, k);
    return sum;
}

/* A random one; false: it is not legal. */
static bool draw(struct plan_batches *b, struct change *c)
{
    int slots = b->shape->rank_first[b->shape->ranks], rank;

    *c = (struct change){.from = below(b, slots), .with = -1};
    if (below(b, 2))
        c->with = below(b, slots);
    c->b = c->with < 0 ? below(b, b->shape->experts) : b->item[c->with];
    c->a = b->item[c->from];
    rank = b->rank[c->from];
    if (c->a < 0 || c->b < 0 || c->a == c->b || holds(b, c->b, rank))
        return false;
    c->a_now = c->a_next = b->replicas[c->a];
    c->b_now = c->b_next = b->replicas[c->b];
    if (c->with >= 0) {
        int other = b->rank[c->with];

        return !holds(b, c->a, other) &&
               (!b->nodes || b->shape->rank_node[rank] == b->shape->rank_node[other]);
    }
    c->a_next--;
    c->b_next++;
    return c->a_now > 1 && (!b->nodes || (near_holds(b, c->a, rank) && near_holds(b, c->b, rank)));
}

static void touch(struct plan_batches *b, struct change *c, int rank, int bits)
{
    if (b->bits[rank] == 0)
        b->touched[c->touched++] = rank;
    b->bits[rank] = (uint8_t)(b->bits[rank] | bits);
}

/* Ranks whose load the change changes; without another number of replicas only those of its slots. */
static void mark(struct plan_batches *b, struct change *c)
{
    int expert[] = {c->a, c->b}, had[] = {HAD_A, HAD_B}, has[] = {HAS_A, HAS_B};
    int rank = b->rank[c->from], other = c->with < 0 ? -1 : b->rank[c->with];

    for (int i = 0; i < 2; i++) {
        const uint64_t *host = b->host + (ptrdiff_t)expert[i] * b->words;

        for (int w = 0; w < b->words && other < 0; w++)
            for (uint64_t bits = host[w]; bits; bits &= bits - 1)
                touch(b, c, w * 64 + __builtin_ctzll(bits), had[i] | has[i]);
    }
    touch(b, c, rank, HAD_A);
    b->bits[rank] = HAD_A | HAS_B;
    if (other >= 0) {
        touch(b, c, other, HAD_B);
        b->bits[other] = HAD_B | HAS_A;
    }
}

static void unmark(struct plan_batches *b, const struct change *c)
{
    for (int i = 0; i < c->touched; i++)
        b->bits[b->touched[i]] = 0;
}

static void apply(struct plan_batches *b, const struct change *c)
{
    for (int kind = 0; kind < KINDS; kind++)
        for (int k = 0; k < b->count; k++) {
            int64_t *load = b->load[kind] + (ptrdiff_t)k * b->shape->ranks;
            struct weights w = weigh(b, c, (enum kind)kind, k);

            for (int i = 0; i < c->touched; i++)
                load[b->touched[i]] += more(&w, b->bits[b->touched[i]]);
            find_first(b, (enum kind)kind, k);
        }
    b->item[c->from] = c->b;
    flip(b, c->a, b->rank[c->from]);
    flip(b, c->b, b->rank[c->from]);
    if (c->with >= 0) {
        b->item[c->with] = c->a;
        flip(b, c->a, b->rank[c->with]);
        flip(b, c->b, b->rank[c->with]);
    }
    b->replicas[c->a] = c->a_next;
    b->replicas[c->b] = c->b_next;
}

static void exchange(struct plan_batches *b, int tries)
{
    int64_t least = sum_most(b);

    for (int i = 0; i < tries; i++) {
        struct change c;
        int64_t sum;

        if (!draw(b, &c))
            continue;
        mark(b, &c);
        sum = sum_after(b, &c);
        if (sum < least) {
            least = sum;
            apply(b, &c);
        }
        unmark(b, &c);
    }
}

enum status plan_batches_fit(struct plan_batches *b, enum plan_levels levels, const int64_t *batch, int count,
                             int tries, struct placement *p)
{
    if (count > b->batches)
        return FAIL(STATUS_BUG, "%d batches for a planner of %d", count, b->batches);
    if (count == 0)
        return STATUS_OK;
    b->count = count;
    b->nodes = b->shape->rank_node && plan_shape_levels(b->shape, levels) != PLAN_GLOBAL;
    for (int layer = 0; layer < p->layers; layer++) {
        if (take_layer(b, p, layer, batch) != STATUS_OK)
            return status_prefix(STATUS_BAD_INPUT, "layer %d: ", layer);
        b->random = 0; /* alike for all layers, so that a plan does not depend on the others */
        exchange(b, tries);
    }
    return placement_index(p);
}
