/* forecast.c - the rows of the next batch: what is expected, and batches that may come instead
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "eplb/forecast.h"

#include <stddef.h>

struct forecast {
    struct forecast_way way;
    int cells, errors;
    int batches;       /* seen */
    int32_t *rows;     /* [window, cells] a ring */
    int64_t *sum;      /* [cells] of it */
    int64_t *expected; /* [cells] */
    int64_t *error;    /* [errors, cells] a ring */
};

enum status forecast_open(struct forecast **out, struct arena *arena, const struct forecast_way *way,
                          int cells, int errors)
{
    size_t count = (size_t)cells;
    struct forecast *f;

    TRY(arena_take(arena, sizeof *f, "forecast", &f));
    *f = (struct forecast){.way = *way, .cells = cells, .errors = errors};
    TRY(arena_take_array(arena, count * (size_t)way->window, sizeof *f->rows, "last batches", &f->rows));
    TRY(arena_take_array(arena, count, sizeof *f->sum, "their sum", &f->sum));
    TRY(arena_take_array(arena, count, sizeof *f->expected, "expected rows", &f->expected));
    TRY(arena_take_array(arena, count * (size_t)errors, sizeof *f->error, "errors of forecasts", &f->error));
    *out = f;
    return STATUS_OK;
}

/* The mean of the last batches with this one. */
static void expect_mean(struct forecast *f, const int32_t *rows)
{
    int32_t *oldest = f->rows + (ptrdiff_t)(f->batches % f->way.window) * f->cells;
    int count = f->batches < f->way.window ? f->batches + 1 : f->way.window;

    for (int i = 0; i < f->cells; i++) {
        f->sum[i] += rows[i] - oldest[i]; /* 0 while the ring fills */
        oldest[i] = rows[i];
        f->expected[i] = f->sum[i] * FORECAST_PARTS / count;
    }
}

/* The first batch is the average. */
static void expect_average(struct forecast *f, const int32_t *rows)
{
    int64_t share = f->batches > 0 ? f->way.share : FORECAST_MILLION;

    for (int i = 0; i < f->cells; i++)
        f->expected[i] += ((int64_t)rows[i] * FORECAST_PARTS - f->expected[i]) * share / FORECAST_MILLION;
}

void forecast_add(struct forecast *f, const int32_t *rows)
{
    if (f->batches > 0) { /* nothing was expected of the first */
        int64_t *error = f->error + (ptrdiff_t)((f->batches - 1) % f->errors) * f->cells;

        for (int i = 0; i < f->cells; i++)
            error[i] = (int64_t)rows[i] * FORECAST_PARTS - f->expected[i];
    }
    if (f->way.window > 0)
        expect_mean(f, rows);
    else
        expect_average(f, rows);
    f->batches++;
}

const int64_t *forecast_expected(const struct forecast *f)
{
    return f->expected;
}

int forecast_batches(const struct forecast *f, int64_t *batch)
{
    int made = f->batches > 0 ? f->batches - 1 : 0, count = made < f->errors ? made : f->errors;

    for (int k = 0; k < count; k++)
        for (int i = 0; i < f->cells; i++) {
            int64_t rows = f->expected[i] + f->error[(ptrdiff_t)k * f->cells + i];

            batch[(ptrdiff_t)k * f->cells + i] = rows > 0 ? rows : 0;
        }
    return count;
}
