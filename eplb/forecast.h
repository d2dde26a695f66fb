/* forecast.h - the rows of the next batch: what is expected, and batches that may come instead
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Expected is the mean of the last batches, or a moving average. A batch that may come has what is expected
 * and an error that was made before: what a batch that has been seen had more or less of each expert than was
 * expected of it. So experts that are busy together stay so, and an expert is as uncertain as it has been. */
#ifndef FORECAST_H
#define FORECAST_H

#include "engine/base/arena.h"
#include "engine/base/status.h"

#include <stdint.h>

enum { FORECAST_PARTS = 1024, FORECAST_MILLION = 1000000 }; /* of a row; of a share */

struct forecast_way {
    int window; /* batches of the mean; 0: a moving average */
    int share;  /* of the newest batch in it, in millionths */
};

struct forecast;

/* cells: experts of all layers. The last `errors` errors are kept. */
enum status forecast_open(struct forecast **out, struct arena *arena, const struct forecast_way *way,
                          int cells, int errors);

/* The next batch has come: rows [cells]. */
void forecast_add(struct forecast *f, const int32_t *rows);

/* [cells] in parts of a row; 0 before the first batch. It holds until the next batch. */
const int64_t *forecast_expected(const struct forecast *f);

/* Batches that may come, in parts of a row: batch [errors, cells]. How many: none before the second batch. */
int forecast_batches(const struct forecast *f, int64_t *batch);

#endif
