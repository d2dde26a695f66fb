/* cuda_planes.cu - rows as two planes of bf16, for products that a library makes, and results put in their
 * places
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/cuda_launch.h"
#include "kernels/cuda/gpu.cuh"

enum { THREADS = 128 };

/* A block for each row: x = high + low, to 2^-16 of it, as in cuda_multiply.cu. */
static __global__ __launch_bounds__(THREADS) void split(struct cuda_planes to, const float *x, int stride,
                                                        const int32_t *order)
{
    size_t row = order ? order[blockIdx.x] : blockIdx.x;
    const float *from = x + row * stride;
    uint16_t *high = to.data + (size_t)blockIdx.x * to.stride;

    for (int i = threadIdx.x; i < to.columns; i += THREADS) {
        __nv_bfloat16 most = __float2bfloat16(from[i]);

        high[i] = __bfloat16_as_ushort(most);
        high[to.plane + i] = __bfloat16_as_ushort(__float2bfloat16(from[i] - __bfloat162float(most)));
    }
}

/* A block for each row: out = the row of numbers. */
static __global__ __launch_bounds__(THREADS) void fill(float *out, int stride, int columns,
                                                       const float *numbers)
{
    float *to = out + (size_t)blockIdx.x * stride;

    for (int i = threadIdx.x; i < columns; i += THREADS)
        to[i] = numbers[i];
}

/* A block for each row of x. */
static __global__ __launch_bounds__(THREADS) void scatter(float *out, int out_stride, const float *x,
                                                          int stride, int columns, const int32_t *order)
{
    const float *from = x + (size_t)blockIdx.x * stride;
    float *to = out + (size_t)order[blockIdx.x] * out_stride;

    for (int i = threadIdx.x; i < columns; i += THREADS)
        to[i] = from[i];
}

cudaError_t cuda_planes_load(void)
{
    return gpu_load(split, fill, scatter);
}

cudaError_t cuda_planes_split(struct cuda_planes out, struct matrix x, const int32_t *order, cudaStream_t s)
{
    if (out.rows == 0)
        return cudaSuccess;
    return GPU_LAUNCH(split, out.rows, THREADS, 0, s, out, x.data, x.stride, order);
}

cudaError_t cuda_planes_fill(struct matrix out, const float *numbers, cudaStream_t s)
{
    if (out.rows == 0)
        return cudaSuccess;
    return GPU_LAUNCH(fill, out.rows, THREADS, 0, s, out.data, out.stride, out.columns, numbers);
}

cudaError_t cuda_planes_scatter(struct matrix out, struct matrix x, const int32_t *order, cudaStream_t s)
{
    if (x.rows == 0)
        return cudaSuccess;
    return GPU_LAUNCH(scatter, x.rows, THREADS, 0, s, out.data, out.stride, x.data, x.stride, x.columns,
                      order);
}
