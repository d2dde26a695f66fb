/* fuzz_workload.c - any bytes as the data set of a benchmark: its prompts fit, or its line is named
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Input: the file. Seeds: tests/fuzz/seeds/workload. The tokenizer is the demo model's. */
#include "engine/workload.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PROMPTS = 12, POSITIONS = 512, VOCABULARY = 6144 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static struct tokenizer *tokenizer;

static void close_all(void)
{
    tokenizer_close(tokenizer);
}

static void check(const struct workload *w)
{
    int64_t input = 0, output = 0;

    if (w->count != PROMPTS)
        abort();
    for (int i = 0; i < w->count; i++) {
        const struct workload_prompt *p = &w->prompts[i];

        if (p->input < 1 || p->output < 1 || p->input + p->output > POSITIONS || w->arrivals[i] != 0)
            abort();
        for (int j = 0; j < p->input; j++)
            if (w->ids[p->first + j] < 0 || w->ids[p->first + j] >= VOCABULARY)
                abort();
        input += p->input;
        output += p->output;
    }
    if (input != w->input_tokens || output != w->output_tokens)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct workload_options options = {.count = PROMPTS,
                                       .output = 3,
                                       .positions = POSITIONS,
                                       .vocabulary = VOCABULARY,
                                       .rate = __builtin_huge_val()};
    int file = memfd_create("workload", MFD_CLOEXEC);
    struct workload w;
    enum status status;
    char path[64];

    if (!tokenizer) {
        if (tokenizer_open(&tokenizer, "models/demo") != STATUS_OK)
            abort();
        atexit(close_all);
    }
    if (file < 0 || write(file, data, bytes) != (ssize_t)bytes)
        abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    options.path = path;
    options.tokenizer = tokenizer;
    status = workload_open(&w, &options);
    close(file);
    if (status == STATUS_OK)
        check(&w);
    else if (status != STATUS_BAD_INPUT || !strstr(status_text(), path))
        abort();
    workload_close(&w);
    return 0;
}
