/* cuda_lsa_domain.cu - which ranks of a communicator reach each other's memory, and where
 *
 * SPDX-License-Identifier: Apache-2.0 */
#define GPU_LSA
#include "kernels/cuda/cuda_lsa_domain.h"
#include "kernels/cuda/gpu.cuh"

#include <nccl_device.h>
#include <new>

enum { THREADS = 128 };

struct cuda_lsa_domain {
    ncclDevComm device;
};

extern "C" ncclResult_t cuda_lsa_domain_open(ncclComm_t comm, struct cuda_lsa_domain **out)
{
#ifdef NCCL_DEV_COMM_REQUIREMENTS_INITIALIZER
    ncclDevCommRequirements wants = NCCL_DEV_COMM_REQUIREMENTS_INITIALIZER;
#else
    ncclDevCommRequirements wants = {};
#endif

    *out = new (std::nothrow) cuda_lsa_domain();
    if (!*out)
        return ncclSystemError;
    return ncclDevCommCreate(comm, &wants, &(*out)->device);
}

extern "C" int cuda_lsa_domain_size(const struct cuda_lsa_domain *domain)
{
    return domain->device.lsaSize;
}

extern "C" void cuda_lsa_domain_close(ncclComm_t comm, struct cuda_lsa_domain *domain)
{
    if (domain && comm)
        ncclDevCommDestroy(comm, &domain->device);
    delete domain;
}

/* A thread for each rank. */
static __global__ __launch_bounds__(THREADS) void lsa_reach(ncclWindow_t window, char **reached, int ranks)
{
    for (int r = (int)threadIdx.x; r < ranks; r += (int)blockDim.x)
        reached[r] = static_cast<char *>(lsa_pointer(window, 0, r));
}

extern "C" cudaError_t cuda_lsa_domain_reach(ncclWindow_t window, char **reached, int ranks, cudaStream_t s)
{
    cudaError_t error = gpu_load(lsa_reach);

    if (error != cudaSuccess)
        return error;
    return GPU_LAUNCH(lsa_reach, 1, THREADS, 0, s, window, reached, ranks);
}
