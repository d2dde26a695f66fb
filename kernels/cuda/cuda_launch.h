/* cuda_launch.h - the kernels as C calls them: each queues one operation on a stream
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * All pointers are device memory. Matrices are float, rows `stride` elements apart. What a kernel computes is
 * said in kernels/kernels.h; shapes were checked by the caller. No rows: nothing is queued. */
#ifndef CUDA_LAUNCH_H
#define CUDA_LAUNCH_H

#include "kernels/cuda/cuda_plan.h"
#include "kernels/kernels.h"

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The code of each file's kernels goes to the device: before one of them is launched, see cuda_code. */
cudaError_t cuda_attend_load(void);
cudaError_t cuda_choose_load(void);
cudaError_t cuda_deal_load(void);
cudaError_t cuda_draft_load(void);
cudaError_t cuda_lsa_load(void);
cudaError_t cuda_multiply_load(void);
cudaError_t cuda_planes_load(void);
cudaError_t cuda_rows_load(void);
cudaError_t cuda_softmax_load(void);
cudaError_t cuda_sum_load(void);

/* A weight [rows, columns]. In bf16 each row is padded with zeros to `stride` elements, and a source of more
 * bits has a second plane of what the first left over: w = first + second, to 2^-16 of it. In E4M3 the codes
 * of a row are padded to `stride` bytes, and w = code times scale. */
struct cuda_weight {
    const uint16_t *data; /* E4M3: codes, one byte each */
    const float *scale;   /* E4M3: [rows, scales]; else NULL */
    size_t plane;         /* elements from the first plane to the second; 0: there is none */
    int rows, columns, stride;
    int scales; /* of a row */
};

/* -- cuda_rows.cu ------------------------------------------------------------------------------------------
 */

cudaError_t cuda_rows_embed(struct matrix out, struct cuda_weight w, const int32_t *tokens, int first_token,
                            cudaStream_t s);
cudaError_t cuda_rows_norm(struct matrix out, struct matrix x, const float *gain, float epsilon,
                           cudaStream_t s);
cudaError_t cuda_rows_squares(struct matrix out, struct matrix x, int head_width, cudaStream_t s);
cudaError_t cuda_rows_norm_by(struct matrix x, struct matrix squares, int width, const float *gain,
                              float epsilon, cudaStream_t s);
cudaError_t cuda_rows_clamp(struct matrix x, float limit, cudaStream_t s);
cudaError_t cuda_rows_gather(struct matrix out, struct matrix x, const int32_t *rows, const float *scale,
                             cudaStream_t s);
/* out may be the first columns of gate_up. */
cudaError_t cuda_rows_activate(struct matrix out, struct matrix gate_up, cudaStream_t s);
cudaError_t cuda_rows_add(struct matrix x, struct matrix y, cudaStream_t s);
/* One block of `width` columns without gaps, to columns first ... of out. */
cudaError_t cuda_rows_place(struct matrix out, const float *block, int first, int width, cudaStream_t s);
cudaError_t cuda_rows_combine(struct matrix x, struct matrix shared, struct matrix results,
                              const int32_t *place, const float *weight, int choices, cudaStream_t s);

/* How heads are turned: tables [T, rotated / 2] of (cosine, sine) and [T] temperatures, made on the host, as
 * sines of large angles need more than a register file. */
struct cuda_turn {
    const float *cosine_sine; /* NULL: no rotary embedding */
    const float *temperature; /* NULL: 1 */
    const float *gain;        /* [W]; NULL: no norm before */
    float epsilon;
    int rotated, head_width;
    bool interleaved, norm_after;
};
cudaError_t cuda_rows_rotate(struct matrix x, struct cuda_turn turn, cudaStream_t s);

/* -- cuda_choose.cu ----------------------------------------------------------------------------------------
 */

cudaError_t cuda_choose_route(const struct route *route, cudaStream_t s);
cudaError_t cuda_choose_candidates(struct matrix logits, int keep, float *values, int32_t *columns,
                                   cudaStream_t s);

/* -- cuda_deal.cu ------------------------------------------------------------------------------------------
 */

cudaError_t cuda_deal_rows(const struct deal *d, cudaStream_t s);
cudaError_t cuda_deal_group(struct matrix arrivals, int width, int slots, int32_t *order, int32_t *first,
                            cudaStream_t s);

/* -- cuda_draft.cu -----------------------------------------------------------------------------------------
 */

/* d->sequences and d->found are not looked at: they are on the host. */
cudaError_t cuda_draft_look(const struct draft *d, const struct draft_sequence *sequences, int32_t *found,
                            cudaStream_t s);

/* -- cuda_softmax.cu ---------------------------------------------------------------------------------------
 */

/* column, chunk and logit on the device; logits.rows <= 65535. */
cudaError_t cuda_softmax_chunks(struct matrix logits, const int32_t *column, struct softmax_chunk *chunk,
                                float *logit, cudaStream_t s);

/* -- cuda_lsa.cu -------------------------------------------------------------------------------------------
 */

/* Rows that the ranks of a domain, whose devices reach each other's memory, store into each other's windows.
 * A window is CUDA_LSA_PLACES places [ranks, bytes] for what each rank sends, then flags
 * [CUDA_LSA_PLACES, ranks, CUDA_LSA_CHUNKS]. Exchanges are numbered alike on all ranks, each one more than
 * that before; an exchange is a push, then a wait. */
enum {
    CUDA_LSA_PLACES = CUDA_PLAN_WINDOW_PLACES,
    CUDA_LSA_CHUNKS = CUDA_PLAN_WINDOW_CHUNKS,
    CUDA_LSA_RANKS = 128
};

struct cuda_lsa {
    char *const *window; /* [ranks] of each rank, as this device reaches it */
    uint64_t *number;    /* of the next exchange, on the device: the wait of one counts it */
    size_t place;        /* bytes, a multiple of 16 */
    int rank, ranks;
};

/* What has become of a chunk of a rank's rows: an int32_t in pinned memory. A state only gets worse, but that
 * who is late may still come. */
enum cuda_lsa_state { CUDA_LSA_WELL, CUDA_LSA_LATE, CUDA_LSA_MISSING, CUDA_LSA_OTHER_SIZE };

/* Nanoseconds of waiting after which a rank's rows are late, and after which they are given up. */
struct cuda_lsa_patience {
    uint64_t late, most;
};

/* Where in a window the rows of an exchange lie: `turn`, 0 ... CUDA_LSA_PLACES - 1, is the same on all ranks.
 */
static inline size_t cuda_lsa_place_at(size_t place, int turn)
{
    return (size_t)turn * place;
}

/* rows [ranks, bytes] go to all ranks, this one too; bytes is a multiple of 4. */
cudaError_t cuda_lsa_push(struct cuda_lsa lsa, const void *rows, size_t bytes, int turn, cudaStream_t s);

/* Until rows of all ranks are here. state [ranks, CUDA_LSA_CHUNKS]; a chunk once missing is not waited for
 * again. */
cudaError_t cuda_lsa_wait(struct cuda_lsa lsa, size_t bytes, struct cuda_lsa_patience patience,
                          volatile int32_t *state, cudaStream_t s);

/* An exchange of no rows, behind which all places are free again. */
cudaError_t cuda_lsa_meet(struct cuda_lsa lsa, struct cuda_lsa_patience patience, volatile int32_t *state,
                          cudaStream_t s);

/* -- cuda_multiply.cu --------------------------------------------------------------------------------------
 */

cudaError_t cuda_multiply_rows(struct matrix out, struct matrix x, struct cuda_weight w, const float *bias,
                               cudaStream_t s);

/* For each slot the rows order[first[slot]] ... of x with weights[slot]; all have `rows` outputs. Slots of
 * more than `most` rows are left alone. `lower`: by weights of BF16 the high numbers alone are multiplied. */
struct cuda_slots {
    const int32_t *order;
    const int32_t *first;
    const struct cuda_weight *weights;
    int slots, most, rows;
    bool lower;
};
cudaError_t cuda_multiply_slots(struct matrix out, struct matrix x, struct cuda_slots slots, cudaStream_t s);

/* -- cuda_planes.cu ----------------------------------------------------------------------------------------
 */

/* Rows as two bf16 numbers each, high + low. */
struct cuda_planes {
    uint16_t *data;
    size_t plane; /* elements from the first plane to the second */
    int rows, columns, stride;
};

/* Rows order[0] ... of x, NULL: its first ones. */
cudaError_t cuda_planes_split(struct cuda_planes out, struct matrix x, const int32_t *order, cudaStream_t s);
/* Every row of out = numbers [N]. */
cudaError_t cuda_planes_fill(struct matrix out, const float *numbers, cudaStream_t s);
/* Row i of x to row order[i] of out. */
cudaError_t cuda_planes_scatter(struct matrix out, struct matrix x, const int32_t *order, cudaStream_t s);

/* -- cuda_sum.cu -------------------------------------------------------------------------------------------
 */

enum { CUDA_SUM_PARTS = CUDA_PLAN_SUM_PARTS };

/* Adds to parts [CUDA_SUM_PARTS] what together is the checksum (kernels/checksum.h) of `bytes` that stand at
 * `at` of something; `data` and both numbers are multiples of 4. */
cudaError_t cuda_sum_words(uint64_t *parts, const void *data, size_t bytes, size_t at, cudaStream_t s);

/* -- cuda_attend.cu ----------------------------------------------------------------------------------------
 */

/* Where each row of the step stands: its position, and its sequence's pages as an index into `pages`. */
struct cuda_cache {
    uint16_t *data; /* [pages] of { keys [kv heads, 16, W], values [kv heads, W, 16] } in bf16 */
    int kv_heads, head_width;
    const int32_t *position;   /* [T] */
    const int32_t *first_page; /* [T] */
    const int32_t *pages;
};
cudaError_t cuda_attend_append(struct cuda_cache cache, struct matrix keys, struct matrix values,
                               cudaStream_t s);

/* Positions that one block looks at; results of several are added up in order. */
enum { CUDA_ATTEND_CHUNK = 256 };

struct cuda_attend {
    struct cuda_cache cache;
    struct matrix out, queries;
    const int32_t *tile; /* [tiles, 2] first row, and how many: up to 16 / most_heads rows of one sequence */
    int tiles;
    int heads;
    const int32_t *head_of;   /* [kv heads + 1] into head_list: query heads of each key-value head */
    const int32_t *head_list; /* [heads] */
    int most_heads;           /* of a key-value head */
    float scale;
    int mask, mask_size;     /* enum mask_kind */
    int first_chunk, chunks; /* of CUDA_ATTEND_CHUNK positions that any row of these tiles sees */
    float *partial;          /* [T, heads, chunks, W + 2]: greatest score, sum, weighted values */
    int first_row;           /* of the rows in `partial` */
};
cudaError_t cuda_attend_chunks(const struct cuda_attend *a, cudaStream_t s);
cudaError_t cuda_attend_merge(const struct cuda_attend *a, int rows, cudaStream_t s);

#ifdef __cplusplus
}
#endif

#endif
