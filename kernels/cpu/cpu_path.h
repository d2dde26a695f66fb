/* cpu_path.h - the stages of the cpu backend as they are compiled for each instruction path
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * The files behind this table are compiled once per path with their own flags, CPU_PATH being portable, avx2
 * or avx512. A stage is a function of (job, part, parts): the threads of the pool call it with every part,
 * and what a part writes no other part touches. Arguments were checked before (cpu_stages.c). */
#ifndef CPU_PATH_H
#define CPU_PATH_H

#include "kernels/kernels.h"

#include <stdatomic.h>

/* -- how weights lie
 * ------------------------------------------------------------------------------------------------- Panels of
 * 16 output columns, one behind the other. BF16: a line of 64 bytes for each pair of k, with w[k], w[k + 1]
 * of column 0, then of column 1, ...; odd widths end in a pair whose second is zero. F32: a line of 16 floats
 * for each k. F8_E4M3: for every SCALE_INPUTS of k a line of 16 scales, then a line for each four of k with
 * the codes of w[k] ... w[k + 3] of column 0, then of column 1, ...; the last line may be short of codes. The
 * scales are multiplied by E4M3_UNIT, see cpu_e4m3.h. Columns beyond the last are zero. */
enum { PANEL_COLUMNS = 16, PANEL_LINE = 64 };

/* A code's seven bits as the upper bits of a float without its sign are 2^-120 of what it stands for. */
#define E4M3_UNIT 0x1p120f

static inline int panel_count(int columns)
{
    return columns / PANEL_COLUMNS + (columns % PANEL_COLUMNS != 0);
}

/* Bytes of one panel; of its front up to `inner`, which F8_E4M3 has only for multiples of SCALE_INPUTS. */
static inline size_t panel_bytes(enum dtype format, int inner)
{
    size_t lines = (size_t)inner;

    if (format == DTYPE_BF16)
        lines = (lines + 1) / 2;
    else if (format == DTYPE_F8_E4M3)
        lines = (lines + 3) / 4 + (size_t)scale_count(inner);
    return lines * PANEL_LINE;
}

/* Where the line with number k of a panel of F8_E4M3 is. */
static inline ptrdiff_t panel_e4m3_line(int k)
{
    return ((ptrdiff_t)k / 4 + k / SCALE_INPUTS + 1) * PANEL_LINE;
}

/* -- how a page of the cache lies
 * ------------------------------------------------------------------------------------ Keys of a head are a
 * BF16 panel whose columns are the positions of the page and whose k are the numbers of the head (an odd last
 * number is a row of 16 without a partner); values of a head are 16 rows. So a page has the size that
 * kernels.h gives it, and may be copied as a whole. */

/* The keys of one page and head; its values lie kv_heads heads further. */
static inline uint16_t *page_keys(const struct cache_layer *cache, int32_t page, int kv_head)
{
    size_t head = (size_t)PAGE_ROWS * (size_t)cache->head_width;

    return (uint16_t *)cache->data + (2 * (size_t)page * (size_t)cache->kv_heads + (size_t)kv_head) * head;
}

static inline uint16_t *page_values(const struct cache_layer *cache, int32_t page, int kv_head)
{
    return page_keys(cache, page, kv_head + cache->kv_heads);
}

static inline float *cpu_row(struct matrix m, int row)
{
    return m.data + (ptrdiff_t)row * m.stride;
}

/* -- jobs that are more than a struct of kernels.h
 * ------------------------------------------------------------------- */

/* out[n] = x[n] W^T + bias for `rows` rows; x_row and out_row say where row n lies, NULL: at n. */
struct cpu_product {
    struct matrix out, x;
    const int32_t *x_row, *out_row;
    int rows;
    const struct weight *w;
    const float *bias;
    bool lower; /* w is BF16, and rows of x are pairs of BF16 numbers in place of floats (cpu_lower.h) */
};

struct cpu_embed {
    struct matrix out;
    const struct weight *w;
    const int32_t *tokens;
    int first_token;
};

struct cpu_norm {
    struct matrix out, x;
    const float *gain;
    float epsilon;
};

struct cpu_rotate {
    struct matrix q, keys;
    const struct rotation *r;
    int head_width;
    const int32_t *positions;
};

struct cpu_append {
    struct cache_layer cache;
    struct matrix keys, values;
    const struct span *spans;
    int span_count;
};

struct cpu_attention {
    const struct attention *a;
    _Atomic int *next; /* the first item that no thread has taken */
};

struct cpu_gather {
    struct matrix out, x;
    const int32_t *rows;
    const float *scale;
};

struct cpu_activate {
    struct matrix out, gate_up;
};

struct cpu_add {
    struct matrix x, y;
};

struct cpu_join {
    struct matrix out;
    const float *blocks;
    const int *widths;
    int count;
};

struct cpu_candidates {
    struct matrix logits;
    int keep;
    float *values;
    int32_t *columns;
};

/* One per path. */
struct cpu_stages {
    void (*embed)(const void *job, int part, int parts);        /* struct cpu_embed */
    void (*norm)(const void *job, int part, int parts);         /* struct cpu_norm */
    void (*multiply)(const void *job, int part, int parts);     /* struct cpu_product */
    void (*rotate)(const void *job, int part, int parts);       /* struct cpu_rotate */
    void (*append)(const void *job, int part, int parts);       /* struct cpu_append */
    void (*attend)(const void *job, int part, int parts);       /* struct cpu_attention */
    void (*route)(const void *job, int part, int parts);        /* struct route */
    void (*gather)(const void *job, int part, int parts);       /* struct cpu_gather */
    void (*lower_inputs)(const void *job, int part, int parts); /* struct expert_batch; NULL: no such path */
    void (*lower_inner)(const void *job, int part, int parts);  /* likewise */
    void (*gate_up)(const void *job, int part, int parts);      /* struct expert_batch: x into scratch */
    void (*down)(const void *job, int part, int parts);         /* struct expert_batch: scratch into out */
    void (*activate)(const void *job, int part, int parts);     /* struct cpu_activate */
    void (*add)(const void *job, int part, int parts);          /* struct cpu_add */
    void (*join)(const void *job, int part, int parts);         /* struct cpu_join */
    void (*combine)(const void *job, int part, int parts);      /* struct combine */
    void (*candidates)(const void *job, int part, int parts);   /* struct cpu_candidates */
    void (*draft)(const void *job, int part, int parts);        /* struct draft */
};

/* gate_up leaves silu(gate) * up in the first F columns of scratch, unless F is no multiple of PANEL_COLUMNS:
 * then it leaves gate and up as they are, and activate is due for these rows. Rows lie in scratch as `order`
 * names them. */
static inline bool cpu_path_fuses(const struct weight *gate_up)
{
    return gate_up->rows / 2 % PANEL_COLUMNS == 0;
}

/* -- names: what the path files share among themselves carries its path
 * ---------------------------------------------- */

#ifdef CPU_PATH
#define CPU_PATH_JOIN(name, path) name##_##path
#define CPU_PATH_EXPAND(name, path) CPU_PATH_JOIN(name, path)
#define CPU_PATH_NAME(name) CPU_PATH_EXPAND(name, CPU_PATH)
#define cpu_table CPU_PATH_NAME(cpu_table)
#define cpu_multiply CPU_PATH_NAME(cpu_multiply)
#define cpu_multiply_columns CPU_PATH_NAME(cpu_multiply_columns)
#define cpu_multiply_tile CPU_PATH_NAME(cpu_multiply_tile)
#define cpu_experts_gate_up CPU_PATH_NAME(cpu_experts_gate_up)
#define cpu_experts_down CPU_PATH_NAME(cpu_experts_down)
#define cpu_attend CPU_PATH_NAME(cpu_attend)
#define cpu_rows_embed CPU_PATH_NAME(cpu_rows_embed)
#define cpu_rows_norm CPU_PATH_NAME(cpu_rows_norm)
#define cpu_rows_rotate CPU_PATH_NAME(cpu_rows_rotate)
#define cpu_rows_append CPU_PATH_NAME(cpu_rows_append)
#define cpu_rows_gather CPU_PATH_NAME(cpu_rows_gather)
#define cpu_rows_activate CPU_PATH_NAME(cpu_rows_activate)
#define cpu_rows_add CPU_PATH_NAME(cpu_rows_add)
#define cpu_rows_join CPU_PATH_NAME(cpu_rows_join)
#define cpu_rows_combine CPU_PATH_NAME(cpu_rows_combine)
#define cpu_choose_route CPU_PATH_NAME(cpu_choose_route)
#define cpu_choose_candidates CPU_PATH_NAME(cpu_choose_candidates)
#define cpu_draft CPU_PATH_NAME(cpu_draft)
#endif

#endif
