/* step.c - what of a batch concerns this rank, and the exchanges of columns inside its group
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/step.h"

enum status step_open(struct step *s, struct arena *arena, struct grid *grid, struct kernels *kernels,
                      int max_rows)
{
    size_t parts = (size_t)grid->tensor;

    *s = (struct step){.grid = grid, .kernels = kernels, .max_rows = max_rows};
    TRY(arena_take_array(arena, (size_t)max_rows, sizeof *s->positions, "positions of a step",
                         &s->positions));
    TRY(arena_take_array(arena, (size_t)max_rows, sizeof *s->spans, "spans of a step", &s->spans));
    TRY(arena_take_array(arena, parts * parts, sizeof *s->bytes, "sizes of exchanges", &s->bytes));
    return arena_take_array(arena, parts, sizeof *s->widths, "widths of parts", &s->widths);
}

/* Whose rows stand together is then no longer seen by who works over the spans. */
static void part_spans(struct step *s)
{
    int to = s->rows;

    for (int i = s->span_count; i-- > 0;) {
        const struct span whole = s->spans[i]; /* its place is needed: to > i as long as rows are left */

        for (int row = whole.rows; row-- > 0;)
            s->spans[--to] = (struct span){.first_row = whole.first_row + row,
                                           .rows = 1,
                                           .first_position = whole.first_position + row,
                                           .pages = whole.pages};
    }
    s->span_count = s->rows;
}

enum status step_begin(struct step *s, const struct batch *b, const struct kv_cache *kv)
{
    struct range group = batch_group_rows(b, s->grid->my_group);

    s->first = group.first;
    s->rows = group.count;
    s->own = grid_rows(s->grid, group.count, s->grid->my_part);
    kv_cache_spans(kv, b, s->grid->my_group, s->spans, &s->span_count);
    if (s->by_row && batch_decodes(b))
        part_spans(s);
    for (int i = 0; i < s->span_count; i++)
        for (int row = 0; row < s->spans[i].rows; row++)
            s->positions[s->spans[i].first_row + row] = s->spans[i].first_position + row;
    return s->kernels->begin(s->kernels, s->spans, s->span_count, s->rows);
}

/* Rows without gaps at `data`. */
static struct matrix dense_rows(const void *data, int rows, int columns)
{
    return (struct matrix){
        .data = (float *)(uintptr_t)data, .rows = rows, .columns = columns, .stride = columns};
}

static enum status check_gaps(struct matrix mine)
{
    if (mine.stride != mine.columns)
        return FAIL(STATUS_BUG, "rows of %d numbers stand %d apart, so they cannot travel", mine.columns,
                    mine.stride);
    return STATUS_OK;
}

enum status step_gather_rows(struct step *s, struct matrix mine, struct matrix *out)
{
    const void *all;

    if (s->grid->tensor == 1) {
        *out = mine;
        return STATUS_OK;
    }
    TRY(check_gaps(mine));
    for (int p = 0; p < s->grid->tensor; p++)
        s->bytes[p] = (size_t)grid_rows(s->grid, s->rows, p).count * (size_t)mine.columns * sizeof(float);
    TRY(s->grid->group_rows->all_gather(s->grid->group_rows, mine.data, s->bytes, &all));
    *out = dense_rows(all, s->rows, mine.columns);
    return STATUS_OK;
}

enum status step_gather_widths(struct step *s, struct matrix mine, int columns, struct matrix room,
                               struct matrix *out)
{
    const void *all;

    if (s->grid->tensor == 1) {
        *out = mine;
        return STATUS_OK;
    }
    TRY(check_gaps(mine));
    for (int p = 0; p < s->grid->tensor; p++)
        s->bytes[p] = (size_t)s->rows * (size_t)s->widths[p] * sizeof(float);
    TRY(s->grid->group_rows->all_gather(s->grid->group_rows, mine.data, s->bytes, &all));
    *out = matrix_columns(matrix_top(room, s->rows), 0, columns);
    return s->kernels->join(s->kernels, *out, all, s->widths, s->grid->tensor);
}

enum status step_gather_columns(struct step *s, struct matrix mine, int units, int unit, struct matrix room,
                                struct matrix *out)
{
    for (int p = 0; p < s->grid->tensor; p++)
        s->widths[p] = range_share(units, s->grid->tensor, p).count * unit;
    return step_gather_widths(s, mine, units * unit, room, out);
}

enum status step_return_columns(struct step *s, struct matrix mine, int columns, struct matrix room,
                                struct matrix *out)
{
    int parts = s->grid->tensor;
    const void *arrivals;

    if (parts == 1) {
        *out = mine;
        return STATUS_OK;
    }
    TRY(check_gaps(mine));
    for (int from = 0; from < parts; from++) {
        s->widths[from] = range_share(columns, parts, from).count;
        for (int to = 0; to < parts; to++)
            s->bytes[from * parts + to] =
                (size_t)grid_rows(s->grid, s->rows, to).count * (size_t)s->widths[from] * sizeof(float);
    }
    TRY(s->grid->group_rows->exchange(s->grid->group_rows, mine.data, s->bytes, &arrivals));
    *out = matrix_columns(matrix_top(room, s->own.count), 0, columns);
    return s->kernels->join(s->kernels, *out, arrivals, s->widths, parts);
}

enum status step_matrix(struct kernels *k, int rows, int columns, const char *what, struct matrix *out)
{
    void *data;

    TRY(k->alloc(k, (size_t)rows * (size_t)columns * sizeof(float), what, &data));
    *out = dense_rows(data, rows, columns);
    return STATUS_OK;
}
