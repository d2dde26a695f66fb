/* cuda_list.c - the devices that this process sees, without taking one
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/cuda.h"

#include "kernels/cuda/cuda_device.h"

#include <stdio.h>

static enum status describe(struct module_device *out, int number, int count)
{
    struct cudaDeviceProp properties;

    CUDA_TRY(cudaGetDeviceProperties(&properties, number));
    CUDA_TRY(cudaDeviceGetPCIBusId(out->bus, sizeof out->bus, number));
    snprintf(out->name, sizeof out->name, "%.47s", properties.name);
    out->memory = properties.totalGlobalMem;
    out->capability = 10 * properties.major + properties.minor;
    out->peers = 0;
    for (int other = 0; other < count; other++) {
        int reaches = 0;

        if (other != number)
            CUDA_TRY(cudaDeviceCanAccessPeer(&reaches, number, other));
        if (reaches)
            out->peers |= UINT64_C(1) << other;
    }
    return STATUS_OK;
}

enum status cuda_list(struct module_devices *out)
{
    int count = 0;

    TRY(cuda_device_count(&count));
    if (count > MODULE_DEVICES)
        count = MODULE_DEVICES;
    for (int number = 0; number < count; number++)
        TRY(describe(&out->device[number], number, count));
    out->count = count;
    return STATUS_OK;
}
