/* module.c - a backend that is a file of its own, opened when the program runs
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels/module.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Where the module lies, seen from the folder of the program: in the build folder, beside it, installed. */
static const char *const PLACES[] = {"kernels/cuda/switchyard-cuda.so", "switchyard-cuda.so",
                                     "../" SWITCHYARD_LIBDIR "/switchyard/switchyard-cuda.so"};

/* Loading the libraries of a device only to hear that there is none takes seconds. */
static bool has_driver(void)
{
    return access("/dev/nvidiactl", F_OK) == 0 || access("/proc/driver/nvidia/version", F_OK) == 0;
}

static enum status find_module(char *path, size_t bytes)
{
    char program[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    char *slash;

    if (length > 0) {
        program[length] = '\0';
        slash = strrchr(program, '/');
        *slash = '\0';
        for (size_t i = 0; i < sizeof PLACES / sizeof PLACES[0]; i++) {
            int needed = snprintf(path, bytes, "%s/%s", program, PLACES[i]);

            if (needed > 0 && (size_t)needed < bytes && access(path, R_OK) == 0)
                return STATUS_OK;
        }
    }
    return FAIL(STATUS_UNAVAILABLE, "switchyard-cuda.so is not there: this build has no CUDA backend");
}

/* A function of the module, which stays loaded. */
static enum status find_entry(const char *file, const char *name, void **module, void **entry)
{
    char path[PATH_MAX];

    if (!file) {
        if (!has_driver())
            return FAIL(STATUS_UNAVAILABLE, "no NVIDIA driver is loaded");
        TRY(find_module(path, sizeof path));
        file = path;
    }
    *module = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    if (!*module)
        return FAIL(STATUS_UNAVAILABLE, "%s", dlerror());
    *entry = dlsym(*module, name);
    if (!*entry)
        return FAIL(STATUS_UNAVAILABLE, "%s has no %s: it is no module of this program", file, name);
    return STATUS_OK;
}

/* POSIX promises what C does not: a function fits into a void pointer. */

enum status module_list_cuda(const char *file, struct module_devices *out)
{
    enum status (*list)(struct module_devices * out);
    void *module, *entry;

    TRY(find_entry(file, "cuda_list", &module, &entry));
    memcpy(&list, &entry, sizeof list);
    return list(out);
}

enum status module_open_cuda(const char *file, const struct module_request *request, struct kernels **out)
{
    enum status (*open)(const struct module_request *request, struct kernels **out);
    struct kernels *k;
    void *module, *entry;

    TRY(find_entry(file, "cuda_open", &module, &entry));
    memcpy(&open, &entry, sizeof open);
    TRY(open(request, &k));
    entry = dlsym(module, "comm_nccl_open"); /* NULL: built without */
    memcpy(&k->open_exchange, &entry, sizeof entry);
    entry = dlsym(module, "comm_nccl_open_nodes");
    memcpy(&k->open_nodes, &entry, sizeof entry);
    entry = dlsym(module, "comm_nccl_lsa_open"); /* likewise, or by an NCCL that has no windows */
    memcpy(&k->open_stores, &entry, sizeof entry);
    entry = dlsym(module, "comm_nccl_mover_open");
    memcpy(&k->open_mover, &entry, sizeof entry);
    *out = k;
    return STATUS_OK;
}
