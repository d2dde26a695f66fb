/* fuzz_normal.c - any text in any normal form: in short stretches as in the whole
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Input: a byte that picks the form, text. Seeds: tests/fuzz/seeds/normal. */
#include "engine/tokenizer_normal.h"
#include "engine/utf8.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

enum { TEXT = 4096 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static struct tokenizer_normal forms[4];

static void open_once(void)
{
    static struct arena arena;

    if (arena.base)
        return;
    if (arena_open(&arena, "forms", 4 * tokenizer_normal_room()) != STATUS_OK)
        abort();
    for (int i = 0; i < 4; i++) {
        struct tokenizer_normal_step step = {
            .kind = TOKENIZER_NORMAL_FORM, .compose = i & 1, .compatible = i & 2};

        if (tokenizer_normal_open(&forms[i], &arena) != STATUS_OK ||
            tokenizer_normal_add(&forms[i], &step) != STATUS_OK)
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static char text[TEXT * UTF8_REPLACEMENT_BYTES];
    int form = bytes > 0 ? data[0] % 4 : 0;
    int options = UTF8PROC_STABLE | (form & 1 ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) |
                  (form & 2 ? UTF8PROC_COMPAT : 0);
    const char *got = text;
    utf8proc_uint8_t *whole;
    utf8proc_ssize_t wanted;
    size_t length;

    if (bytes < 2 || bytes > TEXT)
        return 0;
    open_once();
    length = utf8_repair(text, (const char *)data + 1, bytes - 1);
    wanted = utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)length, &whole,
                          (utf8proc_option_t)options);
    if (wanted < 0 || tokenizer_normal_run(&forms[form], true, &got, &length) != STATUS_OK ||
        length != (size_t)wanted || memcmp(got, whole, length) != 0)
        abort();
    free(whole);
    return 0;
}
