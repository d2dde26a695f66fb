/* fuzz_trace.c - any bytes as a trace, binary or text: steps are read or refused in words
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Seeds: tests/fuzz/seeds/trace. */
#include "eplb/trace_read.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void check(bool holds)
{
    if (!holds)
        abort();
}

static enum status read_all(const uint8_t *data, size_t bytes, struct arena *arena)
{
    struct trace_read t;
    int64_t cells;
    bool more = true;

    TRY(trace_read_open(&t, arena, data, bytes));
    check(t.layers >= 1 && t.ranks >= 1 && t.experts >= 1);
    cells = (int64_t)t.layers * t.ranks * t.experts;
    check(cells <= TRACE_READ_CELLS);
    while (more) {
        TRY(trace_read_next(&t, &more));
        for (int64_t i = 0; cells < 1 << 12 && i < cells; i++)
            check(t.rows[i] >= 0 && t.rows[i] <= TRACE_READ_MOST);
    }
    return STATUS_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct arena arena = {0};
    enum status status;

    if (arena_open(&arena, "fuzz", (size_t)1 << 30) != STATUS_OK)
        return 0;
    status = read_all(data, bytes, &arena);
    check(status == STATUS_OK || status_text()[0] != '\0');
    arena_close(&arena);
    return 0;
}
