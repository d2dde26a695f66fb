/* cuda_context.c - how much of a device the driver's context of this process takes
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/cuda_context.h"

#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <stdint.h>
#include <string.h>

enum { BUS_BYTES = 32 };

/* nvml.h's: it comes with the driver and not with every toolkit. */
struct memory {
    unsigned long long total, left, used;
};

struct calls {
    int (*init)(void);
    int (*shutdown)(void);
    int (*device)(const char *bus, void **device);
    int (*memory)(void *device, struct memory *memory);
};

static bool find(void *library, const char *name, void *call)
{
    void *entry = dlsym(library, name);

    memcpy(call, &entry, sizeof entry);
    return entry != NULL;
}

static bool find_all(void *library, struct calls *c)
{
    return find(library, "nvmlInit_v2", &c->init) && find(library, "nvmlShutdown", &c->shutdown) &&
           find(library, "nvmlDeviceGetHandleByPciBusId_v2", &c->device) &&
           find(library, "nvmlDeviceGetMemoryInfo", &c->memory);
}

/* Bytes of the device that anybody uses. */
static bool ask(const struct calls *c, const char *bus, size_t *used)
{
    struct memory memory;
    void *device;
    bool known;

    if (c->init() != 0)
        return false;
    known = c->device(bus, &device) == 0 && c->memory(device, &memory) == 0;
    c->shutdown();
    if (known)
        *used = (size_t)memory.used;
    return known;
}

bool cuda_context_look(int number, size_t *used)
{
    void *library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    char bus[BUS_BYTES];
    struct calls calls;
    bool known;

    if (!library)
        return false;
    known = find_all(library, &calls) && cudaDeviceGetPCIBusId(bus, sizeof bus, number) == cudaSuccess &&
            ask(&calls, bus, used);
    dlclose(library);
    return known;
}
