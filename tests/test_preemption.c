/* test_preemption.c - the same tokens through any pool: pages shared, taken away and computed again, with
 * drafts
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * The model here is a chain: what a page holds of a position is mixed from what the page table says about the
 * position before and from the token, and the next token follows from it. So a page that is shared wrongly,
 * overwritten, not computed or given to two changes the text; and so does a draft that is taken for a token.
 */
#include "engine/kv_cache.h"
#include "engine/scheduler.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels/reference/reference.h"

enum {
    VOCABULARY = 100,
    STOP_ID = 99,
    POSITIONS = 160,
    REQUESTS = 2000,
    GROUPS = 3,
    PAGES = 16000,
    RESULTS = 512,
    CYCLE = 12,
    BEGINNINGS = 6
};

static const int stop_ids[] = {STOP_ID};
static const struct config config = {.layers = 1, .head_width = 8};

/* What was asked, and what came of it. */
struct story {
    int prompt, max_tokens, priority;
    bool sampled, ignore_eos;
    int32_t tokens[POSITIONS];
    int count;
    int32_t wanted[POSITIONS];
    int wanted_count;
    bool cancelled;
};

struct desk {
    struct arena arena;
    struct kernels *kernels;
    struct kv_cache kv[GROUPS];
    struct speculate speculate;
    struct scheduler scheduler;
    struct batch batch;
    struct head_result results[RESULTS];
    float values[RESULTS][4];
    int32_t ids[RESULTS][4];
};

static struct story story[REQUESTS];
static uint64_t held[GROUPS][PAGES][PAGE_ROWS];
static int32_t beginning[BEGINNINGS][POSITIONS];

/* drafts 0: no speculation */
static void open_desk(struct desk *d, struct scheduler_limits limits, int drafts)
{
    const struct speculate_options options = {.drafts = drafts, .shortest = 1 + drafts % 2, .longest = 3};

    memset(d, 0, sizeof *d);
    limits.vocabulary = VOCABULARY;
    limits.positions = POSITIONS;
    assert_int_equal(arena_open(&d->arena, "test", 256 << 20), STATUS_OK);
    assert_int_equal(reference_open(&d->kernels), STATUS_OK);
    if (drafts > 0) {
        assert_int_equal(
            speculate_open(&d->speculate, &d->arena, d->kernels, &options, limits.sequences, POSITIONS),
            STATUS_OK);
        limits.speculate = &d->speculate;
    }
    assert_int_equal(scheduler_open(&d->scheduler, &d->arena, &limits, NULL, stop_ids, 1), STATUS_OK);
    for (int g = 0; g < limits.groups; g++)
        assert_int_equal(kv_cache_open(&d->kv[g], &d->arena, d->kernels, &config, 0, limits.pages_per_group,
                                       limits.sequences, POSITIONS),
                         STATUS_OK);
    assert_int_equal(batch_open(&d->batch, &d->arena, limits.sequences, limits.rows,
                                batch_new_pages(limits.rows, limits.sequences) +
                                    batch_found_pages(limits.rows, limits.positions)),
                     STATUS_OK);
    arena_seal(&d->arena);
}

static void close_desk(struct desk *d)
{
    for (int g = 0; g < d->scheduler.limits.groups; g++) {
        assert_int_equal(d->scheduler.pool[g].unused, d->scheduler.limits.pages_per_group);
        assert_int_equal(d->scheduler.load[g], 0);
        kv_cache_close(&d->kv[g]);
    }
    d->kernels->close(d->kernels);
    arena_close(&d->arena);
}

static void write_stories(void)
{
    for (int b = 0; b < BEGINNINGS; b++)
        for (int i = 0; i < POSITIONS; i++)
            beginning[b][i] = rand() % STOP_ID;
    for (int i = 0; i < REQUESTS; i++) {
        struct story *st = &story[i];
        int shared = rand() % 70, same = rand() % BEGINNINGS;

        *st = (struct story){.prompt = 1 + rand() % 90,
                             .max_tokens = 1 + rand() % 60,
                             .priority = rand() % 3,
                             .sampled = rand() % 2 == 0,
                             .ignore_eos = rand() % 2 == 0};
        for (int t = 0; t < st->prompt; t++)
            st->tokens[t] = t < shared ? beginning[same][t] : rand() % STOP_ID;
    }
}

static uint64_t mix(uint64_t before, int32_t token, int position)
{
    uint64_t x = (before ^ ((uint64_t)(uint32_t)token << 32 | (uint32_t)position)) * 0x9e3779b97f4a7c15u;

    return (x ^ x >> 29) * 0xbf58476d1ce4e5b9u;
}

/* The likely tokens behind `token`, whose text so far is mixed into `last`: mostly what often comes behind
 * it. */
static void predict(struct desk *d, int wanted, uint64_t last, int32_t token, int keep)
{
    int32_t next = last % 6 == 0 ? (int32_t)(last / 6 % VOCABULARY) : (token + 5) % CYCLE;

    assert_in_range(keep, 1, 4);
    for (int k = 0; k < keep; k++) {
        d->values[wanted][k] = 4.0f - 3.0f * (float)k;
        d->ids[wanted][k] = (next + k) % VOCABULARY;
    }
    d->results[wanted] =
        (struct head_result){.count = keep, .values = d->values[wanted], .ids = d->ids[wanted]};
}

/* The batch goes through the model; results of the rows that want some. */
static void compute(struct desk *d)
{
    const struct batch *b = &d->batch;
    int wanted = 0;

    assert_int_equal(batch_check(b, d->scheduler.limits.groups), STATUS_OK);
    for (int g = 0; g < d->scheduler.limits.groups; g++)
        assert_int_equal(kv_cache_apply(&d->kv[g], b, g), STATUS_OK);
    for (int i = 0; i < b->piece_count; i++) {
        const struct batch_piece *p = &b->pieces[i];
        const struct kv_cache *kv = &d->kv[p->group];
        const int32_t *table = kv->table + (ptrdiff_t)p->sequence * kv->table_pages;
        uint64_t last = 0;

        for (int row = 0; row < p->rows; row++) {
            int at = p->position + row, before = at - 1;
            uint64_t past = at > 0 ? held[p->group][table[before / PAGE_ROWS]][before % PAGE_ROWS] : 0;

            last = mix(past, b->tokens[p->first_row + row], at);
            held[p->group][table[at / PAGE_ROWS]][at % PAGE_ROWS] = last;
            if (row >= p->rows - batch_piece_wanted(p))
                predict(d, wanted++, last, b->tokens[p->first_row + row], p->keep);
        }
    }
    assert_true(d->scheduler.limits.wanted == 0 || wanted <= d->scheduler.limits.wanted);
}

static void add_story(struct desk *d, bool priorities)
{
    struct scheduler *s = &d->scheduler;
    const struct story *st = &story[s->added];
    struct request_options options = {.sampling = {.top_p = 1, .seed = 3},
                                      .max_tokens = st->max_tokens,
                                      .priority = priorities ? st->priority : 0,
                                      .ignore_eos = st->ignore_eos};

    if (st->sampled) {
        options.sampling.temperature = 1;
        options.sampling.top_k = 4;
    }
    memcpy(scheduler_prompt(s).ids, st->tokens, (size_t)st->prompt * sizeof(int32_t));
    assert_int_equal(scheduler_add(s, st->prompt, &options), STATUS_OK);
}

static void keep_finished(struct desk *d)
{
    struct request *r, *next;

    for (r = scheduler_oldest(&d->scheduler); r; r = next) {
        struct story *st = &story[r->number];

        next = r->newer;
        if (r->state != REQUEST_FINISHED)
            continue;
        st->count = r->count;
        st->cancelled = r->finish == FINISH_CANCELLED;
        memcpy(st->tokens, r->tokens, (size_t)r->count * sizeof(int32_t));
        assert_in_range(r->cached, 0, r->prompt - 1);
        scheduler_drop(&d->scheduler, r);
    }
}

static void cancel_some(struct desk *d)
{
    struct request *r = scheduler_oldest(&d->scheduler);

    for (int skip = rand() % 20; r && skip > 0; skip--)
        r = r->newer;
    if (r)
        scheduler_cancel(&d->scheduler, r);
}

/* All requests from the first to the last; how many steps it took. */
static int run(struct desk *d, int cancel_one_in, bool priorities)
{
    struct scheduler *s = &d->scheduler;
    int steps = 0;

    while (s->added < REQUESTS || !scheduler_idle(s)) {
        while (s->added < REQUESTS && scheduler_has_room(s))
            add_story(d, priorities);
        if (cancel_one_in > 0 && rand() % cancel_one_in == 0)
            cancel_some(d);
        batch_clear(&d->batch);
        assert_int_equal(scheduler_fill(s, &d->batch), STATUS_OK);
        compute(d);
        assert_int_equal(scheduler_advance(s, &d->batch, d->results), STATUS_OK);
        keep_finished(d);
        assert_true(++steps < 500000);
    }
    keep_finished(d);
    return steps;
}

/* What each request brings when nothing is ever shared or taken away. */
static void write_wanted(void)
{
    struct desk d;

    open_desk(&d,
              (struct scheduler_limits){.sequences = 256, .rows = 512, .pages_per_group = PAGES, .groups = 1},
              0);
    run(&d, 0, false);
    assert_int_equal(d.scheduler.preemptions, 0);
    assert_int_equal(d.scheduler.cached_tokens, 0);
    close_desk(&d);
    for (int i = 0; i < REQUESTS; i++) {
        story[i].wanted_count = story[i].count;
        memcpy(story[i].wanted, story[i].tokens, sizeof story[i].tokens);
    }
}

static void compare(void)
{
    for (int i = 0; i < REQUESTS; i++) {
        const struct story *st = &story[i];

        if (st->cancelled ? st->count > st->wanted_count : st->count != st->wanted_count)
            fail_msg("request %d: %d tokens, alone %d", i, st->count, st->wanted_count);
        for (int t = 0; t < st->count; t++)
            if (st->tokens[t] != st->wanted[t])
                fail_msg("request %d of %d prompt tokens: token %d is %d, alone %d", i, st->prompt, t,
                         st->tokens[t], st->wanted[t]);
    }
}

static void a_pool_for_20_gives_the_same_tokens_as_one_for_all(void **state)
{
    unsigned seed = (unsigned)time(NULL);
    int64_t preemptions = 0, accepted = 0, refused = 0;

    (void)state;
    print_message("seed %u\n", seed);
    srand(seed);
    write_stories();
    write_wanted();
    for (int round = 0; round < 12; round++) {
        struct scheduler_limits limits = {.sequences = round % 3 == 2 ? 10 : 100,
                                          .rows = (const int[]){3, 40, 512}[rand() % 3],
                                          .pages_per_group = 10 + rand() % 24, /* a request needs 1 to 10 */
                                          .groups = 1 + rand() % GROUPS,
                                          .prefix_caching = round % 2 == 0};
        struct desk d;

        limits.wanted = limits.sequences + rand() % 100;
        open_desk(&d, limits, round % 3 == 1 ? 0 : 1 + rand() % 5);
        run(&d, round % 4 == 1 ? 5 : 0, round % 4 >= 2);
        compare();
        print_message("%d pages in %d groups, %d rows: %lld preemptions, %lld cached, %lld computed again\n",
                      limits.pages_per_group, limits.groups, limits.rows, (long long)d.scheduler.preemptions,
                      (long long)d.scheduler.cached_tokens, (long long)d.scheduler.recomputed_tokens);
        preemptions += d.scheduler.preemptions;
        accepted += d.scheduler.accepted_tokens;
        refused += d.scheduler.draft_tokens - d.scheduler.accepted_tokens;
        assert_int_equal(d.scheduler.cached_tokens > 0, limits.prefix_caching);
        close_desk(&d);
    }
    print_message("%lld drafts accepted, %lld not\n", (long long)accepted, (long long)refused);
    assert_true(preemptions > 100 && accepted > 500 && refused > 500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pool_for_20_gives_the_same_tokens_as_one_for_all),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
