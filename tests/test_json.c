/* test_json.c - JSON is read strictly, large texts fast, and errors name file and key
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/json.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static enum status parse(struct json *json, const char *text, unsigned flags)
{
    return json_open(json, "here.json", text, strlen(text), flags);
}

static void expect_refused(const char *text, const char *words)
{
    struct json json = {0};

    assert_int_equal(parse(&json, text, 0), STATUS_BAD_INPUT);
    assert_non_null(strstr(status_text(), "here.json"));
    if (!strstr(status_text(), words))
        fail_msg("\"%s\" does not say \"%s\"", status_text(), words);
    assert_null(json.root);
}

static void test_what_is_not_strict_json_is_refused_with_its_place(void **state)
{
    (void)state;
    expect_refused("{\"a\": 1,\n \"a\": 2}", "line 2");
    expect_refused("{\"a\": 1,\n \"a\": 2}", "duplicate");
    expect_refused("{\"a\": NaN}", "line 1");
    expect_refused("{\"a\": 1,}", "line 1");
    expect_refused("{} {}", "end of file");
    expect_refused("{\"a\": \"\xff\"}", "decode byte 0xff");
    expect_refused("{\"a\": \"\\ud800\"}", "invalid Unicode");
    expect_refused("{\"a\": 18446744073709551615}", "too big");
    expect_refused("{\"a\": \"x\\u0000y\"}", "\\u0000");
    expect_refused("", "line 1");
    expect_refused("7", "line 1");
}

static void test_nul_in_text_is_read_when_asked_for(void **state)
{
    struct json json = {0};
    const json_t *value;

    (void)state;
    assert_int_equal(parse(&json, "{\"a\": \"x\\u0000y\"}", JSON_OPEN_NUL), STATUS_OK);
    value = json_object_get(json.root, "a");
    assert_int_equal(json_string_length(value), 3);
    assert_memory_equal(json_string_value(value), "x\0y", 3);
    json_close(&json);
}

/* {"k0": 0, "k1": 1, ...} of at least 2 MB, then `end`. */
static char *large_text(const char *end)
{
    size_t room = 3 << 20, used = 1;
    char *text = malloc(room);

    text[0] = '{';
    for (int i = 0; used < (2 << 20); i++)
        used += (size_t)sprintf(text + used, "%s\"key number %d\": %d", i ? ", " : "", i, i);
    strcpy(text + used, end);
    return text;
}

static void test_a_large_text_lives_in_its_own_memory(void **state)
{
    char *text = large_text("}");
    struct json json = {0}, small = {0};

    (void)state;
    assert_int_equal(parse(&json, text, 0), STATUS_OK);
    free(text);
    assert_non_null(json.arena.base);
    assert_int_equal(parse(&small, "{\"b\": 2}", 0), STATUS_OK);
    assert_null(small.arena.base);
    assert_int_equal(json_integer_value(json_object_get(json.root, "key number 777")), 777);
    json_close(&json);
    assert_int_equal(json_integer_value(json_object_get(small.root, "b")), 2);
    json_close(&small);
}

static void test_a_large_text_that_is_wrong_leaves_nothing_behind(void **state)
{
    char *text = large_text(", \"key number 0\": 1}");
    struct json json = {0};
    json_t *own;

    (void)state;
    assert_int_equal(parse(&json, text, 0), STATUS_BAD_INPUT);
    assert_non_null(strstr(status_text(), "duplicate"));
    assert_null(json.arena.base);
    free(text);
    own = json_pack("{s:i}", "a", 1); /* from malloc again: the leak checker watches it */
    assert_int_equal(json_integer_value(json_object_get(own, "a")), 1);
    json_decref(own);
}

static void test_values_that_outgrow_the_arena_are_read_all_the_same(void **state)
{
    size_t count = 1 << 20;
    char *text = malloc(2 * count + 2);
    struct json json = {0};

    (void)state;
    text[0] = '[';
    for (size_t i = 0; i < count; i++)
        memcpy(text + 1 + 2 * i, "7,", 2);
    text[2 * count] = ']';
    text[2 * count + 1] = '\0';
    assert_int_equal(parse(&json, text, 0), STATUS_OK);
    assert_int_equal(json_array_size(json.root), count);
    assert_int_equal(json_integer_value(json_array_get(json.root, count - 1)), 7);
    json_close(&json);
    free(text);
}

static void *parse_often(void *text)
{
    for (int i = 0; i < 5; i++) {
        struct json json = {0};

        if (parse(&json, text, 0) != STATUS_OK)
            return text;
        json_close(&json);
    }
    return NULL;
}

static void test_two_threads_parse_at_once(void **state)
{
    char *large = large_text("}");
    char small[] = "{\"a\": [1, 2, {\"b\": null}]}";
    pthread_t threads[3];
    void *failed;

    (void)state;
    assert_int_equal(pthread_create(&threads[0], NULL, parse_often, large), 0);
    assert_int_equal(pthread_create(&threads[1], NULL, parse_often, small), 0);
    assert_int_equal(pthread_create(&threads[2], NULL, parse_often, large), 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
    }
    free(large);
}

static const char VALUES[] =
    "{\"int\": 7, \"big\": 70000, \"half\": 0.5, \"yes\": true, \"four\": 4, \"zero\": 0, \"word\": "
    "\"silu\", \"list\": [1, 2, 3], \"none\": [], \"mixed\": [1, \"2\"], \"null\": null, "
    "\"inner\": {\"deep\": 1}}";

static void expect_value_refused(enum status status, const char *words)
{
    assert_int_equal(status, STATUS_BAD_INPUT);
    if (!strstr(status_text(), words))
        fail_msg("\"%s\" does not say \"%s\"", status_text(), words);
}

static void test_values_come_with_their_kind_and_range(void **state)
{
    struct json json = {0};
    struct json_at at, inner, none;
    const char *word = "default";
    int number = -5;
    float real = -1;
    bool flag = false;

    (void)state;
    assert_int_equal(parse(&json, VALUES, 0), STATUS_OK);
    assert_int_equal(json_get_root(&json, &at), STATUS_OK);
    assert_int_equal(json_get_int(&at, "missing", 0, 9, &number), STATUS_OK);
    assert_int_equal(json_get_int(&at, "null", 0, 9, &number), STATUS_OK);
    assert_int_equal(number, -5);
    assert_int_equal(json_get_int(&at, "int", 0, 9, &number), STATUS_OK);
    assert_int_equal(number, 7);
    expect_value_refused(json_get_int(&at, "big", 0, 9, &number), "here.json: \"big\" is 70000");
    expect_value_refused(json_get_int(&at, "half", 0, 9, &number), "\"half\" is a fraction");
    expect_value_refused(json_get_int(&at, "yes", 0, 9, &number), "\"yes\" is true");
    assert_int_equal(number, 7);

    assert_int_equal(json_get_float(&at, "half", 0, 9, &real), STATUS_OK);
    assert_true(real == 0.5f);
    assert_int_equal(json_get_float(&at, "four", 0, 9, &real), STATUS_OK);
    assert_true(real == 4.0f);
    expect_value_refused(json_get_float(&at, "big", 0, 9, &real), "from 0 to 9");
    expect_value_refused(json_get_float(&at, "word", 0, 9, &real), "a number is needed");

    assert_int_equal(json_get_bool(&at, "yes", &flag), STATUS_OK);
    assert_true(flag);
    expect_value_refused(json_get_bool(&at, "four", &flag), "true or false");
    assert_int_equal(json_get_flag(&at, "zero", &flag), STATUS_OK);
    assert_false(flag);
    assert_int_equal(json_get_flag(&at, "four", &flag), STATUS_OK);
    assert_true(flag);
    expect_value_refused(json_get_flag(&at, "half", &flag), "\"half\"");

    assert_int_equal(json_get_text(&at, "word", &word), STATUS_OK);
    assert_string_equal(word, "silu");
    expect_value_refused(json_get_text(&at, "int", &word), "text is needed");

    assert_int_equal(json_get_object(&at, "inner", "inner.", &inner), STATUS_OK);
    expect_value_refused(json_get_int(&inner, "deep", 5, 9, &number), "\"inner.deep\" is 1");
    assert_int_equal(json_get_object(&at, "null", "null.", &none), STATUS_OK);
    assert_null(none.object);
    expect_value_refused(json_require(&inner, "gone"), "\"inner.gone\" is missing");
    assert_false(json_has(&at, "null"));
    json_close(&json);
}

static void test_lists_say_which_place_is_wrong(void **state)
{
    int values[3];
    struct json_ints list = {.least = 0, .most = 3, .capacity = 3, .values = values, .count = -1};
    struct json json = {0};
    struct json_at at;

    (void)state;
    assert_int_equal(parse(&json, VALUES, 0), STATUS_OK);
    assert_int_equal(json_get_root(&json, &at), STATUS_OK);
    assert_int_equal(json_get_ints(&at, "missing", &list), STATUS_OK);
    assert_int_equal(list.count, -1);
    assert_int_equal(json_get_ints(&at, "list", &list), STATUS_OK);
    assert_int_equal(list.count, 3);
    assert_int_equal(values[2], 3);
    assert_int_equal(json_get_ints(&at, "zero", &list), STATUS_OK);
    assert_int_equal(list.count, 1);
    assert_int_equal(json_get_ints(&at, "none", &list), STATUS_OK);
    assert_int_equal(list.count, 0);
    expect_value_refused(json_get_ints(&at, "mixed", &list), "place 1");
    list.most = 2;
    expect_value_refused(json_get_ints(&at, "list", &list), "holds 3 at place 2");
    list.capacity = 2;
    expect_value_refused(json_get_ints(&at, "list", &list), "at most 2");
    json_close(&json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_not_strict_json_is_refused_with_its_place),
        cmocka_unit_test(test_nul_in_text_is_read_when_asked_for),
        cmocka_unit_test(test_a_large_text_lives_in_its_own_memory),
        cmocka_unit_test(test_a_large_text_that_is_wrong_leaves_nothing_behind),
        cmocka_unit_test(test_values_that_outgrow_the_arena_are_read_all_the_same),
        cmocka_unit_test(test_two_threads_parse_at_once),
        cmocka_unit_test(test_values_come_with_their_kind_and_range),
        cmocka_unit_test(test_lists_say_which_place_is_wrong),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
