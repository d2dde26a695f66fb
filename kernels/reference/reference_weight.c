/* reference_weight.c - weights of the reference: rows of BF16 or F32 numbers, as they are
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels/reference/reference_weight.h"

enum status reference_weight_plan(struct kernels *k, struct weight *w, enum dtype dtype, int rows,
                                  int columns)
{
    enum dtype format = dtype == DTYPE_BF16 ? DTYPE_BF16 : DTYPE_F32;
    size_t elements, bytes;

    (void)k;
    if (dtype != DTYPE_BF16 && dtype != DTYPE_F16 && dtype != DTYPE_F32)
        return FAIL(STATUS_BAD_INPUT, "weights of format %s cannot be multiplied; BF16, F16 and F32 can",
                    dtype_name(dtype));
    if (rows < 0 || columns < 0)
        return FAIL(STATUS_BUG, "a weight of %d rows and %d columns", rows, columns);
    if (__builtin_mul_overflow((size_t)rows, (size_t)columns, &elements) ||
        __builtin_mul_overflow(elements, (size_t)dtype_bits(format) / 8, &bytes))
        return FAIL(STATUS_NO_MEMORY, "a weight of %d rows and %d columns is too large", rows, columns);
    w->bytes = bytes;
    w->rows = rows;
    w->columns = columns;
    w->format = format;
    return STATUS_OK;
}

enum status reference_weight_fill(struct kernels *k, struct weight *w, int first_row,
                                  const struct source *part)
{
    ptrdiff_t element = dtype_bits(part->dtype) / 8;

    (void)k;
    if (part->columns != w->columns || first_row < 0 || part->rows < 0 || part->rows > w->rows - first_row)
        return FAIL(STATUS_BUG, "rows [%d, %d] put at row %d of a weight [%d, %d]", part->rows, part->columns,
                    first_row, w->rows, w->columns);
    if (w->format == DTYPE_BF16 && part->dtype != DTYPE_BF16)
        return FAIL(STATUS_BUG, "%s numbers put into a BF16 weight", dtype_name(part->dtype));

    for (int row = 0; row < part->rows; row++) {
        for (int column = 0; column < part->columns; column++) {
            const char *from =
                (const char *)part->data + (row * part->row_step + column * part->column_step) * element;
            ptrdiff_t to = (ptrdiff_t)(first_row + row) * w->columns + column;

            if (w->format == DTYPE_BF16)
                memcpy((uint16_t *)w->data + to, from, sizeof(uint16_t));
            else
                TRY(dtype_widen((float *)w->data + to, from, part->dtype, 1));
        }
    }
    return STATUS_OK;
}
