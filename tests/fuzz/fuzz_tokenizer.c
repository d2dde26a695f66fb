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

static void decode(const struct tokenizer *t, const struct tokens *tokens)
{
    static char out[1 << 20];
    struct detokenizer d;
    size_t shown;

    if (detokenizer_room(t) > sizeof out ||
        detokenizer_start(&d, t, (const char *[]){"th"}, 1, true) != STATUS_OK)
        return;
    for (int i = 0; i <= tokens->count; i++) {
        enum status status = i < tokens->count ? detokenizer_push(&d, tokens->ids[i], out, sizeof out, &shown)
                                               : detokenizer_finish(&d, out, sizeof out, &shown);

        if (status != STATUS_OK || !utf8_valid(out, shown))
            abort();
    }
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
        tokenizer_encode(t, (const char *)end + 1, bytes - json_bytes - 1, TOKENIZER_ADD_SPECIAL, &tokens);
    for (int i = 0; i < tokens.count; i++)
        if (tokens.ids[i] < 0 || tokens.ids[i] >= tokenizer_size(t))
            abort();
    decode(t, &tokens);
    tokenizer_close(t);
    return 0;
}
