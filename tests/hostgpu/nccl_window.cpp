/* nccl_window.cpp - windows of emulated devices that other processes store into: NCCL's LSA pointers
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * ncclMemAlloc takes a file of shared memory. Registering maps those of all ranks into one range of
 * addresses, 4 GiB from rank to rank, as NCCL lays them out; the window's own structure says where.
 * HOSTGPU_LSA: how many consecutive ranks make a domain; all of them when it is not set. 0: none can, and
 * then a window is NULL, which is no failure, and a device communicator is refused. */
#include "hostgpu.h"
#include "nccl_work.h"

#include <nccl_device.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <map>

enum { GRANULE = 2 << 20 };
static const size_t STRIDE = (size_t)1 << 32;

struct held {
    std::lock_guard<std::recursive_mutex> guard;
    held() : guard(hostgpu_lock())
    {
    }
};

struct memory {
    size_t bytes;
    std::string name;
};

static std::map<void *, memory> &memories(void)
{
    static auto *all = new std::map<void *, memory>;
    return *all;
}

static int domain_size(const ncclComm *c)
{
    const char *text = getenv("HOSTGPU_LSA");
    int size = text ? atoi(text) : c->size;

    return size < c->size ? size : c->size;
}

extern "C" ncclResult_t ncclMemAlloc(void **out, size_t bytes)
{
    held lock;
    ncclUniqueId id; /* a number of the process would come again, and find what a killed one left */
    cudaError_t error;

    if (ncclGetUniqueId(&id) != ncclSuccess)
        return ncclSystemError;
    memory m = {(bytes + GRANULE - 1) / GRANULE * GRANULE, id.internal};
    int file = shm_open(m.name.c_str(), O_RDWR | O_CREAT | O_EXCL, 0600);
    if (file < 0 || ftruncate(file, (off_t)m.bytes) != 0)
        return ncclSystemError;
    error = hostgpu_memory_share(out, m.bytes, file);
    close(file);
    if (error != cudaSuccess) {
        shm_unlink(m.name.c_str());
        return ncclUnhandledCudaError;
    }
    memories()[*out] = m;
    return ncclSuccess;
}

extern "C" ncclResult_t ncclMemFree(void *p)
{
    held lock;
    auto found = memories().find(p);

    if (found == memories().end())
        hostgpu_fail("ncclMemFree of %p, which is not of ncclMemAlloc", p);
    shm_unlink(found->second.name.c_str()); /* there only where it was never registered */
    memories().erase(found);
    return cudaFree(p) == cudaSuccess ? ncclSuccess : ncclUnhandledCudaError;
}

/* All have told their files: they are mapped one behind the other. */
static ncclResult_t map_all(ncclComm *c, ncclWindow_t window, size_t bytes)
{
    int domain = domain_size(c), first = c->rank / domain * domain;

    for (int r = 0; r < c->size; r++)
        if (c->shared->window[r].round.load(std::memory_order_acquire) < c->windows)
            return ncclInProgress;
    for (int r = 0; r < domain; r++) {
        const auto &other = c->shared->window[first + r];
        int file = shm_open(other.name, O_RDWR, 0600);

        if (other.bytes != bytes)
            hostgpu_fail("nccl: a window of %zu bytes here, of %llu on rank %d", bytes,
                         (unsigned long long)other.bytes, first + r);
        void *there = mmap(window->lsaFlatBase + (size_t)r * STRIDE, bytes, PROT_READ | PROT_WRITE,
                           MAP_SHARED | MAP_FIXED, file, 0);
        close(file);
        if (there == MAP_FAILED)
            return ncclSystemError;
    }
    if (++c->shared->mapped == c->size)
        for (int r = 0; r < c->size; r++)
            shm_unlink(c->shared->window[r].name); /* so that nothing is left when a rank is killed */
    return ncclSuccess;
}

extern "C" ncclResult_t ncclCommWindowRegister(ncclComm_t c, void *p, size_t bytes, ncclWindow_t *out,
                                               int flags)
{
    held lock;
    auto found = memories().find(p);
    auto &mine = c->shared->window[c->rank];

    if (found == memories().end() || bytes > found->second.bytes || flags != NCCL_WIN_COLL_SYMMETRIC)
        hostgpu_fail(
            "nccl: a window of %zu bytes at %p with flags %d, which is not memory of ncclMemAlloc or "
            "not symmetric",
            bytes, p, flags);
    *out = nullptr;
    if (domain_size(c) == 0) {
        nccl_work_follow(c, "ncclCommWindowRegister", [] { return ncclSuccess; });
        return ncclInProgress;
    }
    if (c->windows != 0)
        hostgpu_fail("nccl: a second window of %s is not emulated", c->name.c_str());
    void *base = mmap(nullptr, STRIDE * (size_t)domain_size(c), PROT_NONE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED)
        return ncclSystemError;
    auto window = new ncclWindow_vidmem{};
    window->lsaFlatBase = (char *)base;
    window->lsaRank = c->rank % domain_size(c);
    window->worldRank = c->rank;
    window->stride4G = 1;
    c->windows = 1;
    mine.bytes = bytes;
    snprintf(mine.name, NAME, "%s", found->second.name.c_str());
    mine.round.store(1, std::memory_order_release);
    nccl_work_follow(c, "ncclCommWindowRegister", [=] {
        ncclResult_t result = map_all(c, window, bytes);

        if (result == ncclSuccess)
            *out = window;
        return result;
    });
    return ncclInProgress;
}

extern "C" ncclResult_t ncclCommWindowDeregister(ncclComm_t c, ncclWindow_t window)
{
    held lock;

    if (c->under_way || c->windows == 0)
        hostgpu_fail("nccl: ncclCommWindowDeregister of a window that is not registered");
    cudaDeviceSynchronize();
    munmap(window->lsaFlatBase, STRIDE * (size_t)domain_size(c));
    delete window;
    c->windows = 0;
    return ncclSuccess;
}

void *hostgpu_lsa_pointer(const void *window, size_t offset, int peer)
{
    auto w = (const ncclWindow_vidmem *)window;

    return w->lsaFlatBase + (size_t)peer * ((size_t)w->stride4G << 32) + offset;
}

extern "C" ncclResult_t ncclDevCommCreate(ncclComm_t c, ncclDevCommRequirements_t const *wants,
                                          ncclDevComm_t *out)
{
    held lock;

    (void)wants;
    if (domain_size(c) == 0) {
        c->error = "communicator does not support symmetric memory";
        return ncclInvalidUsage;
    }
    nccl_work_follow(c, "ncclDevCommCreate", [=] {
        out->rank = c->rank;
        out->nRanks = c->size;
        out->lsaSize = domain_size(c);
        out->lsaRank = c->rank % out->lsaSize;
        return ncclSuccess;
    });
    return ncclInProgress;
}

extern "C" ncclResult_t ncclDevCommDestroy(ncclComm_t c, ncclDevComm_t const *device)
{
    (void)c, (void)device;
    return ncclSuccess;
}
