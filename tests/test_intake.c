/* test_intake.c - lines become requests once, in copies as there is room, and end when they are told to
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/intake.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { VOCABULARY = 100, POSITIONS = 64, SEQUENCES = 2, CAPACITY = 2 * SEQUENCES, TEXT_BYTES = 1 << 16 };

struct desk {
    struct arena arena;
    struct scheduler scheduler;
    struct answer answer;
    struct intake intake;
    int64_t number;
    int output;
};

static void open_desk(struct desk *d, int output, bool ordered)
{
    const struct intake_options options = {
        .defaults = {.sampling = {.temperature = 1, .top_p = 1, .seed = 9}, .max_tokens = 16},
        .directory = "somewhere",
        .vocabulary = VOCABULARY,
        .longest = 64};
    const struct scheduler_limits limits = {.sequences = SEQUENCES,
                                            .rows = 64,
                                            .positions = POSITIONS,
                                            .pages_per_group = 64,
                                            .groups = 1,
                                            .vocabulary = VOCABULARY};
    const struct answer_options shown = {.output = output, .ordered = ordered};

    memset(d, 0, sizeof *d);
    d->output = output;
    assert_int_equal(arena_open(&d->arena, "test", 64 << 20), STATUS_OK);
    assert_int_equal(scheduler_open(&d->scheduler, &d->arena, &limits, NULL, NULL, 0), STATUS_OK);
    assert_int_equal(d->scheduler.capacity, CAPACITY);
    for (int i = 0; i < CAPACITY; i++)
        assert_int_equal(request_attach(&d->scheduler.store[i], &d->arena, POSITIONS), STATUS_OK);
    assert_int_equal(answer_open(&d->answer, &d->arena, &shown, NULL, CAPACITY), STATUS_OK);
    assert_int_equal(intake_open(&d->intake, &d->arena, &options, &d->scheduler, &d->answer), STATUS_OK);
}

static void close_desk(struct desk *d)
{
    intake_close(&d->intake);
    arena_close(&d->arena);
    close(d->output);
}

static void take(struct desk *d, const char *line)
{
    assert_int_equal(intake_line(&d->intake, line, strlen(line), ++d->number), STATUS_OK);
}

static int kept(const struct desk *d)
{
    return CAPACITY - d->scheduler.spare_count;
}

/* What was answered since the last call. */
static const char *answered(struct desk *d)
{
    static char text[TEXT_BYTES];
    ssize_t bytes;

    assert_int_equal(answer_show(&d->answer, &d->scheduler), STATUS_OK);
    assert_int_equal(lseek(d->output, 0, SEEK_SET), 0);
    bytes = read(d->output, text, sizeof text - 1);
    assert_true(bytes >= 0);
    text[bytes] = '\0';
    assert_true(lseek(d->output, 0, SEEK_SET) == 0 && ftruncate(d->output, 0) == 0);
    return text;
}

static void copies_come_as_there_is_room(void **state)
{
    struct desk d;
    const char *text;

    (void)state;
    open_desk(&d, memfd_create("output", MFD_CLOEXEC), false);
    take(&d, "{\"id\": \"a\", \"prompt_token_ids\": [1, 2], \"n\": 6}");
    assert_true(d.intake.waits);
    assert_int_equal(kept(&d), CAPACITY);
    scheduler_cancel(&d.scheduler, scheduler_oldest(&d.scheduler));
    text = answered(&d);
    assert_non_null(strstr(text,
                           "{\"id\": \"a\", \"index\": 0, \"finish_reason\": \"cancelled\", \"text\": null, "
                           "\"token_ids\": [], \"logprobs\": null, \"prompt_logprobs\": null, \"usage\": "
                           "{\"prompt_tokens\": 2, \"completion_tokens\": 0, \"cached_tokens\": 0}}\n"));
    assert_int_equal(intake_continue(&d.intake), STATUS_OK);
    assert_true(d.intake.waits);
    for (struct request *r = scheduler_oldest(&d.scheduler); r; r = r->newer) {
        assert_int_equal(r->options.copies, 6);
        scheduler_cancel(&d.scheduler, r);
    }
    answered(&d);
    assert_int_equal(intake_continue(&d.intake), STATUS_OK);
    assert_false(d.intake.waits);
    assert_int_equal(kept(&d), 1);
    assert_int_equal(scheduler_oldest(&d.scheduler)->options.index, 5);
    assert_memory_equal(scheduler_oldest(&d.scheduler)->tokens, ((const int32_t[]){1, 2}),
                        2 * sizeof(int32_t));
    close_desk(&d);
}

static void a_cancel_ends_all_copies_and_no_other(void **state)
{
    struct desk d;
    const char *text;

    (void)state;
    open_desk(&d, memfd_create("output", MFD_CLOEXEC), false);
    take(&d, "{\"id\": \"a\", \"prompt_token_ids\": [1], \"n\": 2}");
    take(&d, "{\"id\": \"b\", \"prompt_token_ids\": [1]}");
    take(&d, "{\"cancel\": \"c\"}");
    take(&d, "{\"cancel\": \"a\"}");
    take(&d, "{\"cancel\": \"a\"}");
    text = answered(&d);
    assert_non_null(strstr(text, "\"index\": 0, \"finish_reason\": \"cancelled\""));
    assert_non_null(strstr(text, "\"index\": 1, \"finish_reason\": \"cancelled\""));
    assert_null(strstr(text, "\"b\""));
    assert_int_equal(kept(&d), 1);
    assert_int_equal(d.intake.requests, 2);
    close_desk(&d);
}

/* The random numbers of a request follow its seed, or the run's and its name; never its place. */
static void streams_are_named(void **state)
{
    uint64_t first[4];
    int next = 0;
    struct desk d;

    (void)state;
    open_desk(&d, memfd_create("output", MFD_CLOEXEC), false);
    take(&d, "{\"id\": \"a\", \"prompt_token_ids\": [1], \"n\": 2}");
    take(&d, "{\"id\": \"b\", \"prompt_token_ids\": [1], \"seed\": 4, \"n\": 2}");
    for (struct request *r = scheduler_oldest(&d.scheduler); r; r = r->newer) {
        assert_int_equal(r->options.sampling.seed, next < 2 ? 9 : 4);
        first[next++] = r->stream;
        scheduler_cancel(&d.scheduler, r);
    }
    assert_true(first[0] != first[1] && first[2] == 0 && first[3] == 1);
    close_desk(&d);
    open_desk(&d, memfd_create("output", MFD_CLOEXEC), false);
    take(&d, "{\"id\": \"c\", \"prompt_token_ids\": [1], \"seed\": 4}");
    take(&d, "{\"id\": \"a\", \"prompt_token_ids\": [1, 2, 3]}");
    assert_true(scheduler_oldest(&d.scheduler)->stream == 0);
    assert_true(scheduler_oldest(&d.scheduler)->newer->stream == first[0]);
    close_desk(&d);
}

static void errors_wait_for_their_turn_where_order_counts(void **state)
{
    struct desk d;

    (void)state;
    open_desk(&d, memfd_create("output", MFD_CLOEXEC), true);
    take(&d, "{\"id\": \"a\", \"prompt_token_ids\": [1]}");
    take(&d, "{\"id\": \"wrong\"}");
    take(&d, "{\"id\": \"text\", \"prompt\": \"x\"}");
    assert_string_equal(answered(&d), "");
    for (int i = 2; i < ANSWER_HELD; i++)
        take(&d, "{\"id\": \"wrong\"}");
    assert_false(answer_has_room(&d.answer));
    scheduler_cancel(&d.scheduler, scheduler_oldest(&d.scheduler));
    assert_int_equal(strncmp(answered(&d), "{\"id\": \"a\", ", 11), 0);
    assert_true(answer_has_room(&d.answer));
    take(&d, "{\"id\": \"text\", \"prompt\": \"x\"}");
    assert_non_null(strstr(answered(&d), "somewhere: tokenizer.json is not there"));
    assert_int_equal(d.intake.refused, ANSWER_HELD + 1);
    close_desk(&d);
}

static void pass(struct desk *d, int id)
{
    char line[64];

    snprintf(line, sizeof line, "{\"id\": %d, \"prompt_token_ids\": [1]}", id);
    take(d, line);
    if (scheduler_oldest(&d->scheduler))
        scheduler_cancel(&d->scheduler, scheduler_oldest(&d->scheduler));
    assert_int_equal(answer_show(&d->answer, &d->scheduler), STATUS_OK);
}

/* Also of the one that is still worked on, however long ago it came. */
static void an_id_may_not_come_again_soon(void **state)
{
    struct desk d;

    (void)state;
    open_desk(&d, open("/dev/null", O_WRONLY | O_CLOEXEC), false);
    for (int id = 0; id < 2 * INTAKE_IDS + 10; id++)
        pass(&d, id);
    assert_int_equal(d.intake.refused, 0);
    for (int back = 1; back <= INTAKE_IDS; back += INTAKE_IDS / 8)
        pass(&d, 2 * INTAKE_IDS + 10 - back);
    assert_int_equal(d.intake.refused, 8);
    pass(&d, 0); /* so long ago that it is forgotten */
    assert_int_equal(d.intake.refused, 8);
    take(&d, "{\"id\": \"stays\", \"prompt_token_ids\": [1]}");
    d.intake.id_count = 0;
    for (int i = 0; i < 2; i++)
        memset(d.intake.ids[i], 0, 2 * INTAKE_IDS * sizeof *d.intake.ids[i]);
    take(&d, "{\"id\": \"stays\", \"prompt_token_ids\": [1]}");
    assert_int_equal(d.intake.refused, 9);
    take(&d, "{\"id\": 5, \"foo\": 1}"); /* what was refused has not come */
    take(&d, "{\"id\": 5, \"prompt_token_ids\": [1]}");
    assert_int_equal(d.intake.refused, 10);
    close_desk(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copies_come_as_there_is_room),
        cmocka_unit_test(a_cancel_ends_all_copies_and_no_other),
        cmocka_unit_test(streams_are_named),
        cmocka_unit_test(errors_wait_for_their_turn_where_order_counts),
        cmocka_unit_test(an_id_may_not_come_again_soon),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
