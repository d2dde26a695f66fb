/* blas.cpp - cuBLAS's stand-in: the calls that the backend makes, in plain loops, with the checks of the real
 * ones
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Shapes and scalars are taken at the call, as the real library does, memory is looked at when the operation
 * runs. Combinations of types that the real call refuses are refused. Sums are split into parts whose number
 * depends on how many rows are multiplied, as the real one picks an algorithm by the shape: whoever relies on
 * equal bytes in every batch shall see them differ here too. */
#include "runtime.h"

#include <cublas_v2.h>
#include <string.h>

enum { WORKSPACE_ALIGN = 256, PARTS_MOST = 4, CODE_BYTES = 4 << 20 };

struct cublasContext {
    cudaStream_t stream;
    void *workspace;
    size_t workspace_bytes;
};

extern "C" cublasStatus_t cublasCreate_v2(cublasHandle_t *out)
{
    *out = new cublasContext{};
    return CUBLAS_STATUS_SUCCESS;
}

extern "C" cublasStatus_t cublasDestroy_v2(cublasHandle_t h)
{
    if (!h)
        return CUBLAS_STATUS_NOT_INITIALIZED;
    cudaDeviceSynchronize();
    delete h;
    return CUBLAS_STATUS_SUCCESS;
}

/* The workspace is the library's own again after this. */
extern "C" cublasStatus_t cublasSetStream_v2(cublasHandle_t h, cudaStream_t stream)
{
    if (!h)
        return CUBLAS_STATUS_NOT_INITIALIZED;
    h->stream = stream;
    h->workspace = nullptr;
    h->workspace_bytes = 0;
    return CUBLAS_STATUS_SUCCESS;
}

extern "C" cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t h, void *workspace, size_t bytes)
{
    if (!h)
        return CUBLAS_STATUS_NOT_INITIALIZED;
    if ((uintptr_t)workspace % WORKSPACE_ALIGN)
        return CUBLAS_STATUS_INVALID_VALUE;
    hostgpu_memory_check(workspace, bytes, true, "cublasSetWorkspace");
    h->workspace = workspace;
    h->workspace_bytes = bytes;
    return CUBLAS_STATUS_SUCCESS;
}

extern "C" const char *cublasGetStatusString(cublasStatus_t status)
{
    switch (status) {
    case CUBLAS_STATUS_SUCCESS:
        return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED:
        return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_INVALID_VALUE:
        return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_NOT_SUPPORTED:
        return "CUBLAS_STATUS_NOT_SUPPORTED";
    default:
        return "CUBLAS_STATUS_INTERNAL_ERROR";
    }
}

/* A factor as it lies in memory, by columns: element (row, column) of the product's view is at `step` or `ld`
 * apart. */
struct factor {
    const uint16_t *data;
    size_t along_k, along_other; /* elements from one to the next */
};

struct job {
    int m, n, k, ldc;
    float alpha, beta;
    struct factor a, b;
    float *c;
};

static float widen(uint16_t bits)
{
    uint32_t word = (uint32_t)bits << 16;
    float value;

    memcpy(&value, &word, sizeof value);
    return value;
}

/* Sum of part `part` of `parts` of the inner width. */
static float sum_part(const job &g, int i, int j, int part, int parts)
{
    int first = (int)((int64_t)g.k * part / parts), end = (int)((int64_t)g.k * (part + 1) / parts);
    float sum = 0.0f;

    for (int x = first; x < end; x++)
        sum += widen(g.a.data[x * g.a.along_k + i * g.a.along_other]) *
               widen(g.b.data[x * g.b.along_k + j * g.b.along_other]);
    return sum;
}

static void run(const job &g)
{
    int parts = 1 + g.n % PARTS_MOST;

    for (int j = 0; j < g.n; j++) {
        for (int i = 0; i < g.m; i++) {
            float *c = g.c + (size_t)j * g.ldc + i;
            float sum = 0.0f;

            for (int part = 0; part < parts; part++)
                sum += sum_part(g, i, j, part, parts);
            /* What is not added to is not read: it may be anything. */
            *c = g.beta == 0.0f ? g.alpha * sum : g.alpha * sum + g.beta * *c;
        }
    }
}

/* A matrix of `columns` columns of `rows` elements, ld apart: all of it in one allocation of the device, and
 * told to the race checker. */
static void touch(const void *data, int rows, int columns, int ld, size_t element, bool write,
                  const char *name)
{
    if (rows == 0 || columns == 0)
        return;
    hostgpu_memory_check(data, (((size_t)columns - 1) * ld + rows) * element, true, name);
    for (int column = 0; column < columns; column++)
        hostgpu_touch((const char *)data + (size_t)column * ld * element, rows * element, write);
}

static bool is_operation(cublasOperation_t t)
{
    return t == CUBLAS_OP_N || t == CUBLAS_OP_T || t == CUBLAS_OP_C;
}

static bool aligned(const void *p, size_t bytes)
{
    return (uintptr_t)p % bytes == 0;
}

extern "C" cublasStatus_t cublasGemmEx(cublasHandle_t h, cublasOperation_t ta, cublasOperation_t tb, int m,
                                       int n, int k, const void *alpha, const void *a, cudaDataType_t a_type,
                                       int lda, const void *b, cudaDataType_t b_type, int ldb,
                                       const void *beta, void *c, cudaDataType_t c_type, int ldc,
                                       cublasComputeType_t compute, cublasGemmAlgo_t algorithm)
{
    int a_rows = ta == CUBLAS_OP_N ? m : k, a_columns = ta == CUBLAS_OP_N ? k : m;
    int b_rows = tb == CUBLAS_OP_N ? k : n, b_columns = tb == CUBLAS_OP_N ? n : k;
    job g;

    if (!h)
        return CUBLAS_STATUS_NOT_INITIALIZED;
    if (m < 0 || n < 0 || k < 0 || !is_operation(ta) || !is_operation(tb) ||
        lda < (a_rows > 1 ? a_rows : 1) || ldb < (b_rows > 1 ? b_rows : 1) || ldc < (m > 1 ? m : 1) ||
        !alpha || !beta)
        return CUBLAS_STATUS_INVALID_VALUE;
    /* Of the combinations that the real one knows, the one that is used. */
    if (a_type != CUDA_R_16BF || b_type != CUDA_R_16BF || c_type != CUDA_R_32F ||
        compute != CUBLAS_COMPUTE_32F || algorithm != CUBLAS_GEMM_DEFAULT)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    if (!aligned(a, 2) || !aligned(b, 2) || !aligned(c, 4))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (!h->workspace)
        hostgpu_fail("cublasGemmEx: the library takes memory of its own; cublasSetWorkspace comes after "
                     "cublasSetStream");
    static const cudaError_t loaded = hostgpu_memory_hold(CODE_BYTES); /* with the first product */
    if (loaded != cudaSuccess)
        return CUBLAS_STATUS_ALLOC_FAILED;
    g.m = m, g.n = n, g.k = k, g.ldc = ldc;
    memcpy(&g.alpha, alpha, sizeof g.alpha);
    memcpy(&g.beta, beta, sizeof g.beta);
    g.a = {(const uint16_t *)a, ta == CUBLAS_OP_N ? (size_t)lda : 1, ta == CUBLAS_OP_N ? 1 : (size_t)lda};
    g.b = {(const uint16_t *)b, tb == CUBLAS_OP_N ? 1 : (size_t)ldb, tb == CUBLAS_OP_N ? (size_t)ldb : 1};
    g.c = (float *)c;
    void *workspace = h->workspace;
    size_t used = h->workspace_bytes < 4096 ? h->workspace_bytes : 4096;

    hostgpu_push(h->stream, {"cublasGemmEx",
                             [=] {
                                 hostgpu_touch(workspace, used, true);
                                 memset(workspace, 0xff, used);
                                 touch(a, a_rows, a_columns, lda, 2, false, "cublasGemmEx factor A");
                                 touch(b, b_rows, b_columns, ldb, 2, false, "cublasGemmEx factor B");
                                 if (g.beta != 0.0f)
                                     touch(c, m, n, ldc, 4, false, "cublasGemmEx result");
                                 touch(c, m, n, ldc, 4, true, "cublasGemmEx result");
                                 run(g);
                             },
                             nullptr, nullptr, nullptr});
    return CUBLAS_STATUS_SUCCESS;
}
