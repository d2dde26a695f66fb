/* fuzz_request_line.c - any bytes as lines of JSON: each is served or refused, and what is answered is JSON
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Input: what stands on stdin with --input jsonl. Seeds: tests/fuzz/seeds/request_line. The tokenizer is the
 * demo model's. Nothing is computed: each request is cancelled and so answered. */
#include "engine/intake.h"

#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { POSITIONS = 256, SEQUENCES = 4, LONGEST = 1 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static struct tokenizer *tokenizer;
static struct arena arena;
static struct scheduler scheduler;
static struct answer answer;
static struct intake intake;
static int output;

/* The leak checker does not look into arenas, so what they point to is given back before it looks. */
static void close_all(void)
{
    intake_close(&intake);
    tokenizer_close(tokenizer);
    arena_close(&arena);
}

static void must(enum status status)
{
    if (status != STATUS_OK)
        abort();
}

static void open_once(void)
{
    struct intake_options options = {
        .defaults = {.sampling = {.temperature = 1, .top_p = 1}, .max_tokens = 16},
        .directory = "models/demo"};
    struct scheduler_limits limits = {
        .sequences = SEQUENCES, .rows = 64, .positions = POSITIONS, .pages_per_group = 64, .groups = 1};

    if (tokenizer)
        return;
    must(tokenizer_open(&tokenizer, "models/demo"));
    must(chat_find(&options.chat, "llama4_text", tokenizer));
    must(arena_open(&arena, "requests", (size_t)64 << 20));
    limits.vocabulary = tokenizer_size(tokenizer);
    options.tokenizer = tokenizer;
    options.vocabulary = limits.vocabulary;
    options.longest = LONGEST;
    output = memfd_create("output", MFD_CLOEXEC);
    must(scheduler_open(&scheduler, &arena, &limits, tokenizer, NULL, 0));
    for (int i = 0; i < scheduler.capacity; i++)
        must(request_attach(&scheduler.store[i], &arena, POSITIONS));
    must(answer_open(&answer, &arena, &(struct answer_options){.output = output}, tokenizer,
                     scheduler.capacity));
    must(intake_open(&intake, &arena, &options, &scheduler, &answer));
    atexit(close_all);
}

/* Every request that was taken in is as the rules have it, and ends. */
static void end_all(void)
{
    do {
        for (struct request *r = scheduler_oldest(&scheduler); r; r = r->newer) {
            const struct request_options *o = &r->options;

            if (r->prompt < 1 || r->most > POSITIONS || o->stop_count > DETOKENIZER_STOP_LIMIT || !o->id ||
                o->logprobs.top > REQUEST_TOP || !(o->sampling.top_p > 0) || o->index >= o->copies)
                abort();
            for (int i = 0; i < r->prompt; i++)
                if (r->tokens[i] < 0 || r->tokens[i] >= tokenizer_size(tokenizer))
                    abort();
            scheduler_cancel(&scheduler, r);
        }
        must(answer_show(&answer, &scheduler));
        must(intake_continue(&intake));
    } while (intake.waits || scheduler_oldest(&scheduler));
}

/* What was written is one JSON object a line, with an id and a reason. */
static void check_output(void)
{
    off_t bytes = lseek(output, 0, SEEK_CUR);
    char *text, *next;

    if (bytes == 0)
        return;
    text = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE, output, 0);
    if (text == MAP_FAILED || text[bytes - 1] != '\n')
        abort();
    for (char *line = text; line < text + bytes; line = next + 1) {
        json_t *object;

        next = memchr(line, '\n', (size_t)(text + bytes - line));
        object = json_loadb(line, (size_t)(next - line), JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
        if (!object || !json_object_get(object, "id") || !json_object_get(object, "finish_reason"))
            abort();
        json_decref(object);
    }
    munmap(text, (size_t)bytes);
    if (lseek(output, 0, SEEK_SET) != 0 || ftruncate(output, 0) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    int64_t number = 0;

    open_once();
    for (size_t at = 0; at < bytes;) {
        const uint8_t *end = memchr(data + at, '\n', bytes - at);
        size_t length = end ? (size_t)(end - data) - at : bytes - at;

        must(intake_line(&intake, (const char *)data + at, length, ++number));
        if (intake.waits || number % SEQUENCES == 0)
            end_all();
        at += length + 1;
    }
    end_all();
    check_output();
    for (int i = 0; i < 2; i++)
        memset(intake.ids[i], 0, 2 * INTAKE_IDS * sizeof *intake.ids[i]);
    intake.id_count = 0;
    return 0;
}
