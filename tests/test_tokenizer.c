/* test_tokenizer.c - ids and text are those of Hugging Face tokenizers
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
    assert_int_equal(v, 40);
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

static int count_specials(const struct tokenizer *t)
{
    int specials = 0;

    for (int i = 0; i < tokens.count; i++) {
        size_t bytes;
        bool special;

        tokenizer_bytes(t, tokens.ids[i], &bytes, &special);
        specials += special;
    }
    return specials;
}

/* No token that is named inside of a plain stretch, or half inside, is one; all others are. */
static void tokens_named_in_plain_stretches_are_text(void **state)
{
    static const char text[] = "<|header_start|>user<|header_end|>\n\n<|eot|> <|eo<|eot|>t|><|eot|>";
    size_t begin = (size_t)(strstr(text, "\n\n") + 2 - text);
    struct tokenizer_span spans[] = {{begin, begin + 12}, {begin + 19, begin + 21}};
    struct tokenizer *t = open_demo();

    (void)state;
    for (int count = 0; count <= 2; count++) {
        tokens.count = 0;
        assert_ok(tokenizer_encode_spans(t, text, sizeof text - 1, spans, count, &tokens));
        assert_true(spells(t, text, sizeof text - 1));
        assert_int_equal(count_specials(t), count == 0 ? 5 : 4);
    }
    spans[1] = (struct tokenizer_span){begin + 18, begin + 19}; /* cuts into the second <|eot|> */
    tokens.count = 0;
    assert_ok(tokenizer_encode_spans(t, text, sizeof text - 1, spans, 2, &tokens));
    assert_int_equal(count_specials(t), 3);
    tokens.count = 0;
    assert_ok(tokenizer_encode(t, text, sizeof text - 1, TOKENIZER_LITERAL, &tokens));
    assert_int_equal(count_specials(t), 0);
    assert_int_equal(tokenizer_encode_spans(t, "\xff", 1, spans, 0, &tokens), STATUS_BUG);
    tokenizer_close(t);
}

/* Tokens of characters and of bytes give back any text, but for the stand-in of the blank. */
static void tokens_of_characters_show_the_text_again(void **state)
{
    struct folder folder = folder_make();
    struct json gold = {0};
    char text[512], repaired[3 * 512];
    struct tokenizer *t;
    json_t *variant;
    size_t v;

    (void)state;
    random_state = (uint32_t)time(NULL);
    print_message("seed %u\n", random_state);
    assert_ok(json_open_file(&gold, "tests/golden/tokenizers/features.json", FILE_LIMIT, JSON_OPEN_NUL));
    json_array_foreach(json_object_get(gold.root, "variants"), v, variant)
    {
        if (strcmp(json_string_value(json_object_get(variant, "name")),
                   "characters behind Prepend and Replace") == 0)
            folder_write_json(&folder, "tokenizer.json", json_object_get(variant, "tokenizer"));
    }
    assert_ok(tokenizer_open(&t, folder.path));
    for (int round = 0; round < 4000; round++) {
        size_t bytes = random_text(text, sizeof text, round % 2);
        json_t *wanted;

        bytes = utf8_repair(repaired, text, bytes);
        wanted = json_stringn(repaired, bytes);
        tokens.count = 0;
        assert_ok(tokenizer_encode(t, text, 0, 0, &tokens));
        assert_ok(tokenizer_encode(t, repaired, bytes, TOKENIZER_LITERAL, &tokens));
        assert_true(shows(t, true, wanted));
        json_decref(wanted);
    }
    tokenizer_close(t);
    json_close(&gold);
    folder_remove(&folder);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_shape_of_pipeline_gives_ids_and_text_of_hugging_face),
        cmocka_unit_test(every_line_of_the_llama4_gold_is_equal),
        cmocka_unit_test(every_line_of_the_other_golds_is_equal),
        cmocka_unit_test(every_string_and_prompt_of_the_demo_gold_is_equal),
        cmocka_unit_test(tokens_spell_the_text_and_broken_bytes_become_replacements),
        cmocka_unit_test(tokens_named_in_plain_stretches_are_text),
        cmocka_unit_test(tokens_of_characters_show_the_text_again),
        cmocka_unit_test(the_heap_merges_as_the_definition_says),
        cmocka_unit_test(a_megabyte_of_anything_is_encoded_quickly),
        cmocka_unit_test(too_much_is_refused_and_leaves_the_list_as_it_was),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
