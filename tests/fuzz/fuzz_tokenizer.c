/* fuzz_tokenizer.c - any bytes as tokenizer.json: it is refused, or encodes and decodes whatever text follows
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Input: tokenizer.json, a NUL, text. Seeds: tests/fuzz/seeds/tokenizer. */
#include "engine/detokenizer.h"
#include "engine/utf8.h"
#include "tests/folder.h"

#include <stdint.h>

enum { IDS = 1 << 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static struct folder folder;

static void remove_folder(void)
{
    folder_remove(&folder);
}

/* As a whole text, of which a decoder may take the beginning. */
static void decode(const struct tokenizer *t, const struct tokens *tokens)
{
    static char out[1 << 20];
    struct detokenizer d;
    size_t shown;

    if (detokenizer_room(t) > sizeof out ||
        detokenizer_start(&d, t, (const char *[]){"th"}, 1, true) != STATUS_OK)
        return;
    detokenizer_whole(&d);
    for (int i = 0; i <= tokens->count; i++) {
        enum status status = i < tokens->count ? detokenizer_push(&d, tokens->ids[i], out, sizeof out, &shown)
                                               : detokenizer_finish(&d, out, sizeof out, &shown);

        if (status != STATUS_OK || !utf8_valid(out, shown))
            abort();
    }
}

/* Plain stretches here and there, or over all: then the ids are those of literal text. */
static void encode_spans(struct tokenizer *t, const char *text, size_t bytes)
{
    static int32_t ids[IDS], other_ids[IDS];
    struct tokens tokens = {.ids = ids, .capacity = IDS}, other = {.ids = other_ids, .capacity = IDS};
    struct tokenizer_span spans[64];
    int count = 0;

    if (bytes == 0 || !utf8_valid(text, bytes))
        return;
    for (size_t at = 0; at < bytes && count < 64; at += 2 + (unsigned char)text[at] % 16)
        spans[count++] = (struct tokenizer_span){.begin = at, .end = at + 1};
    tokenizer_encode_spans(t, text, bytes, spans, count, &tokens);
    tokens.count = 0;
    spans[0].end = bytes;
    if (tokenizer_encode_spans(t, text, bytes, spans, 1, &tokens) !=
        tokenizer_encode(t, text, bytes, TOKENIZER_LITERAL, &other))
        abort();
    if (tokens.count != other.count || memcmp(ids, other_ids, (size_t)tokens.count * sizeof *ids) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static int32_t ids[IDS];
    const uint8_t *end = memchr(data, 0, bytes);
    size_t json_bytes = end ? (size_t)(end - data) : bytes;
    struct tokens tokens = {.ids = ids, .capacity = IDS};
    struct tokenizer *t;

    if (!folder.path[0]) {
        folder = folder_make();
        atexit(remove_folder);
    }
    folder_write(&folder, "tokenizer.json", (const char *)data, json_bytes);
    if (tokenizer_open(&t, folder.path) != STATUS_OK)
        return 0;
    if (end)
        encode_spans(t, (const char *)end + 1, bytes - json_bytes - 1);
    if (end)
        tokenizer_encode(t, (const char *)end + 1, bytes - json_bytes - 1, TOKENIZER_ADD_SPECIAL, &tokens);
    for (int i = 0; i < tokens.count; i++)
        if (tokens.ids[i] < 0 || tokens.ids[i] >= tokenizer_size(t))
            abort();
    decode(t, &tokens);
    tokenizer_close(t);
    return 0;
}
