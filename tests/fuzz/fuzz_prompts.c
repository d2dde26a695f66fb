/* fuzz_prompts.c - any bytes as the input of generate: every prompt is whole, tokenized, and comes back as
 * text
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Input: what stands on stdin; an even first byte reads it as lines, an odd one as one text. Seeds:
 * tests/fuzz/seeds/prompts. The tokenizer is the demo model's. */
#include "engine/chat.h"
#include "engine/detokenizer.h"
#include "engine/prompts.h"
#include "engine/utf8.h"

#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { IDS = 1 << 16, TEXT_BYTES = 1 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static struct tokenizer *tokenizer;
static const struct chat *chat;
static struct arena arena;

/* The leak checker does not look into arenas, so what they point to is given back before it looks. */
static void close_all(void)
{
    tokenizer_close(tokenizer);
    arena_close(&arena);
}

static void open_once(void)
{
    if (tokenizer)
        return;
    if (tokenizer_open(&tokenizer, "models/demo") != STATUS_OK ||
        chat_find(&chat, "llama4_text", tokenizer) != STATUS_OK)
        abort();
    atexit(close_all);
}

static void decode(const struct tokens *tokens)
{
    static char out[TEXT_BYTES];
    struct detokenizer d;
    size_t shown;

    if (detokenizer_start(&d, tokenizer, (const char *[]){"a\n"}, 1, false) != STATUS_OK)
        abort();
    for (int i = 0; i <= tokens->count; i++) {
        enum status status = i < tokens->count ? detokenizer_push(&d, tokens->ids[i], out, sizeof out, &shown)
                                               : detokenizer_finish(&d, out, sizeof out, &shown);

        if (status != STATUS_OK || !utf8_valid(out, shown))
            abort();
    }
}

/* What a user wrote is plain text: its tokens are no special ones, whatever they are named. */
static void check_plain(const struct chat_prompt *p, const struct tokens *tokens)
{
    int specials = 0;

    for (int i = 0; i < tokens->count; i++) {
        size_t bytes;
        bool special;

        tokenizer_bytes(tokenizer, tokens->ids[i], &bytes, &special);
        specials += special;
    }
    if (specials != 6 || p->content_count > 2)
        abort();
}

static void serve(const char *text, size_t bytes)
{
    static char rendered[TEXT_BYTES];
    static int32_t ids[IDS];
    struct tokens tokens = {.ids = ids, .capacity = IDS};
    struct chat_message message = {.role = "user", .content = text, .bytes = bytes};
    struct chat_job job = {.messages = &message, .count = 1, .generation_prompt = true};
    struct tokenizer_span content[CHAT_PROMPT_PARTS];
    struct chat_prompt p = {.text = rendered,
                            .capacity = sizeof rendered,
                            .content = content,
                            .content_capacity = CHAT_PROMPT_PARTS};

    if (tokenizer_encode(tokenizer, text, bytes, TOKENIZER_ADD_SPECIAL, &tokens) == STATUS_OK)
        decode(&tokens);
    if (chat_render(chat, &job, &p) != STATUS_OK)
        return;
    tokens.count = 0;
    if (tokenizer_encode(tokenizer, rendered, p.bytes, 0, &tokens) == STATUS_OK)
        decode(&tokens);
    tokens.count = 0;
    if (tokenizer_encode_spans(tokenizer, rendered, p.bytes, content, p.content_count, &tokens) ==
        STATUS_OK) {
        decode(&tokens);
        check_plain(&p, &tokens);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    enum prompts_event event = PROMPTS_NOTHING;
    struct prompts prompts;
    const char *text;
    size_t length;
    size_t before;
    int input;

    if (bytes == 0)
        return 0;
    open_once();
    if (!arena.base && arena_open(&arena, "prompts", (size_t)PROMPTS_LIMIT + (1 << 20)) != STATUS_OK)
        abort();
    before = arena.used;
    input = memfd_create("input", MFD_CLOEXEC);
    if (input < 0 || write(input, data + 1, bytes - 1) != (ssize_t)(bytes - 1) ||
        lseek(input, 0, SEEK_SET) != 0)
        abort();
    if (prompts_open(&prompts, &arena, input, data[0] % 2 ? PROMPTS_TEXT : PROMPTS_LINES) != STATUS_OK)
        abort();
    while (event != PROMPTS_END) {
        if (prompts_next(&prompts, 0, &event, &text, &length) != STATUS_OK)
            abort();
        if (event == PROMPTS_ONE)
            serve(text, length);
    }
    close(input);
    arena.used = before;
    return 0;
}
