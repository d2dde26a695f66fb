/* fuzz_batch.c - no message makes a follower believe a batch that breaks the rules
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/batch.h"

#include <stdlib.h>

enum { PIECES = 8, ROWS = 64, PAGES = 16, GROUPS = 3 };

static const uint8_t *message;
static size_t message_bytes;

static enum status bring(struct comm *c, int root, const void *data, size_t *bytes, const void **out)
{
    (void)c;
    (void)root;
    (void)data;
    *bytes = message_bytes;
    *out = message;
    return STATUS_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct arena arena;
    static struct batch batch;
    struct comm world = {.rank = 1, .size = GROUPS, .broadcast = bring};
    int32_t wanted[ROWS];
    int rows = 0;

    if (!arena.base) {
        if (arena_open(&arena, "fuzz", 1 << 20) != STATUS_OK ||
            batch_open(&batch, &arena, PIECES, ROWS, PAGES) != STATUS_OK)
            abort();
    }
    message = data;
    message_bytes = size;
    batch.number = 0;
    if (batch_receive(&batch, &world) != STATUS_OK)
        return 0;
    for (int group = 0; group < GROUPS; group++)
        rows += batch_group_rows(&batch, group).count;
    if (rows != batch.row_count || batch_wanted(&batch, wanted) > ROWS)
        abort();
    return 0;
}
