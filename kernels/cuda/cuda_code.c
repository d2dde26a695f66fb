/* cuda_code.c - the code of all kernels goes to the device before any is launched
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/cuda_code.h"

#include "kernels/cuda/cuda_launch.h"

static cudaError_t (*const LOADS[])(void) = {
    cuda_attend_load,   cuda_choose_load, cuda_deal_load, cuda_draft_load,   cuda_lsa_load,
    cuda_multiply_load, cuda_planes_load, cuda_rows_load, cuda_softmax_load, cuda_sum_load};

enum status cuda_code_load(int device)
{
    cudaError_t error = cudaSuccess;

    for (size_t i = 0; error == cudaSuccess && i < sizeof LOADS / sizeof LOADS[0]; i++)
        error = LOADS[i]();
    if (error == cudaSuccess)
        return STATUS_OK;
    return FAIL(error == cudaErrorMemoryAllocation ? STATUS_NO_MEMORY : STATUS_UNAVAILABLE,
                "the kernels' code for GPU %d: %s; build with -Dcuda-arch for its compute capability", device,
                cudaGetErrorString(error));
}
