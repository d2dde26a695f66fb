/* test_chat.c - prompts are those of the models' own templates, and no other template passes for one
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * tests/golden/tokenizers/llama4_chat.jsonl was made by Jinja2 from Llama 4's template, models/demo/gold.json
 * by Hugging Face transformers from that model's. */
#include "engine/chat.h"
#include "engine/base/file.h"
#include "engine/json.h"
#include "tests/folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { MESSAGES = 16, ROOM = 1 << 16 };

/* A tokenizer whose directory holds this template; NULL: none. */
static struct tokenizer *open_with(const char *template)
{
    static const char plain[] =
        "{\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},\"decoder\":{\"type\":"
        "\"ByteLevel\"},\"model\":{\"vocab\":{\"a\":0},\"merges\":[]}}";
    struct folder folder = folder_make();
    struct tokenizer *t;

    folder_write(&folder, "tokenizer.json", plain, sizeof plain - 1);
    if (template)
        folder_write(&folder, "chat_template.jinja", template, strlen(template));
    assert_int_equal(tokenizer_open(&t, folder.path), STATUS_OK);
    folder_remove(&folder);
    return t;
}

static void compare(const struct chat *chat, json_t *messages, bool generation, const char *wanted)
{
    struct chat_message list[MESSAGES];
    char out[ROOM];
    size_t count, bytes;
    json_t *item;

    json_array_foreach(messages, count, item)
    {
        json_t *content = json_object_get(item, "content");

        assert_true(count < MESSAGES);
        list[count] = (struct chat_message){.role = json_string_value(json_object_get(item, "role")),
                                            .content = json_string_value(content),
                                            .bytes = json_string_length(content)};
    }
    assert_true(chat_room(list, (int)count) <= sizeof out);
    assert_int_equal(
        chat_render(chat, list, (int)count, generation, out, chat_room(list, (int)count), &bytes), STATUS_OK);
    assert_int_equal(bytes, strlen(wanted));
    assert_memory_equal(out, wanted, bytes);
    assert_int_equal(chat_render(chat, list, (int)count, generation, out, bytes - 1, &bytes),
                     STATUS_BAD_INPUT);
}

static void every_line_of_the_llama4_gold_is_equal(void **state)
{
    static const char released[] = "{% set system_message = messages[0]['content']|trim %}<|header_start|>";
    FILE *file = fopen("tests/golden/tokenizers/llama4_chat.jsonl", "r");
    struct tokenizer *bare = open_with(NULL), *with = open_with(released);
    const struct chat *chat, *same;
    char *line = NULL;
    size_t room = 0;
    ssize_t bytes;
    int lines = 0;

    (void)state;
    assert_non_null(file);
    assert_int_equal(chat_find(&chat, "llama4", bare), STATUS_OK);
    assert_int_equal(chat_find(&same, "llama4_text", with), STATUS_OK);
    assert_ptr_equal(chat, same);
    for (; (bytes = getline(&line, &room, file)) > 0; lines++) {
        struct json json = {0};

        assert_int_equal(json_open(&json, "gold", line, (size_t)bytes, 0), STATUS_OK);
        compare(chat, json_object_get(json.root, "messages"),
                json_is_true(json_object_get(json.root, "add_generation_prompt")),
                json_string_value(json_object_get(json.root, "prompt")));
        json_close(&json);
    }
    assert_int_equal(lines, 16);
    free(line);
    fclose(file);
    tokenizer_close(bare);
    tokenizer_close(with);
}

static void every_chat_of_the_demo_gold_is_equal(void **state)
{
    struct json gold = {0};
    struct tokenizer *t;
    const struct chat *chat;
    json_t *item;
    size_t i;

    (void)state;
    if (!file_exists("models/demo/gold.json")) {
        fail_msg("models/demo/gold.json is part of the project and is not there");
    }
    assert_int_equal(tokenizer_open(&t, "models/demo"), STATUS_OK);
    assert_int_equal(chat_find(&chat, "llama4_text", t), STATUS_OK);
    assert_int_equal(json_open_file(&gold, "models/demo/gold.json", 1 << 24, JSON_OPEN_NUL), STATUS_OK);
    json_array_foreach(json_object_get(gold.root, "chat"), i, item)
    {
        json_t *ids = json_object_get(item, "ids");
        json_t *prompt = json_object_get(item, "prompt");
        int32_t room[256];
        struct tokens tokens = {.ids = room, .capacity = 256};

        compare(chat, json_object_get(item, "messages"), true, json_string_value(prompt));
        assert_int_equal(
            tokenizer_encode(t, json_string_value(prompt), json_string_length(prompt), 0, &tokens),
            STATUS_OK);
        assert_int_equal(tokens.count, json_array_size(ids));
        for (int k = 0; k < tokens.count; k++)
            assert_int_equal(tokens.ids[k], json_integer_value(json_array_get(ids, (size_t)k)));
    }
    assert_int_equal(i, 5);
    json_close(&gold);
    tokenizer_close(t);
}

/* Wanted by hand from the two templates: "trim" is Python's str.strip. */
static void only_the_template_that_says_so_trims_every_message(void **state)
{
    static const char *const templates[] = {
        "<|header_start|>{{ message['role'] }}{{ message['content'] | trim }}",
        "<|header_start|>{{message['content']|trim}}", "<|header_start|>{{ message[\"content\"]|trim }}",
        "<|header_start|>{{ message['content'] }}"};
    json_t *messages = json_pack("[{s:s,s:s},{s:s,s:s}]", "role", "system", "content", " \u00a0s\u3000",
                                 "role", "user", "content", "\x1c\n u u\t ");

    (void)state;
    for (int i = 0; i < 4; i++) {
        struct tokenizer *t = open_with(templates[i]);
        const struct chat *chat;

        assert_int_equal(chat_find(&chat, "llama4", t), STATUS_OK);
        compare(chat, messages, false,
                i < 3 ? "<|begin_of_text|><|header_start|>system<|header_end|>\n\ns<|eot|>"
                        "<|header_start|>user<|header_end|>\n\nu u<|eot|>"
                      : "<|begin_of_text|><|header_start|>system<|header_end|>\n\ns<|eot|>"
                        "<|header_start|>user<|header_end|>\n\n\x1c\n u u\t <|eot|>");
        tokenizer_close(t);
    }
    json_decref(messages);
}

static void results_of_tools_are_json_in_the_released_template(void **state)
{
    json_t *messages = json_pack("[{s:s,s:s}]", "role", "tool", "content", "\"a\\\n\x01\u00e9/");
    struct tokenizer *t = open_with(NULL);
    const struct chat *chat;

    (void)state;
    assert_int_equal(chat_find(&chat, "llama4", t), STATUS_OK);
    compare(
        chat, messages, false,
        "<|begin_of_text|><|header_start|>ipython<|header_end|>\n\n\"\\\"a\\\\\\n\\u0001\u00e9/\"<|eot|>");
    json_decref(messages);
    tokenizer_close(t);
}

static void no_other_family_or_template_is_taken_for_one_we_know(void **state)
{
    struct tokenizer *bare = open_with(NULL),
                     *other = open_with("<|im_start|>{{ message['content'] | trim }}");
    const struct chat *chat = NULL;

    (void)state;
    assert_int_equal(chat_find(&chat, "qwen3_moe", bare), STATUS_BAD_INPUT);
    assert_non_null(strstr(status_text(), "no chat renderer for model_type \"qwen3_moe\""));
    assert_int_equal(chat_find(&chat, "llama4", other), STATUS_BAD_INPUT);
    assert_non_null(strstr(status_text(), "does not hold \"<|header_start|>\""));
    assert_null(chat);
    tokenizer_close(bare);
    tokenizer_close(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_line_of_the_llama4_gold_is_equal),
        cmocka_unit_test(every_chat_of_the_demo_gold_is_equal),
        cmocka_unit_test(only_the_template_that_says_so_trims_every_message),
        cmocka_unit_test(results_of_tools_are_json_in_the_released_template),
        cmocka_unit_test(no_other_family_or_template_is_taken_for_one_we_know),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
