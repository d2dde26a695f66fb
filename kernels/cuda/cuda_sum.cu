/* cuda_sum.cu - checksums of memory, as kernels/checksum.h defines them
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels/checksum.h"
#include "kernels/cuda/cuda_launch.h"
#include "kernels/cuda/gpu.cuh"

enum { THREADS = 256, WARPS = THREADS / 32 };

static __device__ __forceinline__ uint64_t warp_total(uint64_t v)
{
    for (int o = 16; o > 0; o >>= 1)
        v += __shfl_xor_sync(GPU_WARP, v, o);
    return v;
}

/* words [count], the first of which stands at byte `at` of something. Blocks share them, and each adds what
 * it has to a part of its own, so that no two write one number. */
static __global__ __launch_bounds__(THREADS) void sum_words(uint64_t *parts, const uint32_t *words,
                                                            size_t count, size_t at)
{
    SHARED_VAR(of_warp, uint64_t[WARPS]);
    size_t first = (size_t)blockIdx.x * THREADS + threadIdx.x, step = (size_t)CUDA_SUM_PARTS * THREADS;
    uint64_t sum = 0;

#pragma unroll 4
    for (size_t i = first; i < count; i += step)
        sum += CHECKSUM_WORD(words[i], at + i * sizeof *words);
    sum = warp_total(sum);
    if (lane_id() == 0)
        of_warp[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int w = 1; w < WARPS; w++)
            sum += of_warp[w];
        parts[blockIdx.x] += sum;
    }
}

cudaError_t cuda_sum_load(void)
{
    return gpu_load(sum_words);
}

cudaError_t cuda_sum_words(uint64_t *parts, const void *data, size_t bytes, size_t at, cudaStream_t s)
{
    if (((uintptr_t)data | bytes | at) % sizeof(uint32_t) != 0)
        return cudaErrorMisalignedAddress;
    if (bytes == 0)
        return cudaSuccess;
    return GPU_LAUNCH(sum_words, CUDA_SUM_PARTS, THREADS, 0, s, parts, static_cast<const uint32_t *>(data),
                      bytes / sizeof(uint32_t), at);
}
