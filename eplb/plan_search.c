/* plan_search.c - exchanges that take load off the busiest rank of a site
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "eplb/plan_search.h"

enum { PARTNERS = 8, MOST_STEPS = 2000, MOST_CHANGES = 4 };

enum kind {
    SWAP,   /* a on m changes place with b on p; without b, it goes there */
    SPREAD, /* a of m also gets the slot of b on p, or an empty one */
    DROP,   /* the slot of a on m becomes a replica of b; without b, it stays empty */
};

struct change {
    enum kind kind;
    int m, p;       /* ranks; p is -1 for a drop */
    int from, with; /* slots; with is -1 for a drop */
    int a, b;       /* experts; b is -1 for an empty slot */
    int64_t score;  /* largest load of a rank that is touched */
};

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Largest load among the hosts of a, or of b, when the share of a rises by `a_more` and that of b by
 * `b_more`; ranks m and p left out. */
static int64_t hosts_most(const struct plan_layer *l, const struct change *c, int of, int64_t a_more,
                          int64_t b_more)
{
    const uint64_t *host = l->now.host + (ptrdiff_t)of * l->words;
    int64_t most = 0;

    for (int w = 0; w < l->words; w++) {
        for (uint64_t bits = host[w]; bits; bits &= bits - 1) {
            int r = w * 64 + __builtin_ctzll(bits);
            int64_t load = l->now.rank_load[r];

            if (r == c->m || r == c->p)
                continue;
            load += plan_state_holds(l, c->a, r) ? a_more : 0;
            load += c->b >= 0 && plan_state_holds(l, c->b, r) ? b_more : 0;
            most = larger(most, load);
        }
    }
    return most;
}

/* May a and b change places? */
static bool can_swap(const struct plan_layer *l, const struct change *c)
{
    const struct plan_state *s = &l->now;

    if (plan_state_holds(l, c->a, c->p) || !plan_state_leaves(l, c->a, c->m, c->p))
        return false;
    if (c->b >= 0 && (plan_state_holds(l, c->b, c->m) || !plan_state_leaves(l, c->b, c->p, c->m)))
        return false;
    return !l->alike || (s->replicas[c->a] > 1) == (c->b >= 0 && s->replicas[c->b] > 1);
}

static void try_swap(const struct plan_layer *l, struct change c, struct change *best)
{
    const struct plan_state *s = &l->now;
    int64_t less = s->share[c.a] - (c.b < 0 ? 0 : s->share[c.b]);

    if (less <= 0)
        return;
    c.kind = SWAP;
    c.score = larger(s->rank_load[c.m] - less, s->rank_load[c.p] + less);
    if (c.score < best->score && can_swap(l, &c))
        *best = c;
}

static void try_spread(const struct plan_layer *l, struct change c, struct change *best)
{
    const struct plan_state *s = &l->now;
    int64_t a_more = s->more[c.a] - s->share[c.a], b_more = 0, here, there;

    if (s->replicas[c.a] >= l->ranks || (c.b >= 0 && s->replicas[c.b] < 2))
        return;
    if (l->alike && (s->replicas[c.a] < 2 || (c.b >= 0 && s->replicas[c.b] < 3)))
        return;
    there = s->rank_load[c.p] + s->more[c.a];
    here = s->rank_load[c.m] + a_more;
    if (c.b >= 0) {
        b_more = s->less[c.b] - s->share[c.b];
        there -= s->share[c.b];
        here += plan_state_holds(l, c.b, c.m) ? b_more : 0;
    }
    c.kind = SPREAD;
    c.score = larger(here, there);
    if (c.score >= best->score || plan_state_holds(l, c.a, c.p))
        return;
    if (c.b >= 0) {
        if (!plan_state_leaves(l, c.b, c.p, -1))
            return;
        c.score = larger(c.score, hosts_most(l, &c, c.b, a_more, b_more));
    }
    if (c.score < best->score)
        *best = c;
}

static void try_drop(const struct plan_layer *l, struct change c, struct change *best)
{
    const struct plan_state *s = &l->now;
    int64_t a_more = s->less[c.a] - s->share[c.a], b_more = c.b < 0 ? 0 : s->more[c.b] - s->share[c.b];

    c.kind = DROP;
    c.score = s->rank_load[c.m] - s->share[c.a] + (c.b < 0 ? 0 : s->more[c.b]);
    if (c.score >= best->score)
        return;
    if (c.b >= 0 && (s->replicas[c.b] >= l->ranks || plan_state_holds(l, c.b, c.m)))
        return;
    if (l->alike && (s->replicas[c.a] < 3 || s->replicas[c.b] < 2))
        return;
    c.score = larger(c.score, hosts_most(l, &c, c.a, a_more, b_more));
    if (c.score < best->score && plan_state_leaves(l, c.a, c.m, -1))
        *best = c;
}

static void try_partner(const struct plan_layer *l, int m, int p, struct change *best)
{
    const struct plan_state *s = &l->now;
    const int32_t *first = l->shape->rank_first;

    for (int i = first[m]; i < first[m] + l->slots[m]; i++) {
        if (s->item[i] < 0)
            continue;
        for (int j = first[p]; j < first[p] + l->slots[p]; j++) {
            struct change c = {.m = m, .p = p, .from = i, .with = j, .a = s->item[i], .b = s->item[j]};

            if (c.a == c.b)
                continue;
            try_swap(l, c, best);
            try_spread(l, c, best);
        }
    }
}

static void try_drops(const struct plan_layer *l, int m, struct change *best)
{
    const struct plan_state *s = &l->now;

    for (int i = l->shape->rank_first[m]; i < l->shape->rank_first[m] + l->slots[m]; i++) {
        if (s->item[i] < 0 || s->replicas[s->item[i]] < 2)
            continue;
        for (int j = 0; j < l->experts; j++) {
            struct change c = {.m = m, .p = -1, .from = i, .with = -1, .a = s->item[i], .b = l->expert[j]};

            if (c.a != c.b)
                try_drop(l, c, best);
        }
        if (l->gaps)
            try_drop(l, (struct change){.m = m, .p = -1, .from = i, .with = -1, .a = s->item[i], .b = -1},
                     best);
    }
}

/* Another number of replicas changes the load of all hosts. */
static void set_replicas(struct plan_layer *l, int expert, int replicas)
{
    const uint64_t *host = l->now.host + (ptrdiff_t)expert * l->words;
    int64_t before = l->now.share[expert], more;

    plan_state_share(l, expert, replicas);
    more = l->now.share[expert] - before;
    for (int w = 0; w < l->words; w++) {
        for (uint64_t bits = host[w]; bits; bits &= bits - 1)
            l->now.rank_load[w * 64 + __builtin_ctzll(bits)] += more;
    }
}

/* The item of a slot becomes another, each with its present share. */
static void set_item(struct plan_layer *l, int rank, int slot, int expert)
{
    int before = l->now.item[slot];

    if (before >= 0) {
        plan_state_flip(l, before, rank);
        l->now.rank_load[rank] -= l->now.share[before];
    }
    l->now.item[slot] = expert;
    if (expert >= 0) {
        plan_state_flip(l, expert, rank);
        l->now.rank_load[rank] += l->now.share[expert];
    }
}

static void apply(struct plan_layer *l, const struct change *c)
{
    switch (c->kind) {
    case SWAP:
        set_item(l, c->m, c->from, c->b);
        set_item(l, c->p, c->with, c->a);
        break;
    case SPREAD:
        set_item(l, c->p, c->with, c->a);
        set_replicas(l, c->a, l->now.replicas[c->a] + 1);
        if (c->b >= 0)
            set_replicas(l, c->b, l->now.replicas[c->b] - 1);
        break;
    case DROP:
        set_item(l, c->m, c->from, c->b);
        if (c->b >= 0)
            set_replicas(l, c->b, l->now.replicas[c->b] + 1);
        set_replicas(l, c->a, l->now.replicas[c->a] - 1);
        break;
    }
}

/* The busiest rank, and up to PARTNERS of the lightest, lightest first; how many. */
static int find_partners(const struct plan_layer *l, int *busiest, int partner[PARTNERS])
{
    int m = l->rank[0], count = 0;

    for (int i = 0; i < l->ranks; i++) {
        int r = l->rank[i], at;
        int64_t load = l->now.rank_load[r];

        if (load > l->now.rank_load[m])
            m = r;
        if (count == PARTNERS && load >= l->now.rank_load[partner[PARTNERS - 1]])
            continue;
        at = count < PARTNERS ? count++ : PARTNERS - 1;
        for (; at > 0 && l->now.rank_load[partner[at - 1]] > load; at--)
            partner[at] = partner[at - 1];
        partner[at] = r;
    }
    *busiest = m;
    return count;
}

void plan_search_descend(struct plan_layer *l, int64_t target)
{
    for (int step = 0; step < MOST_STEPS; step++) {
        int m, partner[PARTNERS], count = find_partners(l, &m, partner);
        struct change best = {.m = -1, .score = l->now.rank_load[m]};

        if (best.score <= target)
            return;
        for (int i = 0; i < count; i++) {
            if (partner[i] != m)
                try_partner(l, m, partner[i], &best);
        }
        if (best.m < 0)
            try_drops(l, m, &best);
        for (int i = 0; i < l->ranks && best.m < 0 && count < l->ranks; i++) {
            if (l->rank[i] != m)
                try_partner(l, m, l->rank[i], &best);
        }
        if (best.m < 0)
            return;
        apply(l, &best);
    }
}

static int below(struct plan_layer *l, int n)
{
    l->random = l->random * 6364136223846793005u + 1442695040888963407u;
    return (int)((l->random >> 33) * (uint64_t)n >> 31);
}

/* A random exchange between the busiest rank and another, if the one that is drawn is legal. */
static void change_something(struct plan_layer *l, int m)
{
    const int32_t *first = l->shape->rank_first;
    struct change best = {.m = -1, .score = INT64_MAX};
    struct change c = {.m = m, .p = l->rank[below(l, l->ranks)]};

    if (c.m == c.p)
        return;
    c.from = first[c.m] + below(l, l->slots[c.m]);
    c.with = first[c.p] + below(l, l->slots[c.p]);
    c.a = l->now.item[c.from];
    c.b = l->now.item[c.with];
    if (c.a < 0 || c.a == c.b)
        return;
    if (l->gaps && below(l, 2) && l->now.replicas[c.a] > 1) {
        c.kind = DROP;
        c.p = c.with = c.b = -1;
        if (plan_state_leaves(l, c.a, c.m, -1))
            apply(l, &c);
        return;
    }
    if (below(l, 2))
        try_spread(l, c, &best);
    if (best.m >= 0)
        apply(l, &best);
    else if (can_swap(l, &c))
        apply(l, &c); /* a swap, whatever it weighs */
}

void plan_search_kick(struct plan_layer *l, int64_t target, int kicks)
{
    int64_t least;

    plan_search_descend(l, target);
    least = plan_state_most(l);
    if (least <= target || l->ranks < 2)
        return;
    plan_state_copy(&l->best, &l->now);
    for (int kick = 0; kick < kicks && least > target; kick++) {
        int m, partner[PARTNERS];
        int64_t most;

        find_partners(l, &m, partner);
        for (int i = below(l, MOST_CHANGES); i >= 0; i--)
            change_something(l, m);
        plan_search_descend(l, target);
        most = plan_state_most(l);
        if (most <= least) {
            least = most;
            plan_state_copy(&l->best, &l->now);
        } else {
            plan_state_copy(&l->now, &l->best);
        }
    }
}
