/* cuda.h - the backend for NVIDIA devices, as the module switchyard-cuda.so exports it
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * One device for each rank. Rows and sums are float, weights bf16 (two planes of it for sources of more
 * bits), keys and values bf16. */
#ifndef CUDA_H
#define CUDA_H

#include "kernels/module.h"

/* The devices that this process sees. STATUS_UNAVAILABLE says why there is none. */
enum status cuda_list(struct module_devices *out);

/* The table on the device that is asked for. STATUS_UNAVAILABLE says why there is none. */
enum status cuda_open(const struct module_request *request, struct kernels **out);

#endif
