/* test_chat.c - prompts are those of the models' own templates, and no other template passes for one
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * tests/golden/tokenizers/NAME_chat.jsonl and NAME_made.jsonl were made by Jinja2 from the models' own
 * templates, models/demo/gold.json by Hugging Face transformers from that model's. */
#include "engine/chat.h"
#include "engine/base/file.h"
#include "engine/json.h"
#include "tests/folder.h"

#include <limits.h>
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
        "\"ByteLevel\"},\"model\":{\"vocab\":{\"a\":0},\"merges\":[]},\"added_tokens\":["
        "{\"id\":1,\"content\":\"<|header_start|>\"},{\"id\":2,\"content\":\"<|eot|>\"},"
        "{\"id\":3,\"content\":\"<|start_header_id|>\"},{\"id\":4,\"content\":\"<|eot_id|>\"},"
        "{\"id\":5,\"content\":\"<|im_start|>\"},{\"id\":6,\"content\":\"<|im_end|>\"},"
        "{\"id\":7,\"content\":\"<s>\"},{\"id\":8,\"content\":\"</s>\"},"
        "{\"id\":9,\"content\":\"<|user|>\"},{\"id\":10,\"content\":\"<|assistant|>\"}]}";
    struct folder folder = folder_make();
    struct tokenizer *t;

    folder_write(&folder, "tokenizer.json", plain, sizeof plain - 1);
    if (template)
        folder_write(&folder, "chat_template.jinja", template, strlen(template));
    assert_int_equal(tokenizer_open(&t, folder.path), STATUS_OK);
    folder_remove(&folder);
    return t;
}

/* Fills `list` from JSON; returns how many there are. */
static int read_messages(json_t *messages, struct chat_message list[MESSAGES])
{
    json_t *item;
    size_t count;

    json_array_foreach(messages, count, item)
    {
        json_t *content = json_object_get(item, "content");

        assert_true(count < MESSAGES);
        list[count] = (struct chat_message){.role = json_string_value(json_object_get(item, "role")),
                                            .content = json_string_value(content),
                                            .bytes = json_string_length(content)};
    }
    return (int)count;
}

/* The stretches of content are the only places where messages show. */
static void check_content(const struct chat_prompt *p)
{
    size_t at = 0;

    for (int i = 0; i < p->content_count; i++) {
        assert_true(p->content[i].begin >= at && p->content[i].end > p->content[i].begin);
        at = p->content[i].end;
    }
    assert_true(at <= p->bytes);
}

static void compare_job(const struct chat *chat, const struct chat_job *job, const char *wanted)
{
    struct tokenizer_span content[MESSAGES * CHAT_PROMPT_PARTS];
    char out[ROOM];
    struct chat_prompt p = {.text = out,
                            .capacity = chat_room(job->messages, job->count),
                            .content = content,
                            .content_capacity = MESSAGES * CHAT_PROMPT_PARTS};

    assert_true(p.capacity <= sizeof out);
    if (chat_render(chat, job, &p) != STATUS_OK)
        fail_msg("%s", status_text());
    if (p.bytes != strlen(wanted) || memcmp(out, wanted, p.bytes) != 0)
        fail_msg("\"%.*s\", wanted \"%s\"", (int)p.bytes, out, wanted);
    check_content(&p);
    p.capacity = p.bytes - 1;
    assert_int_equal(chat_render(chat, job, &p), STATUS_BAD_INPUT);
}

static void compare(const struct chat *chat, json_t *messages, bool generation, const char *wanted)
{
    struct chat_message list[MESSAGES];
    struct chat_job job = {.messages = list, .generation_prompt = generation};

    job.count = read_messages(messages, list);
    compare_job(chat, &job, wanted);
}

/* One line of gold: a prompt, or the template's refusal. */
static void compare_line(const struct chat *chat, json_t *line)
{
    struct chat_message list[MESSAGES];
    struct chat_job job = {
        .messages = list,
        .generation_prompt = json_is_true(json_object_get(line, "add_generation_prompt")),
        .no_thinking = json_is_false(json_object_get(json_object_get(line, "vars"), "enable_thinking"))};
    const char *error = json_string_value(json_object_get(line, "error"));
    char out[ROOM];
    struct chat_prompt p = {.text = out, .capacity = sizeof out};

    job.count = read_messages(json_object_get(line, "messages"), list);
    if (!error) {
        compare_job(chat, &job, json_string_value(json_object_get(line, "prompt")));
        return;
    }
    assert_int_equal(chat_render(chat, &job, &p), STATUS_BAD_INPUT);
    assert_non_null(strstr(status_text(), error));
}

/* What decides in templates as they are released. */
static const char llama4[] = "{% set system_message = messages[0]['content']|trim %}<|header_start|>";
static const char llama3[] = "{% set content = '<|start_header_id|>' + message['role'] + "
                             "'<|end_header_id|>\n\n'+ message['content'] | trim + "
                             "'<|eot_id|>' %}";
static const char qwen3[] =
    "{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}{{- '<|im_start|>' "
    "+ "
    "message.role + '\\n<think>\\n' + reasoning_content.strip('\\n') + '\\n</think>\\n\\n' }}"
    "{{- '<|im_start|>assistant\\n' }}{%- if enable_thinking is defined and enable_thinking is false %}";
static const char mixtral[] =
    "{{ bos_token }}{{ raise_exception('Conversation roles must alternate "
    "user/assistant/user/assistant/...') }}"
    "{{ '[INST] ' + message['content'] + ' [/INST]' }}{{ message['content'] + eos_token}}";
static const char mixtral_later[] =
    "{{- \" [INST] \" + system_message + \"\\n\\n\" + message[\"content\"] + \" [/INST]\" }}{%- if "
    "loop.first %}"
    "{{- \" [INST] \" + message[\"content\"] + \" [/INST]\" }}{{- \" \" + message[\"content\"] + eos_token}}";
static const char glm4[] = "[gMASK]<sop><|user|>\n/nothink<|assistant|><|observation|><think></think>";

struct gold {
    const char *file;
    int lines;
    const char *model_type;
    const char *template;
    bool bare; /* a directory without a template renders the same */
};

static void compare_gold(const struct gold *gold)
{
    char path[PATH_MAX];
    struct tokenizer *bare = open_with(NULL), *with = open_with(gold->template);
    const struct chat *chat, *same;
    char *line = NULL;
    size_t room = 0;
    ssize_t bytes;
    int lines = 0;
    FILE *file;

    snprintf(path, sizeof path, "tests/golden/tokenizers/%s.jsonl", gold->file);
    file = fopen(path, "r");
    assert_non_null(file);
    if (chat_find(&chat, gold->model_type, with) != STATUS_OK)
        fail_msg("%s: %s", gold->file, status_text());
    if (gold->bare) {
        assert_int_equal(chat_find(&same, gold->model_type, bare), STATUS_OK);
        assert_ptr_equal(chat, same);
    }
    for (; (bytes = getline(&line, &room, file)) > 0; lines++) {
        struct json json = {0};

        assert_int_equal(json_open(&json, "gold", line, (size_t)bytes, 0), STATUS_OK);
        compare_line(chat, json.root);
        json_close(&json);
    }
    print_message("%s: %d lines equal\n", gold->file, lines);
    assert_int_equal(lines, gold->lines);
    free(line);
    fclose(file);
    tokenizer_close(bare);
    tokenizer_close(with);
}

static void every_line_of_every_gold_is_equal(void **state)
{
    static const struct gold golds[] = {
        {"llama4_chat", 16, "llama4", llama4, true},
        {"llama4_chat", 16, "llama4_text", llama4, true},
        {"llama3_1_chat", 16, "llama", llama3, true},
        {"qwen3_chat", 32, "qwen3_moe", qwen3, true},
        {"qwen3_made", 108, "qwen3_moe", qwen3, true},
        {"mixtral_chat", 16, "mixtral", mixtral, true},
        {"mixtral_later_made", 54, "mixtral", mixtral_later, false},
        {"glm4_made", 108, "glm4_moe", glm4, true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof golds / sizeof *golds; i++)
        compare_gold(&golds[i]);
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

/* Wanted by hand from the parts of the templates that are quoted here. */
static void the_forms_of_qwen3_differ_in_thoughts(void **state)
{
    static const char thinking[] =
        "last_query_index </think> <|im_start|>{{- '<|im_start|>assistant\\n<think>\\n' }}";
    static const char instruct[] =
        "{%- if messages[0].role == 'system' %}{{- '<|im_start|>' + message.role + '\\n' + content }}"
        "{{- '<|im_start|>assistant\\n' }}";
    json_t *messages = json_pack("[{s:s,s:s},{s:s,s:s}]", "role", "user", "content", "a", "role", "assistant",
                                 "content", "<think>\nw\n</think>\n\nb");
    struct tokenizer *t = open_with(thinking);
    const struct chat *chat;

    (void)state;
    assert_int_equal(chat_find(&chat, "qwen3_moe", t), STATUS_OK);
    compare(chat, messages, true,
            "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n<think>\nw\n</think>\n\nb<|im_end|>\n"
            "<|im_start|>assistant\n<think>\n");
    tokenizer_close(t);
    t = open_with(instruct);
    assert_int_equal(chat_find(&chat, "qwen3_moe", t), STATUS_OK);
    compare(chat, messages, true,
            "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n<think>\nw\n</think>\n\nb<|im_end|>\n"
            "<|im_start|>assistant\n");
    tokenizer_close(t);
    json_decref(messages);
}

/* Broken bytes are repaired, so that the stretches fit the text that is encoded. */
static void content_is_marked_and_valid(void **state)
{
    struct chat_message message = {.role = "user", .content = "a\xff<|eot|>", .bytes = 9};
    struct chat_job job = {.messages = &message, .count = 1, .generation_prompt = true};
    struct tokenizer_span content[CHAT_PROMPT_PARTS];
    char out[256];
    struct chat_prompt p = {
        .text = out, .capacity = sizeof out, .content = content, .content_capacity = CHAT_PROMPT_PARTS};
    struct tokenizer *t = open_with(NULL);
    const struct chat *chat;

    (void)state;
    assert_int_equal(chat_find(&chat, "llama4", t), STATUS_OK);
    assert_int_equal(chat_render(chat, &job, &p), STATUS_OK);
    assert_int_equal(p.content_count, 2);
    assert_int_equal(content[0].end - content[0].begin, 4);
    assert_memory_equal(out + content[0].begin, "user", 4);
    assert_int_equal(content[1].end - content[1].begin, 11);
    assert_memory_equal(out + content[1].begin, "a\uFFFD<|eot|>", 11);
    job.count = 0;
    assert_int_equal(chat_render(chat, &job, &p), STATUS_BAD_INPUT);
    tokenizer_close(t);
}

static void no_other_family_or_template_is_taken_for_one_we_know(void **state)
{
    struct tokenizer *bare = open_with(NULL),
                     *other = open_with("<|im_start|>{{ message['content'] | trim }}"), *demo;
    const struct chat *chat = NULL;

    (void)state;
    assert_int_equal(chat_find(&chat, "qwen9_moe", bare), STATUS_BAD_INPUT);
    assert_non_null(strstr(status_text(), "no chat renderer for model_type \"qwen9_moe\""));
    assert_int_equal(chat_find(&chat, "llama4", other), STATUS_BAD_INPUT);
    assert_non_null(
        strstr(status_text(), "none of those of llama4 that can be rendered (see its \"<|header_start|>\")"));
    assert_int_equal(chat_find(&chat, "qwen3_moe", other), STATUS_BAD_INPUT);
    assert_int_equal(chat_find(&chat, "mixtral", other), STATUS_BAD_INPUT);
    assert_int_equal(chat_find(&chat, "glm4_moe", other), STATUS_BAD_INPUT);
    assert_int_equal(chat_find(&chat, "llama", other), STATUS_BAD_INPUT);
    assert_int_equal(tokenizer_open(&demo, "models/demo"), STATUS_OK);
    assert_int_equal(chat_find(&chat, "mixtral", demo), STATUS_BAD_INPUT);
    assert_null(chat);
    tokenizer_close(demo);
    tokenizer_close(bare);
    tokenizer_close(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_line_of_every_gold_is_equal),
        cmocka_unit_test(every_chat_of_the_demo_gold_is_equal),
        cmocka_unit_test(only_the_template_that_says_so_trims_every_message),
        cmocka_unit_test(results_of_tools_are_json_in_the_released_template),
        cmocka_unit_test(the_forms_of_qwen3_differ_in_thoughts),
        cmocka_unit_test(content_is_marked_and_valid),
        cmocka_unit_test(no_other_family_or_template_is_taken_for_one_we_know),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
