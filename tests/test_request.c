/* test_request.c - what a request wants of each step and what it makes of the logits, whatever the steps are
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Logits are made up: a function of the position and the id, so that every piece of every step brings what a
 * model would. */
#include "engine/request.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { VOCABULARY = 40, POSITIONS = 64, EOS = 39, ROWS = 64 };

struct desk {
    struct arena arena;
    struct request_ground ground;
    struct request request;
    int32_t tokens[POSITIONS], pages[POSITIONS];
    float logits[ROWS][VOCABULARY];
    int32_t ids[ROWS][VOCABULARY];
    struct head_result results[ROWS];
    int forced; /* the token that has the highest logit everywhere; -1: none */
};

static const int stop_ids[] = {EOS};

static void open_desk(struct desk *d)
{
    memset(d, 0, sizeof *d);
    d->forced = -1;
    assert_int_equal(arena_open(&d->arena, "test", 16 << 20), STATUS_OK);
    assert_int_equal(request_ground_open(&d->ground, &d->arena, VOCABULARY, NULL, stop_ids, 1), STATUS_OK);
    assert_int_equal(request_attach(&d->request, &d->arena, POSITIONS), STATUS_OK);
    d->request.tokens = d->tokens;
    d->request.pages = d->pages;
}

/* Of the token after `position`. */
static float logit(const struct desk *d, int position, int id)
{
    return id == d->forced ? 50.0f : (float)((position * 31 + id * 17) % 41) / 4.0f;
}

static struct request_options plain(void)
{
    return (struct request_options){.sampling = {.top_p = 1}, .max_tokens = 20};
}

static enum status start(struct desk *d, int64_t number, int prompt, const struct request_options *options)
{
    for (int i = 0; i < prompt; i++)
        d->tokens[i] = (i * 7) % EOS;
    return request_start(&d->request, &d->ground, number, prompt, POSITIONS, options);
}

/* One step of up to `rows` rows; returns whether it wanted any logits. */
static bool step(struct desk *d, int rows)
{
    struct request *r = &d->request;
    struct batch_piece piece = {.position = r->computed};
    int left = r->count - r->computed;

    piece.rows = rows < left ? rows : left;
    request_wants(r, piece.rows, &piece);
    for (int i = 0; i < piece.rows; i++) {
        int position = piece.position + (piece.want == BATCH_WANT_ALL ? i : piece.rows - 1);
        int best = 0;

        d->results[i] = (struct head_result){.count = VOCABULARY, .values = d->logits[i]};
        for (int id = 0; id < VOCABULARY; id++) {
            d->logits[i][id] = logit(d, position, id);
            if (d->logits[i][id] > d->logits[i][best])
                best = id;
        }
        if (piece.want == BATCH_WANT_CANDIDATES) {
            assert_int_equal(piece.keep, 1);
            d->logits[i][0] = d->logits[i][best];
            d->ids[i][0] = best;
            d->results[i] = (struct head_result){.count = 1, .values = d->logits[i], .ids = d->ids[i]};
        }
    }
    r->computed += piece.rows;
    if (piece.want == BATCH_WANT_NONE)
        return false;
    assert_int_equal(request_take(r, &d->ground, &piece, d->results), STATUS_OK);
    return true;
}

static void run(struct desk *d, int rows)
{
    for (int i = 0; d->request.finish == FINISH_NONE; i++) {
        assert_true(i < 10 * POSITIONS);
        step(d, rows);
    }
}

static double wanted_logprob(const struct desk *d, int position, int id)
{
    double sum = 0;

    for (int i = 0; i < VOCABULARY; i++)
        sum += exp((double)logit(d, position, i));
    return (double)logit(d, position, id) - log(sum);
}

/* Each token, prompt and output, has the logarithm of its probability under the logits one position before,
 * and the most likely ones beside it; however the prompt was cut. */
static void logprobs_do_not_depend_on_the_steps(void **state)
{
    struct desk d;

    (void)state;
    open_desk(&d);
    for (int rows = 1; rows < 12; rows++) {
        struct request_options options = plain();

        options.ignore_eos = true;
        options.logprobs = (struct request_logprobs){.wanted = true, .top = 3};
        options.prompt_logprobs = (struct request_logprobs){.wanted = true, .top = 20};
        assert_int_equal(start(&d, 0, 9, &options), STATUS_OK);
        run(&d, rows);
        assert_int_equal(d.request.measured, 9);
        assert_int_equal(d.request.count, 29);
        for (int i = 1; i < d.request.count; i++) {
            int count;
            const struct request_choice *choice = request_choices(&d.request, i, &count);

            assert_int_equal(count, 1 + (i < 9 ? 20 : 3));
            assert_int_equal(choice[0].token, d.tokens[i]);
            for (int j = 0; j < count; j++)
                assert_true(fabs((double)choice[j].logprob - wanted_logprob(&d, i - 1, choice[j].token)) <
                            1e-5);
            for (int j = 2; j < count; j++)
                assert_true(
                    choice[j].logprob < choice[j - 1].logprob ||
                    (choice[j].logprob <= choice[j - 1].logprob && choice[j].token > choice[j - 1].token));
            if (i >= 9) /* greedy takes the likeliest */
                assert_int_equal(choice[1].token, choice[0].token);
        }
    }
    arena_close(&d.arena);
}

/* Only prompts that are measured want logits before their end, and of them no more rows than a step has. */
static void rows_that_want_logits_are_rationed(void **state)
{
    struct request_options options = plain();
    struct desk d;
    int spare = 5;

    (void)state;
    open_desk(&d);
    assert_int_equal(start(&d, 0, 20, &options), STATUS_OK);
    assert_int_equal(request_most_rows(&d.request, 20, &spare), 20);
    assert_int_equal(spare, 5);
    assert_true(request_reads_cache(&d.request));
    assert_false(step(&d, 8));
    options.prompt_logprobs.wanted = true;
    assert_int_equal(start(&d, 0, 20, &options), STATUS_OK);
    assert_false(request_reads_cache(&d.request));
    assert_int_equal(request_most_rows(&d.request, 20, &spare), 6);
    assert_int_equal(spare, 0);
    assert_int_equal(request_most_rows(&d.request, 20, &spare), 1);
    spare = -3;
    assert_int_equal(request_most_rows(&d.request, 20, &spare), 1);
    assert_int_equal(spare, -3);
    assert_true(step(&d, 6));
    assert_int_equal(d.request.measured, 7);
    d.request.computed =
        0; /* put aside, and from the beginning again: what is known is not asked for twice */
    assert_false(step(&d, 5));
    assert_true(step(&d, 20));
    assert_int_equal(d.request.measured, 20);
    assert_int_equal(d.request.count, 21);
    assert_true(request_reads_cache(&d.request));
    arena_close(&d.arena);
}

static void stop_tokens_end_and_min_tokens_holds_them_back(void **state)
{
    const int32_t own[] = {5};
    struct request_options options = plain();
    struct desk d;

    (void)state;
    open_desk(&d);
    d.forced = EOS;
    assert_int_equal(start(&d, 0, 4, &options), STATUS_OK);
    run(&d, 64);
    assert_true(d.request.finish == FINISH_STOP && d.request.count == 5 && d.tokens[4] == EOS);
    options.min_tokens = 3; /* so the fourth can be it */
    assert_int_equal(start(&d, 0, 4, &options), STATUS_OK);
    run(&d, 64);
    assert_true(d.request.finish == FINISH_STOP && d.request.count == 8 && d.tokens[7] == EOS);
    options.ignore_eos = true; /* as with vLLM, end-of-text is held back all the same */
    assert_int_equal(start(&d, 0, 4, &options), STATUS_OK);
    run(&d, 64);
    assert_true(d.request.finish == FINISH_LENGTH && d.request.count == 24);
    for (int i = 4; i < 24; i++)
        assert_int_equal(d.tokens[i] == EOS, i >= 7);
    d.forced = 5;
    options.stop_ids = own;
    options.stop_id_count = 1;
    assert_int_equal(start(&d, 0, 4, &options), STATUS_OK);
    run(&d, 64);
    assert_true(d.request.finish == FINISH_STOP && d.request.count == 8 && d.tokens[7] == 5);
    arena_close(&d.arena);
}

/* Tokens of a sampled request with the given number, seed and so on. */
static void sample(struct desk *d, int64_t number, const struct request_options *options, int32_t *out)
{
    assert_int_equal(start(d, number, 6, options), STATUS_OK);
    run(d, 64);
    memcpy(out, d->tokens + 6, 20 * sizeof *out);
}

static void a_stream_of_its_own_does_not_know_its_place(void **state)
{
    struct request_options options = plain();
    int32_t first[20], second[20];
    struct desk d;

    (void)state;
    open_desk(&d);
    options.ignore_eos = true;
    options.sampling.temperature = 2;
    options.sampling.seed = 3;
    sample(&d, 0, &options, first);
    sample(&d, 1, &options, second);
    assert_memory_not_equal(first, second, sizeof first);
    options.own_stream = true;
    sample(&d, 0, &options, first);
    sample(&d, 1, &options, second);
    assert_memory_equal(first, second, sizeof first);
    options.stream = 1;
    sample(&d, 1, &options, second);
    assert_memory_not_equal(first, second, sizeof first);
    options.stream = 0;
    options.sampling.seed = 4;
    sample(&d, 1, &options, second);
    assert_memory_not_equal(first, second, sizeof first);
    arena_close(&d.arena);
}

static void penalties_look_at_what_was_said(void **state)
{
    static const struct logits_bias bias = {7, 60};
    struct request_options options = plain();
    struct desk d;

    (void)state;
    open_desk(&d);
    options.ignore_eos = true;
    d.forced = 11;
    options.change.frequency = 2;
    options.max_tokens = 30;
    assert_int_equal(start(&d, 0, 4, &options), STATUS_OK);
    run(&d, 64);
    for (int i = 4; i < 24; i++) /* 50, 48, 46 ... against at most 10 */
        assert_int_equal(d.tokens[i], 11);
    assert_int_not_equal(d.tokens[4 + 21], 11);
    options.change = (struct logits_change){.biases = &bias, .bias_count = 1};
    assert_int_equal(start(&d, 0, 4, &options), STATUS_OK);
    run(&d, 64);
    assert_int_equal(d.tokens[10], 7);
    arena_close(&d.arena);
}

/* What options point to may go away once a request has started. */
static void a_request_keeps_what_it_was_given(void **state)
{
    struct logits_bias bias = {7, 60};
    int32_t own[] = {5};
    char id[] = "\"name\"";
    struct request_options options = plain();
    struct desk d;

    (void)state;
    open_desk(&d);
    options.id = id;
    options.change = (struct logits_change){.biases = &bias, .bias_count = 1};
    options.stop_ids = own;
    options.stop_id_count = 1;
    assert_int_equal(start(&d, 0, 4, &options), STATUS_OK);
    bias.token = 8;
    own[0] = 7;
    id[1] = 'x';
    run(&d, 64);
    assert_int_equal(d.tokens[4], 7);
    assert_int_equal(d.request.finish, FINISH_LENGTH);
    assert_string_equal(d.request.options.id, "\"name\"");
    arena_close(&d.arena);
}

static void what_cannot_run_is_refused(void **state)
{
    static const struct logits_bias bias = {VOCABULARY, 1};
    const int32_t beyond[] = {VOCABULARY};
    const char *const stops[] = {"a"};
    struct request_options wrong[7];
    struct desk d;

    (void)state;
    open_desk(&d);
    for (int i = 0; i < 7; i++)
        wrong[i] = plain();
    wrong[0].min_tokens = 21;
    wrong[1].stop_ids = beyond;
    wrong[1].stop_id_count = 1;
    wrong[2].change = (struct logits_change){.biases = &bias, .bias_count = 1};
    wrong[3].stops = stops; /* there is no tokenizer */
    wrong[3].stop_count = 1;
    wrong[4].sampling.top_p = 0;
    wrong[5].stop_id_count = REQUEST_STOP_IDS + 1;
    wrong[5].stop_ids = (const int32_t[REQUEST_STOP_IDS + 1]){0};
    wrong[6].min_tokens = 1;
    for (int i = 0; i < 6; i++)
        assert_int_equal(start(&d, 0, 4, &wrong[i]), STATUS_BAD_INPUT);
    d.ground.id_limit = 1; /* nothing but end-of-text */
    assert_int_equal(start(&d, 0, 4, &wrong[6]), STATUS_BAD_INPUT);
    arena_close(&d.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logprobs_do_not_depend_on_the_steps),
        cmocka_unit_test(rows_that_want_logits_are_rationed),
        cmocka_unit_test(stop_tokens_end_and_min_tokens_holds_them_back),
        cmocka_unit_test(a_stream_of_its_own_does_not_know_its_place),
        cmocka_unit_test(penalties_look_at_what_was_said),
        cmocka_unit_test(a_request_keeps_what_it_was_given),
        cmocka_unit_test(what_cannot_run_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
