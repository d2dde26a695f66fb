/* kernels.c - the parts of the table of arithmetic that are alike in every backend
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels/kernels.h"

/* Rows start on cache lines, and rows whose starts would fall on the same cache sets are pushed one line
 * apart. */
enum { LINE_FLOATS = ARENA_ALIGN / (int)sizeof(float), CLASH_FLOATS = 512 };

enum status kernels_check_dtype(enum dtype dtype)
{
    if (dtype != DTYPE_BF16 && dtype != DTYPE_F16 && dtype != DTYPE_F32 && dtype != DTYPE_F8_E4M3)
        return FAIL(STATUS_BAD_INPUT,
                    "weights of format %s cannot be multiplied; BF16, F16, F32 and F8_E4M3 can",
                    dtype_name(dtype));
    return STATUS_OK;
}

size_t kernels_page_bytes(const struct kernels *k, int kv_heads, int head_width)
{
    size_t element = (size_t)dtype_bits(k->cache_dtype) / 8;

    return 2 * (size_t)kv_heads * PAGE_ROWS * (size_t)head_width * element;
}

enum status kernels_matrix(struct kernels *k, int rows, int columns, const char *what, struct matrix *out)
{
    int stride = (columns + LINE_FLOATS - 1) / LINE_FLOATS * LINE_FLOATS;
    size_t elements, bytes;
    void *data;

    if (rows < 0 || columns < 0)
        return FAIL(STATUS_BUG, "%s: a matrix of %d rows and %d columns", what, rows, columns);
    if (stride > 0 && stride % CLASH_FLOATS == 0)
        stride += LINE_FLOATS;
    if (__builtin_mul_overflow((size_t)rows, (size_t)stride, &elements) ||
        __builtin_mul_overflow(elements, sizeof(float), &bytes))
        return FAIL(STATUS_NO_MEMORY, "%s: %d rows of %d columns are too many", what, rows, columns);
    TRY(k->alloc(k, bytes, what, &data));
    *out = (struct matrix){.data = data, .rows = rows, .columns = columns, .stride = stride};
    return STATUS_OK;
}

enum status kernels_weight(struct kernels *k, enum dtype dtype, int rows, int columns, const char *what,
                           struct weight *out)
{
    struct weight planned = {0};
    enum status status = k->weight_plan(k, &planned, dtype, rows, columns);

    if (status != STATUS_OK)
        return status_prefix(status, "%s: ", what);
    TRY(k->alloc(k, planned.bytes, what, &planned.data));
    *out = planned;
    return STATUS_OK;
}
