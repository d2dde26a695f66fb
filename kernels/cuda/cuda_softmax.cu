/* cuda_softmax.cu - the parts of a soft-max's denominator
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * A warp for each chunk, a lane for each of its columns. The lanes add up by the same butterfly in every
 * chunk, so its bits hang on its logits alone. Differences from the largest logit and their exponentials are
 * floats: the sum is off by some 2^-22 of itself, as much as the logits are. */
#include "kernels/cuda/cuda_launch.h"
#include "kernels/cuda/gpu.cuh"

enum { THREADS = 256, WARPS = THREADS / 32 };

static __device__ __forceinline__ float most_of_warp(float x)
{
    for (int o = 16; o > 0; o >>= 1) {
        float other = __shfl_xor_sync(GPU_WARP, x, o);

        if (other > x)
            x = other;
    }
    return x;
}

/* chunk [rows, count], logit [rows] */
static __global__ __launch_bounds__(THREADS) void chunks(struct matrix logits, const int32_t *column,
                                                         int count, struct softmax_chunk *chunk, float *logit)
{
    int c = (int)blockIdx.x * WARPS + (int)threadIdx.x / 32, at = c * SOFTMAX_CHUNK + lane_id();
    const float *row = logits.data + (size_t)blockIdx.y * logits.stride;

    if (blockIdx.x == 0 && threadIdx.x == 0)
        logit[blockIdx.y] = column[blockIdx.y] < 0 ? 0.0f : row[column[blockIdx.y]];
    if (c >= count) /* a whole warp; there is no barrier of the block */
        return;
    float x = at < logits.columns ? row[at] : -INFINITY;
    float most = most_of_warp(x == x ? x : -INFINITY);
    float sum = x != x ? x : most > -INFINITY ? expf(x - most) : 0.0f;

    for (int o = 16; o > 0; o >>= 1)
        sum += __shfl_xor_sync(GPU_WARP, sum, o);
    if (lane_id() == 0)
        chunk[(size_t)blockIdx.y * count + c] = {(double)most, (double)sum};
}

cudaError_t cuda_softmax_load(void)
{
    return gpu_load(chunks);
}

cudaError_t cuda_softmax_chunks(struct matrix logits, const int32_t *column, struct softmax_chunk *chunk,
                                float *logit, cudaStream_t s)
{
    int count = softmax_chunk_count(logits.columns);
    dim3 grid((unsigned)(count + WARPS - 1) / WARPS, (unsigned)logits.rows);

    if (logits.rows == 0 || count == 0)
        return cudaSuccess;
    return GPU_LAUNCH(chunks, grid, THREADS, 0, s, logits, column, count, chunk, logit);
}
