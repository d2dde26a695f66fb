/* cuda_turns.c - how far each position turns: tables of cosines and sines on the device
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/cuda_turns.h"

#include <math.h>
#include <string.h>

static void give_back(struct cuda_turns_kept *kept)
{
    cudaFreeHost(kept->positions);
    cudaFreeHost(kept->host);
    cudaFree(kept->table);
    *kept = (struct cuda_turns_kept){0};
}

void cuda_turns_close(struct cuda_turns *t)
{
    for (int i = 0; i < CUDA_TURNS_KINDS; i++)
        give_back(&t->kept[i]);
}

static enum status make_room(struct cuda_turns_kept *kept, struct cuda_device *d, int rows, int rotated)
{
    size_t numbers = (size_t)rows * (size_t)(rotated > 0 ? rotated : 1);

    TRY(cuda_device_wait(d)); /* nobody reads the old table any more, and its copy has arrived */
    if (rows <= kept->room && rotated == kept->rotated)
        return STATUS_OK;
    give_back(kept);
    CUDA_TRY(cudaMallocHost((void **)&kept->positions, (size_t)rows * sizeof *kept->positions));
    CUDA_TRY(cudaMallocHost((void **)&kept->host, numbers * sizeof *kept->host));
    CUDA_TRY(cudaMalloc((void **)&kept->table, numbers * sizeof *kept->table));
    kept->room = rows;
    kept->rotated = rotated;
    return STATUS_OK;
}

/* Angles as in reference_rows.c: float products while those are good, exact far out. */
static double angle(int32_t position, float frequency)
{
    if (position < 100000 && position > -100000)
        return (double)((float)position * frequency);
    return (double)position * (double)frequency;
}

static void fill(struct cuda_turns_kept *kept, const struct rotation *r)
{
    for (int t = 0; t < kept->rows; t++) {
        for (int i = 0; i < r->rotated / 2; i++) {
            double turned = angle(kept->positions[t], r->frequency[i]);
            float *pair = kept->host + (ptrdiff_t)t * r->rotated + 2 * (ptrdiff_t)i;

            pair[0] = (float)cos(turned) * r->attention_factor;
            pair[1] = (float)sin(turned) * r->attention_factor;
        }
    }
}

static bool holds(const struct cuda_turns_kept *kept, const struct rotation *r, const int32_t *positions,
                  int rows)
{
    return kept->frequency == r->frequency && kept->factor == r->attention_factor &&
           kept->rotated == r->rotated && kept->rows == rows &&
           memcmp(kept->positions, positions, (size_t)rows * sizeof *positions) == 0;
}

enum status cuda_turns_table(struct cuda_turns *t, struct cuda_device *d, const struct rotation *r,
                             const int32_t *positions, int rows, const float **out)
{
    struct cuda_turns_kept *kept = NULL;

    for (int i = 0; i < CUDA_TURNS_KINDS; i++) {
        if (t->kept[i].frequency != r->frequency)
            continue;
        kept = &t->kept[i];
        if (holds(kept, r, positions, rows)) {
            *out = kept->table;
            return STATUS_OK;
        }
    }
    if (!kept) {
        kept = &t->kept[t->next];
        t->next = (t->next + 1) % CUDA_TURNS_KINDS;
    }
    TRY(make_room(kept, d, rows, r->rotated));
    kept->frequency = r->frequency;
    kept->factor = r->attention_factor;
    kept->rows = rows;
    memcpy(kept->positions, positions, (size_t)rows * sizeof *positions);
    fill(kept, r);
    CUDA_TRY(cudaMemcpyAsync(kept->table, kept->host, (size_t)rows * (size_t)r->rotated * sizeof *kept->host,
                             cudaMemcpyHostToDevice, d->stream));
    *out = kept->table;
    return STATUS_OK;
}

enum status cuda_turns_temperature(struct cuda_device *d, const struct rotation *r, const int32_t *positions,
                                   int rows, const float **out)
{
    float factors[256];
    void *room;

    *out = NULL;
    if (r->temperature_scale == 0.0f)
        return STATUS_OK;
    TRY(cuda_device_room(d, (size_t)rows * sizeof(float), &room));
    for (int first = 0; first < rows; first += 256) {
        int count = rows - first < 256 ? rows - first : 256;
        const void *there;

        for (int i = 0; i < count; i++) {
            double steps = floor(((double)positions[first + i] + 1.0) / (double)r->temperature_floor);

            factors[i] = (float)(1.0 + (double)r->temperature_scale * log1p(steps));
        }
        TRY(cuda_device_send(d, factors, (size_t)count * sizeof(float), &there));
        CUDA_TRY(cudaMemcpyAsync((float *)room + first, there, (size_t)count * sizeof(float),
                                 cudaMemcpyDeviceToDevice, d->stream));
    }
    *out = room;
    return STATUS_OK;
}
