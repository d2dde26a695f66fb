/* replicas.c - which replica serves which rows of a batch
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "eplb/replicas.h"

#include "engine/base/range.h"
#include "eplb/flow.h"

#include <string.h>

enum { MOST_EXCHANGES = 256 };

struct replicas {
    int experts, slots, ranks;
    int32_t *rank_first; /* [P + 1] */
    int32_t *rank;       /* [slots] */
    int32_t *node_end;   /* [P] the first rank behind the node of a rank */
    struct flow *flow;

    int64_t *demand; /* [E] rows of an expert */
    int64_t *unit;   /* [E] 1 where there are rows */
    int64_t *quota;  /* [slots] */
    int64_t *fewest; /* [slots] of a second way */
    int64_t *rows;   /* [P] */
    int32_t *active; /* [P] */
    int32_t *left;   /* [P] rows of an expert that no slot has yet */
    int32_t *room;   /* [slots] rows that a slot still takes */
    int32_t *at;     /* [E] the replica that takes the next row */
};

enum status replicas_open(struct replicas **out, struct arena *arena, const struct placement *like,
                          const int32_t *rank_node)
{
    struct replicas *r;
    size_t experts = (size_t)like->experts, slots = (size_t)like->slots, ranks = (size_t)like->ranks;

    TRY(arena_take(arena, sizeof *r, "choice of replicas", &r));
    r->experts = like->experts;
    r->slots = like->slots;
    r->ranks = like->ranks;
    TRY(flow_open(&r->flow, arena, like->experts, like->slots, like->ranks));
    TRY(arena_take_array(arena, ranks + 1, sizeof *r->rank_first, "slots of ranks", &r->rank_first));
    TRY(arena_take_array(arena, slots, sizeof *r->rank, "ranks of slots", &r->rank));
    TRY(arena_take_array(arena, ranks, sizeof *r->node_end, "nodes", &r->node_end));
    TRY(arena_take_array(arena, experts, sizeof *r->demand, "rows of experts", &r->demand));
    TRY(arena_take_array(arena, experts, sizeof *r->unit, "active experts", &r->unit));
    TRY(arena_take_array(arena, slots, sizeof *r->quota, "quotas", &r->quota));
    TRY(arena_take_array(arena, slots, sizeof *r->fewest, "quotas", &r->fewest));
    TRY(arena_take_array(arena, ranks, sizeof *r->rows, "rows of ranks", &r->rows));
    TRY(arena_take_array(arena, ranks, sizeof *r->active, "active experts of ranks", &r->active));
    TRY(arena_take_array(arena, ranks, sizeof *r->left, "rows to place", &r->left));
    TRY(arena_take_array(arena, slots, sizeof *r->room, "room of slots", &r->room));
    TRY(arena_take_array(arena, experts, sizeof *r->at, "replicas in turn", &r->at));
    memcpy(r->rank_first, like->rank_first, sizeof *r->rank_first * (ranks + 1));
    for (int rank = r->ranks - 1; rank >= 0; rank--) {
        bool last = rank == r->ranks - 1 || (rank_node && rank_node[rank] != rank_node[rank + 1]);

        r->node_end[rank] = last ? rank + 1 : r->node_end[rank + 1];
        for (int s = r->rank_first[rank]; s < r->rank_first[rank + 1]; s++)
            r->rank[s] = rank;
    }
    *out = r;
    return STATUS_OK;
}

static enum status check_sizes(const struct replicas *r, const struct placement *p, int layer)
{
    if (p->experts != r->experts || p->slots != r->slots || p->ranks != r->ranks || layer < 0 ||
        layer >= p->layers)
        return FAIL(
            STATUS_BUG,
            "replicas of %d experts in %d slots on %d ranks in layer %d of %d, made for %d, %d and %d",
            p->experts, p->slots, p->ranks, layer, p->layers, r->experts, r->slots, r->ranks);
    return STATUS_OK;
}

static enum status sum_counts(struct replicas *r, const int32_t *counts)
{
    int64_t most = 0;

    memset(r->demand, 0, sizeof *r->demand * (size_t)r->experts);
    for (int rank = 0; rank < r->ranks; rank++) {
        const int32_t *row = counts + (ptrdiff_t)rank * r->experts;
        int32_t signs = 0;

        for (int e = 0; e < r->experts; e++) {
            r->demand[e] += row[e];
            signs |= row[e];
        }
        if (signs < 0)
            return FAIL(STATUS_BUG, "rank %d says that it has less than 0 rows for an expert", rank);
    }
    for (int e = 0; e < r->experts; e++)
        most = r->demand[e] > most ? r->demand[e] : most;
    if (most > INT32_MAX)
        return FAIL(STATUS_BUG, "an expert has %lld rows in a batch", (long long)most);
    return STATUS_OK;
}

/* Rows and active experts of the ranks under these quotas. */
static struct replicas_result weigh(struct replicas *r, const int64_t *quota, enum replicas_policy policy,
                                    const struct replicas_cost *cost)
{
    struct replicas_result result = {.policy = policy};

    for (int rank = 0; rank < r->ranks; rank++) {
        int64_t rows = 0, time;
        int active = 0;

        for (int s = r->rank_first[rank]; s < r->rank_first[rank + 1]; s++) {
            rows += quota[s];
            active += quota[s] > 0;
        }
        r->rows[rank] = rows;
        r->active[rank] = active;
        result.rows = rows > result.rows ? rows : result.rows;
        result.active = active > result.active ? active : result.active;
        if (!cost)
            continue;
        time = active * cost->expert_picoseconds;
        time = rows * cost->row_picoseconds > time ? rows * cost->row_picoseconds : time;
        result.picoseconds = time > result.picoseconds ? time : result.picoseconds;
    }
    return result;
}

/* The slot to which an expert of slot `from` can go so that the busier of the two ranks has least rows; -1:
 * no change helps. Ranks stay below `most` active experts. */
static int lighter_slot(const struct replicas *r, const struct placement *p, int layer, int from, int most)
{
    const int32_t *first = p->first + (ptrdiff_t)layer * (p->experts + 1);
    const int32_t *replica = p->replica + (ptrdiff_t)layer * p->slots;
    int e = p->expert[(ptrdiff_t)layer * p->slots + from], best = -1;
    int64_t least = r->rows[r->rank[from]];

    for (int i = first[e]; i < first[e + 1]; i++) {
        int to = r->rank[replica[i]];
        int64_t rows = r->rows[to] + r->fewest[from];

        if (to != r->rank[from] && r->active[to] < most && rows < least) {
            least = rows;
            best = replica[i];
        }
    }
    return best;
}

/* Experts of the rank with most rows go elsewhere while that lowers them and no rank gets more experts than
 * `most`. Each step takes rows off a busiest rank and makes none as busy, so it ends. */
static void even_rows(struct replicas *r, const struct placement *p, int layer, int most)
{
    for (int step = 0; step < MOST_EXCHANGES; step++) {
        int busiest = 0, from = -1, to = -1;
        int64_t least;

        for (int rank = 1; rank < r->ranks; rank++) {
            if (r->rows[rank] > r->rows[busiest])
                busiest = rank;
        }
        least = r->rows[busiest];
        for (int s = r->rank_first[busiest]; s < r->rank_first[busiest + 1]; s++) {
            int other = r->fewest[s] > 0 ? lighter_slot(r, p, layer, s, most) : -1;

            if (other >= 0 && r->rows[r->rank[other]] + r->fewest[s] < least) {
                least = r->rows[r->rank[other]] + r->fewest[s];
                from = s;
                to = other;
            }
        }
        if (from < 0)
            return;
        r->rows[busiest] -= r->fewest[from];
        r->rows[r->rank[to]] += r->fewest[from];
        r->active[busiest]--;
        r->active[r->rank[to]]++;
        r->fewest[to] = r->fewest[from];
        r->fewest[from] = 0;
    }
}

/* One replica per active expert: a flow of one unit each stays whole, so each goes to one slot. */
static enum status plan_fewest(struct replicas *r, const struct placement *p, int layer)
{
    const int32_t *expert = p->expert + (ptrdiff_t)layer * p->slots;
    int64_t most;

    for (int e = 0; e < r->experts; e++)
        r->unit[e] = r->demand[e] > 0;
    TRY(flow_layer(r->flow, p, layer, r->unit, r->fewest, &most));
    for (int s = 0; s < r->slots; s++)
        r->fewest[s] = r->fewest[s] > 0 ? r->demand[expert[s]] : 0;
    weigh(r, r->fewest, REPLICAS_FEWEST, NULL);
    even_rows(r, p, layer, (int)most);
    return STATUS_OK;
}

enum status replicas_fewest(struct replicas *r, const struct placement *p, int layer, const int64_t *demand,
                            int64_t *quota, struct replicas_result *result)
{
    TRY(check_sizes(r, p, layer));
    for (int e = 0; e < r->experts; e++) {
        if (demand[e] < 0 || demand[e] > INT32_MAX)
            return FAIL(STATUS_BUG, "expert %d has %lld rows in a batch", e, (long long)demand[e]);
    }
    memcpy(r->demand, demand, sizeof *demand * (size_t)r->experts);
    TRY(plan_fewest(r, p, layer));
    *result = weigh(r, r->fewest, REPLICAS_FEWEST, NULL);
    memcpy(quota, r->fewest, sizeof *quota * (size_t)r->slots);
    return STATUS_OK;
}

static int32_t lesser(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

/* Rows of ranks from ... to - 1 to slots replica[first] ... replica[last - 1], both in order. */
static void walk(struct replicas *r, const int32_t *replica, int first, int last, struct range ranks,
                 int32_t *share)
{
    int at = first;

    for (int rank = ranks.first; rank < ranks.first + ranks.count && at < last; rank++) {
        while (r->left[rank] > 0 && at < last) {
            int s = replica[at];
            int32_t rows = lesser(r->left[rank], r->room[s]);

            share[(ptrdiff_t)rank * r->slots + s] += rows;
            r->left[rank] -= rows;
            r->room[s] -= rows;
            at += r->room[s] == 0;
        }
    }
}

/* The rows of an expert with several slots: own slots first, then those of the node, then any. */
static void share_expert(struct replicas *r, const int32_t *replica, int replicas, const int32_t *counts,
                         int32_t *share)
{
    for (int rank = 0; rank < r->ranks; rank++)
        r->left[rank] = counts[(ptrdiff_t)rank * r->experts];
    for (int i = 0; i < replicas; i++) {
        int s = replica[i], rank = r->rank[s];
        int32_t rows = lesser(r->left[rank], (int32_t)r->quota[s]);

        r->room[s] = (int32_t)r->quota[s] - rows;
        r->left[rank] -= rows;
        share[(ptrdiff_t)rank * r->slots + s] = rows;
    }
    for (int i = 0, begin = 0, next; i < replicas; i = next, begin = r->node_end[begin]) {
        int end;

        while (r->node_end[begin] <= r->rank[replica[i]])
            begin = r->node_end[begin];
        end = r->node_end[begin];
        for (next = i + 1; next < replicas && r->rank[replica[next]] < end;)
            next++;
        walk(r, replica, i, next, (struct range){.first = begin, .count = end - begin}, share);
    }
    walk(r, replica, 0, replicas, (struct range){.first = 0, .count = r->ranks}, share);
}

/* Every rank makes the same table from quotas. */
static void share_quotas(struct replicas *r, const struct placement *p, int layer, const int32_t *counts,
                         int32_t *share)
{
    const int32_t *first = p->first + (ptrdiff_t)layer * (p->experts + 1);
    const int32_t *replica = p->replica + (ptrdiff_t)layer * p->slots;

    memset(share, 0, sizeof *share * (size_t)r->ranks * (size_t)r->slots);
    for (int rank = 0; rank < r->ranks; rank++) {
        const int32_t *row = counts + (ptrdiff_t)rank * r->experts;
        int32_t *out = share + (ptrdiff_t)rank * r->slots;

        for (int e = 0; e < r->experts; e++) {
            if (first[e + 1] - first[e] == 1)
                out[replica[first[e]]] = row[e];
        }
    }
    for (int e = 0; e < r->experts; e++) {
        int replicas = first[e + 1] - first[e];

        if (replicas > 1 && r->demand[e] > 0)
            share_expert(r, replica + first[e], replicas, counts + e, share);
    }
}

/* The number of a row among all rows of its expert, hashed by Knuth's multiplier, picks the slot. */
static void share_hashed(struct replicas *r, const struct placement *p, int layer, const int32_t *counts,
                         int32_t *share)
{
    const int32_t *first = p->first + (ptrdiff_t)layer * (p->experts + 1);
    const int32_t *replica = p->replica + (ptrdiff_t)layer * p->slots;

    memset(share, 0, sizeof *share * (size_t)r->ranks * (size_t)r->slots);
    memset(r->quota, 0, sizeof *r->quota * (size_t)r->slots);
    for (int e = 0; e < r->experts; e++) {
        uint32_t replicas = (uint32_t)(first[e + 1] - first[e]), number = 0;

        for (int rank = 0; rank < r->ranks; rank++) {
            int32_t *out = share + (ptrdiff_t)rank * r->slots;

            for (int32_t i = counts[(ptrdiff_t)rank * r->experts + e]; i > 0; i--) {
                uint32_t hash = number++ * 2654435761u;
                int s = replica[first[e] + (int)((hash >> 16) % replicas)];

                out[s]++;
                r->quota[s]++;
            }
        }
    }
}

enum status replicas_share(struct replicas *r, const struct placement *p, int layer, const int32_t *counts,
                           enum replicas_policy policy, const struct replicas_cost *cost, int32_t *share,
                           struct replicas_result *result)
{
    struct replicas_result flow, fewest;
    int64_t most;

    TRY(check_sizes(r, p, layer));
    TRY(sum_counts(r, counts));
    if (policy == REPLICAS_EVEN) {
        share_hashed(r, p, layer, counts, share);
        *result = weigh(r, r->quota, REPLICAS_EVEN, cost);
        return STATUS_OK;
    }
    if (policy != REPLICAS_FEWEST) {
        TRY(flow_layer(r->flow, p, layer, r->demand, r->quota, &most));
        flow = weigh(r, r->quota, REPLICAS_FLOW, cost);
    }
    if (policy == REPLICAS_FEWEST || (policy == REPLICAS_AUTO && cost)) {
        TRY(plan_fewest(r, p, layer));
        fewest = weigh(r, r->fewest, REPLICAS_FEWEST, cost);
        if (policy == REPLICAS_FEWEST || fewest.picoseconds < flow.picoseconds) {
            memcpy(r->quota, r->fewest, sizeof *r->quota * (size_t)r->slots);
            flow = fewest;
        }
    }
    share_quotas(r, p, layer, counts, share);
    *result = flow;
    return STATUS_OK;
}

enum status replicas_assign(struct replicas *r, const struct placement *p, int layer, const int32_t *share,
                            const int32_t *expert, int32_t *slot, int count)
{
    const int32_t *first = p->first + (ptrdiff_t)layer * (p->experts + 1);
    const int32_t *replica = p->replica + (ptrdiff_t)layer * p->slots;

    TRY(check_sizes(r, p, layer));
    memcpy(r->at, first, sizeof *r->at * (size_t)r->experts);
    memcpy(r->room, share, sizeof *r->room * (size_t)r->slots);
    for (int i = 0; i < count; i++) {
        int e = expert[i], at = r->at[e];

        while (at < first[e + 1] && r->room[replica[at]] == 0)
            at++;
        if (at == first[e + 1])
            return FAIL(STATUS_BUG, "layer %d: more rows for expert %d than were counted", layer, e);
        r->at[e] = at;
        slot[i] = replica[at];
        r->room[replica[at]]--;
    }
    return STATUS_OK;
}
