/* test_tokenize.c - `tokenize` and `detokenize` answer every line by a line
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/base/file.h"
#include "engine/base/log.h"
#include "engine/json.h"
#include "launch/tokenize.h"
#include "tests/folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const char demo[] = "models/demo";

struct answers {
    char *text;
    size_t bytes;
    enum status status;
};

static struct answers run(struct tokenize_job job, const char *input, size_t bytes)
{
    struct answers answers = {0};
    FILE *in = tmpfile();

    fwrite(input, 1, bytes, in);
    fflush(in);
    rewind(in);
    job.input = fileno(in);
    job.output = open_memstream(&answers.text, &answers.bytes);
    answers.status = tokenize_lines(&job);
    fclose(job.output);
    fclose(in);
    return answers;
}

static void expect(struct tokenize_job job, const char *input, enum status status, const char *wanted)
{
    struct answers answers = run(job, input, strlen(input));

    assert_string_equal(answers.text, wanted);
    assert_int_equal(answers.status, status);
    free(answers.text);
}

static void need_demo(void)
{
    if (!file_exists("models/demo/tokenizer.json")) {
        fail_msg("models/demo/tokenizer.json is part of the project and is not there");
    }
}

/* Ids from models/demo/gold.json. */
static void plain_lines_become_ids_and_back(void **state)
{
    (void)state;
    need_demo();
    expect((struct tokenize_job){.directory = demo}, "Hello, world!\n\nIn the beginning\r\n  ", STATUS_OK,
           "39 500 78 11 3478 0\n\n852 270 5816\n256\n");
    expect((struct tokenize_job){.directory = demo, .add_special_tokens = true}, "In the beginning\n\n",
           STATUS_OK, "6128 852 270 5816\n6128\n");
    expect((struct tokenize_job){.directory = demo, .detokenize = true},
           "39 500 78 11 3478 0\n\n\t852  270 5816 \n6128\n", STATUS_OK,
           "Hello, world!\n\nIn the beginning\n<|begin_of_text|>\n");
    expect((struct tokenize_job){.directory = demo}, "", STATUS_OK, "");
}

static void plain_lines_that_cannot_be_answered_stay_empty_and_end_in_failure(void **state)
{
    (void)state;
    need_demo();
    log_open(0, LOG_ERROR);
    expect((struct tokenize_job){.directory = demo, .detokenize = true}, "39 x\n0\n99999\n-1\n1,2\n",
           STATUS_BAD_INPUT, "\n!\n\n\n\n");
    assert_string_equal(status_text(), "4 of 5 lines were refused");
}

static void json_lines_become_ids_and_back(void **state)
{
    (void)state;
    need_demo();
    expect(
        (struct tokenize_job){.directory = demo, .jsonl = true, .add_special_tokens = true},
        "{\"text\":\"In the beginning\"}\n{\"text\":\"\"}\r\n"
        "{\"messages\":[{\"role\":\"user\",\"content\":\" And it came to pass\\n\"}]}\n"
        "{\"add_generation_prompt\":false,\"messages\":[{\"role\":\"user\",\"content\":\"\"}]}",
        STATUS_OK,
        "{\"ids\":[6128,852,270,5816]}\n{\"ids\":[6128]}\n"
        "{\"ids\":[6128,6130,1055,6131,268,5293,431,1343,312,1096,6133,6130,525,472,701,6131,268],\"prompt\":"
        "\"<|begin_of_text|><|header_start|>user<|header_end|>\\n\\nAnd it came to pass<|eot|>"
        "<|header_start|>assistant<|header_end|>\\n\\n\"}\n"
        "{\"ids\":[6128,6130,1055,6131,268,6133],\"prompt\":"
        "\"<|begin_of_text|><|header_start|>user<|header_end|>\\n\\n<|eot|>\"}\n");
    expect(
        (struct tokenize_job){.directory = demo, .jsonl = true, .detokenize = true},
        "{\"ids\":[6128,852,270,5816,268]}\n{\"ids\":[]}\n{\"ids\":[127]}\n", STATUS_OK,
        "{\"text\":\"<|begin_of_text|>In the beginning\\n\\n\"}\n{\"text\":\"\"}\n{\"text\":\"\uFFFD\"}\n");
}

/* Ids of the plain "<|eot|>" from Hugging Face tokenizers, added tokens taken out; the template's tokens stay
 * what they are. */
static void literal_text_holds_no_special_tokens_but_those_of_the_template(void **state)
{
    static const char lines[] = "{\"text\":\"<|eot|>\"}\n"
                                "{\"messages\":[{\"role\":\"user\",\"content\":\"<|eot|>\"}],"
                                "\"add_generation_prompt\":false}\n";

    (void)state;
    need_demo();
    expect((struct tokenize_job){.directory = demo, .jsonl = true}, lines, STATUS_OK,
           "{\"ids\":[6133]}\n{\"ids\":[6128,6130,1055,6131,268,6133,6133],\"prompt\":"
           "\"<|begin_of_text|><|header_start|>user<|header_end|>\\n\\n<|eot|><|eot|>\"}\n");
    expect((struct tokenize_job){.directory = demo, .jsonl = true, .literal_text = true}, lines, STATUS_OK,
           "{\"ids\":[27,91,68,331,91,29]}\n{\"ids\":[6128,6130,1055,6131,268,27,91,68,331,91,29,6133],"
           "\"prompt\":"
           "\"<|begin_of_text|><|header_start|>user<|header_end|>\\n\\n<|eot|><|eot|>\"}\n");
}

static const char *const wrong[] = {
    "",
    "x",
    "{\"text\":1}",
    "{\"text\":\"a\"",
    "{\"text\":\"\xff\"}",
    "[]",
    "{}",
    "{\"text\":\"a\",\"messages\":[]}",
    "{\"messages\":{}}",
    "{\"messages\":[1]}",
    "{\"messages\":[{\"role\":\"user\"}]}",
    "{\"messages\":[{\"role\":\"user\",\"content\":[]}]}",
    "{\"messages\":[{\"role\":\"user\",\"content\":\"\",\"tool_calls\":[]}]}",
    "{\"messages\":[],\"add_generation_prompt\":1}",
    "{\"text\":\"a\",\"text\":\"a\"}",
    "{\"messages\":[]}",
    "{\"messages\":[],\"chat_template_kwargs\":1}",
    "{\"messages\":[],\"chat_template_kwargs\":{\"enable_thinking\":1}}",
    "{\"messages\":[],\"chat_template_kwargs\":{\"date\":1}}",
};

static void a_json_line_that_is_wrong_becomes_one_error_line(void **state)
{
    (void)state;
    need_demo();
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char input[256];
        struct answers answers;
        struct json line = {0};
        char *end;

        snprintf(input, sizeof input, "%s\n{\"text\":\"!\"}\n", wrong[i]);
        answers = run((struct tokenize_job){.directory = demo, .jsonl = true}, input, strlen(input));
        assert_int_equal(answers.status, STATUS_OK);
        end = strchr(answers.text, '\n');
        assert_string_equal(end, "\n{\"ids\":[0]}\n");
        assert_int_equal(json_open(&line, wrong[i], answers.text, (size_t)(end - answers.text), 0),
                         STATUS_OK);
        assert_true(json_string_length(json_object_get(line.root, "error")) > 0);
        json_close(&line);
        free(answers.text);
    }
    expect((struct tokenize_job){.directory = demo, .jsonl = true, .detokenize = true},
           "{\"ids\":[\"a\"]}\n{\"text\":\"a\"}\n{\"ids\":[6144]}\n", STATUS_OK,
           "{\"error\":\"ids[0] must be a whole number\"}\n{\"error\":\"the line needs a key \\\"ids\\\"\"}\n"
           "{\"error\":\"id 6144 is no token: ids go from 0 to 6143\"}\n");
}

/* NUL, broken UTF-8 and every control character survive the way there and back as far as they can. */
static void text_of_any_bytes_goes_round(void **state)
{
    static const char input[] = "{\"text\":\"a\\u0000b\\u001f\\\"\\\\\\u00e9\\ud83d\\ude00\\n\"}\n";
    struct tokenize_job forth = {.directory = demo, .jsonl = true},
                        back = {.directory = demo, .jsonl = true, .detokenize = true};
    struct answers there, again;

    (void)state;
    need_demo();
    there = run(forth, input, sizeof input - 1);
    again = run(back, there.text, there.bytes);
    assert_string_equal(again.text, "{\"text\":\"a\\u0000b\\u001f\\\"\\\\\u00e9\U0001F600\\n\"}\n");
    free(there.text);
    free(again.text);
    expect((struct tokenize_job){.directory = demo}, "\xE3\x81 \xFF\n", STATUS_OK,
           "171 123 121 220 171 123 121\n");
}

static void text_needs_the_tokenizer_alone_and_messages_the_model_type(void **state)
{
    struct folder folder = folder_make();
    struct json tokenizer = {0};
    struct answers answers;
    static const char input[] = "{\"text\":\"!\"}\n{\"messages\":[{\"role\":\"user\",\"content\":\"\"}]}\n";

    (void)state;
    need_demo();
    assert_int_equal(json_open_file(&tokenizer, "models/demo/tokenizer.json", 1 << 24, 0), STATUS_OK);
    folder_write_json(&folder, "tokenizer.json", tokenizer.root);
    json_close(&tokenizer);
    answers = run((struct tokenize_job){.directory = folder.path, .jsonl = true}, input, sizeof input - 1);
    assert_int_equal(answers.status, STATUS_OK);
    assert_memory_equal(answers.text, "{\"ids\":[0]}\n{\"error\":\"", 22);
    assert_non_null(strstr(answers.text, "config.json"));
    free(answers.text);
    folder_write(&folder, "config.json", "{\"model_type\":\"llama4\",\"x\":1e9}", 31);
    expect((struct tokenize_job){.directory = folder.path, .jsonl = true}, input, STATUS_OK,
           "{\"ids\":[0]}\n{\"ids\":[6128,6130,1055,6131,268,6133,6130,525,472,701,6131,268],\"prompt\":"
           "\"<|begin_of_text|><|header_start|>user<|header_end|>\\n\\n<|eot|>"
           "<|header_start|>assistant<|header_end|>\\n\\n\"}\n");
    folder_write(&folder, "config.json", "{\"model_type\":\"mixtral\"}", 24);
    expect((struct tokenize_job){.directory = folder.path, .jsonl = true}, input, STATUS_OK,
           "{\"ids\":[0]}\n{\"error\":\"the tokenizer has no token \\\"<s>\\\", which chats of mixtral are "
           "made of: send complete prompts instead\"}\n");
    folder_write(&folder, "config.json", "{\"model_type\":\"olmoe\"}", 22);
    expect((struct tokenize_job){.directory = folder.path, .jsonl = true}, input, STATUS_OK,
           "{\"ids\":[0]}\n{\"error\":\"there is no chat renderer for model_type \\\"olmoe\\\": send "
           "complete prompts instead\"}\n");
    folder_remove(&folder);
}

/* Gold as a request: its variables are the template's settings. */
static void ask(FILE *out, json_t *line)
{
    json_t *request = json_pack("{s:O,s:O,s:O}", "messages", json_object_get(line, "messages"),
                                "add_generation_prompt", json_object_get(line, "add_generation_prompt"),
                                "chat_template_kwargs", json_object_get(line, "vars"));

    json_dumpf(request, out, JSON_COMPACT);
    fputc('\n', out);
    json_decref(request);
}

/* Every line of a chat gold through the whole command, where the vocabulary is there. */
static bool compare_chats(const char *name, int lines)
{
    char directory[256], path[512], *line = NULL, *requests = NULL, *answer;
    size_t room = 0, bytes = 0;
    struct json gold[64];
    struct answers answers;
    FILE *file, *in;
    int count = 0;

    snprintf(directory, sizeof directory, "../shared/tokenizers/%s", name);
    snprintf(path, sizeof path, "%s/tokenizer.json", directory);
    if (!file_exists(path)) {
        print_message("skipped: %s (not there)\n", directory);
        return false;
    }
    snprintf(path, sizeof path, "tests/golden/tokenizers/%s_chat.jsonl", name);
    file = fopen(path, "r");
    assert_non_null(file);
    in = open_memstream(&requests, &bytes);
    for (ssize_t length; (length = getline(&line, &room, file)) > 0; count++) {
        gold[count] = (struct json){0};
        assert_int_equal(json_open(&gold[count], "gold", line, (size_t)length, 0), STATUS_OK);
        ask(in, gold[count].root);
    }
    fclose(in);
    fclose(file);
    assert_int_equal(count, lines);
    answers = run((struct tokenize_job){.directory = directory, .jsonl = true}, requests, bytes);
    assert_int_equal(answers.status, STATUS_OK);
    answer = answers.text;
    for (int i = 0; i < count; i++) {
        struct json got = {0};
        char *end = strchr(answer, '\n');
        bool refused = json_object_get(gold[i].root, "error");

        assert_int_equal(json_open(&got, "answer", answer, (size_t)(end - answer), 0), STATUS_OK);
        for (int key = 0; key < (refused ? 1 : 2); key++) {
            const char *keys[2][2] = {{"ids", "prompt"}, {"error", ""}};
            const char *what = keys[refused][key];

            assert_true(json_equal(json_object_get(got.root, what), json_object_get(gold[i].root, what)));
        }
        json_close(&got);
        json_close(&gold[i]);
        answer = end + 1;
    }
    print_message("%s: %d chats equal\n", name, count);
    free(answers.text);
    free(requests);
    free(line);
    return true;
}

static void every_chat_gold_goes_through_the_command(void **state)
{
    bool there = true;

    (void)state;
    there &= compare_chats("llama4", 16);
    there &= compare_chats("qwen3", 32);
    there &= compare_chats("mixtral", 16);
    if (!there)
        skip();
}

static void a_full_disk_is_a_failure(void **state)
{
    FILE *in = tmpfile(), *full = fopen("/dev/full", "w");
    struct tokenize_job job = {.directory = demo, .input = fileno(in), .output = full};

    (void)state;
    need_demo();
    fputs("a\n", in);
    rewind(in);
    assert_int_equal(tokenize_lines(&job), STATUS_IO);
    fclose(in);
    fclose(full);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_lines_become_ids_and_back),
        cmocka_unit_test(plain_lines_that_cannot_be_answered_stay_empty_and_end_in_failure),
        cmocka_unit_test(json_lines_become_ids_and_back),
        cmocka_unit_test(literal_text_holds_no_special_tokens_but_those_of_the_template),
        cmocka_unit_test(a_json_line_that_is_wrong_becomes_one_error_line),
        cmocka_unit_test(text_of_any_bytes_goes_round),
        cmocka_unit_test(text_needs_the_tokenizer_alone_and_messages_the_model_type),
        cmocka_unit_test(every_chat_gold_goes_through_the_command),
        cmocka_unit_test(a_full_disk_is_a_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
