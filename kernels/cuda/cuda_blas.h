/* cuda_blas.h - products of many rows by cuBLAS
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Our own kernels (cuda_multiply.cu) read a weight once for every 64 rows, and up to there the bytes of the
 * weights are the bound; of more rows cuBLAS makes the products faster. Rows are split into two planes of
 * bf16 as there, and a product of each plane is added in single precision, so results are as good. But cuBLAS
 * picks its order of sums by the shape: the bytes of a row depend on how many rows are multiplied with it. So
 * there is none of this with --exact, nor where cuBLAS was not found when the module was built.
 *
 * The grouped call of cuBLAS writes results of bf16 factors in bf16 alone, which would lose half the digits;
 * so the rows of each expert are a call of their own. Weights of E4M3 stay with our own kernel: code times
 * scale is no bf16 number. */
#ifndef CUDA_BLAS_H
#define CUDA_BLAS_H

#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/cuda_launch.h"

/* Rows from which on it pays. */
enum { CUDA_BLAS_LEAST_ROWS = 65 };

/* One expert of a layer and the rows that go through it. */
struct cuda_blas_expert {
    struct matrix x, out;
    const int32_t *order; /* [rows] row numbers in x and out, on the device */
    int rows;
    struct cuda_weight gate_up, down;
    bool lower; /* the high numbers of rows alone, by weights of BF16 */
};

struct cuda_blas {
    struct cuda_device *device; /* not owned; its `partial` is where planes and results lie for a while */
    void *handle;               /* cublasHandle_t */
    void *workspace;            /* the memory cuBLAS works in: it takes none of its own */
    int64_t products;           /* made so far */

    /* out[T, N] = x[T, K] w^T + bias; bias NULL: none. */
    enum status (*multiply)(struct cuda_blas *b, struct matrix out, struct matrix x, struct cuda_weight w,
                            const float *bias);
    /* Those rows of x through the expert into the same rows of out. */
    enum status (*multiply_expert)(struct cuda_blas *b, const struct cuda_blas_expert *e);
    void (*close)(struct cuda_blas *b);
};

/* On the device's stream, with memory of its own; not opened, nothing but zeros. */
enum status cuda_blas_open(struct cuda_blas *b, struct cuda_device *d);

/* Shall this product be made here? */
static inline bool cuda_blas_wants(const struct cuda_blas *b, int rows, const struct cuda_weight *w)
{
    return b->handle && rows >= CUDA_BLAS_LEAST_ROWS && !w->scale && w->rows > 0 && w->columns > 0;
}

#endif
