/* test_detokenizer.c - text does not depend on how it comes in tokens; no half characters; stop strings
 * everywhere
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/detokenizer.h"
#include "engine/utf8.h"
#include "tests/folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { TEXT = 64, SPECIAL = 300, PLAIN_ADDED = 301 };

/* The byte in GPT-2's alphabet, as tokenizer.json spells it. */
static size_t spell(char *out, unsigned char byte)
{
    unsigned code = byte;
    static const unsigned char rest_starts[] = {0, 127, 173};

    if (byte <= 32)
        code = 256u + byte - rest_starts[0];
    else if (byte >= 127 && byte <= 160)
        code = 256u + 33u + byte - rest_starts[1];
    else if (byte == 173)
        code = 256u + 67u;
    if (code < 128) {
        out[0] = (char)code;
        return 1;
    }
    out[0] = (char)(0xC0 | code >> 6);
    out[1] = (char)(0x80 | (code & 0x3F));
    return 2;
}

/* A tokenizer in which every stretch of `text` is a token, and the ids of these: id_of[from][length]. */
static struct tokenizer *open_stretches(const char *text, size_t bytes, int id_of[TEXT][TEXT + 1])
{
    struct folder folder = folder_make();
    json_t *root =
        json_pack("{s:n,s:{s:s,s:b},s:{s:s},s:{s:{},s:[]},s:[{s:i,s:s,s:b},{s:i,s:s,s:b}]}", "normalizer",
                  "pre_tokenizer", "type", "ByteLevel", "add_prefix_space", 0, "decoder", "type", "ByteLevel",
                  "model", "vocab", "merges", "added_tokens", "id", SPECIAL, "content", "<|s|>", "special", 1,
                  "id", PLAIN_ADDED, "content", "<think>", "special", 0);
    json_t *vocab = json_object_get(json_object_get(root, "model"), "vocab");
    struct tokenizer *t;

    for (size_t from = 0; from < bytes; from++) {
        char name[2 * TEXT + 1];
        size_t used = 0;

        for (size_t length = 1; from + length <= bytes; length++) {
            used += spell(name + used, (unsigned char)text[from + length - 1]);
            name[used] = '\0';
            if (!json_object_get(vocab, name))
                json_object_set_new(vocab, name, json_integer((json_int_t)json_object_size(vocab)));
            id_of[from][length] = (int)json_integer_value(json_object_get(vocab, name));
        }
    }
    assert_true(json_object_size(vocab) < SPECIAL);
    folder_write_json(&folder, "tokenizer.json", root);
    json_decref(root);
    if (tokenizer_open(&t, folder.path) != STATUS_OK)
        fail_msg("%s", status_text());
    folder_remove(&folder);
    return t;
}

struct stream {
    struct detokenizer d;
    char text[4096];
    size_t bytes;
};

/* What comes must be whole characters. */
static void take(struct stream *s, const char *text, size_t bytes)
{
    assert_true(utf8_valid(text, bytes));
    memcpy(s->text + s->bytes, text, bytes);
    s->bytes += bytes;
}

static void push(struct stream *s, int id)
{
    char out[2048];
    size_t bytes;

    assert_true(detokenizer_room(s->d.tokenizer) <= sizeof out);
    assert_int_equal(detokenizer_push(&s->d, id, out, detokenizer_room(s->d.tokenizer), &bytes), STATUS_OK);
    take(s, out, bytes);
}

static void finish(struct stream *s)
{
    char out[2048];
    size_t bytes;

    assert_int_equal(detokenizer_finish(&s->d, out, detokenizer_room(s->d.tokenizer), &bytes), STATUS_OK);
    take(s, out, bytes);
}

static void start(struct stream *s, const struct tokenizer *t, const char *const *stops, int count)
{
    s->bytes = 0;
    assert_int_equal(detokenizer_start(&s->d, t, stops, count, false), STATUS_OK);
}

/* All ways to cut the text into tokens: bit i of `cuts` set, a token ends behind byte i. */
static void every_split_gives(const char *text, size_t bytes, const char *const *stops, int count,
                              const char *wanted, size_t wanted_bytes)
{
    static int id_of[TEXT][TEXT + 1];
    struct tokenizer *t = open_stretches(text, bytes, id_of);

    for (unsigned cuts = 0; cuts < 1u << (bytes - 1); cuts++) {
        static struct stream s;
        size_t from = 0;

        start(&s, t, stops, count);
        for (size_t i = 0; i < bytes; i++) {
            if (i + 1 < bytes && !(cuts >> i & 1))
                continue;
            push(&s, id_of[from][i + 1 - from]);
            from = i + 1;
        }
        finish(&s);
        if (s.bytes != wanted_bytes || memcmp(s.text, wanted, wanted_bytes) != 0)
            fail_msg("cuts %x: \"%.*s\", wanted \"%.*s\"", cuts, (int)s.bytes, s.text, (int)wanted_bytes,
                     wanted);
    }
    tokenizer_close(t);
}

static void every_split_of_text_gives_the_same_text(void **state)
{
    static const char text[] = "a\u00e9\u6f22\U0001F600\u00e9b";

    (void)state;
    every_split_gives(text, sizeof text - 1, NULL, 0, text, sizeof text - 1);
}

struct broken {
    const char *bytes;
    const char *replaced; /* python3: bytes.decode("utf-8", errors="replace").encode() */
};

static const struct broken table[] = {
    {"\377", "\357\277\275"},
    {"\141\200\142", "\141\357\277\275\142"},
    {"\303", "\357\277\275"},
    {"\303\251\303", "\303\251\357\277\275"},
    {"\300\257", "\357\277\275\357\277\275"},
    {"\343\201", "\357\277\275"},
    {"\343\201\141", "\357\277\275\141"},
    {"\340\200\257", "\357\277\275\357\277\275\357\277\275"},
    {"\355\240\200", "\357\277\275\357\277\275\357\277\275"},
    {"\360\237\230", "\357\277\275"},
    {"\360\237\230\200\360\237", "\360\237\230\200\357\277\275"},
    {"\360\200\200\200", "\357\277\275\357\277\275\357\277\275\357\277\275"},
    {"\364\220\200\200", "\357\277\275\357\277\275\357\277\275\357\277\275"},
    {"\365\200", "\357\277\275\357\277\275"},
    {"\360\237\141\230", "\357\277\275\141\357\277\275"},
    {"\342\202\342\202\254", "\357\277\275\342\202\254"},
    {"\376\376\377\377", "\357\277\275\357\277\275\357\277\275\357\277\275"},
    {"\303\303\251", "\357\277\275\303\251"},
    {"\361\200\200\303\251", "\357\277\275\303\251"},
    {"\170\343\201\202\343\171", "\170\343\201\202\357\277\275\171"},
    {"\363\277\277\363\277\277\277", "\357\277\275\363\277\277\277"},
    {"\340\240", "\357\277\275"},
    {"\360\217\277", "\357\277\275\357\277\275\357\277\275"},
    {"\357\277\275\200", "\357\277\275\357\277\275"},
    {"\364\217\277\277\364\217\277", "\364\217\277\277\357\277\275"},
};

static void broken_bytes_become_what_python_makes_of_them(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const struct broken *b = &table[i];
        char repaired[64];
        size_t bytes = utf8_repair(repaired, b->bytes, strlen(b->bytes));

        assert_int_equal(bytes, strlen(b->replaced));
        assert_memory_equal(repaired, b->replaced, bytes);
        every_split_gives(b->bytes, strlen(b->bytes), NULL, 0, b->replaced, strlen(b->replaced));
    }
}

static void a_stop_string_is_found_at_every_place_in_every_split(void **state)
{
    static const char text[] = "ab\u00e9abca\u00e9c";
    size_t bytes = sizeof text - 1;

    (void)state;
    for (size_t from = 0; from < bytes; from++)
        for (size_t length = 1; from + length <= bytes; length++) {
            char stop[TEXT];
            const char *stops[] = {"nowhere", stop, "abx"};

            memcpy(stop, text + from, length);
            stop[length] = '\0';
            if (!utf8_valid(stop, length))
                continue;
            every_split_gives(text, bytes, stops, 3, text, (size_t)(strstr(text, stop) - text));
        }
}

static void of_several_stop_strings_the_one_complete_first_counts(void **state)
{
    static const char *const nested[] = {"bcd", "abcd"};
    static const char *const inner[] = {"abcd", "bc"};
    static const char *const replacement[] = {"\uFFFD"};

    (void)state;
    every_split_gives("xabcdx", 6, nested, 2, "x", 1);
    every_split_gives("xabcdx", 6, inner, 2, "xa", 2);
    every_split_gives("xabcab", 6, nested, 2, "xabcab", 6);
    every_split_gives("ab\xE3\x81", 4, replacement, 1, "ab", 2);
}

static void text_that_may_become_a_stop_string_waits_and_the_rest_does_not(void **state)
{
    static const char *const stops[] = {"bcd"};
    static int id_of[TEXT][TEXT + 1];
    struct tokenizer *t = open_stretches("abcabcd", 7, id_of);
    struct stream s;

    (void)state;
    start(&s, t, stops, 1);
    push(&s, id_of[0][3]); /* abc */
    assert_int_equal(s.bytes, 1);
    push(&s, id_of[3][1]); /* a */
    assert_int_equal(s.bytes, 4);
    push(&s, id_of[4][2]); /* bc */
    assert_int_equal(s.bytes, 4);
    assert_false(s.d.stopped);
    push(&s, id_of[6][1]); /* d */
    assert_true(s.d.stopped);
    push(&s, id_of[0][3]);
    finish(&s);
    assert_int_equal(s.bytes, 4);
    tokenizer_close(t);
}

static void special_tokens_show_only_when_asked_for(void **state)
{
    static int id_of[TEXT][TEXT + 1];
    struct tokenizer *t = open_stretches("\u00e9", 2, id_of);
    struct stream s;

    (void)state;
    for (int show = 0; show < 2; show++) {
        const char *wanted = show ? "<|s|><think>\uFFFD<|s|>\uFFFD" : "<think>\u00e9";

        start(&s, t, NULL, 0);
        s.d.show_special = show;
        push(&s, SPECIAL);
        push(&s, PLAIN_ADDED);
        push(&s, id_of[0][1]);
        push(&s, SPECIAL); /* not shown, it does not part the two bytes of the character */
        push(&s, id_of[1][1]);
        push(&s, SPECIAL - 1); /* no token */
        push(&s, -1);
        push(&s, 1 << 30);
        finish(&s);
        assert_int_equal(s.bytes, strlen(wanted));
        assert_memory_equal(s.text, wanted, s.bytes);
    }
    tokenizer_close(t);
}

/* "<0x41>" is a byte where the decoder has the step ByteFallback, and text where it has not. */
static void names_of_bytes_are_bytes_only_by_byte_fallback(void **state)
{
    static const char *const decoders[][2] = {{"Fuse", "a<0x41>a"}, {"ByteFallback", "aAa"}};

    (void)state;
    for (size_t i = 0; i < sizeof decoders / sizeof *decoders; i++) {
        struct folder folder = folder_make();
        json_t *root = json_pack("{s:{s:s},s:{s:{s:i,s:i},s:[]},s:[]}", "decoder", "type", decoders[i][0],
                                 "model", "vocab", "a", 0, "<0x41>", 1, "merges", "added_tokens");
        struct tokenizer *t;
        struct stream s;

        folder_write_json(&folder, "tokenizer.json", root);
        json_decref(root);
        if (tokenizer_open(&t, folder.path) != STATUS_OK)
            fail_msg("%s", status_text());
        start(&s, t, NULL, 0);
        for (int id = 0; id < 3; id++)
            push(&s, id % 2);
        finish(&s);
        assert_int_equal(s.bytes, strlen(decoders[i][1]));
        assert_memory_equal(s.text, decoders[i][1], s.bytes);
        tokenizer_close(t);
        folder_remove(&folder);
    }
}

static void stop_strings_that_cannot_be_are_refused(void **state)
{
    static const char *const many[DETOKENIZER_STOP_LIMIT + 1];
    static int id_of[TEXT][TEXT + 1];
    struct tokenizer *t = open_stretches("a", 1, id_of);
    char longest[DETOKENIZER_STOP_BYTES + 1];
    struct detokenizer d;

    (void)state;
    memset(longest, 'a', sizeof longest);
    longest[DETOKENIZER_STOP_BYTES] = '\0';
    assert_int_equal(detokenizer_start(&d, t, many, DETOKENIZER_STOP_LIMIT + 1, false), STATUS_BAD_INPUT);
    assert_int_equal(detokenizer_start(&d, t, (const char *[]){""}, 1, false), STATUS_BAD_INPUT);
    assert_int_equal(detokenizer_start(&d, t, (const char *[]){"\xC3"}, 1, false), STATUS_BAD_INPUT);
    assert_int_equal(detokenizer_start(&d, t, (const char *[]){longest}, 1, false), STATUS_BAD_INPUT);
    assert_int_equal(detokenizer_start(&d, t, (const char *[]){longest + 1}, 1, false), STATUS_OK);
    tokenizer_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_split_of_text_gives_the_same_text),
        cmocka_unit_test(broken_bytes_become_what_python_makes_of_them),
        cmocka_unit_test(a_stop_string_is_found_at_every_place_in_every_split),
        cmocka_unit_test(of_several_stop_strings_the_one_complete_first_counts),
        cmocka_unit_test(text_that_may_become_a_stop_string_waits_and_the_rest_does_not),
        cmocka_unit_test(special_tokens_show_only_when_asked_for),
        cmocka_unit_test(names_of_bytes_are_bytes_only_by_byte_fallback),
        cmocka_unit_test(stop_strings_that_cannot_be_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
