/* reference_weight.c - weights of the reference: rows of BF16 or F32 numbers, F8_E4M3 times its scales
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels/reference/reference_weight.h"

enum status reference_weight_plan(struct kernels *k, struct weight *w, enum dtype dtype, int rows,
                                  int columns)
{
    enum dtype format = dtype == DTYPE_BF16 ? DTYPE_BF16 : DTYPE_F32;
    size_t elements, bytes;

    (void)k;
    TRY(kernels_check_dtype(dtype));
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
    if (part->dtype == DTYPE_F8_E4M3 && !part->scale)
        return FAIL(STATUS_BUG, "F8_E4M3 numbers without scales");

    for (int row = 0; row < part->rows; row++) {
        for (int column = 0; column < part->columns; column++) {
            const char *from =
                (const char *)part->data + (row * part->row_step + column * part->column_step) * element;
            ptrdiff_t to = (ptrdiff_t)(first_row + row) * w->columns + column;

            if (w->format == DTYPE_BF16)
                memcpy((uint16_t *)w->data + to, from, sizeof(uint16_t));
            else if (part->dtype == DTYPE_F8_E4M3)
                ((float *)w->data)[to] =
                    dtype_from_e4m3(*(const uint8_t *)from) *
                    part->scale[(ptrdiff_t)row * scale_count(part->columns) + column / SCALE_INPUTS];
            else
                TRY(dtype_widen((float *)w->data + to, from, part->dtype, 1));
        }
    }
    return STATUS_OK;
}
