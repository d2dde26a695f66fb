/* device.cpp - the emulated device as the CUDA interface describes it
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "runtime.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <set>
#include <string>

enum { MOST = 64 };

/* The machine, from the environment of the test: HOSTGPU_DRIVER (0: none is loaded), HOSTGPU_READY (0: nobody
 * has set up what joins the devices), HOSTGPU_DEVICES, HOSTGPU_PEERS (0: none reaches another); and lists by
 * device, whose last value is good for the rest: HOSTGPU_CAPABILITY (90) and HOSTGPU_BUS.
 * CUDA_VISIBLE_DEVICES hides and orders them by number. */
struct machine {
    int driver;
    int count;          /* visible */
    int physical[MOST]; /* of each visible one */
    bool peers;
};

static int number(const char *name, int otherwise)
{
    const char *text = getenv(name);

    return text ? atoi(text) : otherwise;
}

/* Value `index` of a list with commas, or its last. */
static std::string listed(const char *name, int index, const std::string &otherwise)
{
    const char *text = getenv(name);
    std::string rest = text ? text : "";

    if (rest.empty())
        return otherwise;
    for (size_t comma; index > 0 && (comma = rest.find(',')) != std::string::npos; index--)
        rest = rest.substr(comma + 1);
    return rest.substr(0, rest.find(','));
}

static machine look(void)
{
    machine m = {number("HOSTGPU_DRIVER", CUDART_VERSION), 0, {}, number("HOSTGPU_PEERS", 1) != 0};
    int all = number("HOSTGPU_DEVICES", 8); /* as on the machines that the engine is made for */
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");

    if (!visible) {
        for (m.count = 0; m.count < all && m.count < MOST; m.count++)
            m.physical[m.count] = m.count;
        return m;
    }
    for (std::string rest = visible; !rest.empty() && m.count < MOST;) {
        char *end;
        long device = strtol(rest.c_str(), &end, 10);
        size_t comma = rest.find(',');

        if (end == rest.c_str() || (*end && *end != ',') || device < 0 || device >= all)
            break; /* as CUDA does: what comes behind is hidden too */
        m.physical[m.count++] = (int)device;
        rest = comma == std::string::npos ? "" : rest.substr(comma + 1);
    }
    return m;
}

static const machine &here(void)
{
    static const machine m = look();
    return m;
}

static int capability(int device)
{
    return atoi(listed("HOSTGPU_CAPABILITY", here().physical[device], "90").c_str());
}

static bool valid(int device)
{
    return here().driver != 0 && device >= 0 && device < here().count;
}

extern "C" cudaError_t cudaGetDeviceCount(int *count)
{
    if (here().driver < CUDART_VERSION)
        return cudaErrorInsufficientDriver; /* *count is left as it was */
    if (number("HOSTGPU_READY", 1) == 0)
        return cudaErrorSystemNotReady; /* likewise */
    *count = here().count;
    return here().count > 0 ? cudaSuccess : cudaErrorNoDevice;
}

/* A thread that has not chosen a device has the first one, and a context there too. */
static thread_local int chosen;
static thread_local bool has_chosen;
static bool somebody_has;

void hostgpu_device_check(const char *call)
{
    if (somebody_has && !has_chosen)
        hostgpu_fail("%s by a thread that has not called cudaSetDevice: it would be on device 0", call);
}

extern "C" cudaError_t cudaSetDevice(int device)
{
    if (!valid(device))
        return cudaErrorInvalidDevice;
    chosen = device;
    has_chosen = somebody_has = true;
    if (const char *context = getenv("HOSTGPU_CONTEXT"))
        setenv("HOSTGPU_CONTEXT_NOW", context, 1); /* nvml.c looks there too */
    return cudaSuccess;
}

extern "C" cudaError_t cudaGetDevice(int *device)
{
    *device = chosen;
    return cudaSuccess;
}

extern "C" cudaError_t cudaDriverGetVersion(int *version)
{
    if (number("CUDA_DEVICE_MAX_CONNECTIONS", 8) <= 8)
        hostgpu_fail(
            "streams of the program and of its libraries would share a queue to the device, and wait "
            "for each other: CUDA_DEVICE_MAX_CONNECTIONS");
    *version = here().driver;
    return cudaSuccess;
}

extern "C" cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

extern "C" cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device)
{
    if (!valid(device))
        return cudaErrorInvalidDevice;
    switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor:
        *value = capability(device) / 10;
        return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
        *value = capability(device) % 10;
        return cudaSuccess;
    case cudaDevAttrMultiProcessorCount:
        *value = 132;
        return cudaSuccess;
    default:
        hostgpu_fail("cudaDeviceGetAttribute of attribute %d, which the emulation does not know",
                     (int)attribute);
    }
}

extern "C" cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *out, int device)
{
    if (!valid(device))
        return cudaErrorInvalidDevice;
    memset(out, 0, sizeof *out);
    snprintf(out->name, sizeof out->name, "emulated device %d", here().physical[device]);
    out->major = capability(device) / 10;
    out->minor = capability(device) % 10;
    out->totalGlobalMem = hostgpu_memory_bytes();
    out->multiProcessorCount = 132;
    return cudaSuccess;
}

extern "C" cudaError_t cudaDeviceCanAccessPeer(int *reaches, int device, int peer)
{
    if (!valid(device) || !valid(peer))
        return cudaErrorInvalidDevice;
    *reaches = here().peers && device != peer;
    return cudaSuccess;
}

extern "C" cudaError_t cudaDeviceGetPCIBusId(char *text, int bytes, int device)
{
    char bus[16];

    if (!valid(device))
        return cudaErrorInvalidDevice;
    snprintf(bus, sizeof bus, "0000:%02X:00.0", here().physical[device] + 1);
    snprintf(text, (size_t)bytes, "%s", listed("HOSTGPU_BUS", here().physical[device], bus).c_str());
    return cudaSuccess;
}

static std::set<const void *> &codes(void)
{
    static auto *all = new std::set<const void *>;
    return *all;
}

/* HOSTGPU_NO_CODE: the module was built for other devices. */
extern "C" cudaError_t hostgpu_load(const void *code)
{
    std::lock_guard<std::recursive_mutex> held(hostgpu_lock());

    if (cudaError_t error = hostgpu_capture_forbids())
        return error;
    if (getenv("HOSTGPU_NO_CODE"))
        return cudaErrorNoKernelImageForDevice;
    codes().insert(code);
    return cudaSuccess;
}

bool hostgpu_loaded(const void *code)
{
    std::lock_guard<std::recursive_mutex> held(hostgpu_lock());

    return codes().count(code) > 0;
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
    case cudaErrorNoDevice:
        return "no CUDA-capable device is detected";
    case cudaErrorNoKernelImageForDevice:
        return "no kernel image is available for execution on the device";
    case cudaErrorSystemNotReady:
        return "system not yet initialized";
    case cudaErrorInsufficientDriver:
        return "CUDA driver version is insufficient for CUDA runtime version";
    case cudaErrorNotReady:
        return "device not ready";
    case cudaErrorStreamCaptureUnsupported:
        return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated:
        return "operation failed due to a previous error during capture";
    case cudaErrorStreamCaptureUnjoined:
        return "capturing stream has unjoined work";
    case cudaErrorStreamCaptureIsolation:
        return "dependency created on uncaptured work in another stream";
    case cudaErrorCapturedEvent:
        return "operation not permitted on an event last recorded in a capturing stream";
    default:
        return "error of the emulated device";
    }
}
