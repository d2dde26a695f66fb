/* test_scheduler.c - every token is computed once, in order, in pages nobody else uses, and everything ends
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/scheduler.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { VOCABULARY = 100, STOP_ID = 99, POSITIONS = 200 };

struct desk {
    struct arena arena;
    struct scheduler scheduler;
    struct batch batch;
    struct head_result results[16];
    float value;
    int priority; /* of the requests added next */
    bool same;    /* prompts are alike */
    int32_t ids[16];
};

static const int stop_ids[] = {STOP_ID};

static void open_desk(struct desk *d, struct scheduler_limits limits)
{
    memset(d, 0, sizeof *d);
    limits.vocabulary = VOCABULARY;
    assert_int_equal(arena_open(&d->arena, "test", 16 << 20), STATUS_OK);
    assert_int_equal(scheduler_open(&d->scheduler, &d->arena, &limits, NULL, stop_ids, 1), STATUS_OK);
    assert_int_equal(batch_open(&d->batch, &d->arena, limits.sequences, limits.rows,
                                batch_new_pages(limits.rows, limits.sequences) +
                                    batch_found_pages(limits.rows, limits.positions)),
                     STATUS_OK);
    arena_seal(&d->arena);
}

static void open_one_group(struct desk *d, int sequences, int rows, int pages)
{
    open_desk(d, (struct scheduler_limits){.sequences = sequences,
                                           .rows = rows,
                                           .positions = POSITIONS,
                                           .pages_per_group = pages,
                                           .groups = 1});
}

static void open_caching(struct desk *d, int sequences, int rows, int pages, int groups)
{
    open_desk(d, (struct scheduler_limits){.sequences = sequences,
                                           .rows = rows,
                                           .positions = POSITIONS,
                                           .pages_per_group = pages,
                                           .groups = groups,
                                           .prefix_caching = true});
}

static struct request_options greedy(int max_tokens)
{
    return (struct request_options){.sampling = {.top_p = 1}, .max_tokens = max_tokens};
}

static enum status add(struct desk *d, int prompt, int max_tokens)
{
    struct request_options options = greedy(max_tokens);
    struct tokens room = scheduler_prompt(&d->scheduler);
    int64_t number = d->scheduler.added;

    options.priority = d->priority;
    for (int i = 0; i < prompt && i < room.capacity; i++)
        room.ids[i] = (int32_t)(((d->same ? 50 : number * 7) + i) % STOP_ID);
    return scheduler_add(&d->scheduler, prompt, &options);
}

/* Running requests that use a page of a group. */
static int users_of(const struct scheduler *s, int group, int32_t page)
{
    int users = 0;

    for (int i = 0; i < s->running_count; i++)
        for (int at = 0; at < s->order[i]->page_count && s->order[i]->group == group; at++)
            users += s->order[i]->pages[at] == page;
    return users;
}

/* Checks the batch against the requests; answers every wanted row with `token`. */
static void check_batch(struct desk *d, int32_t token)
{
    const struct scheduler *s = &d->scheduler;
    const struct batch *b = &d->batch;
    int group = 0;
    int wanted = 0;

    assert_true(b->row_count <= s->limits.rows);
    d->value = 1;
    for (int i = 0; i < b->piece_count; i++) {
        const struct batch_piece *piece = &b->pieces[i];
        const struct request *r = s->running[piece->sequence];

        assert_non_null(r);
        assert_true(piece->group >= group); /* pieces of a group stand together */
        group = piece->group;
        assert_int_equal(piece->position, r->computed);
        assert_memory_equal(b->tokens + piece->first_row, r->tokens + piece->position,
                            piece->rows * sizeof(int32_t));
        assert_int_equal(r->page_count * PAGE_ROWS >= piece->position + piece->rows, 1);
        for (int page = piece->found_pages; page < piece->new_pages; page++)
            assert_int_equal(users_of(s, piece->group, b->pages[piece->first_page + page]), 1);
        if (piece->want != BATCH_WANT_NONE) {
            assert_int_equal(piece->position + piece->rows, r->count);
            d->ids[wanted] = token;
            d->results[wanted] =
                (struct head_result){.count = 1, .values = &d->value, .ids = &d->ids[wanted]};
            wanted++;
        }
    }
}

static void step(struct desk *d, int32_t token)
{
    batch_clear(&d->batch);
    assert_int_equal(scheduler_fill(&d->scheduler, &d->batch), STATUS_OK);
    check_batch(d, token);
    assert_int_equal(scheduler_advance(&d->scheduler, &d->batch, d->results), STATUS_OK);
}

static void drop_finished(struct desk *d)
{
    struct request *r;

    while ((r = scheduler_oldest(&d->scheduler)) && r->state == REQUEST_FINISHED)
        scheduler_drop(&d->scheduler, r);
}

static void a_long_prompt_is_cut_and_decodes_go_first(void **state)
{
    struct desk d;

    (void)state;
    open_one_group(&d, 4, 16, 64);
    assert_int_equal(add(&d, 4, 50), STATUS_OK);
    step(&d, 1);
    assert_int_equal(add(&d, 100, 5), STATUS_OK);
    step(&d, 1);
    assert_int_equal(d.batch.piece_count, 2);
    assert_int_equal(d.batch.row_count, 16);
    assert_int_equal(d.scheduler.store[0].count, 6); /* the short one got its token */
    assert_int_equal(d.scheduler.store[1].computed, 15);
    arena_close(&d.arena);
}

static void every_request_that_decodes_gets_its_token_whatever_prompts_are_there(void **state)
{
    struct desk d;

    (void)state;
    open_one_group(&d, 5, 5, 64);
    d.priority = 1;
    for (int i = 0; i < 4; i++)
        assert_int_equal(add(&d, 1, 50), STATUS_OK);
    step(&d, 1);
    d.priority = 0;
    assert_int_equal(add(&d, 100, 5), STATUS_OK); /* comes before all of them */
    step(&d, 1);
    for (int i = 0; i < 4; i++)
        assert_int_equal(d.scheduler.store[i].count, 3);
    assert_int_equal(d.scheduler.store[4].computed, 1);
    arena_close(&d.arena);
}

static void a_prompt_of_100000_tokens_stalls_nobody(void **state)
{
    struct request *decoding, *giant, *another, *small;
    struct desk d;

    (void)state;
    open_desk(&d,
              (struct scheduler_limits){
                  .sequences = 8, .rows = 256, .positions = 101000, .pages_per_group = 20000, .groups = 1});
    assert_int_equal(add(&d, 4, 2000), STATUS_OK);
    step(&d, 1);
    decoding = d.scheduler.newest;
    assert_int_equal(add(&d, 100000, 5), STATUS_OK);
    giant = d.scheduler.newest;
    assert_int_equal(add(&d, 100000, 5), STATUS_OK);
    another = d.scheduler.newest;
    step(&d, 1);
    assert_int_equal(decoding->count, 6);
    assert_int_equal(giant->computed, 255); /* all that decoding leaves */
    assert_int_equal(add(&d, 300, 5), STATUS_OK);
    small = d.scheduler.newest;
    for (int i = 0; small->count == small->prompt; i++) {
        assert_true(i < 3); /* half of a step is its own: 300 tokens take three */
        step(&d, 1);
    }
    assert_int_equal(another->computed, 0);
    for (int i = 0; giant->count == giant->prompt; i++) {
        int before = decoding->count;

        assert_true(i < 100000 / 128 + 3); /* and the first prompt never has less than half */
        step(&d, 1);
        assert_int_equal(decoding->count, before + 1);
    }
    arena_close(&d.arena);
}

static void what_can_never_fit_is_refused_by_name(void **state)
{
    struct desk d;

    (void)state;
    open_desk(&d, (struct scheduler_limits){
                      .sequences = 4, .rows = 16, .positions = POSITIONS, .pages_per_group = 4, .groups = 2});
    assert_int_equal(add(&d, 0, 5), STATUS_BAD_INPUT);
    assert_int_equal(add(&d, POSITIONS, 5), STATUS_BAD_INPUT);
    assert_non_null(strstr(status_text(), "--max-model-len"));
    assert_int_equal(add(&d, 60, 5), STATUS_BAD_INPUT);
    assert_non_null(strstr(status_text(), "--kv-cache-memory"));
    assert_int_equal(add(&d, 60, 4), STATUS_OK);
    assert_int_equal(d.scheduler.added, 1);
    arena_close(&d.arena);
}

static void a_stop_token_ends_a_request_and_frees_its_pages(void **state)
{
    struct desk d;

    (void)state;
    open_one_group(&d, 1, 64, 4);
    assert_int_equal(add(&d, 20, 40), STATUS_OK);
    assert_int_equal(add(&d, 20, 40), STATUS_OK); /* waits: one sequence at once */
    step(&d, 5);
    step(&d, STOP_ID);
    assert_int_equal(d.scheduler.store[0].state, REQUEST_FINISHED);
    assert_int_equal(d.scheduler.store[0].finish, FINISH_STOP);
    assert_int_equal(d.scheduler.pool[0].unused, 4);
    step(&d, 5);
    assert_int_equal(d.scheduler.store[1].state, REQUEST_RUNNING);
    arena_close(&d.arena);
}

static void cancelled_requests_end_between_steps(void **state)
{
    struct desk d;

    (void)state;
    open_one_group(&d, 1, 64, 4);
    assert_int_equal(add(&d, 20, 40), STATUS_OK);
    assert_int_equal(add(&d, 20, 40), STATUS_OK);
    step(&d, 5);
    scheduler_cancel(&d.scheduler, &d.scheduler.store[1]); /* waits */
    scheduler_cancel(&d.scheduler, &d.scheduler.store[0]); /* runs */
    for (int i = 0; i < 2; i++) {
        assert_int_equal(d.scheduler.store[i].state, REQUEST_FINISHED);
        assert_int_equal(d.scheduler.store[i].finish, FINISH_CANCELLED);
    }
    assert_true(scheduler_idle(&d.scheduler));
    assert_int_equal(d.scheduler.pool[0].unused, 4);
    drop_finished(&d);
    assert_null(scheduler_oldest(&d.scheduler));
    arena_close(&d.arena);
}

static void requests_run_by_priority_and_leave_in_any_order(void **state)
{
    struct scheduler *s;
    struct desk d;

    (void)state;
    open_one_group(&d, 2, 64, 64);
    s = &d.scheduler;
    for (int i = 0; i < 4; i++) {
        d.priority = (const int[]){5, 1, 5, 0}[i];
        assert_int_equal(add(&d, 20, 2), STATUS_OK);
    }
    assert_false(scheduler_has_room(s));
    step(&d, 5);
    assert_int_equal(s->store[3].state, REQUEST_RUNNING);
    assert_int_equal(s->store[1].state, REQUEST_RUNNING);
    step(&d, 5);
    scheduler_drop(s, &s->store[1]);
    scheduler_drop(s, &s->store[3]);
    assert_ptr_equal(scheduler_oldest(s), &s->store[0]);
    assert_ptr_equal(s->store[0].newer, &s->store[2]);
    assert_null(s->store[2].newer);
    assert_true(scheduler_has_room(s));
    step(&d, 5);
    assert_int_equal(s->store[0].state, REQUEST_RUNNING);
    arena_close(&d.arena);
}

static void a_prompt_goes_where_its_beginning_is_unless_that_group_is_busy(void **state)
{
    const int groups[] = {1, 1, 1, 2, 2, 2, 1}, cached[] = {0, 32, 32, 0, 32, 32, 32};
    struct scheduler *s;
    struct desk d;

    (void)state;
    open_caching(&d, 8, 256, 64, 3);
    s = &d.scheduler;
    assert_int_equal(add(&d, 40, 30), STATUS_OK); /* another prompt, in group 0 */
    step(&d, 1);
    d.same = true;
    for (int i = 0; i < 7; i++) {
        assert_int_equal(add(&d, 40, 30), STATUS_OK);
        step(&d, 1);
        assert_int_equal(s->newest->group, groups[i]);
        assert_int_equal(s->newest->cached, cached[i]);
    }
    assert_int_equal(s->cached_tokens, 5 * 32);
    assert_int_equal(s->prompt_tokens, 8 * 40 - 5 * 32);
    arena_close(&d.arena);
}

static void of_prompts_that_come_together_one_computes_what_they_share(void **state)
{
    struct scheduler *s;
    struct desk d;

    (void)state;
    open_caching(&d, 8, 512, 64, 1);
    s = &d.scheduler;
    d.same = true;
    for (int i = 0; i < 5; i++)
        assert_int_equal(add(&d, 100, 30), STATUS_OK);
    d.same = false;
    assert_int_equal(add(&d, 100, 30), STATUS_OK); /* has nothing to wait for */
    step(&d, 1);
    assert_int_equal(d.batch.row_count, 200);
    step(&d, 1);
    assert_int_equal(d.batch.row_count, 2 + 4 * 4);
    assert_int_equal(s->cached_tokens, 4 * 96);
    assert_int_equal(s->store[0].cached, 0);
    assert_int_equal(s->store[4].count, 101);
    arena_close(&d.arena);
}

static void better_priority_takes_the_place_of_worse(void **state)
{
    struct scheduler *s;
    struct desk d;

    (void)state;
    open_one_group(&d, 2, 64, 64);
    s = &d.scheduler;
    d.priority = 5;
    assert_int_equal(add(&d, 20, 9), STATUS_OK);
    assert_int_equal(add(&d, 20, 9), STATUS_OK);
    step(&d, 1);
    d.priority = 4;
    assert_int_equal(add(&d, 20, 9), STATUS_OK);
    step(&d, 1);
    assert_int_equal(s->store[2].state, REQUEST_RUNNING);
    assert_int_equal(s->store[1].state, REQUEST_WAITING); /* the later of the two */
    assert_int_equal(s->store[1].count, 21);              /* and what it has it keeps */
    assert_int_equal(s->preemptions, 1);
    assert_int_equal(s->store[0].count, 22);
    arena_close(&d.arena);
}

static void the_last_of_those_that_run_is_put_aside_and_goes_on_later(void **state)
{
    struct scheduler *s;
    struct desk d;

    (void)state;
    open_one_group(&d, 4, 64, 6);
    s = &d.scheduler;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(add(&d, 14, 40), STATUS_OK);
        step(&d, 1);
    }
    for (int i = 0; i < 40 && s->preemptions == 0; i++)
        step(&d, 1);
    assert_int_equal(s->store[2].state, REQUEST_WAITING);
    assert_int_equal(s->store[1].state, REQUEST_RUNNING);
    assert_int_equal(s->store[0].count, s->store[1].count + 1); /* neither missed a step */
    for (int i = 0; i < 200 && !scheduler_idle(s); i++)
        step(&d, 1);
    for (int i = 0; i < 3; i++)
        assert_int_equal(s->store[i].count, 54);
    assert_true(s->recomputed_tokens > 0);
    assert_int_equal(s->prompt_tokens, 3 * 14);
    assert_int_equal(s->generated_tokens, 3 * 40);
    arena_close(&d.arena);
}

static void the_beginning_of_what_was_cached_outlives_its_end(void **state)
{
    struct scheduler *s;
    struct desk d;

    (void)state;
    open_caching(&d, 4, 256, 7, 1);
    s = &d.scheduler;
    d.same = true;
    assert_int_equal(add(&d, 5 * PAGE_ROWS, 1), STATUS_OK);
    step(&d, 1);
    d.same = false;
    assert_int_equal(add(&d, 4 * PAGE_ROWS + 1, 1), STATUS_OK); /* takes two empty pages and the last three */
    step(&d, 1);
    d.same = true;
    assert_int_equal(add(&d, 5 * PAGE_ROWS, 1), STATUS_OK);
    step(&d, 1);
    assert_int_equal(s->newest->cached, 2 * PAGE_ROWS);
    arena_close(&d.arena);
}

static void everything_ends_whatever_comes(void **state)
{
    unsigned seed = (unsigned)time(NULL);

    (void)state;
    print_message("seed %u\n", seed);
    srand(seed);
    for (int round = 0; round < 50; round++) {
        struct scheduler_limits limits = {.sequences = 1 + rand() % 8,
                                          .rows = 8 + rand() % 60,
                                          .positions = POSITIONS,
                                          .pages_per_group = 13 + rand() % 50,
                                          .groups = 1 + rand() % 5};
        struct desk d;
        int added = 0;
        int steps = 0;

        open_desk(&d, limits);
        while (added < 60 || !scheduler_idle(&d.scheduler)) {
            while (added < 60 && scheduler_has_room(&d.scheduler) && rand() % 3) {
                assert_int_equal(add(&d, 1 + rand() % 150, 1 + rand() % 50), STATUS_OK);
                added++;
            }
            step(&d, rand() % 20 == 0 ? STOP_ID : rand() % STOP_ID);
            drop_finished(&d);
            assert_true(++steps < 20000);
        }
        for (int group = 0; group < limits.groups; group++) {
            assert_int_equal(d.scheduler.pool[group].unused, limits.pages_per_group);
        }
        arena_close(&d.arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_long_prompt_is_cut_and_decodes_go_first),
        cmocka_unit_test(every_request_that_decodes_gets_its_token_whatever_prompts_are_there),
        cmocka_unit_test(a_prompt_of_100000_tokens_stalls_nobody),
        cmocka_unit_test(a_prompt_goes_where_its_beginning_is_unless_that_group_is_busy),
        cmocka_unit_test(of_prompts_that_come_together_one_computes_what_they_share),
        cmocka_unit_test(better_priority_takes_the_place_of_worse),
        cmocka_unit_test(what_can_never_fit_is_refused_by_name),
        cmocka_unit_test(a_stop_token_ends_a_request_and_frees_its_pages),
        cmocka_unit_test(cancelled_requests_end_between_steps),
        cmocka_unit_test(requests_run_by_priority_and_leave_in_any_order),
        cmocka_unit_test(the_last_of_those_that_run_is_put_aside_and_goes_on_later),
        cmocka_unit_test(the_beginning_of_what_was_cached_outlives_its_end),
        cmocka_unit_test(everything_ends_whatever_comes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
