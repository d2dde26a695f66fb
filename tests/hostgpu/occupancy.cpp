/* occupancy.cpp - how many blocks of a kernel a multiprocessor holds, by NVIDIA's own rules
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Pure arithmetic of cuda_occupancy.h; no device, no library. Each line of the input is
 *     CAPABILITY REGISTERS THREADS STATIC DYNAMIC BARRIERS
 * with shared memory in bytes, and is answered by the blocks, the threads that a multiprocessor could hold,
 * and what limits the blocks, as a word. For scripts/gpu_table. */
#include <cuda_occupancy.h>

#include <stdio.h>
#include <string.h>

/* From the tables of compute capabilities in the CUDA programming guide. */
struct device {
    const char *name;
    int major, minor, processors, shared, shared_of_block;
};

static const device devices[] = {
    {"80", 8, 0, 108, 164 << 10, 163 << 10},
    {"90", 9, 0, 132, 228 << 10, 227 << 10},
    {"100", 10, 0, 148, 228 << 10, 227 << 10},
};

enum { THREADS = 2048, REGISTERS = 65536, SHARED_DEFAULT = 48 << 10, SHARED_RESERVED = 1 << 10 };

static const device *find(const char *name)
{
    for (const device &d : devices)
        if (!strcmp(d.name, name))
            return &d;
    return nullptr;
}

static const char *limit(unsigned factors)
{
    return factors & OCC_LIMIT_REGISTERS       ? "registers"
           : factors & OCC_LIMIT_SHARED_MEMORY ? "shared"
           : factors & OCC_LIMIT_WARPS         ? "threads"
           : factors & OCC_LIMIT_BLOCKS        ? "blocks"
                                               : "barriers";
}

static bool answer(const device &d, int registers, int threads, size_t fixed, size_t dynamic, int barriers)
{
    cudaOccDeviceProp properties = cudaOccDeviceProp();
    cudaOccFuncAttributes kernel = cudaOccFuncAttributes();
    cudaOccDeviceState state = cudaOccDeviceState();
    cudaOccResult result;

    properties.computeMajor = d.major;
    properties.computeMinor = d.minor;
    properties.maxThreadsPerBlock = 1024;
    properties.maxThreadsPerMultiprocessor = THREADS;
    properties.regsPerBlock = REGISTERS;
    properties.regsPerMultiprocessor = REGISTERS;
    properties.warpSize = 32;
    properties.sharedMemPerBlock = SHARED_DEFAULT;
    properties.sharedMemPerMultiprocessor = (size_t)d.shared;
    properties.numSms = d.processors;
    properties.sharedMemPerBlockOptin = (size_t)d.shared_of_block;
    properties.reservedSharedMemPerBlock = SHARED_RESERVED;
    kernel.maxThreadsPerBlock = 1024;
    kernel.numRegs = registers;
    kernel.sharedSizeBytes = fixed;
    kernel.partitionedGCConfig = PARTITIONED_GC_OFF;
    kernel.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN;
    kernel.maxDynamicSharedSizeBytes = (size_t)d.shared_of_block - fixed;
    kernel.numBlockBarriers = barriers;
    state.cacheConfig = CACHE_PREFER_NONE;
    state.carveoutConfig = SHAREDMEM_CARVEOUT_MAX_SHARED;
    if (cudaOccMaxActiveBlocksPerMultiprocessor(&result, &properties, &kernel, &state, threads, dynamic) !=
        CUDA_OCC_SUCCESS)
        return false;
    printf("%d %d %s\n", result.activeBlocksPerMultiprocessor, THREADS, limit(result.limitingFactors));
    return true;
}

int main(void)
{
    char name[8];
    int registers, threads, barriers;
    size_t fixed, dynamic;

    while (scanf("%7s %d %d %zu %zu %d", name, &registers, &threads, &fixed, &dynamic, &barriers) == 6) {
        const device *d = find(name);

        if (!d || !answer(*d, registers, threads, fixed, dynamic, barriers)) {
            fprintf(stderr, "occupancy: capability %s with %d registers and %d threads is refused\n", name,
                    registers, threads);
            return 1;
        }
    }
    return 0;
}
