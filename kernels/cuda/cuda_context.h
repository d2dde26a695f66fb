/* cuda_context.h - how much of a device the driver's context of this process takes
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * CUDA tells what is free on a device only to a process that has its context there, and so never without it.
 * NVML, which comes with the driver, tells before and after. */
#ifndef CUDA_CONTEXT_H
#define CUDA_CONTEXT_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes of device `number` that anybody uses, whether this process has a context there or not. False: NVML is
 * not there or does not say. */
bool cuda_context_look(int number, size_t *used);

#endif
