/* devices_match.c - which device each rank of a node takes
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "launch/devices_match.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static const int64_t FORBIDDEN = INT64_C(1) << 32;

/* All devices of the node, and what each would cost each rank. */
struct table {
    int ranks, devices;
    char (*bus)[DEVICES_MATCH_BUS_BYTES]; /* [devices] in the order in which the ranks name them */
    int64_t *cost;                        /* [ranks, devices]; FORBIDDEN: not seen, or too old */
    int *own;                             /* [ranks, devices] the rank's number of it */
    int *fixed;                           /* [ranks] device already decided on; -1: none */
    int old;                              /* devices that are too old */
    int oldest;                           /* capability of one of them */
};

/* Place of a bus in the list, where a new one is appended. */
static int place_of(struct table *t, const char *bus)
{
    int d = 0;

    while (d < t->devices && strcmp(t->bus[d], bus) != 0)
        d++;
    if (d == t->devices)
        memcpy(t->bus[t->devices++], bus, DEVICES_MATCH_BUS_BYTES);
    return d;
}

static enum status fill_table(struct table *t, const struct devices_match_seen *rank, int least,
                              struct arena *arena)
{
    size_t room = (size_t)t->ranks * DEVICES_MATCH_MOST;
    uint64_t *counted;

    TRY(arena_take_array(arena, room, sizeof *t->bus, "devices", &t->bus));
    TRY(arena_take_array(arena, room, sizeof *counted, "old devices", &counted));
    for (int r = 0; r < t->ranks; r++)
        for (int i = 0; i < rank[r].count; i++)
            place_of(t, rank[r].device[i].bus);
    room = (size_t)t->ranks * (size_t)t->devices;
    TRY(arena_take_array(arena, room, sizeof *t->cost, "distances of devices", &t->cost));
    TRY(arena_take_array(arena, room, sizeof *t->own, "numbers of devices", &t->own));
    TRY(arena_take_array(arena, (size_t)t->ranks, sizeof *t->fixed, "decided devices", &t->fixed));
    for (size_t i = 0; i < room; i++)
        t->cost[i] = FORBIDDEN;
    for (int r = 0; r < t->ranks; r++) {
        t->fixed[r] = -1;
        for (int i = 0; i < rank[r].count; i++) {
            const struct devices_match_one *seen = &rank[r].device[i];
            int d = place_of(t, seen->bus);
            size_t at = (size_t)r * (size_t)t->devices + (size_t)d;

            t->own[at] = i;
            if (seen->capability >= least) {
                t->cost[at] = seen->distance > 0 ? seen->distance : 0;
            } else if (!counted[d]) {
                counted[d] = 1;
                t->old++;
                t->oldest = seen->capability;
            }
        }
    }
    return STATUS_OK;
}

static int64_t cost_of(const struct table *t, int r, int d)
{
    if (t->fixed[r] >= 0 && t->fixed[r] != d)
        return FORBIDDEN;
    return t->cost[(size_t)r * (size_t)t->devices + (size_t)d];
}

/* Work arrays of `least_sum`, one more than there are devices. */
struct search {
    int64_t *price, *slack; /* of devices; how far the nearest rank of the tree is from paying it */
    int64_t *offer;         /* of ranks */
    int *taker, *before;    /* rank + 1 of a device; the device before it on the path */
    bool *tried;
};

/* Adds rank r to the matching: the Hungarian method with potentials (Kuhn 1955, Munkres 1957), devices as
 * columns. Places count from 1; column 0 holds the rank that is being added. */
static void add_rank(const struct table *t, struct search *s, int r)
{
    int at = 0;

    s->taker[0] = r + 1;
    for (int d = 0; d <= t->devices; d++) {
        s->slack[d] = INT64_MAX;
        s->tried[d] = false;
    }
    do {
        int64_t step = INT64_MAX;
        int row = s->taker[at], next = 0;

        s->tried[at] = true;
        for (int d = 1; d <= t->devices; d++) {
            int64_t short_of;

            if (s->tried[d])
                continue;
            short_of = cost_of(t, row - 1, d - 1) - s->offer[row] - s->price[d];
            if (short_of < s->slack[d]) {
                s->slack[d] = short_of;
                s->before[d] = at;
            }
            if (s->slack[d] < step) {
                step = s->slack[d];
                next = d;
            }
        }
        for (int d = 0; d <= t->devices; d++) {
            if (s->tried[d]) {
                s->offer[s->taker[d]] += step;
                s->price[d] -= step;
            } else {
                s->slack[d] -= step;
            }
        }
        at = next;
    } while (s->taker[at] != 0);
    for (; at != 0; at = s->before[at])
        s->taker[at] = s->taker[s->before[at]];
}

/* The least sum of distances with what is decided already; FORBIDDEN or more: there is no matching. */
static int64_t least_sum(const struct table *t, struct search *s)
{
    int64_t sum = 0;

    memset(s->price, 0, ((size_t)t->devices + 1) * sizeof *s->price);
    memset(s->offer, 0, ((size_t)t->ranks + 1) * sizeof *s->offer);
    memset(s->taker, 0, ((size_t)t->devices + 1) * sizeof *s->taker);
    for (int r = 0; r < t->ranks; r++)
        add_rank(t, s, r);
    for (int d = 1; d <= t->devices; d++)
        if (s->taker[d] > 0)
            sum += cost_of(t, s->taker[d] - 1, d - 1);
    return sum;
}

static enum status open_search(const struct table *t, struct search *s, struct arena *arena)
{
    size_t places = (size_t)t->devices + 1;

    TRY(arena_take_array(arena, places, sizeof *s->price, "a search", &s->price));
    TRY(arena_take_array(arena, places, sizeof *s->slack, "a search", &s->slack));
    TRY(arena_take_array(arena, (size_t)t->ranks + 1, sizeof *s->offer, "a search", &s->offer));
    TRY(arena_take_array(arena, places, sizeof *s->taker, "a search", &s->taker));
    TRY(arena_take_array(arena, places, sizeof *s->before, "a search", &s->before));
    return arena_take_array(arena, places, sizeof *s->tried, "a search", &s->tried);
}

/* In words: too few, or the same one given to two ranks. */
static enum status refuse(const struct table *t, const struct devices_match_seen *rank)
{
    char old[96] = "";

    if (t->old > 0)
        snprintf(old, sizeof old, " (%d more %s too old: compute capability %d.%d, at least 8.0 is needed)",
                 t->old, t->old == 1 ? "is" : "are", t->oldest / 10, t->oldest % 10);
    for (int r = 0; r < t->ranks; r++)
        for (int other = r + 1; other < t->ranks; other++)
            if (rank[r].count == 1 && rank[other].count == 1 && t->devices > 1 &&
                strcmp(rank[r].device[0].bus, rank[other].device[0].bus) == 0)
                return FAIL(
                    STATUS_UNAVAILABLE,
                    "ranks %d and %d of this machine were both given GPU %s and no other; give each rank one "
                    "of its own (Slurm: --gpus-per-task=1), or show all GPUs to all ranks",
                    r, other, rank[r].device[0].bus);
    return FAIL(
        STATUS_UNAVAILABLE,
        "this machine shows %d GPU%s to its %d rank%s and each needs one of its own%s; start fewer ranks, "
        "or show them more (CUDA_VISIBLE_DEVICES; Slurm: --gpus-per-node=%d)",
        t->devices - t->old, t->devices - t->old == 1 ? "" : "s", t->ranks, t->ranks == 1 ? "" : "s", old,
        t->ranks);
}

enum status devices_match(const struct devices_match_seen *rank, int ranks, int least, struct arena *arena,
                          int *number)
{
    struct table t = {.ranks = ranks};
    struct search s;
    int64_t best;

    TRY(fill_table(&t, rank, least, arena));
    if (t.devices < ranks)
        return refuse(&t, rank);
    TRY(open_search(&t, &s, arena));
    best = least_sum(&t, &s);
    if (best >= FORBIDDEN)
        return refuse(&t, rank);
    for (int r = 0; r < ranks; r++) {
        int d = 0;

        for (; d < t.devices; d++) {
            t.fixed[r] = -1;
            if (cost_of(&t, r, d) >= FORBIDDEN)
                continue;
            t.fixed[r] = d;
            if (least_sum(&t, &s) == best)
                break;
        }
        number[r] = t.own[(size_t)r * (size_t)t.devices + (size_t)d];
    }
    return STATUS_OK;
}
