/* nvml.c - NVML's stand-in: how much of the emulated device anybody uses, with a context or without
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * A library of its own that is found by the name of the real one. What the program itself takes is left out:
 * it is asked before that alone. */
#include <stdlib.h>

int nvmlInit_v2(void);
int nvmlShutdown(void);
int nvmlDeviceGetHandleByPciBusId_v2(const char *bus, void **device);
int nvmlDeviceGetMemoryInfo(void *device, unsigned long long *memory);

static unsigned long long number(const char *name)
{
    const char *text = getenv(name);

    return text ? strtoull(text, NULL, 0) : 0;
}

int nvmlInit_v2(void)
{
    return 0;
}

int nvmlShutdown(void)
{
    return 0;
}

int nvmlDeviceGetHandleByPciBusId_v2(const char *bus, void **device)
{
    static int it;

    *device = &it;
    return bus[0] == '\0';
}

/* total, free, used */
int nvmlDeviceGetMemoryInfo(void *device, unsigned long long *memory)
{
    (void)device;
    memory[0] = number("HOSTGPU_MEMORY");
    memory[2] = number("HOSTGPU_FOREIGN") + number("HOSTGPU_CONTEXT_NOW");
    memory[1] = memory[0] - memory[2];
    return 0;
}
