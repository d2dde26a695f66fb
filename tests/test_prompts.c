/* test_prompts.c - prompts come whole, in order, from any way of writing them
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/prompts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct feed {
    struct arena arena;
    struct prompts prompts;
    int writer;
};

static void open_feed(struct feed *f, enum prompts_form form)
{
    int ends[2];

    assert_int_equal(pipe(ends), 0);
    f->writer = ends[1];
    assert_int_equal(arena_open(&f->arena, "test", (size_t)PROMPTS_LIMIT + (1 << 20)), STATUS_OK);
    assert_int_equal(prompts_open(&f->prompts, &f->arena, ends[0], form), STATUS_OK);
}

static void close_feed(struct feed *f)
{
    close(f->prompts.descriptor);
    arena_close(&f->arena);
}

static void feed(struct feed *f, const char *text)
{
    assert_int_equal(write(f->writer, text, strlen(text)), (ssize_t)strlen(text));
}

static void expect(struct feed *f, enum prompts_event event, const char *text)
{
    enum prompts_event got;
    const char *found = NULL;
    size_t bytes = 0;

    assert_int_equal(prompts_next(&f->prompts, 0, &got, &found, &bytes), STATUS_OK);
    assert_int_equal(got, event);
    if (!text)
        return;
    assert_int_equal(bytes, strlen(text));
    assert_string_equal(found, text);
}

static void lines_end_with_lf_crlf_or_the_input(void **state)
{
    struct feed f;

    (void)state;
    open_feed(&f, PROMPTS_LINES);
    feed(&f, "one\ntwo\r\n\n\r\nlast");
    close(f.writer);
    expect(&f, PROMPTS_ONE, "one");
    expect(&f, PROMPTS_ONE, "two");
    expect(&f, PROMPTS_ONE, "");
    expect(&f, PROMPTS_ONE, "");
    expect(&f, PROMPTS_ONE, "last");
    expect(&f, PROMPTS_END, NULL);
    expect(&f, PROMPTS_END, NULL);
    assert_int_equal(f.prompts.line, 5);
    close_feed(&f);
}

static void a_line_in_pieces_is_one_prompt(void **state)
{
    struct feed f;

    (void)state;
    open_feed(&f, PROMPTS_LINES);
    expect(&f, PROMPTS_NOTHING, NULL);
    feed(&f, "half");
    expect(&f, PROMPTS_NOTHING, NULL);
    feed(&f, " and half\nnext");
    expect(&f, PROMPTS_ONE, "half and half");
    expect(&f, PROMPTS_NOTHING, NULL);
    close(f.writer);
    expect(&f, PROMPTS_ONE, "next");
    expect(&f, PROMPTS_END, NULL);
    close_feed(&f);
}

static void text_is_one_prompt_with_its_newlines(void **state)
{
    struct feed f;

    (void)state;
    open_feed(&f, PROMPTS_TEXT);
    feed(&f, "a\r\nb\n");
    expect(&f, PROMPTS_NOTHING, NULL);
    close(f.writer);
    expect(&f, PROMPTS_ONE, "a\r\nb\n");
    expect(&f, PROMPTS_END, NULL);
    close_feed(&f);
}

static void a_closed_input_is_an_empty_one(void **state)
{
    struct feed f;

    (void)state;
    open_feed(&f, PROMPTS_LINES);
    close(f.writer);
    expect(&f, PROMPTS_END, NULL);
    close_feed(&f);
}

/* Writes one line of PROMPTS_LIMIT + 1 bytes, one of PROMPTS_LIMIT, and a short one. */
static void *write_long_lines(void *context)
{
    static char block[1 << 16];
    const struct feed *f = context;

    memset(block, 'x', sizeof block);
    for (int line = 0; line < 2; line++) {
        for (int i = 0; i < PROMPTS_LIMIT / (int)sizeof block; i++)
            if (write(f->writer, block, sizeof block) != (ssize_t)sizeof block)
                return NULL;
        if (write(f->writer, line == 0 ? "x\n" : "\n", line == 0 ? 2 : 1) < 1)
            return NULL;
    }
    if (write(f->writer, "short\n", 6) != 6)
        return NULL;
    close(f->writer);
    return NULL;
}

static void a_line_beyond_the_limit_is_skipped_and_told(void **state)
{
    enum prompts_event event = PROMPTS_NOTHING;
    const char *text;
    pthread_t writer;
    struct feed f;
    size_t bytes;

    (void)state;
    open_feed(&f, PROMPTS_LINES);
    assert_int_equal(pthread_create(&writer, NULL, write_long_lines, &f), 0);
    while (event == PROMPTS_NOTHING)
        assert_int_equal(prompts_next(&f.prompts, 100, &event, &text, &bytes), STATUS_OK);
    assert_int_equal(event, PROMPTS_TOO_LONG);
    for (event = PROMPTS_NOTHING; event == PROMPTS_NOTHING;)
        assert_int_equal(prompts_next(&f.prompts, 100, &event, &text, &bytes), STATUS_OK);
    assert_int_equal(event, PROMPTS_ONE);
    assert_int_equal(bytes, PROMPTS_LIMIT);
    pthread_join(writer, NULL);
    expect(&f, PROMPTS_ONE, "short");
    expect(&f, PROMPTS_END, NULL);
    close_feed(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_end_with_lf_crlf_or_the_input),
        cmocka_unit_test(a_line_in_pieces_is_one_prompt),
        cmocka_unit_test(text_is_one_prompt_with_its_newlines),
        cmocka_unit_test(a_closed_input_is_an_empty_one),
        cmocka_unit_test(a_line_beyond_the_limit_is_skipped_and_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
