/* test_drafts.c - what drafts bring into a step, what is taken of them, and what comes before them
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/scheduler.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "kernels/reference/reference.h"

enum { VOCABULARY = 100, STOP_ID = 99, POSITIONS = 64, ROWS = 32, DRAFTS = 3 };

struct desk {
    struct arena arena;
    struct kernels *kernels;
    struct speculate speculate;
    struct scheduler scheduler;
    struct batch batch;
    struct head_result results[ROWS];
    float value;
};

static const int stop_ids[] = {STOP_ID};
static const int32_t turns[] = {1, 2,       3, STOP_ID, 1, 2,
                                3, STOP_ID, 1, 2,       3}; /* 99, 1, 2 is what comes next */
enum { TURNS = sizeof turns / sizeof *turns };

static void open_desk(struct desk *d, int rows, int wanted, int pages)
{
    const struct speculate_options options = {.drafts = DRAFTS, .shortest = 2, .longest = 3};
    const struct scheduler_limits limits = {.sequences = 3,
                                            .rows = rows,
                                            .wanted = wanted,
                                            .positions = POSITIONS,
                                            .pages_per_group = pages,
                                            .groups = 1,
                                            .vocabulary = VOCABULARY,
                                            .speculate = &d->speculate};

    memset(d, 0, sizeof *d);
    d->value = 1;
    assert_int_equal(arena_open(&d->arena, "test", 16 << 20), STATUS_OK);
    assert_int_equal(reference_open(&d->kernels), STATUS_OK);
    assert_int_equal(
        speculate_open(&d->speculate, &d->arena, d->kernels, &options, limits.sequences, POSITIONS),
        STATUS_OK);
    assert_int_equal(scheduler_open(&d->scheduler, &d->arena, &limits, NULL, stop_ids, 1), STATUS_OK);
    assert_int_equal(batch_open(&d->batch, &d->arena, limits.sequences, rows,
                                batch_new_pages(rows, limits.sequences) + batch_found_pages(rows, POSITIONS)),
                     STATUS_OK);
}

static void close_desk(struct desk *d)
{
    d->kernels->close(d->kernels);
    arena_close(&d->arena);
}

static struct request *add(struct desk *d, int count, int max_tokens, bool ignore_eos)
{
    const struct request_options options = {
        .sampling = {.top_p = 1}, .max_tokens = max_tokens, .ignore_eos = ignore_eos};
    struct tokens room = scheduler_prompt(&d->scheduler);

    for (int i = 0; i < count; i++)
        room.ids[i] = count == TURNS ? turns[i] : 10 + i;
    assert_int_equal(scheduler_add(&d->scheduler, count, &options), STATUS_OK);
    return d->scheduler.newest;
}

/* A step in which row after row of those that want logits says the next of these tokens; it has `rows` rows.
 */
static void step(struct desk *d, const int32_t *tokens, int rows)
{
    batch_clear(&d->batch);
    assert_int_equal(scheduler_fill(&d->scheduler, &d->batch), STATUS_OK);
    assert_int_equal(batch_check(&d->batch, 1), STATUS_OK);
    assert_int_equal(d->batch.row_count, rows);
    for (int i = 0; i < batch_wanted(&d->batch, NULL); i++)
        d->results[i] = (struct head_result){.count = 1, .values = &d->value, .ids = &tokens[i]};
    assert_int_equal(scheduler_advance(&d->scheduler, &d->batch, d->results), STATUS_OK);
}

static void drafts_count_up_to_the_first_that_is_not_said(void **state)
{
    static const int32_t all[] = {STOP_ID, 1, 2, 3}, one[] = {STOP_ID, 7, 8, 9}, none[] = {7, 1, 2, 3};
    const struct {
        const int32_t *said;
        int more;
    } cases[] = {{all, 4}, {one, 2}, {none, 1}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct desk d;
        struct request *r;

        open_desk(&d, ROWS, ROWS, 8);
        r = add(&d, TURNS - 1, 30, true);
        memcpy(r->tokens, turns, sizeof turns - sizeof *turns);
        step(&d, &turns[TURNS - 1], TURNS - 1);
        step(&d, cases[i].said, 1 + DRAFTS);
        assert_int_equal(d.batch.pieces[0].want, BATCH_WANT_EACH);
        assert_memory_equal(d.batch.tokens, ((const int32_t[]){3, STOP_ID, 1, 2}), 4 * sizeof(int32_t));
        assert_int_equal(r->count, TURNS + cases[i].more);
        assert_int_equal(r->computed, r->count - 1);
        assert_memory_equal(r->tokens + TURNS, cases[i].said, (size_t)cases[i].more * sizeof(int32_t));
        assert_int_equal(d.scheduler.drafts, 1);
        assert_int_equal(d.scheduler.draft_tokens, DRAFTS);
        assert_int_equal(d.scheduler.accepted_tokens, cases[i].more - 1);
        assert_int_equal(d.scheduler.generated_tokens, 1 + cases[i].more);
        close_desk(&d);
    }
}

/* A token that ends the text ends it as a draft too, whatever stands behind it; and nothing is drafted behind
 * the most tokens. */
static void nothing_is_said_behind_the_end(void **state)
{
    static const int32_t said[] = {STOP_ID, 1, 2, 3};
    struct request *r;
    struct desk d;

    (void)state;
    open_desk(&d, ROWS, ROWS, 8);
    r = add(&d, TURNS, 30, false);
    step(&d, &turns[4], TURNS); /* 1, and then no n-gram: 3, 1 is new */
    step(&d, &turns[5], 1);
    step(&d, ((const int32_t[]){3, STOP_ID, 1, 2}), 1 + DRAFTS);
    assert_int_equal(r->finish, FINISH_STOP);
    assert_int_equal(r->count, TURNS + 4);
    assert_int_equal(d.scheduler.pool[0].unused, 8);
    scheduler_drop(&d.scheduler, r);
    r = add(&d, TURNS, 4, true);
    step(&d, &turns[3], TURNS);
    step(&d, said + 1, 1 + 2); /* of 3 that are left the last is never an input */
    assert_int_equal(r->finish, FINISH_LENGTH);
    assert_int_equal(r->count, TURNS + 4);
    close_desk(&d);
}

static void drafts_come_last(void **state)
{
    struct request *r;
    struct desk d;

    (void)state;
    open_desk(&d, 12, 12, 8); /* rows: a prompt takes what the token leaves */
    r = add(&d, TURNS, 30, true);
    step(&d, &turns[3], TURNS);
    add(&d, 25, 30, true);
    step(&d, &turns[4], 12);
    step(&d, &turns[5], 12);
    assert_int_equal(d.batch.pieces[0].rows, 1);
    step(&d, turns, 1 + 3 + DRAFTS); /* its end is short */
    assert_int_equal(r->count, TURNS + 3 + 1);
    close_desk(&d);

    open_desk(&d, ROWS, 4, 8); /* rows that can want logits: one of the sequence, the others of drafts */
    add(&d, TURNS, 30, true);
    step(&d, &turns[3], TURNS);
    step(&d, ((const int32_t[]){50, 51, 52, 53}), 1 + DRAFTS);
    close_desk(&d);
    open_desk(&d, ROWS, 2, 8);
    add(&d, TURNS, 30, true);
    step(&d, &turns[3], TURNS);
    step(&d, ((const int32_t[]){50, 51}), 2);
    close_desk(&d);

    open_desk(&d, ROWS, ROWS, 2); /* pages: the other one is for the token behind the 16th */
    add(&d, TURNS, 15, true);
    step(&d, &turns[3], TURNS);
    step(&d, ((const int32_t[]){1, 2, 3, STOP_ID}), 1 + DRAFTS); /* at positions 11 to 14 */
    assert_int_equal(d.scheduler.pool[0].unused, 1);
    step(&d, ((const int32_t[]){1}), 1); /* at 15; drafts would take the last page, which is for 16 */
    assert_int_equal(d.scheduler.pool[0].unused, 1);
    step(&d, ((const int32_t[]){2, 3, STOP_ID, 1}), 1 + DRAFTS);
    assert_int_equal(d.scheduler.pool[0].unused, 0);
    close_desk(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(drafts_count_up_to_the_first_that_is_not_said),
        cmocka_unit_test(nothing_is_said_behind_the_end),
        cmocka_unit_test(drafts_come_last),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
