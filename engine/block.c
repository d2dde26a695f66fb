/* block.c - a feed-forward block whose columns are shared out in a group: dense layers and shared experts
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/block.h"

enum status block_open(struct block *b, const struct step *s, int width, int inner)
{
    int own_inner = range_share(inner, s->grid->tensor, s->grid->my_part).count;
    int own_width = range_share(width, s->grid->tensor, s->grid->my_part).count;
    int most_own = grid_rows(s->grid, s->max_rows, 0).count;

    *b = (struct block){.width = width, .inner = inner};
    TRY(kernels_matrix(s->kernels, s->max_rows, 2 * own_inner, "gate and up", &b->gate_up));
    TRY(step_matrix(s->kernels, s->max_rows, own_inner, "activations", &b->activated));
    TRY(step_matrix(s->kernels, s->max_rows, own_width, "columns of a block", &b->columns));
    if (s->grid->tensor == 1)
        return STATUS_OK;
    TRY(kernels_matrix(s->kernels, s->max_rows, inner, "activations of all parts", &b->joined));
    return kernels_matrix(s->kernels, most_own, width, "results of a block", &b->returned);
}

enum status block_gather(struct block *b, struct step *s, struct matrix x)
{
    b->rows = matrix_top(x, 0); /* no request of this group is in the batch */
    return s->rows > 0 ? step_gather_rows(s, x, &b->rows) : STATUS_OK;
}

enum status block_widen(struct block *b, struct step *s, const struct weights_block *w)
{
    struct kernels *k = s->kernels;
    struct matrix gate_up = matrix_top(b->gate_up, s->rows);

    if (s->rows == 0)
        return STATUS_OK;
    TRY(k->multiply(k, gate_up, b->rows, &w->gate_up, NULL));
    return k->activate(k, matrix_top(b->activated, s->rows), gate_up);
}

enum status block_narrow(struct block *b, struct step *s, const struct weights_block *w, struct matrix *out)
{
    struct kernels *k = s->kernels;
    struct matrix columns = matrix_top(b->columns, s->rows);
    struct matrix inner;

    *out = b->rows;
    if (s->rows == 0)
        return STATUS_OK;
    TRY(step_gather_columns(s, matrix_top(b->activated, s->rows), b->inner, 1, b->joined, &inner));
    TRY(k->multiply(k, columns, inner, &w->down, NULL));
    return step_return_columns(s, columns, b->width, b->returned, out);
}

enum status block_forward(struct block *b, struct step *s, const struct weights_block *w, struct matrix x,
                          struct matrix *out)
{
    TRY(block_gather(b, s, x));
    TRY(block_widen(b, s, w));
    return block_narrow(b, s, w, out);
}
