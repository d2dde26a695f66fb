/* cuda_blas.c - products of many rows by cuBLAS
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * cuBLAS thinks in columns: a weight [N, K] in rows is its [K, N], so y = x W^T is its y^T = op(W) x^T. */
#include "kernels/cuda/cuda_blas.h"

#include <cublas_v2.h>
#include <stdio.h>

enum { WORKSPACE_BYTES = CUDA_PLAN_WORKSPACE_BYTES, PLANE_STEP = 32, FIRST = 64 };

/* What went wrong and in which call; "" as `shape`: it has none. */
static enum status blas_error(cublasStatus_t error, const char *call, const char *shape)
{
    enum status status = error == CUBLAS_STATUS_ALLOC_FAILED ? STATUS_NO_MEMORY : STATUS_UNAVAILABLE;

    return FAIL(status, "%s%s: %s", call, shape, cublasGetStatusString(error));
}

#define BLAS_TRY(call)                                                                                       \
    do {                                                                                                     \
        cublasStatus_t blas_error_ = (call);                                                                 \
        if (blas_error_ != CUBLAS_STATUS_SUCCESS)                                                            \
            return blas_error(blas_error_, #call, "");                                                       \
    } while (0)

static int plane_stride(int columns)
{
    return (columns + PLANE_STEP - 1) / PLANE_STEP * PLANE_STEP;
}

static size_t plane_bytes(int columns)
{
    return 2 * sizeof(uint16_t) * (size_t)plane_stride(columns);
}

/* Rows of one turn, so that `row_bytes` of each fit into the device's room: all turns about equally many. */
static int turn_rows(int rows, size_t row_bytes)
{
    int most = (int)(CUDA_DEVICE_PARTIAL_FLOATS * sizeof(float) / row_bytes);
    int turns = (rows + most - 1) / most;

    return (rows + turns - 1) / turns;
}

/* Two planes at the beginning of the room. */
static struct cuda_planes planes_in(const struct cuda_blas *b, int rows, int columns)
{
    int stride = plane_stride(columns);

    return (struct cuda_planes){.data = (uint16_t *)(void *)b->device->partial,
                                .plane = (size_t)rows * (size_t)stride,
                                .rows = rows,
                                .columns = columns,
                                .stride = stride};
}

/* Floats behind the planes. */
static struct matrix behind(struct cuda_planes planes, int columns)
{
    return (struct matrix){.data = (float *)(void *)(planes.data + 2 * planes.plane),
                           .rows = planes.rows,
                           .columns = columns,
                           .stride = columns};
}

/* out = one plane of x times one of w, or is added to. */
static enum status multiply_plane(struct cuda_blas *b, struct matrix out, const uint16_t *x, int x_stride,
                                  const uint16_t *w, const struct cuda_weight *shape, bool added)
{
    const float one = 1.0f, onto = added ? 1.0f : 0.0f;
    cublasStatus_t error =
        cublasGemmEx(b->handle, CUBLAS_OP_T, CUBLAS_OP_N, shape->rows, out.rows, shape->columns, &one, w,
                     CUDA_R_16BF, shape->stride, x, CUDA_R_16BF, x_stride, &onto, out.data, CUDA_R_32F,
                     out.stride, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
    char text[96];

    if (error == CUBLAS_STATUS_SUCCESS)
        return STATUS_OK;
    snprintf(text, sizeof text, " of [%d, %d] by a weight [%d, %d]", out.rows, shape->columns, shape->rows,
             shape->columns);
    return blas_error(error, "cublasGemmEx", text);
}

/* out = x w^T, or is added to: each plane of x by the first plane of w, and the first by the second. `lower`:
 * the first by the first, where w has no other. */
static enum status multiply_planes(struct cuda_blas *b, struct matrix out, struct cuda_planes x,
                                   const struct cuda_weight *w, bool added, bool lower)
{
    TRY(multiply_plane(b, out, x.data, x.stride, w->data, w, added));
    if (!lower || w->plane)
        TRY(multiply_plane(b, out, x.data + x.plane, x.stride, w->data, w, true));
    if (w->plane)
        TRY(multiply_plane(b, out, x.data, x.stride, w->data + w->plane, w, true));
    b->products++;
    return STATUS_OK;
}

static enum status multiply(struct cuda_blas *b, struct matrix out, struct matrix x, struct cuda_weight w,
                            const float *bias)
{
    cudaStream_t stream = b->device->stream;
    int step = turn_rows(x.rows, plane_bytes(x.columns));

    for (int row = 0; row < x.rows; row += step) {
        int rows = x.rows - row < step ? x.rows - row : step;
        struct cuda_planes planes = planes_in(b, rows, x.columns);
        struct matrix part = matrix_rows(out, row, rows);

        CUDA_TRY(cuda_planes_split(planes, matrix_rows(x, row, rows), NULL, stream));
        if (bias)
            CUDA_TRY(cuda_planes_fill(part, bias, stream));
        TRY(multiply_planes(b, part, planes, &w, bias != NULL, false));
    }
    return STATUS_OK;
}

/* The planes of x lie where those of the inner numbers follow, what gate and up give lies where the results
 * follow. */
static enum status multiply_expert(struct cuda_blas *b, const struct cuda_blas_expert *e)
{
    cudaStream_t stream = b->device->stream;
    int D = e->x.columns, F = e->down.columns, results = e->down.rows;
    int wide = D > F ? D : F, most = 2 * F > results ? 2 * F : results;
    int step = turn_rows(e->rows, plane_bytes(wide) + (size_t)most * sizeof(float));

    for (int row = 0; row < e->rows; row += step) {
        int rows = e->rows - row < step ? e->rows - row : step;
        struct cuda_planes room = planes_in(b, rows, wide);
        struct cuda_planes planes = planes_in(b, rows, D), halves = planes_in(b, rows, F);
        struct matrix inner = behind(room, 2 * F), out = behind(room, results);
        struct matrix half = matrix_columns(inner, 0, F);

        CUDA_TRY(cuda_planes_split(planes, e->x, e->order + row, stream));
        TRY(multiply_planes(b, inner, planes, &e->gate_up, false, e->lower));
        CUDA_TRY(cuda_rows_activate(half, inner, stream));
        CUDA_TRY(cuda_planes_split(halves, half, NULL, stream));
        TRY(multiply_planes(b, out, halves, &e->down, false, e->lower));
        CUDA_TRY(cuda_planes_scatter(e->out, out, e->order + row, stream));
    }
    return STATUS_OK;
}

static void close_all(struct cuda_blas *b)
{
    if (b->handle)
        cublasDestroy(b->handle); /* waits for the device */
    if (b->device)
        cuda_device_give_back(b->device, b->workspace);
    *b = (struct cuda_blas){0};
}

/* cuBLAS loads its code at the first product, so there is one while what the cache may take is not settled.
 */
static enum status multiply_first(struct cuda_blas *b)
{
    struct cuda_planes x = planes_in(b, FIRST, FIRST);
    struct cuda_weight w = {
        .data = x.data, .plane = x.plane, .rows = FIRST, .columns = FIRST, .stride = x.stride};
    enum status status = multiply_planes(b, behind(x, FIRST), x, &w, false, false);

    b->products = 0;
    return status;
}

static enum status take_all(struct cuda_blas *b)
{
    cublasHandle_t handle;

    BLAS_TRY(cublasCreate(&handle));
    b->handle = handle;
    TRY(cuda_device_take(b->device, WORKSPACE_BYTES, "cuBLAS' workspace", &b->workspace));
    BLAS_TRY(cublasSetStream(handle, b->device->stream));
    /* After the stream, which gives cuBLAS back to memory of its own. */
    BLAS_TRY(cublasSetWorkspace(handle, b->workspace, WORKSPACE_BYTES));
    return multiply_first(b);
}

enum status cuda_blas_open(struct cuda_blas *b, struct cuda_device *d)
{
    enum status status;

    *b = (struct cuda_blas){
        .device = d, .multiply = multiply, .multiply_expert = multiply_expert, .close = close_all};
    status = take_all(b);
    if (status != STATUS_OK) {
        close_all(b);
        return status_prefix(status, "cuBLAS, which --exact does without: ");
    }
    return STATUS_OK;
}
