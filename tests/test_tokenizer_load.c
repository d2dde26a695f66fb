/* test_tokenizer_load.c - what would change ids and cannot be done is refused by name; where templates come
 * from
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Each refusal is one change of the first tokenizer in tests/golden/tokenizers/features.json. */
#include "engine/base/file.h"
#include "engine/json.h"
#include "engine/tokenizer.h"
#include "tests/folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { FILE_LIMIT = 64 << 20 };

static int32_t ids[64];
static struct tokens tokens = {.ids = ids, .capacity = 64};

#define assert_ok(call) assert_int_equal((call), STATUS_OK)

struct refusal {
    const char *path; /* key, or key.key, that is replaced */
    const char *value;
    const char *words; /* of the message */
};

static const struct refusal refusals[] = {
    {"normalizer", "{\"type\":\"StripAccents\"}", "tokenizer.json: normalizer StripAccents is not supported"},
    {"normalizer", "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Lowercase\"}]}",
     "normalizer Lowercase"},
    {"normalizer", "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"a\"},\"content\":\"\"}",
     "normalizer Replace is not supported: its pattern is no String"},
    {"normalizer", "{\"type\":\"Replace\",\"pattern\":{\"String\":\"\"},\"content\":\"\"}",
     "normalizer Replace: a normalizer that replaces nothing"},
    {"normalizer", "{\"type\":\"Prepend\"}", "normalizer Prepend needs a text \"prepend\""},
    {"pre_tokenizer", "null", "decoder is ByteLevel, but pre_tokenizer has no ByteLevel"},
    {"pre_tokenizer", "{\"type\":\"Whitespace\"}",
     "tokenizer.json: pre_tokenizer Whitespace is not supported"},
    {"pre_tokenizer", "{\"type\":\"Metaspace\"}", "pre_tokenizer Metaspace needs a text \"replacement\""},
    {"pre_tokenizer", "{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"now\"}",
     "Metaspace with prepend_scheme \"now\""},
    {"pre_tokenizer", "{\"type\":\"Sequence\"}", "needs a list \"pretokenizers\""},
    {"pre_tokenizer",
     "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a\"},\"behavior\":\"Contiguous\",\"invert\":false}",
     "behavior \"Contiguous\" is not supported"},
    {"pre_tokenizer", "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(a\"},\"behavior\":\"Isolated\"}",
     "split pattern: "},
    {"pre_tokenizer", "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\w+\"},\"behavior\":\"Isolated\"}",
     "\\w at byte 0 is not supported"},
    {"pre_tokenizer", "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[a&&[^b]]\"},\"behavior\":\"Isolated\"}",
     "&& inside a class"},
    {"pre_tokenizer", "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a{1,2}+\"},\"behavior\":\"Isolated\"}",
     "{..}+"},
    {"pre_tokenizer", "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(?m)a\"},\"behavior\":\"Isolated\"}",
     "(?m"},
    {"post_processor", "{\"type\":\"BertProcessing\"}", "post_processor BertProcessing is not supported"},
    {"post_processor", "{\"type\":\"TemplateProcessing\",\"single\":[],\"special_tokens\":{}}", "without A"},
    {"post_processor",
     "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"x\"}},{\"Sequence\":{\"id\":"
     "\"A\"}}],"
     "\"special_tokens\":{\"x\":{\"ids\":[99999]}}}",
     "id 99999, which is no token"},
    {"decoder", "null", "pre_tokenizer is ByteLevel, but decoder is not"},
    {"decoder", "{\"type\":\"WordPiece\"}", "tokenizer.json: decoder WordPiece is not supported"},
    {"decoder", "{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}",
     "must stand once, behind Fuse"},
    {"decoder",
     "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Fuse\"},{\"type\":\"Strip\",\"content\":\" "
     "\",\"start\":0,"
     "\"stop\":1}]}",
     "it takes from the end of a text"},
    {"decoder",
     "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Fuse\"},{\"type\":\"Strip\",\"content\":\"ab\","
     "\"start\":1,"
     "\"stop\":0}]}",
     "its content must be one character"},
    {"decoder",
     "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Fuse\"},{\"type\":\"Replace\",\"pattern\":{\"String\":"
     "\"ab\"},"
     "\"content\":\"c\"}]}",
     "it must stand before ByteFallback and Fuse"},
    {"decoder", "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":\"bc\"}",
     "decoder Replace: a Replace that makes text longer"},
    {"added_tokens", "[{\"id\":-1,\"content\":\"x\"}]", "the id of token \"x\""},
    {"added_tokens", "[{\"id\":9,\"content\":\"<X>\"}]", "id 9 to \"<X>\", but another token has it"},
    {"added_tokens", "[{\"id\":900,\"content\":\"\"}]", "is empty"},
    {"added_tokens", "[{\"id\":900}]", "added_tokens[0] has no content"},
    {"added_tokens", "[{\"id\":900,\"content\":\"<A>\"}]", "id 900, model.vocab gives it 0"},
    {"model", "null", "\"model\" is missing"},
    {"model.type", "\"Unigram\"", "type Unigram is not supported"},
    {"model.byte_fallback", "true", "\"model.byte_fallback\" is not supported beside"},
    {"model.dropout", "0.5", "\"model.dropout\" is not supported"},
    {"model.end_of_word_suffix", "\"</w>\"", "\"model.end_of_word_suffix\" is not supported"},
    {"model.vocab", "{}", "\"model.vocab\" must be"},
    {"model.vocab", "{\"a\":0,\"b\":0}", "gives id 0 twice"},
    {"model.vocab", "{\"a\":99999999}", "the id of token \"a\""},
    {"model.merges", "{}", "\"model.merges\" must be a list"},
    {"model.merges", "[\"a\"]", "model.merges[0] is neither"},
    {"model.merges", "[\"a zz\"]", "model.merges[0] joins a token that model.vocab lacks"},
    {"model.merges", "[[\"a\",\"z\"]]", "model.merges[0] makes a token that model.vocab lacks"},
};

static void what_would_change_ids_and_is_not_known_is_refused_by_name(void **state)
{
    struct folder folder = folder_make();
    struct json gold = {0};
    json_t *first;

    (void)state;
    assert_ok(json_open_file(&gold, "tests/golden/tokenizers/features.json", FILE_LIMIT, JSON_OPEN_NUL));
    first = json_object_get(json_array_get(json_object_get(gold.root, "variants"), 0), "tokenizer");
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        const struct refusal *r = &refusals[i];
        json_t *changed = json_deep_copy(first);
        const char *dot = strchr(r->path, '.');
        json_t *at = dot ? json_object_get(changed, "model") : changed;
        struct tokenizer *t;

        json_object_set_new(at, dot ? dot + 1 : r->path, json_loads(r->value, JSON_DECODE_ANY, NULL));
        folder_write_json(&folder, "tokenizer.json", changed);
        json_decref(changed);
        assert_int_equal(tokenizer_open(&t, folder.path), STATUS_BAD_INPUT);
        if (!strstr(status_text(), r->words))
            fail_msg("%s = %s: \"%s\" lacks \"%s\"", r->path, r->value, status_text(), r->words);
        if (!strstr(status_text(), "tokenizer.json") && !strstr(status_text(), "added_tokens") &&
            !strstr(status_text(), "model.vocab"))
            fail_msg("\"%s\" names no file", status_text());
    }
    json_close(&gold);
    folder_remove(&folder);
}

static void a_byte_without_a_token_is_named(void **state)
{
    static const char small[] =
        "{\"added_tokens\":[],\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},"
        "\"decoder\":"
        "{\"type\":\"ByteLevel\"},\"model\":{\"vocab\":{\"a\":0,\"b\":1},\"merges\":[]}}";
    struct folder folder = folder_make();
    struct tokenizer *t;

    (void)state;
    folder_write(&folder, "tokenizer.json", small, sizeof small - 1);
    assert_ok(tokenizer_open(&t, folder.path));
    tokens.count = 0;
    assert_ok(tokenizer_encode(t, "abba", 4, 0, &tokens));
    assert_int_equal(tokens.count, 4);
    assert_int_equal(tokenizer_encode(t, "abc", 3, 0, &tokens), STATUS_BAD_INPUT);
    assert_string_equal(status_text(), "the vocabulary has no token for byte 0x63 of the text");
    assert_int_equal(tokens.count, 4);
    assert_null(tokenizer_chat_template(t));
    assert_int_equal(tokenizer_eos(t), -1);
    tokenizer_close(t);
    folder_remove(&folder);
}

static void a_template_file_counts_before_the_configuration(void **state)
{
    static const char config[] =
        "{\"model_max_length\":1000000000000000019884624838656,\"eos_token\":{\"content\":\"<AA>\"},"
        "\"chat_template\":[{\"name\":\"tool\",\"template\":\"no\"},{\"name\":\"default\","
        "\"template\":\"yes\"}]}";
    struct folder folder = folder_make();
    struct json gold = {0};
    struct tokenizer *t;

    (void)state;
    assert_ok(json_open_file(&gold, "tests/golden/tokenizers/features.json", FILE_LIMIT, JSON_OPEN_NUL));
    folder_write_json(
        &folder, "tokenizer.json",
        json_object_get(json_array_get(json_object_get(gold.root, "variants"), 0), "tokenizer"));
    folder_write(&folder, "tokenizer_config.json", config, sizeof config - 1);
    assert_ok(tokenizer_open(&t, folder.path));
    assert_string_equal(tokenizer_chat_template(t), "yes");
    assert_int_equal(tokenizer_eos(t), 1);
    tokenizer_close(t);
    folder_write(&folder, "chat_template.jinja", "file", 4);
    assert_ok(tokenizer_open(&t, folder.path));
    assert_string_equal(tokenizer_chat_template(t), "file");
    tokenizer_close(t);
    json_close(&gold);
    folder_remove(&folder);
}

static void a_directory_without_tokenizer_json_is_named_with_what_to_do(void **state)
{
    static const char *const others[] = {"tokenizer.model", "tiktoken.model"};
    struct folder folder = folder_make();
    struct tokenizer *t;

    (void)state;
    assert_int_equal(tokenizer_open(&t, folder.path), STATUS_NO_INPUT);
    assert_non_null(strstr(status_text(), "there is no tokenizer.json"));
    for (int i = 1; i >= 0; i--) {
        folder_write(&folder, others[i], "YQ== 0\n", 7);
        assert_int_equal(tokenizer_open(&t, folder.path), STATUS_NO_INPUT);
        assert_non_null(strstr(status_text(), others[i]));
        assert_non_null(strstr(status_text(), "save_pretrained"));
        assert_non_null(strstr(status_text(), folder.path));
    }
    tokenizer_close(NULL);
    folder_remove(&folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_would_change_ids_and_is_not_known_is_refused_by_name),
        cmocka_unit_test(a_byte_without_a_token_is_named),
        cmocka_unit_test(a_template_file_counts_before_the_configuration),
        cmocka_unit_test(a_directory_without_tokenizer_json_is_named_with_what_to_do),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
