/* gpu.cuh - the subset of CUDA that the kernels are written in, one wrapper for each instruction
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * The only header of a device language that kernels/cuda/ *.cu include. Inline PTX, shared memory and
 * launches stand here and nowhere else, so that the same kernels can be executed by the emulation in
 * tests/hostgpu, which is included before and gives every wrapper its twin (-DHOSTGPU). A new wrapper comes
 * with its twin. */
#ifndef GPU_CUH
#define GPU_CUH

#ifndef HOSTGPU
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <math.h>
#include <stdint.h>

template <class T> using gpu_type = T;

/* Aligned for 16-byte accesses whatever the element is: a plain array of bf16 would be aligned to 2. */
#define SHARED_VAR(name, ...) __shared__ __align__(16) gpu_type<__VA_ARGS__> name
#define SHARED_DYN(T, name)                                                                                  \
    extern __shared__ __align__(16) unsigned char gpu_dynamic_[];                                            \
    T *const name = reinterpret_cast<T *>(gpu_dynamic_)

/* GPU_LAUNCH(kernel, grid, block, shared bytes, stream, arguments...) */
template <class... P, class... A>
static inline cudaError_t gpu_launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared,
                                     cudaStream_t stream, A... arguments)
{
    cudaLaunchConfig_t config = {};

    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared;
    config.stream = stream;
    return cudaLaunchKernelEx(&config, kernel, static_cast<P>(arguments)...);
}
#define GPU_LAUNCH(kernel, ...) gpu_launch(kernel, __VA_ARGS__)

/* The kernels' code goes to the device now, and not with the first launch of each, which may have to wait for
 * all that runs there. */
template <class... K> static inline cudaError_t gpu_load(K *...kernel)
{
    cudaError_t error = cudaSuccess;
    cudaFuncAttributes attributes;

    (void)(... && ((error = cudaFuncGetAttributes(&attributes, kernel)) == cudaSuccess));
    return error;
}

static __device__ __forceinline__ int lane_id(void)
{
    uint32_t lane;

    asm volatile("mov.u32 %0, %%laneid;" : "=r"(lane));
    return (int)lane;
}

/* 16 bytes that are read once: they need not stay in the first cache. */
static __device__ __forceinline__ uint4 ld_stream16(const void *p)
{
    uint4 v;

    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(p));
    return v;
}

static __device__ __forceinline__ void cp_async16(void *shared, const void *global)
{
    uint32_t s = (uint32_t)__cvta_generic_to_shared(shared);

    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(s), "l"(global) : "memory");
}

static __device__ __forceinline__ void cp_async_commit(void)
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/* All but the N newest groups of this thread have arrived. */
template <int N> static __device__ __forceinline__ void cp_async_wait(void)
{
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

/* A flag that another device raises: whoever reads it as raised also reads what was written before. */
static __device__ __forceinline__ uint32_t ld_acquire_sys(const uint32_t *p)
{
    uint32_t v;

    asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
    return v;
}

/* Raises such a flag: for all that this thread has written, and its block before a barrier. */
static __device__ __forceinline__ void st_release_sys(uint32_t *p, uint32_t v)
{
    asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(p), "r"(v) : "memory");
}

/* Nanoseconds since some moment, the same one in all of a kernel. */
static __device__ __forceinline__ uint64_t device_nanoseconds(void)
{
    uint64_t now;

    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
    return now;
}

#ifdef GPU_LSA
#include <nccl_device.h>

/* Where memory of a window lies at rank `peer` of the domain. */
static __device__ __forceinline__ void *lsa_pointer(ncclWindow_t window, size_t offset, int peer)
{
    return ncclGetLsaPointer(window, offset, peer);
}
#endif

static __device__ __forceinline__ void ldmatrix_x4(uint32_t r[4], const void *row)
{
    uint32_t s = (uint32_t)__cvta_generic_to_shared(row);

    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(s)
                 : "memory");
}

static __device__ __forceinline__ void ldmatrix_x2(uint32_t r[2], const void *row)
{
    uint32_t s = (uint32_t)__cvta_generic_to_shared(row);

    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(s)
                 : "memory");
}

/* d[16, 8] += a[16, 16] b[16, 8] over the lanes of a warp. */
static __device__ __forceinline__ void mma_bf16_16816(float d[4], const uint32_t a[4], const uint32_t b[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#endif

#define GPU_WARP 0xffffffffu

/* An E4M3 code as bf16, exactly: sign, four bits of exponent (bias 7), three of mantissa. NaN codes do not
 * come this far. */
static __device__ __forceinline__ uint16_t bf16_of_e4m3(uint32_t code)
{
    uint32_t sign = (code & 0x80u) << 8, rest = code & 0x7fu;

    if (rest >= 8)
        return (uint16_t)(sign | ((rest << 4) + ((127 - 7) << 7)));
    return (uint16_t)(sign | __bfloat16_as_ushort(__float2bfloat16((float)rest * 0x1p-9f)));
}

static __device__ __forceinline__ float warp_sum(float v)
{
    for (int o = 16; o > 0; o >>= 1)
        v += __shfl_xor_sync(GPU_WARP, v, o);
    return v;
}

static __device__ __forceinline__ float warp_max(float v)
{
    for (int o = 16; o > 0; o >>= 1)
        v = fmaxf(v, __shfl_xor_sync(GPU_WARP, v, o));
    return v;
}

#endif
