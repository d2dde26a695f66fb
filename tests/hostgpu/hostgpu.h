/* hostgpu.h - the CUDA language of kernels/cuda on a processor: what gpu.cuh is for nvcc, this is for g++
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Test-only. Every CUDA thread is a fibre; a barrier or a warp primitive changes to another one. Each wrapper
 * of gpu.cuh has its twin here, with the checks that a device does not make. */
#ifndef HOSTGPU_H
#define HOSTGPU_H

#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <math.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <functional>
#include <type_traits>
#include <utility>

#undef __global__
#undef __device__
#undef __host__
#undef __shared__
#undef __constant__
#undef __launch_bounds__
#undef __forceinline__
#define __global__
#define __device__
#define __host__
#define __shared__ write_SHARED_VAR_instead_of___shared__
#define __launch_bounds__(...)
#define __forceinline__ inline

struct hostgpu_thread;
extern "C" {
int hostgpu_barrier(int predicate, const char *site);
void hostgpu_warp_sync(unsigned mask, const char *site);
/* All lanes of the mask meet; each brings `bytes` bytes and takes those of lane `source`. */
void hostgpu_warp_shuffle(unsigned mask, void *value, int bytes, int source, int kind, const char *site);
/* ... and takes those of all lanes, [32, bytes]. */
void hostgpu_warp_gather(unsigned mask, const void *value, int bytes, void *all, int kind, const char *site);
void *hostgpu_shared(const void *key, size_t bytes, const char *name);
void *hostgpu_shared_dynamic(void);
void hostgpu_yield(void);
void hostgpu_copy_issue(void *to, const void *from);
void hostgpu_copy_commit(void);
void hostgpu_copy_wait(int newest, void (*move)(void *, const void *));
void hostgpu_fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
cudaError_t hostgpu_launch(dim3 grid, dim3 block, size_t shared, cudaStream_t stream, const char *name,
                           const void *code, std::function<void()> body);
cudaError_t hostgpu_load(const void *code);
}
#include "runtime.h"
extern hostgpu_thread *hostgpu_self; /* a plain variable: one thread at a time drives the device */

#define threadIdx (hostgpu_self->tid)
#define blockIdx (hostgpu_self->bid)
#define blockDim (hostgpu_self->bdim)
#define gridDim (hostgpu_self->gdim)

/* Where in the source, so that barriers and primitives that do not belong together are seen. */
#define HOSTGPU_TEXT2(x) #x
#define HOSTGPU_TEXT(x) HOSTGPU_TEXT2(x)
#define HOSTGPU_SITE                                                                                         \
    ({                                                                                                       \
        static const char site_[] = __FILE__ ":" HOSTGPU_TEXT(__LINE__);                                     \
        site_;                                                                                               \
    })

template <class T> using gpu_type = T;
#define SHARED_VAR(name, ...)                                                                                \
    static const char name##_key = 0;                                                                        \
    gpu_type<__VA_ARGS__> &name = *reinterpret_cast<gpu_type<__VA_ARGS__> *>(                                \
        hostgpu_shared(&name##_key, sizeof(gpu_type<__VA_ARGS__>), #name))
#define SHARED_DYN(T, name) T *const name = reinterpret_cast<T *>(hostgpu_shared_dynamic())

#define __syncthreads() ((void)hostgpu_barrier(0, HOSTGPU_SITE))
#define __syncthreads_or(p) (hostgpu_barrier(!!(p), HOSTGPU_SITE) != 0)
#define __syncwarp() hostgpu_warp_sync(0xffffffffu, HOSTGPU_SITE)

enum hostgpu_kind {
    HOSTGPU_SHFL = 1,
    HOSTGPU_XOR,
    HOSTGPU_UP,
    HOSTGPU_DOWN,
    HOSTGPU_BALLOT,
    HOSTGPU_LDMATRIX,
    HOSTGPU_MMA
};

static inline int lane_id(void)
{
    return (int)((threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % 32);
}

/* Values pass through memory that no sanitizer looks at. */
template <class T>
static inline T hostgpu_shuffle(unsigned mask, T value, int source, int kind, const char *site)
{
    static_assert(sizeof(T) <= 16, "an operand of at most 16 bytes");
    hostgpu_warp_shuffle(mask, &value, sizeof(T), source, kind, site);
    return value;
}

static inline int hostgpu_up(int offset)
{
    return lane_id() >= offset ? lane_id() - offset : lane_id();
}

static inline int hostgpu_down(int offset)
{
    return lane_id() + offset < 32 ? lane_id() + offset : lane_id();
}

#define __shfl_sync(mask, v, source) hostgpu_shuffle(mask, v, (source)&31, HOSTGPU_SHFL, HOSTGPU_SITE)
#define __shfl_xor_sync(mask, v, o) hostgpu_shuffle(mask, v, lane_id() ^ (o), HOSTGPU_XOR, HOSTGPU_SITE)
#define __shfl_up_sync(mask, v, o) hostgpu_shuffle(mask, v, hostgpu_up(o), HOSTGPU_UP, HOSTGPU_SITE)
#define __shfl_down_sync(mask, v, o) hostgpu_shuffle(mask, v, hostgpu_down(o), HOSTGPU_DOWN, HOSTGPU_SITE)

static inline unsigned hostgpu_ballot(unsigned mask, int predicate, const char *site)
{
    char mine = (char)!!predicate;
    char all[32] = {};
    unsigned result = 0;

    hostgpu_warp_gather(mask, &mine, 1, all, HOSTGPU_BALLOT, site);
    for (int i = 0; i < 32; i++)
        if ((mask >> i & 1) && all[i])
            result |= 1u << i;
    return result;
}
#define __ballot_sync(mask, p) hostgpu_ballot(mask, p, HOSTGPU_SITE)
#define __any_sync(mask, p) (hostgpu_ballot(mask, p, HOSTGPU_SITE) != 0)

static inline float __uint_as_float(uint32_t bits)
{
    float value;

    memcpy(&value, &bits, sizeof value);
    return value;
}
static inline int __popc(unsigned x)
{
    return __builtin_popcount(x);
}
static inline int __ffs(int x)
{
    return __builtin_ffs(x);
}
template <class T> static inline T min(T a, T b)
{
    return a < b ? a : b;
}
template <class T> static inline T max(T a, T b)
{
    return a > b ? a : b;
}
#ifndef __CUDACC__
static inline float rsqrtf(float x)
{
    return 1.0f / sqrtf(x);
}
#endif

static inline int atomicAdd(int *p, int v)
{
    return __atomic_fetch_add(p, v, __ATOMIC_RELAXED);
}
static inline void __nanosleep(unsigned nanoseconds)
{
    (void)nanoseconds;
    hostgpu_yield();
}

/* -- the twins of gpu.cuh's inline PTX ---------------------------------------------------------------------
 */

static inline void hostgpu_aligned(const void *p, unsigned n, const char *what)
{
    if ((uintptr_t)p % n)
        hostgpu_fail("%s: %p is not aligned to %u", what, p, n);
}

static inline uint4 ld_stream16(const void *p)
{
    hostgpu_aligned(p, 16, "ld.global.v4");
    return *(const uint4 *)p;
}

/* Flags between devices. A part of the kernel ends when all that its threads do is to ask for them. */
static inline uint32_t ld_acquire_sys(const uint32_t *p)
{
    hostgpu_aligned(p, 4, "ld.acquire");
    return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static inline void st_release_sys(uint32_t *p, uint32_t v)
{
    hostgpu_aligned(p, 4, "st.release");
    __atomic_store_n(p, v, __ATOMIC_RELEASE);
}

static inline uint64_t device_nanoseconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Where memory of a window lies at rank `peer` of the domain. */
void *hostgpu_lsa_pointer(const void *window, size_t offset, int peer);
#define lsa_pointer(window, offset, peer) hostgpu_lsa_pointer(window, offset, peer)

static inline void hostgpu_copy16(void *to, const void *from)
{
    *(uint4 *)to = *(const uint4 *)from;
}

/* Between issue and wait the destination is NaN. */
static inline void cp_async16(void *shared, const void *global)
{
    hostgpu_aligned(shared, 16, "cp.async");
    hostgpu_aligned(global, 16, "cp.async");
    *(uint4 *)shared = make_uint4(~0u, ~0u, ~0u, ~0u);
    hostgpu_copy_issue(shared, global);
}

static inline void cp_async_commit(void)
{
    hostgpu_copy_commit();
}

template <int N> static inline void cp_async_wait(void)
{
    hostgpu_copy_wait(N, hostgpu_copy16);
}

/* Eight rows of 16 bytes for each of `count` 8 x 8 matrices: lane 8 i + r names row r of matrix i; lane l
 * receives the l % 4-th pair of row l / 4 (PTX ISA 9.7.14.5.15). */
static inline void hostgpu_ldmatrix(uint32_t *out, const void *row, int count)
{
    uint64_t address = (uint64_t)(uintptr_t)row;
    uint64_t rows[32];
    int lane = lane_id();

    hostgpu_aligned(row, 16, "ldmatrix");
    hostgpu_warp_gather(0xffffffffu, &address, 8, rows, HOSTGPU_LDMATRIX, HOSTGPU_SITE);
    for (int i = 0; i < count; i++)
        out[i] = *(const uint32_t *)((const char *)(uintptr_t)rows[i * 8 + lane / 4] + lane % 4 * 4);
}

static inline void ldmatrix_x4(uint32_t out[4], const void *row)
{
    hostgpu_ldmatrix(out, row, 4);
}

static inline void ldmatrix_x2(uint32_t out[2], const void *row)
{
    hostgpu_ldmatrix(out, row, 2);
}

static inline float hostgpu_half_of(uint32_t pair, int high)
{
    uint32_t bits = high ? pair & 0xffff0000u : pair << 16;
    float value;

    memcpy(&value, &bits, sizeof value);
    return value;
}

/* d[16, 8] += a[16, 16] b[16, 8], bf16 factors, sums in fp32 in rising k (a device's order is its own). The
 * fragments are those of the PTX ISA: a: register (row >= 8) + 2 (k >= 8), lane 4 (row % 8) + k % 8 / 2;
 * b: register k >= 8, lane 4 column + k % 8 / 2; d: rows lane / 4 and + 8, columns 2 (lane % 4) and + 1. */
static inline void mma_bf16_16816(float d[4], const uint32_t a[4], const uint32_t b[2])
{
    struct fragment {
        uint32_t a[4], b[2];
    } mine, all[32];
    int lane = lane_id();

    memcpy(mine.a, a, sizeof mine.a);
    memcpy(mine.b, b, sizeof mine.b);
    hostgpu_warp_gather(0xffffffffu, &mine, sizeof mine, all, HOSTGPU_MMA, HOSTGPU_SITE);
    for (int i = 0; i < 4; i++) {
        int row = lane / 4 + i / 2 * 8;
        int column = lane % 4 * 2 + i % 2;
        float sum = d[i];

        for (int k = 0; k < 16; k++) {
            const fragment &left = all[row % 8 * 4 + k % 8 / 2];
            const fragment &right = all[column * 4 + k % 8 / 2];

            sum += hostgpu_half_of(left.a[(row >= 8) + 2 * (k >= 8)], k & 1) *
                   hostgpu_half_of(right.b[k >= 8], k & 1);
        }
        d[i] = sum;
    }
}

/* GPU_LAUNCH(kernel, grid, block, shared bytes, stream, arguments...) */
template <class... P, class... A>
static inline cudaError_t gpu_launch(const char *name, void (*kernel)(P...), dim3 grid, dim3 block,
                                     size_t shared, cudaStream_t stream, A... arguments)
{
    return hostgpu_launch(grid, block, shared, stream, name, reinterpret_cast<const void *>(kernel),
                          [=] { kernel(static_cast<P>(arguments)...); });
}
#define GPU_LAUNCH(kernel, ...) gpu_launch(#kernel, kernel, __VA_ARGS__)

template <class... K> static inline cudaError_t gpu_load(K *...kernel)
{
    cudaError_t error = cudaSuccess;

    (void)(... && ((error = hostgpu_load(reinterpret_cast<const void *>(kernel))) == cudaSuccess));
    return error;
}

#endif
