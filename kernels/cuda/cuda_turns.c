/* cuda_turns.c - how far each position turns: tables of cosines and sines on the device
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/cuda_turns.h"

#include <math.h>
#include <string.h>

static enum status take_table(struct cuda_turns_kept *kept, struct cuda_device *d, size_t numbers)
{
    void *table;

    CUDA_TRY(cudaMallocHost((void **)&kept->positions, CUDA_PLAN_TURN_ROWS * sizeof *kept->positions));
    CUDA_TRY(cudaMallocHost((void **)&kept->host, numbers * sizeof *kept->host));
    TRY(cuda_device_take(d, numbers * sizeof *kept->table, "how far positions turn", &table));
    kept->table = table;
    return STATUS_OK;
}

static void give_back(struct cuda_turns_kept *kept, struct cuda_device *d)
{
    cudaFreeHost(kept->positions);
    cudaFreeHost(kept->host);
    cuda_device_give_back(d, kept->table);
    *kept = (struct cuda_turns_kept){0};
}

enum status cuda_turns_open(struct cuda_turns *t, struct cuda_device *d)
{
    *t = (struct cuda_turns){0};
    for (int i = 0; i < CUDA_TURNS_KINDS; i++)
        TRY(take_table(&t->kept[i], d, CUDA_PLAN_TURN_FLOATS));
    return take_table(&t->temperature, d, CUDA_PLAN_TURN_ROWS);
}

void cuda_turns_close(struct cuda_turns *t, struct cuda_device *d)
{
    for (int i = 0; i < CUDA_TURNS_KINDS; i++)
        give_back(&t->kept[i], d);
    give_back(&t->temperature, d);
}

/* Angles as in reference_rows.c: float products while those are good, exact far out. */
static double angle(int32_t position, float frequency)
{
    if (position < 100000 && position > -100000)
        return (double)((float)position * frequency);
    return (double)position * (double)frequency;
}

static void fill(struct cuda_turns_kept *kept, const struct cuda_turns_kept *like)
{
    for (int t = 0; t < like->rows; t++) {
        for (int i = 0; i < like->width / 2; i++) {
            double turned = angle(kept->positions[t], like->frequency[i]);
            float *pair = kept->host + (ptrdiff_t)t * like->width + 2 * (ptrdiff_t)i;

            pair[0] = (float)cos(turned) * like->factor;
            pair[1] = (float)sin(turned) * like->factor;
        }
    }
}

/* What queries of far positions are multiplied by. */
static void fill_temperature(struct cuda_turns_kept *kept, const struct cuda_turns_kept *like)
{
    for (int t = 0; t < like->rows; t++) {
        double steps = floor(((double)kept->positions[t] + 1.0) / (double)like->floor);

        kept->host[t] = (float)(1.0 + (double)like->factor * log1p(steps));
    }
}

/* `like` names what the table is made of. */
static bool holds(const struct cuda_turns_kept *kept, const struct cuda_turns_kept *like,
                  const int32_t *positions)
{
    return kept->frequency == like->frequency && kept->factor == like->factor && kept->floor == like->floor &&
           kept->width == like->width && kept->rows == like->rows &&
           memcmp(kept->positions, positions, (size_t)like->rows * sizeof *positions) == 0;
}

/* The table of these positions: as it is, or made anew. */
static enum status take(struct cuda_turns_kept *kept, struct cuda_device *d,
                        const struct cuda_turns_kept *like, const int32_t *positions)
{
    if (holds(kept, like, positions))
        return STATUS_OK;
    if (d->recording)
        return FAIL(STATUS_BUG, "a table of angles is made while a step is recorded");
    if (like->rows > cuda_turns_most(like->width))
        return FAIL(STATUS_BUG, "%d rows of %d numbers turn at a time", like->rows, like->width);
    kept->rows = 0;
    memcpy(kept->positions, positions, (size_t)like->rows * sizeof *positions);
    if (like->frequency)
        fill(kept, like);
    else
        fill_temperature(kept, like);
    TRY(cuda_device_upload(d, kept->table, kept->host,
                           (size_t)like->rows * (size_t)like->width * sizeof *kept->host));
    kept->frequency = like->frequency;
    kept->factor = like->factor;
    kept->floor = like->floor;
    kept->width = like->width;
    kept->rows = like->rows;
    return STATUS_OK;
}

enum status cuda_turns_table(struct cuda_turns *t, struct cuda_device *d, const struct rotation *r,
                             const int32_t *positions, int rows, const float **out)
{
    struct cuda_turns_kept like = {
        .frequency = r->frequency, .factor = r->attention_factor, .width = r->rotated, .rows = rows};
    struct cuda_turns_kept *kept = NULL;

    for (int i = 0; i < CUDA_TURNS_KINDS; i++)
        if (t->kept[i].frequency == r->frequency)
            kept = &t->kept[i];
    if (!kept) {
        kept = &t->kept[t->next];
        t->next = (t->next + 1) % CUDA_TURNS_KINDS;
    }
    TRY(take(kept, d, &like, positions));
    *out = kept->table;
    return STATUS_OK;
}

enum status cuda_turns_temperature(struct cuda_turns *t, struct cuda_device *d, const struct rotation *r,
                                   const int32_t *positions, int rows, const float **out)
{
    struct cuda_turns_kept like = {
        .factor = r->temperature_scale, .floor = r->temperature_floor, .width = 1, .rows = rows};

    *out = NULL;
    if (r->temperature_scale == 0.0f)
        return STATUS_OK;
    TRY(take(&t->temperature, d, &like, positions));
    *out = t->temperature.table;
    return STATUS_OK;
}

/* The same table for other positions; none was made: nothing. */
static enum status again(struct cuda_turns_kept *kept, struct cuda_device *d, const int32_t *positions,
                         int rows)
{
    struct cuda_turns_kept like = *kept;

    like.rows = rows;
    return kept->width > 0 ? take(kept, d, &like, positions) : STATUS_OK;
}

enum status cuda_turns_again(struct cuda_turns *t, struct cuda_device *d, const int32_t *positions, int rows)
{
    for (int i = 0; i < CUDA_TURNS_KINDS; i++)
        TRY(again(&t->kept[i], d, positions, rows));
    return again(&t->temperature, d, positions, rows);
}
