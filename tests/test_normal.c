/* test_normal.c - text is normalized in short stretches as it would be as a whole
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * The whole is what utf8proc_map makes of it; that Hugging Face agrees is shown by test_tokenizer.c. */
#include "engine/tokenizer_normal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <utf8proc.h>

static struct arena arena;
static struct tokenizer_normal forms[4]; /* compose | compatible << 1 */

static void open_all(void)
{
    assert_int_equal(arena_open(&arena, "forms", 4 * tokenizer_normal_room()), STATUS_OK);
    for (int i = 0; i < 4; i++) {
        struct tokenizer_normal_step step = {
            .kind = TOKENIZER_NORMAL_FORM, .compose = i & 1, .compatible = i & 2};

        assert_int_equal(tokenizer_normal_open(&forms[i], &arena), STATUS_OK);
        assert_int_equal(tokenizer_normal_add(&forms[i], &step), STATUS_OK);
    }
}

static void compare(const char *text, size_t bytes)
{
    for (int i = 0; i < 4; i++) {
        int options =
            UTF8PROC_STABLE | (i & 1 ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) | (i & 2 ? UTF8PROC_COMPAT : 0);
        utf8proc_uint8_t *whole;
        utf8proc_ssize_t wanted = utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)bytes,
                                               &whole, (utf8proc_option_t)options);
        const char *got = text;
        size_t length = bytes;

        assert_true(wanted >= 0);
        assert_int_equal(tokenizer_normal_run(&forms[i], true, &got, &length), STATUS_OK);
        if (length != (size_t)wanted || memcmp(got, whole, length) != 0)
            fail_msg("form %d of \"%.*s\": \"%.*s\", wanted \"%s\"", i, (int)bytes, text, (int)length, got,
                     (const char *)whole);
        free(whole);
    }
}

static size_t put(char *text, int32_t code)
{
    return (size_t)utf8proc_encode_char(code, (utf8proc_uint8_t *)text);
}

/* Each behind a letter, among marks out of order, behind itself and in front of what may join with it. */
static void every_character_is_as_in_the_whole(void **state)
{
    static const int32_t behind[] = {'a', 0x301, 0x323, 0x1161, 0x11A8, 0x9BE, 'b'};

    (void)state;
    for (int32_t code = 1; code < 0x110000; code++) {
        char text[128];
        size_t bytes = 0;

        if (code >= 0x3400 && code < 0xA000) /* all alike */
            code = 0xA000;
        if (code >= 0xAD00 && code < 0xD700)
            code = 0xD700;
        if (code >= 0xD800 && code < 0xE000)
            code = 0xF900;
        if (code >= 0x20000 && code < 0x2F800)
            code = 0x2F800;
        if (code >= 0x2FB00 && code < 0xE0000)
            code = 0xE0000;
        if (code == 0xE0200)
            break;
        bytes += put(text + bytes, 'e');
        for (size_t i = 0; i < sizeof behind / sizeof *behind; i++) {
            bytes += put(text + bytes, code);
            bytes += put(text + bytes, behind[i]);
        }
        compare(text, bytes);
    }
}

static void random_text_is_as_in_the_whole(void **state)
{
    static const int32_t codes[] = {'a',    ' ',     0xE9,    0x301,    0x323,   0x307,   0x345,  0x1100,
                                    0x1161, 0x11A8,  0xAC00,  0xAC01,   0x958,   0x93C,   0x9C7,  0x9BE,
                                    0xB47,  0xB56,   0xF73,   0xF71,    0x1B05,  0x1B35,  0xFB01, 0x212B,
                                    0x1E9B, 0x4E2D,  0x344,   0x1F82,   0xFDFA,  0x1D160, 0x200D, 0x3099,
                                    0x304B, 0x11131, 0x11127, 0x10FFFF, 0x110BA, 0x11099};
    unsigned seed = (unsigned)time(NULL);

    (void)state;
    print_message("seed %u\n", seed);
    for (int round = 0; round < 20000; round++) {
        char text[256];
        size_t bytes = 0;

        for (int i = 0; i < 1 + round % 40; i++)
            bytes += put(text + bytes, codes[(size_t)rand_r(&seed) % (sizeof codes / sizeof *codes)]);
        compare(text, bytes);
    }
}

/* A letter with half a million marks out of order is sorted in one go; a swap at a time would take hours. */
static void many_marks_are_no_trouble_and_too_many_are_refused(void **state)
{
    enum { MARKS = 500 * 1000, BYTES = 5 << 20 };
    static char text[BYTES];
    const char *got = text;
    size_t bytes = put(text, 'e');
    size_t length;

    (void)state;
    for (int i = 0; i < MARKS; i++)
        bytes += put(text + bytes, i % 2 ? 0x323 : 0x301);
    length = bytes;
    assert_int_equal(tokenizer_normal_run(&forms[1], true, &got, &length), STATUS_OK);
    assert_int_equal(length, bytes); /* e and one mark below have become one character of three bytes */
    assert_memory_equal(got, "\u1EB9\u0323", 5);
    while (bytes + 4 < sizeof text)
        bytes += put(text + bytes, 0x323);
    got = text;
    length = bytes;
    assert_int_equal(tokenizer_normal_run(&forms[1], true, &got, &length), STATUS_BAD_INPUT);
    assert_non_null(strstr(status_text(), "carries more than"));
}

static int open_forms(void **state)
{
    (void)state;
    open_all();
    return 0;
}

static int close_forms(void **state)
{
    (void)state;
    arena_close(&arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_character_is_as_in_the_whole),
        cmocka_unit_test(random_text_is_as_in_the_whole),
        cmocka_unit_test(many_marks_are_no_trouble_and_too_many_are_refused),
    };

    return cmocka_run_group_tests(tests, open_forms, close_forms);
}
