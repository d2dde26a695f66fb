/* cuda_turns.h - how far each position turns: tables of cosines and sines on the device
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Made by the host, as sines of large angles need more than registers, and kept: all layers of one kind turn
 * the same positions in a step. Tables have a fixed size and place: a step of more rows is turned in parts,
 * whose tables are made anew for every layer. */
#ifndef CUDA_TURNS_H
#define CUDA_TURNS_H

#include "kernels/cuda/cuda_device.h"

enum { CUDA_TURNS_KINDS = CUDA_PLAN_KINDS }; /* of rotation in a model */

struct cuda_turns_kept {
    const float *frequency; /* of whose angles it is; of temperatures NULL */
    float factor, floor;    /* the other numbers that it was made of */
    int width, rows;        /* [rows, width] are held */
    int32_t *positions;     /* [CUDA_PLAN_TURN_ROWS] pinned */
    float *host;            /* pinned; of angles CUDA_PLAN_TURN_FLOATS, else CUDA_PLAN_TURN_ROWS */
    float *table;           /* the same on the device; of angles (cosine, sine) pairs */
};

struct cuda_turns {
    struct cuda_turns_kept kept[CUDA_TURNS_KINDS];
    struct cuda_turns_kept temperature;
    int next; /* to be overwritten when there are more kinds */
};

enum status cuda_turns_open(struct cuda_turns *t, struct cuda_device *d);
void cuda_turns_close(struct cuda_turns *t, struct cuda_device *d);

/* Rows that tables of `rotated` numbers hold. */
static inline int cuda_turns_most(int rotated)
{
    return CUDA_PLAN_TURN_FLOATS / CUDA_PLAN_TURN_ROWS < rotated ? CUDA_PLAN_TURN_FLOATS / rotated
                                                                 : CUDA_PLAN_TURN_ROWS;
}

/* Of both, rows <= cuda_turns_most. *out [rows, rotated] on the device: cosine and sine, times the attention
 * factor, of each pair. */
enum status cuda_turns_table(struct cuda_turns *t, struct cuda_device *d, const struct rotation *r,
                             const int32_t *positions, int rows, const float **out);

/* *out [rows] on the device: what queries are multiplied by; NULL when that is 1. */
enum status cuda_turns_temperature(struct cuda_turns *t, struct cuda_device *d, const struct rotation *r,
                                   const int32_t *positions, int rows, const float **out);

/* All tables that were ever made, for these positions: what recorded steps read. */
enum status cuda_turns_again(struct cuda_turns *t, struct cuda_device *d, const int32_t *positions, int rows);

#endif
