/* test_tokenizer.c - ids are those of Hugging Face tokenizers, and what cannot be so is refused by name
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * tests/golden/tokenizers: features.json from tokenizers 0.23.3 (make_features.py), llama4.jsonl from Llama
 * 4's own vocabulary, which is not part of this project: where it is not beside it, that test is skipped. */
#include "engine/tokenizer.h"
#include "engine/base/file.h"
#include "engine/detokenizer.h"
#include "engine/json.h"
#include "engine/tokenizer_merge.h"
#include "engine/utf8.h"
#include "tests/folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <time.h>

enum { IDS = 1 << 22, FILE_LIMIT = 64 << 20 };

static int32_t ids[IDS];
static struct tokens tokens = {.ids = ids, .capacity = IDS};

#define assert_ok(call) assert_status((call), STATUS_OK, #call)

static void assert_status(enum status status, enum status wanted, const char *what)
{
    if (status != wanted)
        fail_msg("%s: status %d, %d was wanted (%s)", what, status, wanted, status_text());
}

static bool encodes_to(struct tokenizer *t, json_t *text, unsigned flags, json_t *wanted)
{
    bool same;

    tokens.count = 0;
    assert_ok(tokenizer_encode(t, json_string_value(text), json_string_length(text), flags, &tokens));
    same = (size_t)tokens.count == json_array_size(wanted);
    for (int i = 0; same && i < tokens.count; i++)
        same = tokens.ids[i] == json_integer_value(json_array_get(wanted, (size_t)i));
    return same;
}

/* Are the bytes of the tokens just encoded the text itself? */
static bool spells(const struct tokenizer *t, const char *text, size_t bytes)
{
    size_t at = 0;

    for (int i = 0; i < tokens.count; i++) {
        size_t length;
        bool special;
        const char *piece = tokenizer_bytes(t, tokens.ids[i], &length, &special);

        if (length > bytes - at || memcmp(piece, text + at, length) != 0)
            return false;
        at += length;
    }
    return at == bytes;
}

/* Do the tokens just encoded, taken as a whole text, show what is wanted? */
static bool shows(const struct tokenizer *t, bool special, json_t *wanted)
{
    static char shown[1 << 20];
    struct detokenizer d;
    size_t used = 0;

    assert_ok(detokenizer_start(&d, t, NULL, 0, special));
    detokenizer_whole(&d);
    for (int i = 0; i <= tokens.count; i++) {
        size_t bytes;

        assert_true(sizeof shown - used >= detokenizer_room(t));
        if (i < tokens.count)
            assert_ok(detokenizer_push(&d, tokens.ids[i], shown + used, sizeof shown - used, &bytes));
        else
            assert_ok(detokenizer_finish(&d, shown + used, sizeof shown - used, &bytes));
        used += bytes;
    }
    return used == json_string_length(wanted) && memcmp(shown, json_string_value(wanted), used) == 0;
}

static void every_shape_of_pipeline_gives_ids_and_text_of_hugging_face(void **state)
{
    struct folder folder = folder_make();
    struct json gold = {0};
    json_t *variant, *item;
    size_t v, c, wrong = 0;

    (void)state;
    assert_ok(json_open_file(&gold, "tests/golden/tokenizers/features.json", FILE_LIMIT, JSON_OPEN_NUL));
    json_array_foreach(json_object_get(gold.root, "variants"), v, variant)
    {
        struct tokenizer *t;

        folder_write_json(&folder, "tokenizer.json", json_object_get(variant, "tokenizer"));
        assert_ok(tokenizer_open(&t, folder.path));
        json_array_foreach(json_object_get(variant, "cases"), c, item)
        {
            json_t *text = json_object_get(item, "text");

            if (!encodes_to(t, text, 0, json_object_get(item, "ids")) ||
                !encodes_to(t, text, TOKENIZER_ADD_SPECIAL, json_object_get(item, "with_special")) ||
                !encodes_to(t, text, TOKENIZER_LITERAL, json_object_get(item, "literal")) ||
                !encodes_to(t, text, 0, json_object_get(item, "ids")) ||
                !shows(t, true, json_object_get(item, "decoded")) ||
                !shows(t, false, json_object_get(item, "shown"))) {
                print_error("%s: \"%s\" differs\n", json_string_value(json_object_get(variant, "name")),
                            json_string_value(text));
                wrong++;
            }
        }
        tokenizer_close(t);
    }
    assert_int_equal(wrong, 0);
    assert_int_equal(v, 37);
    json_close(&gold);
    folder_remove(&folder);
}

/* Every line of a gold file; false: the vocabulary is not there. */
static bool compare_lines(const char *directory, const char *gold, int lines)
{
    char path[PATH_MAX];
    char *line = NULL;
    size_t room = 0;
    struct tokenizer *t;
    FILE *file;
    ssize_t bytes;
    int equal = 0, count = 0;

    snprintf(path, sizeof path, "%s/tokenizer.json", directory);
    file = file_exists(path) ? fopen(gold, "r") : NULL;
    if (!file) {
        print_message("skipped: %s with %s (not there)\n", gold, path);
        return false;
    }
    assert_ok(tokenizer_open(&t, directory));
    while ((bytes = getline(&line, &room, file)) > 0) {
        struct json json = {0};
        json_t *text, *decoded;

        assert_ok(json_open(&json, gold, line, (size_t)bytes, JSON_OPEN_NUL));
        text = json_object_get(json.root, "text");
        decoded = json_object_get(json.root, "decoded");
        count++;
        if (encodes_to(t, text, 0, json_object_get(json.root, "ids")) &&
            shows(t, true, decoded ? decoded : text))
            equal++;
        else
            print_error("%s: line %d differs\n", gold, count);
        json_close(&json);
    }
    print_message("%s: %d of %d lines equal\n", gold, equal, count);
    assert_int_equal(equal, count);
    assert_int_equal(count, lines);
    free(line);
    fclose(file);
    tokenizer_close(t);
    return true;
}

static void every_line_of_the_llama4_gold_is_equal(void **state)
{
    (void)state;
    if (!compare_lines("../shared/tokenizers/llama4", "tests/golden/tokenizers/llama4.jsonl", 335))
        skip();
}

struct outside {
    const char *directory, *gold;
    int lines;
};

/* Byte-level BPE in several forms, with NFC (Qwen3), and BPE in characters with byte fallback (Mixtral). */
static void every_line_of_the_other_golds_is_equal(void **state)
{
    static const struct outside table[] = {
        {"../shared/tokenizers/gptoss", "../shared/tokenizers/gold/gptoss.jsonl", 336},
        {"../shared/tokenizers/deepseek_v3", "../shared/tokenizers/gold/deepseek_v3.jsonl", 336},
        {"../shared/tokenizers/qwen3", "../shared/tokenizers/gold/qwen3.jsonl", 337},
        {"../shared/tokenizers/mixtral", "../shared/tokenizers/gold/mixtral.jsonl", 335},
    };
    bool there = true;

    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        there &= compare_lines(table[i].directory, table[i].gold, table[i].lines);
    if (!there)
        skip();
}

static struct tokenizer *open_demo(void)
{
    struct tokenizer *t;

    if (!file_exists("models/demo/tokenizer.json")) {
        fail_msg("models/demo/tokenizer.json is part of the project and is not there");
    }
    assert_ok(tokenizer_open(&t, "models/demo"));
    return t;
}

static void every_string_and_prompt_of_the_demo_gold_is_equal(void **state)
{
    struct tokenizer *t = open_demo();
    struct json gold = {0};
    json_t *item;
    size_t i;

    (void)state;
    assert_ok(json_open_file(&gold, "models/demo/gold.json", FILE_LIMIT, JSON_OPEN_NUL));
    json_array_foreach(json_object_get(gold.root, "tokenizer"), i, item)
        assert_true(encodes_to(t, json_object_get(item, "text"), 0, json_object_get(item, "ids")));
    assert_int_equal(i, 31);
    json_array_foreach(json_object_get(gold.root, "greedy"), i, item) assert_true(
        encodes_to(t, json_object_get(item, "prompt"), TOKENIZER_ADD_SPECIAL, json_object_get(item, "ids")));
    assert_int_equal(i, 12);
    json_close(&gold);
    assert_int_equal(tokenizer_size(t), 6144);
    assert_int_equal(tokenizer_eos(t), 6133);
    assert_int_equal(tokenizer_find(t, "<|begin_of_text|>"), 6128);
    assert_int_equal(tokenizer_find(t, "\u0120"), 220);
    assert_int_equal(tokenizer_find(t, "<|nothing|>"), -1);
    assert_non_null(strstr(tokenizer_chat_template(t), "<|header_start|>"));
    tokenizer_close(t);
}

static uint32_t random_state;

static uint32_t random_below(uint32_t limit)
{
    random_state = random_state * 1664525 + 1013904223;
    return (uint32_t)((uint64_t)random_state * limit >> 32);
}

/* Characters of many kinds, and with `broken` any byte now and then. */
static size_t random_text(char *text, size_t most, bool broken)
{
    static const char *const parts[] = {
        " ",          "\n",     "\r",     "\t",      "a",  "the",    "The",     "THE",          "ing",
        "'ll",        "'",      "1",      "23",      ".",  "\u00e9", "e\u0301", "\u4e2d\u6587", "\u3042",
        "\U0001F600", "\u200d", "\u3000", "<|eot|>", "<|", "|>",     "\u00a0",  "!!",           "/"};
    size_t bytes = 0;

    for (uint32_t left = random_below(40); left > 0 && bytes + 8 < most; left--) {
        const char *part = parts[random_below(sizeof parts / sizeof *parts)];

        if (broken && random_below(4) == 0) {
            text[bytes++] = (char)random_below(256);
            continue;
        }
        memcpy(text + bytes, part, strlen(part));
        bytes += strlen(part);
    }
    return bytes;
}

static void tokens_spell_the_text_and_broken_bytes_become_replacements(void **state)
{
    struct tokenizer *t = open_demo();
    char text[512], repaired[3 * 512];

    (void)state;
    random_state = (uint32_t)time(NULL);
    print_message("seed %u\n", random_state);
    for (int round = 0; round < 4000; round++) {
        size_t bytes = random_text(text, sizeof text, round % 2);
        size_t wanted = utf8_repair(repaired, text, bytes);

        tokens.count = 0;
        assert_ok(tokenizer_encode(t, text, bytes, 0, &tokens));
        assert_true(spells(t, repaired, wanted));
    }
    tokenizer_close(t);
}

/* The definition: the pair of lowest rank, the leftmost of equals, again and again. */
static int merge_slowly(uint32_t ranks[4][4], int32_t ids_of[4][4], int32_t *symbols, int count)
{
    for (;;) {
        int best = -1;

        for (int i = 0; i + 1 < count; i++)
            if (symbols[i] < 4 && symbols[i + 1] < 4 && ranks[symbols[i]][symbols[i + 1]] != UINT32_MAX &&
                (best < 0 || ranks[symbols[i]][symbols[i + 1]] < ranks[symbols[best]][symbols[best + 1]]))
                best = i;
        if (best < 0)
            return count;
        symbols[best] = ids_of[symbols[best]][symbols[best + 1]];
        memmove(symbols + best + 1, symbols + best + 2, (size_t)(count - best - 2) * sizeof *symbols);
        count--;
    }
}

/* Four symbols, two of which are bytes; merges in random order that lead back to symbols. */
static void the_heap_merges_as_the_definition_says(void **state)
{
    struct arena arena;
    struct tokenizer_merge m;

    (void)state;
    random_state = (uint32_t)time(NULL);
    print_message("seed %u\n", random_state);
    for (int round = 0; round < 60; round++) {
        uint32_t ranks[4][4];
        int32_t to[4][4];
        char piece[64];
        int32_t symbols[64];

        assert_ok(arena_open(&arena, "test", tokenizer_merge_room(16)));
        assert_ok(tokenizer_merge_open(&m, &arena, 16));
        for (uint32_t i = 0; i < 16; i++) {
            struct tokenizer_pair pair = {.left = (int)i / 4, .right = (int)i % 4, .rank = i * 7 % 16};

            ranks[i / 4][i % 4] = UINT32_MAX;
            if (random_below(3) == 0)
                continue;
            pair.rank = pair.rank ^ (uint32_t)round % 16;
            pair.id = to[i / 4][i % 4] = 2 + (int32_t)random_below(4);
            ranks[i / 4][i % 4] = pair.rank;
            tokenizer_merge_add(&m, &pair);
        }
        m.byte_ids['a'] = 0;
        m.byte_ids['b'] = 1;
        for (int trial = 0; trial < 50; trial++) {
            int count = 1 + (int)random_below(sizeof piece);

            for (int i = 0; i < count; i++)
                symbols[i] = (piece[i] = (char)('a' + random_below(2))) - 'a';
            tokens.count = 0;
            assert_ok(tokenizer_merge_piece(&m, piece, (size_t)count, &tokens));
            count = merge_slowly(ranks, to, symbols, count);
            assert_int_equal(tokens.count, count);
            assert_memory_equal(tokens.ids, symbols, (size_t)count * sizeof *symbols);
        }
        arena_close(&arena);
    }
}

static void a_megabyte_of_anything_is_encoded_quickly(void **state)
{
    static const char *const parts[] = {
        "a", " ", "!", "\n", "\u00e9", "e\u0301", "\u6f22", "ab1 ", "the quick fox ", "\xff"};
    static char text[1 << 20];
    struct tokenizer *t = open_demo();

    (void)state;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        size_t length = strlen(parts[i]);
        clock_t begin = clock();

        for (size_t at = 0; at < sizeof text; at++)
            text[at] = parts[i][at % length];
        tokens.count = 0;
        assert_ok(tokenizer_encode(t, text, sizeof text, 0, &tokens));
        /* Half a second is usual; anything quadratic takes minutes. */
        assert_true(clock() - begin < 10 * CLOCKS_PER_SEC);
    }
    tokenizer_close(t);
}

static void too_much_is_refused_and_leaves_the_list_as_it_was(void **state)
{
    struct tokenizer *t = open_demo();
    struct tokens few = {.ids = ids, .count = 1, .capacity = 3};

    (void)state;
    assert_int_equal(tokenizer_encode(t, "a b c d e f", 11, 0, &few), STATUS_BAD_INPUT);
    assert_string_equal(status_text(), "text of more than 3 tokens: shorten it, or allow more");
    assert_int_equal(few.count, 1);
    assert_int_equal(tokenizer_encode(t, "", (size_t)TOKENIZER_TEXT_LIMIT + 1, 0, &few), STATUS_BAD_INPUT);
    tokenizer_close(t);
}

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
        cmocka_unit_test(every_shape_of_pipeline_gives_ids_and_text_of_hugging_face),
        cmocka_unit_test(every_line_of_the_llama4_gold_is_equal),
        cmocka_unit_test(every_line_of_the_other_golds_is_equal),
        cmocka_unit_test(every_string_and_prompt_of_the_demo_gold_is_equal),
        cmocka_unit_test(tokens_spell_the_text_and_broken_bytes_become_replacements),
        cmocka_unit_test(the_heap_merges_as_the_definition_says),
        cmocka_unit_test(a_megabyte_of_anything_is_encoded_quickly),
        cmocka_unit_test(too_much_is_refused_and_leaves_the_list_as_it_was),
        cmocka_unit_test(what_would_change_ids_and_is_not_known_is_refused_by_name),
        cmocka_unit_test(a_byte_without_a_token_is_named),
        cmocka_unit_test(a_template_file_counts_before_the_configuration),
        cmocka_unit_test(a_directory_without_tokenizer_json_is_named_with_what_to_do),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
