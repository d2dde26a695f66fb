/* test_moves_group.c - groups of moves lead from one placement to the next through legal ones, and experts
 * that ranks share always find a place
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "eplb/moves_group.h"

#include "eplb/places.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { LAYERS = 2, ROUNDS = 400, MOST = 256, CAPACITY = 30, RANKS = 8, PIECES = 256, MANY_ROOMS = 16 };

static struct arena arena;
static uint64_t seed = 20261125;

static int below(int n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (int)((seed >> 33) % (uint64_t)n);
}

static void fresh(void)
{
    memset(arena.base, 0, arena.used);
    arena.used = 0;
}

/* Every expert a slot, then copies and gaps at random, never twice on a rank; false: this try ran into a
 * corner. */
static bool fill(struct placement *p)
{
    for (int layer = 0; layer < LAYERS; layer++) {
        int32_t *expert = p->expert + layer * p->slots;

        for (int s = 0; s < p->slots; s++)
            expert[s] = -1;
        for (int e = 0; e < p->experts; e++) {
            int s = below(p->slots), tries = 0;

            while (expert[s] >= 0 && tries++ < p->slots)
                s = (s + 1) % p->slots;
            if (expert[s] >= 0)
                return false;
            expert[s] = e;
        }
        for (int s = 0; s < p->slots; s++) {
            int e = below(p->experts + 1) - 1, r = placement_rank(p, s);

            for (int i = p->rank_first[r]; i < p->rank_first[r + 1]; i++)
                e = expert[i] == e ? -1 : e;
            if (expert[s] < 0)
                expert[s] = e;
        }
    }
    return placement_index(p) == STATUS_OK;
}

static int list_moves(const struct placement *a, const struct placement *b, struct move *list)
{
    int count = 0;

    for (int layer = 0; layer < LAYERS; layer++) {
        for (int s = 0; s < a->slots; s++) {
            int e = b->expert[layer * a->slots + s];

            if (e == a->expert[layer * a->slots + s])
                continue;
            list[count++] = (struct move){
                .layer = layer,
                .slot = s,
                .expert = e,
                .source = e < 0 ? -1 : a->replica[layer * a->slots + a->first[layer * (a->experts + 1) + e]]};
        }
    }
    return count;
}

/* A group is within staging, its sources hold what they give, and what it leaves behind is legal. */
static void apply_group(struct placement *p, const struct move *group, int picked, int staging)
{
    int32_t taken[16] = {0};

    assert_in_range(picked, 1, CAPACITY);
    for (int i = 0; i < picked; i++) {
        const struct move *m = &group[i];

        if (m->expert < 0)
            continue;
        assert_int_equal(p->expert[m->layer * p->slots + m->source], m->expert);
        assert_true(++taken[placement_rank(p, m->slot)] <= staging);
    }
    for (int i = 0; i < picked; i++)
        p->expert[group[i].layer * p->slots + group[i].slot] = group[i].expert;
    assert_int_equal(placement_index(p), STATUS_OK);
}

static int walk(struct placement *present, const struct placement *next, int staging)
{
    struct move list[MOST], group[CAPACITY];
    bool done[MOST] = {false};
    struct moves_group g;
    int count = list_moves(present, next, list), lost = 0;

    assert_int_equal(moves_group_open(&g, &arena, present, staging, CAPACITY, MOST), STATUS_OK);
    for (int round = 0; round <= count; round++) {
        int picked, given_up;

        moves_group_next(&g, present, list, done, count, group, &picked, &given_up);
        lost += given_up;
        if (picked == 0)
            return lost;
        apply_group(present, group, picked, staging);
    }
    fail_msg("the groups do not end");
    return lost;
}

static void open_random(struct placement *present, struct placement *next, int least_ranks)
{
    do {
        int ranks = least_ranks + below(6), experts = 2 + below(14), slots = experts + below(10);

        fresh();
        assert_int_equal(placement_open(present, &arena, LAYERS, experts, slots, ranks), STATUS_OK);
        assert_int_equal(placement_open(next, &arena, LAYERS, experts, slots, ranks), STATUS_OK);
    } while (!fill(present) || !fill(next));
}

static void enough_staging_reaches_the_next_placement(void **state)
{
    (void)state;
    print_message("seed %llu\n", (unsigned long long)seed);
    for (int round = 0; round < ROUNDS; round++) {
        struct placement present, next;

        open_random(&present, &next, 1);
        assert_int_equal(walk(&present, &next, 64), 0);
        assert_memory_equal(present.expert, next.expert, sizeof(int32_t) * LAYERS * (size_t)next.slots);
    }
}

static void little_staging_is_never_exceeded_and_every_state_is_legal(void **state)
{
    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        struct placement present, next;

        open_random(&present, &next, 1);
        walk(&present, &next, 1 + below(2));
    }
}

static void a_copy_needs_one_move_and_a_swap_two_at_once(void **state)
{
    static const int32_t before[] = {0, 1, 2, 3, -1, 0}, copied[] = {0, 1, 2, 3, 2, 0},
                         swapped[] = {0, 3, 2, 1, -1, 0};
    static const int32_t *const after[] = {copied, swapped};
    static const int32_t rank_first[] = {0, 2, 4, 6};

    (void)state;
    for (int which = 0; which < 2; which++) {
        struct placement present, next;
        struct move list[MOST], group[CAPACITY];
        bool done[MOST] = {false};
        struct moves_group g;
        int count, picked, given_up;

        fresh();
        assert_int_equal(placement_open(&present, &arena, LAYERS, 4, 6, 3), STATUS_OK);
        assert_int_equal(placement_open(&next, &arena, LAYERS, 4, 6, 3), STATUS_OK);
        assert_memory_equal(present.rank_first, rank_first, sizeof rank_first);
        for (int layer = 0; layer < LAYERS; layer++) {
            memcpy(present.expert + layer * 6, before, sizeof before);
            memcpy(next.expert + layer * 6, layer ? after[which] : before, sizeof before);
        }
        assert_int_equal(placement_index(&present) || placement_index(&next), STATUS_OK);
        count = list_moves(&present, &next, list);
        assert_int_equal(moves_group_open(&g, &arena, &present, 1, CAPACITY, MOST), STATUS_OK);
        moves_group_next(&g, &present, list, done, count, group, &picked, &given_up);
        assert_int_equal(picked, which + 1);
        assert_int_equal(given_up, 0);
    }
}

/* -- ranks that share -- */

/* A node as two of its ranks see it, and its memory. */
struct node {
    int32_t member[RANKS];
    int ranks;
    struct places book, other;
    int memory[PIECES]; /* what a piece holds: layer * 100 + expert + 1 */
};

static bool node_has(const struct placement *p, const struct node *node, int layer, int expert)
{
    for (int i = 0; i < node->ranks; i++)
        for (int s = p->rank_first[node->member[i]]; s < p->rank_first[node->member[i] + 1]; s++)
            if (p->expert[layer * p->slots + s] == expert)
                return true;
    return false;
}

/* No two places or rooms have one piece, both ranks see the same, and every slot finds its expert. */
static void check_node(const struct placement *p, const struct node *node)
{
    const struct places *book = &node->book;
    int places = LAYERS * book->count, rooms = book->shape.ranks * book->shape.rooms;
    bool used[PIECES] = {false};

    assert_int_equal(places_pieces(book), places + rooms);
    for (int i = 0; i < places + rooms; i++) {
        int piece = i < places ? book->piece[i] : book->room[i - places];

        assert_in_range(piece, 0, places + rooms - 1);
        assert_in_range(places_home(book, piece), 0, node->ranks - 1);
        assert_false(used[piece]);
        used[piece] = true;
    }
    assert_memory_equal(book->piece, node->other.piece, (size_t)places * sizeof *book->piece);
    assert_memory_equal(book->expert, node->other.expert, (size_t)places * sizeof *book->expert);
    assert_memory_equal(book->room, node->other.room, (size_t)rooms * sizeof *book->room);
    for (int layer = 0; layer < LAYERS; layer++)
        for (int e = 0; e < p->experts; e++)
            if (node_has(p, node, layer, e))
                assert_int_equal(node->memory[places_find(book, layer, e)], layer * 100 + e + 1);
}

static void open_node(const struct placement *p, struct node *node, int rooms)
{
    struct places_shape shape = {.member = node->member, .ranks = node->ranks, .rooms = rooms};

    assert_int_equal(places_open(&node->book, &arena, p, &shape), STATUS_OK);
    assert_int_equal(places_open(&node->other, &arena, p, &shape), STATUS_OK);
    assert_in_range(places_pieces(&node->book), 0, PIECES);
    for (int layer = 0; layer < LAYERS; layer++) {
        int held = 0;

        assert_int_equal(places_fill(&node->book, p, layer), STATUS_OK);
        assert_int_equal(places_fill(&node->other, p, layer), STATUS_OK);
        for (int e = 0; e < p->experts; e++)
            held += node_has(p, node, layer, e);
        for (int i = 0; i < node->book.count; i++) {
            int e = node->book.expert[layer * node->book.count + i];

            held -= e >= 0;
            if (e >= 0)
                node->memory[node->book.piece[layer * node->book.count + i]] = layer * 100 + e + 1;
        }
        assert_int_equal(held, 0); /* each once */
    }
    check_node(p, node);
}

/* The moves of a group that must be sent arrive in rooms that nobody reads; returns their number. */
static int arrive(const struct placement *p, struct node *node, const struct move *group, int picked,
                  int layer, int *taken, struct places_arrival *arrival)
{
    int count = 0;

    for (int i = 0; i < picked; i++) {
        int rank = placement_rank(p, group[i].slot), index = 0;
        bool there =
            group[i].layer != layer || group[i].expert < 0 || node_has(p, node, layer, group[i].expert);

        while (index < node->ranks && node->member[index] != rank)
            index++;
        for (int j = 0; j < count; j++)
            there = there || arrival[j].expert == group[i].expert;
        if (there || index == node->ranks)
            continue;
        assert_true(taken[index] < node->book.shape.rooms);
        arrival[count] =
            (struct places_arrival){.expert = group[i].expert, .index = index, .room = taken[index]++};
        node->memory[node->book.room[index * node->book.shape.rooms + arrival[count].room]] =
            layer * 100 + group[i].expert + 1;
        count++;
    }
    return count;
}

/* Returns what was sent. */
static int move_node(const struct placement *before, const struct placement *after, struct node *node,
                     const struct move *group, int picked)
{
    struct places_arrival arrival[LAYERS][CAPACITY];
    int count[LAYERS], taken[RANKS] = {0}, sent = 0;

    for (int layer = 0; layer < LAYERS; layer++) {
        count[layer] = arrive(before, node, group, picked, layer, taken, arrival[layer]);
        sent += count[layer];
    }
    check_node(before, node); /* what serves is untouched */
    for (int layer = 0; layer < LAYERS; layer++) {
        assert_int_equal(places_commit(&node->book, after, layer, arrival[layer], count[layer]), STATUS_OK);
        assert_int_equal(places_commit(&node->other, after, layer, arrival[layer], count[layer]), STATUS_OK);
    }
    check_node(after, node);
    return sent;
}

/* All nodes make a group of moves, and send as much as two placements side by side say; returns it. */
static int move_nodes(struct placement *present, struct placement *after, struct node *node,
                      const int32_t *share, const struct move *group, int picked)
{
    size_t bytes = sizeof(int32_t) * LAYERS * (size_t)present->slots;
    int sent = 0;

    memcpy(after->expert, present->expert, bytes);
    for (int i = 0; i < picked; i++)
        after->expert[group[i].layer * present->slots + group[i].slot] = group[i].expert;
    assert_int_equal(placement_index(after), STATUS_OK);
    for (int n = 0; n < RANKS; n++)
        sent += move_node(present, after, &node[n], group, picked);
    assert_int_equal(sent, moves_sent(present, after, share));
    memcpy(present->expert, after->expert, bytes);
    assert_int_equal(placement_index(present), STATUS_OK);
    return sent;
}

/* Where rooms suffice, all groups together send what the gate has counted: no more than the two placements
 * side by side say. */
static void experts_that_ranks_share_always_find_a_place(void **state)
{
    (void)state;
    print_message("seed %llu\n", (unsigned long long)seed);
    for (int round = 0; round < ROUNDS; round++) {
        static struct node node[RANKS];
        struct placement present, next, after;
        struct move list[MOST], group[CAPACITY];
        bool done[MOST] = {false};
        int32_t share[RANKS];
        struct moves_group g;
        int nodes = 1 + below(3), rooms = nodes == 1 ? 0 : below(2) ? 1 + below(2) : MANY_ROOMS;
        int count, picked, given_up, sent = 0, wanted;

        open_random(&present, &next, 3);
        assert_int_equal(placement_like(&after, &arena, &present), STATUS_OK);
        memset(node, 0, sizeof node);
        for (int r = 0; r < present.ranks; r++) {
            struct node *mine = &node[share[r] = below(nodes)];

            mine->member[mine->ranks++] = r;
        }
        for (int n = 0; n < RANKS; n++)
            open_node(&present, &node[n], rooms);
        count = list_moves(&present, &next, list);
        assert_int_equal(moves_group_open(&g, &arena, &present, rooms > 0 ? rooms : 1, CAPACITY, MOST),
                         STATUS_OK);
        g.share = share;
        wanted = moves_sent(&present, &next, share);
        do {
            moves_group_next(&g, &present, list, done, count, group, &picked, &given_up);
            assert_true((rooms > 0 && rooms < MANY_ROOMS) || given_up == 0);
            sent += move_nodes(&present, &after, node, share, group, picked);
        } while (picked > 0);
        if (rooms > 0 && rooms < MANY_ROOMS)
            continue;
        assert_int_equal(sent, wanted);
        assert_memory_equal(present.expert, next.expert, sizeof(int32_t) * LAYERS * (size_t)next.slots);
    }
}

static int open_arena(void **state)
{
    (void)state;
    return arena_open(&arena, "moves test", 4 << 20) != STATUS_OK;
}

static int close_arena(void **state)
{
    (void)state;
    arena_close(&arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(enough_staging_reaches_the_next_placement),
        cmocka_unit_test(little_staging_is_never_exceeded_and_every_state_is_legal),
        cmocka_unit_test(a_copy_needs_one_move_and_a_swap_two_at_once),
        cmocka_unit_test(experts_that_ranks_share_always_find_a_place),
    };

    return cmocka_run_group_tests(tests, open_arena, close_arena);
}
