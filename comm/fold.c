/* fold.c - whole numbers of many ranks into one
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "comm/fold.h"

#include <string.h>

enum status fold_check(int count)
{
    if (count < 0 || count > COMM_REDUCE_LIMIT)
        return FAIL(STATUS_BUG, "a reduction of %d values, at most %d are allowed", count, COMM_REDUCE_LIMIT);
    return STATUS_OK;
}

size_t fold_room(int ranks)
{
    return (size_t)ranks * COMM_REDUCE_LIMIT * sizeof(int64_t);
}

static int64_t fold_two(enum comm_operation operation, int64_t a, int64_t b)
{
    switch (operation) {
    case COMM_SUM:
        return (int64_t)((uint64_t)a + (uint64_t)b);
    case COMM_MIN:
        return a < b ? a : b;
    case COMM_MAX:
        return a > b ? a : b;
    }
    return a;
}

void fold_columns(enum comm_operation operation, const int64_t *all, int ranks, int64_t *values, int count)
{
    if (count > 0)
        memcpy(values, all, (size_t)count * sizeof *values);
    for (int r = 1; r < ranks; r++)
        for (int i = 0; i < count; i++)
            values[i] = fold_two(operation, values[i], all[(size_t)r * (size_t)count + (size_t)i]);
}

enum status fold_no_rows(struct comm *c, enum comm_operation operation, int64_t *values, int count)
{
    (void)operation, (void)values;
    return FAIL(STATUS_BUG, "%d numbers reduced over %d ranks by the exchange of rows", count, c->size);
}
