/* test_page_pool.c - no page is lost or in two places, the unused for longest goes first, and only what is
 * equal is found
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/page_pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PAGES = 24, DEPTH = 5, CHAINS = 12, KINDS = 3 };

static struct arena arena;
static struct page_pool pool;

/* The plain truth beside the pool: what each page holds, as the whole list of kinds of blocks from the
 * beginning, who uses it, and when it was given back. */
struct truth {
    int users;
    int named; /* blocks in `kinds`; 0: nothing that can be found */
    int kinds[DEPTH];
    uint64_t name;
    long idle_since; /* 0: never used */
};

struct chain {
    int kinds[DEPTH];
    int32_t page[DEPTH];
    uint64_t name[DEPTH];
    int blocks, published;
    bool lives;
};

static struct truth truth[PAGES];
static struct chain chain[CHAINS];
static long now;

static void open_pool(bool sharing)
{
    assert_int_equal(arena_open(&arena, "pool test", 1 << 20), STATUS_OK);
    assert_int_equal(page_pool_open(&pool, &arena, PAGES, sharing), STATUS_OK);
    assert_true(arena.used <= page_pool_bytes(PAGES));
    memset(truth, 0, sizeof truth);
    memset(chain, 0, sizeof chain);
    now = 0;
}

static const int32_t *tokens_of(int kind)
{
    static int32_t tokens[PAGE_ROWS];

    for (int i = 0; i < PAGE_ROWS; i++)
        tokens[i] = i == PAGE_ROWS - 1 ? kind : 7; /* blocks differ in their last token alone */
    return tokens;
}

/* Every page is in use or in the list of the unused, once, in the order in which they are to go. */
static void check_pool(void)
{
    bool seen[PAGES] = {false};
    int count = 0, unused = 0;
    int32_t before = -1;

    for (int32_t at = pool.first; at >= 0; before = at, at = pool.page[at].after) {
        assert_false(seen[at]);
        seen[at] = true;
        assert_int_equal(pool.page[at].before, before);
        assert_int_equal(pool.page[at].users, 0);
        if (before >= 0 && truth[at].named > 0 && truth[before].named > 0)
            assert_true(truth[before].idle_since < truth[at].idle_since);
        if (before >= 0 && truth[before].named > 0)
            assert_true(truth[at].named > 0);
        count++;
    }
    assert_int_equal(pool.last, before);
    for (int page = 0; page < PAGES; page++) {
        assert_int_equal(pool.page[page].users, truth[page].users);
        assert_int_equal(pool.page[page].name != 0, truth[page].named > 0);
        assert_int_equal(seen[page], truth[page].users == 0);
        unused += truth[page].users == 0;
    }
    assert_int_equal(count, unused);
    assert_int_equal(pool.unused, unused);
}

/* The page that is to be taken next: without a name before all others, else unused for longest. */
static int32_t oldest_of(void)
{
    int32_t best = -1;

    for (int page = 0; page < PAGES; page++)
        if (truth[page].users == 0 && truth[page].named > 0 &&
            (best < 0 || truth[page].idle_since < truth[best].idle_since))
            best = page;
    return best;
}

static void take_page(struct chain *c)
{
    bool nameless = false;
    int32_t page, oldest = oldest_of();

    for (int i = 0; i < PAGES; i++)
        nameless = nameless || (truth[i].users == 0 && truth[i].named == 0);
    assert_int_equal(page_pool_take(&pool, &page), STATUS_OK);
    assert_int_equal(truth[page].users, 0);
    if (nameless)
        assert_int_equal(truth[page].named, 0);
    else
        assert_int_equal(page, oldest);
    truth[page] = (struct truth){.users = 1};
    c->page[c->blocks++] = page;
}

/* Is what the pool finds for the next block of c exactly what the truth holds? */
static bool find_next(const struct chain *c, int32_t *page)
{
    int depth = c->published;
    uint64_t parent = depth > 0 ? c->name[depth - 1] : 0;
    bool found = page_pool_find(&pool, parent, tokens_of(c->kinds[depth]), page);

    if (found) {
        assert_int_equal(truth[*page].named, depth + 1);
        assert_memory_equal(truth[*page].kinds, c->kinds, (size_t)(depth + 1) * sizeof(int));
    }
    for (int i = 0; i < PAGES && !found; i++) /* nothing that stands behind this very parent is missed */
        assert_false(truth[i].named == depth + 1 && pool.page[i].parent == parent &&
                     truth[i].kinds[depth] == c->kinds[depth]);
    return found;
}

static void publish_next(struct chain *c)
{
    int32_t page = c->page[c->published], twin;
    uint64_t parent = c->published > 0 ? c->name[c->published - 1] : 0;
    bool found = find_next(c, &twin);
    uint64_t name = page_pool_publish(&pool, page, parent, tokens_of(c->kinds[c->published]));

    if (found) {
        assert_int_equal(name, pool.page[twin].name);
    } else {
        for (int i = 0; i < PAGES; i++)
            assert_true(truth[i].name != name);
        truth[page].named = c->published + 1;
        truth[page].name = name;
        memcpy(truth[page].kinds, c->kinds, sizeof c->kinds);
    }
    c->name[c->published++] = name;
}

static void begin_chain(struct chain *c)
{
    int32_t page;

    *c = (struct chain){.lives = true};
    for (int i = 0; i < DEPTH; i++)
        c->kinds[i] = rand() % KINDS;
    while (c->published < DEPTH - 1 && find_next(c, &page)) {
        page_pool_keep(&pool, page);
        truth[page].users++;
        c->name[c->published++] = pool.page[page].name;
        c->page[c->blocks++] = page;
    }
}

static void end_chain(struct chain *c)
{
    while (c->blocks > 0) {
        int32_t page = c->page[--c->blocks];

        page_pool_release(&pool, page);
        if (--truth[page].users == 0)
            truth[page].idle_since = ++now;
    }
    *c = (struct chain){0};
}

static void any_order_of_use_keeps_the_pool_whole(void **state)
{
    unsigned seed = (unsigned)time(NULL);
    int found = 0;

    (void)state;
    print_message("seed %u\n", seed);
    srand(seed);
    open_pool(true);
    for (int round = 0; round < 40000; round++) {
        struct chain *c = &chain[rand() % CHAINS];

        if (!c->lives) {
            begin_chain(c);
            found += c->blocks;
        } else if (rand() % 8 == 0) {
            end_chain(c);
        } else if (c->published < c->blocks) {
            publish_next(c);
        } else if (c->blocks < DEPTH && pool.unused > 0) {
            take_page(c);
        }
        check_pool();
    }
    assert_true(found > 1000);
    for (int i = 0; i < CHAINS; i++)
        end_chain(&chain[i]);
    assert_int_equal(pool.unused, PAGES);
    arena_close(&arena);
}

static void blocks_of_one_hash_are_told_apart(void **state)
{
    uint64_t first;
    int32_t a, b, found;

    (void)state;
    open_pool(true);
    pool.buckets = 1; /* all in one bucket */
    assert_int_equal(page_pool_take(&pool, &a), STATUS_OK);
    assert_int_equal(page_pool_take(&pool, &b), STATUS_OK);
    first = page_pool_publish(&pool, a, 0, tokens_of(1));
    assert_true(page_pool_publish(&pool, b, first, tokens_of(1)) != first);
    assert_true(page_pool_find(&pool, 0, tokens_of(1), &found));
    assert_int_equal(found, a);
    assert_true(page_pool_find(&pool, first, tokens_of(1), &found));
    assert_int_equal(found, b);
    assert_false(page_pool_find(&pool, 0, tokens_of(2), &found));
    assert_false(page_pool_find(&pool, first + 1, tokens_of(1), &found));
    arena_close(&arena);
}

static void nothing_is_found_when_sharing_is_off(void **state)
{
    int32_t page, found;

    (void)state;
    open_pool(false);
    assert_int_equal(page_pool_take(&pool, &page), STATUS_OK);
    assert_int_equal(page_pool_publish(&pool, page, 0, tokens_of(1)), 0);
    assert_false(page_pool_find(&pool, 0, tokens_of(1), &found));
    page_pool_release(&pool, page);
    assert_int_equal(pool.unused, PAGES);
    arena_close(&arena);
}

static void an_empty_pool_says_so(void **state)
{
    int32_t page;

    (void)state;
    open_pool(true);
    for (int i = 0; i < PAGES; i++) {
        assert_int_equal(page_pool_take(&pool, &page), STATUS_OK);
        assert_int_equal(page, i);
    }
    assert_int_equal(page_pool_take(&pool, &page), STATUS_BUG);
    arena_close(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_order_of_use_keeps_the_pool_whole),
        cmocka_unit_test(blocks_of_one_hash_are_told_apart),
        cmocka_unit_test(nothing_is_found_when_sharing_is_off),
        cmocka_unit_test(an_empty_pool_says_so),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
