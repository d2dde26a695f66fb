/* cuda_code.h - the code of all kernels goes to the device before any is launched
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * CUDA loads a kernel's code with its first launch, for which it may wait for all that the device does, take
 * memory, and find that it has none for this device. Here that comes first: before a step is recorded, before
 * kernels wait for other ranks, and before what the cache may take is settled. */
#ifndef CUDA_CODE_H
#define CUDA_CODE_H

#include "engine/base/status.h"

/* On the present device, whose number is for messages. STATUS_UNAVAILABLE: the module has no code for it. */
enum status cuda_code_load(int device);

#endif
