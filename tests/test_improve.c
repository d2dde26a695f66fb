/* test_improve.c - few moves, inside the budget, that leave less for the busiest rank
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "eplb/flow.h"
#include "eplb/improve.h"
#include "eplb/moves.h"
#include "eplb/plan.h"

#include "eplb_shape.h"
#include "eplb_traces.h"

enum { BATCHES = 3, LOADS = 2 * 64, MOVES = 6 };

struct trial {
    struct plan_shape shape;
    struct placement present, next;
    struct improve *improve;
    int64_t load[LOADS];
    int64_t batch[BATCHES * LOADS];
    struct improve_options options;
    struct improve_report report[2];
    int32_t share[EPLB_RANKS]; /* nodes of ranks, where the options have them */
};

/* A plan for some load, and batches of another; then perhaps a rank is gone. False: the shape cannot work. */
static bool draw(struct trial *t)
{
    struct plan_options o = {
        .levels = PLAN_GLOBAL, .tolerance = 1000, .split = (enum plan_split)eplb_below(2)};
    bool gone[EPLB_RANKS];
    struct plan *plan;
    int slots;

    t->shape = eplb_random_shape();
    slots = t->shape.rank_first[t->shape.ranks];
    memcpy(gone, eplb_gone, sizeof gone);
    if (plan_shape_check(&t->shape, PLAN_GLOBAL) != STATUS_OK || t->shape.experts > 64)
        return false;
    assert_int_equal(arena_open(&eplb_gold_arena, "improve", 16 << 20), STATUS_OK);
    for (int i = 0; i < 2; i++) {
        struct placement *p = i ? &t->next : &t->present;

        assert_int_equal(
            placement_open(p, &eplb_gold_arena, t->shape.layers, t->shape.experts, slots, t->shape.ranks),
            STATUS_OK);
        memcpy(p->rank_first, t->shape.rank_first, sizeof *p->rank_first * (size_t)(t->shape.ranks + 1));
    }
    eplb_random_load(t->load, t->shape.layers * t->shape.experts);
    for (int b = 0; b < BATCHES; b++)
        eplb_random_load(t->batch + b * t->shape.layers * t->shape.experts,
                         t->shape.layers * t->shape.experts);
    memset(eplb_gone, 0, sizeof eplb_gone); /* all live when the present placement is made */
    assert_int_equal(plan_open(&plan, &eplb_gold_arena, &t->shape), STATUS_OK);
    assert_int_equal(plan_make(plan, &o, t->load, &t->present, NULL), STATUS_OK);
    memcpy(eplb_gone, gone, sizeof gone);
    assert_int_equal(improve_open(&t->improve, &eplb_gold_arena, &t->shape, BATCHES, MOVES), STATUS_OK);
    t->options = (struct improve_options){.most_bytes = eplb_below(8),
                                          .most_layer_moves = eplb_below(MOVES + 1),
                                          .tolerance = eplb_below(2) * 10000};
    if (eplb_below(2)) {
        int nodes = 1 + eplb_below(3);

        for (int r = 0; r < t->shape.ranks; r++)
            t->share[r] = eplb_below(nodes);
        t->options.share = t->share;
    }
    return true;
}

/* Rows of the busiest rank, in the parts that reports use; at least one batch of each layer. */
static int64_t busiest(const struct trial *t, const struct placement *p, int layer)
{
    int experts = t->shape.experts;
    int64_t sum = 0;
    struct flow *flow;

    assert_int_equal(flow_open(&flow, &eplb_gold_arena, experts, p->slots, p->ranks), STATUS_OK);
    for (int b = 0; b < BATCHES; b++) {
        int64_t demand[64], quota[1024], most;

        for (int e = 0; e < experts; e++)
            demand[e] = t->batch[(b * t->shape.layers + layer) * experts + e];
        assert_int_equal(flow_layer(flow, p, layer, demand, quota, &most), STATUS_OK);
        sum += most;
    }
    return sum * IMPROVE_PARTS;
}

/* Does a live rank of the node hold an expert? */
static bool node_holds(const struct trial *t, const struct placement *p, int layer, int node, int expert)
{
    for (int s = 0; s < p->slots; s++) {
        int r = placement_rank(p, s);

        if (p->expert[layer * p->slots + s] == expert && t->share[r] == node &&
            !(t->shape.gone && t->shape.gone[r]))
            return true;
    }
    return false;
}

/* Experts that a layer's nodes hold and did not hold before. */
static int count_sent(const struct trial *t, int layer)
{
    int sent = 0;

    for (int node = 0; node < 3; node++)
        for (int e = 0; e < t->shape.experts; e++)
            sent += node_holds(t, &t->next, layer, node, e) && !node_holds(t, &t->present, layer, node, e);
    return sent;
}

/* A rank that is gone holds nothing; other slots keep their expert unless moved; no more moves than allowed,
 * but for experts that lost their last slot. What ranks share costs none of the budget. Returns what is sent.
 */
static int check_moves(const struct trial *t)
{
    int slots = t->present.slots, all = 0, rescued = 0;

    for (int layer = 0; layer < t->shape.layers; layer++) {
        int moves = 0, lost = 0;

        for (int e = 0; e < t->shape.experts; e++) {
            bool live = false;

            for (int s = 0; s < slots; s++)
                live |= t->present.expert[layer * slots + s] == e &&
                        !(t->shape.gone && t->shape.gone[placement_rank(&t->present, s)]);
            lost += !live;
        }
        for (int s = 0; s < slots; s++) {
            int32_t before = t->present.expert[layer * slots + s], after = t->next.expert[layer * slots + s];

            if (t->shape.gone && t->shape.gone[placement_rank(&t->present, s)])
                assert_int_equal(after, -1);
            else
                moves += before != after;
        }
        assert_int_equal(moves, t->report[layer].moves);
        assert_true(moves <= t->options.most_layer_moves + lost);
        all += t->options.share ? count_sent(t, layer) : moves;
        rescued += lost;
    }
    assert_true(all <= t->options.most_bytes + rescued);
    return all;
}

static void few_moves_leave_less_for_the_busiest_rank(void **state)
{
    static struct trial t;
    int moved = 0, rounds = 0, shared = 0, free_moves = 0;

    (void)state;
    print_message("seed %llu\n", (unsigned long long)eplb_seed);
    for (int round = 0; round < 1500; round++) {
        int32_t first[2 * 512];
        size_t bytes;

        if (!draw(&t))
            continue;
        if (improve_plan(t.improve, &t.present, t.batch, BATCHES, &t.options, &t.next, t.report) != STATUS_OK)
            fail_msg("%s", status_text());
        shared += t.options.share != NULL && t.options.most_bytes == 0;
        if (check_moves(&t) == 0 && t.options.share && t.options.most_bytes == 0)
            free_moves += t.report[0].moves;
        for (int layer = 0; layer < t.shape.layers; layer++) {
            int64_t after = busiest(&t, &t.next, layer), slack = BATCHES * IMPROVE_PARTS;

            assert_true(t.report[layer].after <= t.report[layer].before);
            assert_true(after >= t.report[layer].after && after <= t.report[layer].after + slack);
            assert_true(after >= t.report[layer].mean - slack);
            moved += t.report[layer].moves;
        }
        bytes = sizeof *first * (size_t)(t.shape.layers * t.next.slots);
        assert_true(bytes <= sizeof first);
        memcpy(first, t.next.expert, bytes);
        assert_int_equal(improve_plan(t.improve, &t.present, t.batch, BATCHES, &t.options, &t.next, NULL),
                         STATUS_OK);
        assert_memory_equal(first, t.next.expert, bytes);
        t.batch[0] = -1;
        assert_int_equal(improve_plan(t.improve, &t.present, t.batch, BATCHES, &t.options, &t.next, NULL),
                         STATUS_BAD_INPUT);
        assert_memory_equal(first, t.next.expert, bytes);
        rounds++;
        arena_close(&eplb_gold_arena);
    }
    print_message("%d moves in %d plans; %d in one layer each of %d that may send nothing\n", moved, rounds,
                  free_moves, shared);
    assert_true(moved > rounds / 2);
    assert_true(free_moves > shared / 2);
}

/* Mean over the layers of the busiest rank as a multiple of the mean, when a plan for one task serves another
 * after at most `percent` of the slots were moved. 8 ranks, 80 slots. */
static double shifted(const int64_t *before, const int64_t *after, double percent)
{
    struct plan_shape shape = {.layers = EPLB_ESFT_LAYERS,
                               .experts = EPLB_ESFT_EXPERTS,
                               .groups = 1,
                               .ranks = 8,
                               .rank_first = eplb_rank_first};
    struct plan_options o = {.split = PLAN_EVEN, .tolerance = 1000};
    struct improve_options options = {.most_bytes = (int64_t)(percent * 80 * EPLB_ESFT_LAYERS / 100.0),
                                      .most_layer_moves = 16};
    struct improve_report report[EPLB_ESFT_LAYERS];
    struct placement present, next;
    struct improve *improve;
    struct plan *plan;
    double sum = 0.0;
    int moves = 0;

    for (int r = 0; r <= 8; r++)
        eplb_rank_first[r] = 10 * r;
    assert_int_equal(arena_open(&eplb_gold_arena, "shift", 64 << 20), STATUS_OK);
    assert_int_equal(placement_open(&present, &eplb_gold_arena, EPLB_ESFT_LAYERS, EPLB_ESFT_EXPERTS, 80, 8),
                     STATUS_OK);
    assert_int_equal(placement_open(&next, &eplb_gold_arena, EPLB_ESFT_LAYERS, EPLB_ESFT_EXPERTS, 80, 8),
                     STATUS_OK);
    assert_int_equal(plan_open(&plan, &eplb_gold_arena, &shape), STATUS_OK);
    assert_int_equal(improve_open(&improve, &eplb_gold_arena, &shape, 1, 16), STATUS_OK);
    assert_int_equal(plan_make(plan, &o, before, &present, NULL), STATUS_OK);
    assert_int_equal(improve_plan(improve, &present, after, 1, &options, &next, report), STATUS_OK);
    for (int i = 0; i < EPLB_ESFT_LAYERS; i++) {
        sum += (double)report[i].after / (double)report[i].mean;
        for (int s = 0; s < 80; s++)
            moves += present.expert[i * 80 + s] != next.expert[i * 80 + s];
    }
    assert_true(moves <= percent * 80 * EPLB_ESFT_LAYERS / 100.0);
    arena_close(&eplb_gold_arena);
    print_message("%.1f %% of the slots moved: %.4f\n", 100.0 * moves / 80 / EPLB_ESFT_LAYERS,
                  sum / EPLB_ESFT_LAYERS);
    return sum / EPLB_ESFT_LAYERS;
}

static void recorded_tasks_change_places_with_few_moves(void **state)
{
    static int64_t intent[EPLB_ESFT_LAYERS * EPLB_ESFT_EXPERTS], law[EPLB_ESFT_LAYERS * EPLB_ESFT_EXPERTS];

    (void)state;
    if (!eplb_traces_routes("intent", 0, 1 << 20, intent) || !eplb_traces_routes("law", 0, 1 << 20, law))
        return;
    assert_true(shifted(law, intent, 3.0) <= 1.05);
    assert_true(shifted(law, intent, 6.0) <= 1.01);
    assert_true(shifted(intent, law, 3.0) <= 1.05);
    assert_true(shifted(intent, law, 6.0) <= 1.01);
}

/* Expert 0 of layer 1 is hot and costs a hundred times the bytes: the budget goes to layer 0. */
static void the_budget_goes_where_a_byte_gains_most(void **state)
{
    struct plan_shape shape = {
        .layers = 2, .experts = 4, .groups = 1, .ranks = 2, .rank_first = eplb_rank_first};
    int64_t bytes[] = {1, 100}, batch[] = {60, 10, 10, 10, 80, 10, 10, 10};
    struct improve_options o = {.most_bytes = 100, .expert_bytes = bytes, .most_layer_moves = 4};
    const int32_t start[] = {0, 1, 1, 2, 3, 2, 0, 1, 1, 2, 3, 2};
    bool skip[] = {true, false};
    struct improve_report report[2];
    struct placement present, next;
    struct improve *improve;

    (void)state;
    for (int r = 0; r <= 2; r++)
        eplb_rank_first[r] = 3 * r;
    assert_int_equal(arena_open(&eplb_gold_arena, "bytes", 1 << 20), STATUS_OK);
    assert_int_equal(placement_open(&present, &eplb_gold_arena, 2, 4, 6, 2), STATUS_OK);
    assert_int_equal(placement_open(&next, &eplb_gold_arena, 2, 4, 6, 2), STATUS_OK);
    memcpy(present.expert, start, sizeof start);
    for (int i = 0; i < 2; i++) { /* no expert twice on a rank */
        present.expert[6 * i + 2] = 2;
        present.expert[6 * i + 5] = 1;
    }
    assert_int_equal(placement_index(&present), STATUS_OK);
    assert_int_equal(improve_open(&improve, &eplb_gold_arena, &shape, 1, 4), STATUS_OK);
    assert_int_equal(improve_plan(improve, &present, batch, 1, &o, &next, report), STATUS_OK);
    assert_true(report[0].moves > 0 && report[1].moves == 0);
    o.most_bytes = 1000;
    assert_int_equal(improve_plan(improve, &present, batch, 1, &o, &next, report), STATUS_OK);
    assert_true(report[0].moves > 0 && report[1].moves > 0);
    o.skip = skip;
    assert_int_equal(improve_plan(improve, &present, batch, 1, &o, &next, report), STATUS_OK);
    assert_true(report[0].moves == 0 && report[1].moves > 0);
    arena_close(&eplb_gold_arena);
}

/* Expert 0 is hot. Rank 1 has it in the same memory, rank 3 has less to do but is on another node. */
static void what_ranks_share_is_free(void **state)
{
    struct plan_shape shape = {
        .layers = 1, .experts = 4, .groups = 1, .ranks = 4, .rank_first = eplb_rank_first};
    static const int64_t batch[] = {90, 10, 10, 2};
    static const int32_t start[] = {0, 1, -1, 2, -1, 3, -1}, rank_first[] = {0, 1, 3, 5, 7};
    static const int32_t share[] = {0, 0, 1, 1};
    struct improve_options o = {.most_layer_moves = 4, .share = share};
    struct improve_report report;
    struct placement present, next;
    struct improve *improve;

    (void)state;
    memcpy(eplb_rank_first, rank_first, sizeof rank_first);
    assert_int_equal(arena_open(&eplb_gold_arena, "share", 1 << 20), STATUS_OK);
    assert_int_equal(placement_open(&present, &eplb_gold_arena, 1, 4, 7, 4), STATUS_OK);
    memcpy(present.rank_first, rank_first, sizeof rank_first);
    assert_int_equal(placement_like(&next, &eplb_gold_arena, &present), STATUS_OK);
    memcpy(present.expert, start, sizeof start);
    assert_int_equal(placement_index(&present), STATUS_OK);
    assert_int_equal(improve_open(&improve, &eplb_gold_arena, &shape, 1, 4), STATUS_OK);
    assert_int_equal(improve_plan(improve, &present, batch, 1, &o, &next, &report), STATUS_OK);
    assert_int_equal(next.expert[2], 0);
    assert_int_equal(report.moves, 1);
    assert_int_equal(moves_sent(&present, &next, share), 0);
    o.most_bytes = 1; /* and one expert more, where it gains most */
    assert_int_equal(improve_plan(improve, &present, batch, 1, &o, &next, &report), STATUS_OK);
    assert_int_equal(next.expert[6], 0);
    assert_int_equal(moves_sent(&present, &next, share), 1);
    arena_close(&eplb_gold_arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(few_moves_leave_less_for_the_busiest_rank),
        cmocka_unit_test(recorded_tasks_change_places_with_few_moves),
        cmocka_unit_test(the_budget_goes_where_a_byte_gains_most),
        cmocka_unit_test(what_ranks_share_is_free),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
