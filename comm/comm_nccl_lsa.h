/* comm_nccl_lsa.h - exchanges of equal sizes by stores into the memory of the other ranks' devices
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * For ranks whose devices reach each other over NVLink (NCCL calls it LSA: load-store accessible). Each has a
 * window of NCCL; kernels/cuda/cuda_lsa.cu stores rows into the windows of the others and waits for theirs.
 * Exchanges of unequal sizes, of more than the window has room for, or between aside and back, and all other
 * calls go by NCCL as before; one on the backend's own stream while one beside has not ended is STATUS_BUG.
 * Part of the module where NCCL has windows. It has run on emulated devices, never on a real one. */
#ifndef COMM_NCCL_LSA_H
#define COMM_NCCL_LSA_H

#include "comm/comm.h"
#include "kernels/kernels.h"

/* As kernels->open_stores says; `rows` was opened by comm_nccl_open. */
enum status comm_nccl_lsa_open(struct kernels *k, struct comm *rows, size_t most, struct comm **out);

#endif
