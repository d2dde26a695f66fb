/* cuda_turns.h - how far each position turns: tables of cosines and sines on the device
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Made by the host, as sines of large angles need more than registers, and kept: all layers of one kind turn
 * the same positions in a step. Steps of few rows, which may be recorded, have tables of their own, whose
 * place on the device never changes; those of more rows grow, and only then does the host wait. */
#ifndef CUDA_TURNS_H
#define CUDA_TURNS_H

#include "kernels/cuda/cuda_device.h"

enum { CUDA_TURNS_KINDS = 4, CUDA_TURNS_SIZES = 2 }; /* of rotation in a model; of steps: few rows, or more */

struct cuda_turns_kept {
    const float *frequency; /* of whose angles it is; of temperatures NULL */
    float factor, floor;    /* the other numbers that it was made of */
    int width;              /* of a row; 0: there is no table */
    int rows, room;         /* that it holds, and that it has room for */
    int32_t *positions;     /* [room] */
    float *host;            /* [room, width] */
    float *table;           /* [room, width] device; of angles (cosine, sine) pairs */
};

struct cuda_turns {
    struct cuda_turns_kept kept[CUDA_TURNS_SIZES][CUDA_TURNS_KINDS];
    struct cuda_turns_kept temperature[CUDA_TURNS_SIZES];
    int next[CUDA_TURNS_SIZES]; /* to be overwritten when there are more kinds */
};

void cuda_turns_close(struct cuda_turns *t);

/* *out [rows, rotated] on the device: cosine and sine, times the attention factor, of each pair. */
enum status cuda_turns_table(struct cuda_turns *t, struct cuda_device *d, const struct rotation *r,
                             const int32_t *positions, int rows, const float **out);

/* *out [rows] on the device: what queries are multiplied by; NULL when that is 1. */
enum status cuda_turns_temperature(struct cuda_turns *t, struct cuda_device *d, const struct rotation *r,
                                   const int32_t *positions, int rows, const float **out);

/* All tables that steps of few rows have used, for these positions: what recordings of such steps read. */
enum status cuda_turns_again(struct cuda_turns *t, struct cuda_device *d, const int32_t *positions, int rows);

#endif
