/* device.cpp - the emulated device as the CUDA interface describes it
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "runtime.h"

#include <stdio.h>
#include <string.h>

extern "C" cudaError_t cudaGetDeviceCount(int *count)
{
    *count = 8; /* as on the machines that the engine is made for: a rank takes the device of its number */
    return cudaSuccess;
}

static int chosen;

extern "C" cudaError_t cudaSetDevice(int device)
{
    if (device < 0 || device >= 8)
        return cudaErrorInvalidDevice;
    chosen = device;
    return cudaSuccess;
}

extern "C" cudaError_t cudaGetDevice(int *device)
{
    *device = chosen;
    return cudaSuccess;
}

extern "C" cudaError_t cudaDriverGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

extern "C" cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

extern "C" cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device)
{
    (void)device;
    switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor:
        *value = 9;
        return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
        *value = 0;
        return cudaSuccess;
    case cudaDevAttrMultiProcessorCount:
        *value = 132;
        return cudaSuccess;
    default:
        hostgpu_fail("cudaDeviceGetAttribute of attribute %d, which the emulation does not know",
                     (int)attribute);
    }
}

extern "C" cudaError_t cudaDeviceGetPCIBusId(char *text, int bytes, int device)
{
    snprintf(text, (size_t)bytes, "0000:%02X:00.0", device + 1);
    return cudaSuccess;
}

extern "C" cudaError_t cudaGetLastError(void)
{
    return cudaSuccess;
}

extern "C" const char *cudaGetErrorString(cudaError_t error)
{
    switch (error) {
    case cudaSuccess:
        return "no error";
    case cudaErrorInvalidConfiguration:
        return "invalid configuration argument";
    case cudaErrorMemoryAllocation:
        return "out of memory";
    case cudaErrorInvalidDevice:
        return "invalid device ordinal";
    case cudaErrorNotReady:
        return "device not ready";
    default:
        return "error of the emulated device";
    }
}
