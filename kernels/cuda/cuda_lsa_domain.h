/* cuda_lsa_domain.h - which ranks of a communicator reach each other's memory, and where
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * What only C++ can ask NCCL for. Part of the module where NCCL has its device interface (2.28 or newer). */
#ifndef CUDA_LSA_DOMAIN_H
#define CUDA_LSA_DOMAIN_H

#include <cuda_runtime_api.h>
#include <nccl.h>

#ifdef __cplusplus
extern "C" {
#endif

struct cuda_lsa_domain;

/* Collective over the communicator. What *out says is known when the communicator is no longer in progress.
 */
ncclResult_t cuda_lsa_domain_open(ncclComm_t comm, struct cuda_lsa_domain **out);

/* Ranks of the domain that this rank belongs to: one for loads and stores over NVLink. */
int cuda_lsa_domain_size(const struct cuda_lsa_domain *domain);

/* Takes NULL; `comm` NULL: it is gone, and what it had for the domain with it. */
void cuda_lsa_domain_close(ncclComm_t comm, struct cuda_lsa_domain *domain);

/* reached [ranks], memory of the device: where the window of each rank of the domain lies for this one. */
cudaError_t cuda_lsa_domain_reach(ncclWindow_t window, char **reached, int ranks, cudaStream_t s);

#ifdef __cplusplus
}
#endif

#endif
