/* test_replicas.c - every row gets a slot of its expert, near ones first, and the busiest rank has least to
 * do
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "eplb/replicas.h"

#include "eplb_gold.h"
#include "eplb_shape.h"

enum { EXPERTS = 24, SLOTS = 60, RANKS = 9 };

struct trial {
    struct placement p;
    int32_t node[RANKS];
    int32_t counts[RANKS * EXPERTS];
    int32_t share[RANKS * SLOTS];
    int64_t quota[SLOTS];
    struct replicas *replicas;
    struct replicas_result result;
};

/* A legal placement with uneven ranks and empty slots, on some nodes, and a batch. */
static void draw(struct trial *t, int most_experts)
{
    int ranks = 1 + eplb_below(RANKS), experts = 1 + eplb_below(most_experts), nodes = 1 + eplb_below(3),
        slots = 0;
    int size[RANKS], hot = eplb_below(3);
    bool on[RANKS][EXPERTS] = {{false}};

    for (int r = 0; r < ranks; r++) {
        size[r] = eplb_below(5);
        slots += size[r];
        t->node[r] = r * nodes / ranks;
    }
    for (; slots < experts; slots++)
        size[eplb_below(ranks)]++;
    assert_int_equal(arena_open(&eplb_gold_arena, "replicas", 4 << 20), STATUS_OK);
    assert_int_equal(placement_open(&t->p, &eplb_gold_arena, 1, experts, slots, ranks), STATUS_OK);
    for (int r = 0; r < ranks; r++)
        t->p.rank_first[r + 1] = t->p.rank_first[r] + size[r];
    for (int s = 0, e = 0; s < slots; s++) {
        int r = placement_rank(&t->p, s), which = e < experts ? e++ : eplb_below(experts);

        if (on[r][which])
            continue; /* stays empty */
        on[r][which] = true;
        t->p.expert[s] = which;
    }
    for (int s = slots - 1; s > 0; s--) { /* mixed within ranks */
        int r = placement_rank(&t->p, s), other = t->p.rank_first[r] + eplb_below(s - t->p.rank_first[r] + 1);
        int32_t kept = t->p.expert[s];

        t->p.expert[s] = t->p.expert[other];
        t->p.expert[other] = kept;
    }
    assert_int_equal(placement_index(&t->p), STATUS_OK);
    assert_int_equal(replicas_open(&t->replicas, &eplb_gold_arena, &t->p, t->node), STATUS_OK);
    for (int i = 0; i < ranks * experts; i++)
        t->counts[i] = eplb_below(3) == 0 ? 0 : eplb_below(hot && i % experts == 0 ? 500 : 20);
}

static int64_t demand(const struct trial *t, int e)
{
    int64_t rows = 0;

    for (int r = 0; r < t->p.ranks; r++)
        rows += t->counts[r * t->p.experts + e];
    return rows;
}

/* Rows of every source and expert are all there; rows and active experts of ranks are what the result says.
 */
static void check_table(struct trial *t)
{
    const struct placement *p = &t->p;
    int64_t most = 0;
    int active = 0;

    for (int s = 0; s < p->slots; s++) {
        t->quota[s] = 0;
        for (int r = 0; r < p->ranks; r++) {
            assert_true(t->share[r * p->slots + s] >= 0);
            t->quota[s] += t->share[r * p->slots + s];
        }
        assert_true(t->quota[s] == 0 || p->expert[s] >= 0);
    }
    for (int r = 0; r < p->ranks; r++) {
        int64_t rows = 0, sum[EXPERTS] = {0};
        int here = 0;

        for (int s = 0; s < p->slots; s++) {
            if (p->expert[s] >= 0)
                sum[p->expert[s]] += t->share[r * p->slots + s];
        }
        for (int e = 0; e < p->experts; e++)
            assert_int_equal(sum[e], t->counts[r * p->experts + e]);
        for (int s = p->rank_first[r]; s < p->rank_first[r + 1]; s++) {
            rows += t->quota[s];
            here += t->quota[s] > 0;
        }
        most = rows > most ? rows : most;
        active = here > active ? here : active;
    }
    assert_int_equal(most, t->result.rows);
    assert_int_equal(active, t->result.active);
}

static int64_t lesser(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Given the quotas, no table has more rows on their own rank; and then none more on their own node. */
static void check_near(const struct trial *t)
{
    const struct placement *p = &t->p;
    int64_t own = 0, near = 0, most_own = 0, most_near = 0;

    for (int s = 0; s < p->slots; s++) {
        int host = placement_rank(p, s);

        if (p->expert[s] < 0)
            continue;
        most_own += lesser(t->counts[host * p->experts + p->expert[s]], t->quota[s]);
        for (int r = 0; r < p->ranks; r++) {
            own += r == host ? t->share[r * p->slots + s] : 0;
            near += r != host && t->node[r] == t->node[host] ? t->share[r * p->slots + s] : 0;
        }
    }
    for (int e = 0; e < p->experts; e++) {
        int64_t left[3] = {0}, room[3] = {0};

        for (int r = 0; r < p->ranks; r++)
            left[t->node[r]] += t->counts[r * p->experts + e];
        for (int s = 0; s < p->slots; s++) {
            int host = placement_rank(p, s);
            int64_t mine;

            if (p->expert[s] != e)
                continue;
            mine = lesser(t->counts[host * p->experts + e], t->quota[s]);
            left[t->node[host]] -= mine;
            room[t->node[host]] += t->quota[s] - mine;
        }
        for (int v = 0; v < 3; v++)
            most_near += lesser(left[v], room[v]);
    }
    assert_int_equal(own, most_own);
    assert_int_equal(near, most_near);
}

static void share(struct trial *t, enum replicas_policy policy, const struct replicas_cost *cost)
{
    if (replicas_share(t->replicas, &t->p, 0, t->counts, policy, cost, t->share, &t->result) != STATUS_OK)
        fail_msg("%s", status_text());
    check_table(t);
}

static void every_row_gets_a_slot_near_ones_first(void **state)
{
    static struct trial t;

    (void)state;
    print_message("seed %llu\n", (unsigned long long)eplb_seed);
    for (int round = 0; round < 2000; round++) {
        draw(&t, EXPERTS);
        for (int policy = REPLICAS_AUTO; policy <= REPLICAS_EVEN; policy++) {
            share(&t, (enum replicas_policy)policy, NULL);
            if (policy != REPLICAS_EVEN)
                check_near(&t);
        }
        arena_close(&eplb_gold_arena);
    }
}

/* The least, over all ways to pick a host for each active expert, of the largest number on a rank. */
static int slow_fewest(const struct trial *t, int e, int active[RANKS], int most, int best)
{
    const struct placement *p = &t->p;

    if (most >= best)
        return best;
    if (e == p->experts)
        return most;
    if (demand(t, e) == 0)
        return slow_fewest(t, e + 1, active, most, best);
    for (int s = 0; s < p->slots; s++) {
        int r = placement_rank(p, s);

        if (p->expert[s] != e)
            continue;
        active[r]++;
        best = slow_fewest(t, e + 1, active, active[r] > most ? active[r] : most, best);
        active[r]--;
    }
    return best;
}

static void fewest_activates_as_few_experts_as_can_be(void **state)
{
    static struct trial t;

    (void)state;
    print_message("seed %llu\n", (unsigned long long)eplb_seed);
    for (int round = 0; round < 2000; round++) {
        int active[RANKS] = {0}, slots[EXPERTS] = {0};
        struct replicas_result result;
        int64_t all[EXPERTS], quota[SLOTS];

        draw(&t, 10);
        share(&t, REPLICAS_FEWEST, NULL);
        assert_int_equal(t.result.active, slow_fewest(&t, 0, active, 0, EXPERTS + 1));
        for (int s = 0; s < t.p.slots; s++)
            slots[t.p.expert[s] < 0 ? 0 : t.p.expert[s]] += t.quota[s] > 0;
        for (int e = 0; e < t.p.experts; e++) {
            assert_int_equal(slots[e], demand(&t, e) > 0);
            all[e] = demand(&t, e);
        }
        assert_int_equal(replicas_fewest(t.replicas, &t.p, 0, all, quota, &result), STATUS_OK);
        assert_memory_equal(quota, t.quota, sizeof *quota * (size_t)t.p.slots); /* without sources */
        assert_int_equal(result.rows, t.result.rows);
        arena_close(&eplb_gold_arena);
    }
}

static void auto_takes_what_costs_less(void **state)
{
    static struct trial t;
    int taken[4] = {0};

    (void)state;
    print_message("seed %llu\n", (unsigned long long)eplb_seed);
    for (int round = 0; round < 500; round++) {
        struct replicas_cost cost = {.expert_picoseconds = eplb_below(2000),
                                     .row_picoseconds = eplb_below(50)};
        int64_t time[2];

        draw(&t, EXPERTS);
        for (int i = 0; i < 2; i++) {
            int64_t slowest = 0;

            share(&t, i ? REPLICAS_FEWEST : REPLICAS_FLOW, &cost);
            for (int r = 0; r < t.p.ranks; r++) {
                int64_t rows = 0, active = 0, here;

                for (int s = t.p.rank_first[r]; s < t.p.rank_first[r + 1]; s++) {
                    rows += t.quota[s];
                    active += t.quota[s] > 0;
                }
                here = active * cost.expert_picoseconds;
                here = rows * cost.row_picoseconds > here ? rows * cost.row_picoseconds : here;
                slowest = here > slowest ? here : slowest;
            }
            assert_int_equal(t.result.picoseconds, slowest);
            time[i] = slowest;
        }
        share(&t, REPLICAS_AUTO, &cost);
        assert_int_equal(t.result.picoseconds, lesser(time[0], time[1]));
        taken[t.result.policy]++;
        arena_close(&eplb_gold_arena);
    }
    assert_true(taken[REPLICAS_FLOW] > 0 && taken[REPLICAS_FEWEST] > 0 && taken[REPLICAS_AUTO] == 0);
}

/* The choices of a rank in row order use up its row of the table, no slot more and none less. */
static void choices_are_served_as_the_table_says(void **state)
{
    static struct trial t;
    int32_t expert[RANKS * 600], slot[RANKS * 600];

    (void)state;
    print_message("seed %llu\n", (unsigned long long)eplb_seed);
    for (int round = 0; round < 500; round++) {
        int rank, count = 0;
        int64_t used[SLOTS] = {0};

        draw(&t, EXPERTS);
        share(&t, (enum replicas_policy)eplb_below(4), NULL);
        rank = eplb_below(t.p.ranks);
        for (int e = 0; e < t.p.experts; e++) {
            for (int i = 0; i < t.counts[rank * t.p.experts + e]; i++) {
                int at = eplb_below(count + 1);

                expert[count++] = expert[at];
                expert[at] = e;
            }
        }
        assert_int_equal(
            replicas_assign(t.replicas, &t.p, 0, t.share + rank * t.p.slots, expert, slot, count), STATUS_OK);
        for (int i = 0; i < count; i++) {
            assert_int_equal(t.p.expert[slot[i]], expert[i]);
            used[slot[i]]++;
        }
        for (int s = 0; s < t.p.slots; s++)
            assert_int_equal(used[s], t.share[rank * t.p.slots + s]);
        expert[count] = 0;
        assert_int_equal(
            replicas_assign(t.replicas, &t.p, 0, t.share + rank * t.p.slots, expert, slot, count + 1),
            STATUS_BUG);
        arena_close(&eplb_gold_arena);
    }
}

static void counts_that_cannot_be_are_refused_in_words(void **state)
{
    static struct trial t;

    (void)state;
    draw(&t, EXPERTS);
    t.counts[0] = -1;
    assert_int_equal(replicas_share(t.replicas, &t.p, 0, t.counts, REPLICAS_FLOW, NULL, t.share, &t.result),
                     STATUS_BUG);
    assert_non_null(strstr(status_text(), "rank 0 says that it has less than 0 rows"));
    t.counts[0] = 0;
    assert_int_equal(replicas_share(t.replicas, &t.p, 1, t.counts, REPLICAS_FLOW, NULL, t.share, &t.result),
                     STATUS_BUG);
    arena_close(&eplb_gold_arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_gets_a_slot_near_ones_first),
        cmocka_unit_test(fewest_activates_as_few_experts_as_can_be),
        cmocka_unit_test(auto_takes_what_costs_less),
        cmocka_unit_test(choices_are_served_as_the_table_says),
        cmocka_unit_test(counts_that_cannot_be_are_refused_in_words),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
