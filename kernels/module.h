/* module.h - a backend that is a file of its own, opened when the program runs
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * So one program starts on machines with and without the libraries of a device. */
#ifndef MODULE_H
#define MODULE_H

#include "kernels/kernels.h"

/* One of the devices that a process sees. */
struct module_device {
    char bus[16];   /* on PCI: "0000:1b:00.0" */
    char name[48];  /* "NVIDIA H100 80GB HBM3" */
    int capability; /* 90: compute capability 9.0 */
    size_t memory;  /* bytes, all of it */
    uint64_t peers; /* bit i: it reaches the memory of device i */
};

enum { MODULE_DEVICES = 64, MODULE_LEAST_CAPABILITY = 80 };

struct module_devices {
    int count;
    struct module_device device[MODULE_DEVICES];
};

/* What this process sees, as CUDA_VISIBLE_DEVICES and the launcher leave it; no device is taken. `file` as
 * below. STATUS_UNAVAILABLE says why there is none. */
enum status module_list_cuda(const char *file, struct module_devices *out);

/* What a backend is asked to be. */
struct module_request {
    int device;    /* of those that are visible */
    size_t memory; /* bytes of it to take at once, before extend is asked for more; 0: every piece is an
                      allocation of its own */
    bool exact;    /* no library that picks its order of sums by the shape of a product */
};

/* The cuda backend out of `file`; NULL: switchyard-cuda.so beside the program or where it is installed.
 * STATUS_UNAVAILABLE says why there is none: no driver, no module, no device, ... The table's close leaves
 * the module loaded. It has open_exchange where the build found NCCL. */
enum status module_open_cuda(const char *file, const struct module_request *request, struct kernels **out);

#endif
