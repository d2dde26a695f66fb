/* memory.cpp - allocations of the emulated device and of pinned host memory, and copies between them
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Every allocation begins as NaN, ends against a page that faults, and its addresses are never used again. */
#include "runtime.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <map>

enum { PAGE = 4096, DEVICE_ALIGN = 256, LARGE = 4 << 20 };

/* Of the device, all of it: HOSTGPU_MEMORY. */
size_t hostgpu_memory_bytes(void)
{
    const char *text = getenv("HOSTGPU_MEMORY");
    static const size_t bytes = text ? strtoull(text, nullptr, 0) : (size_t)8 << 30;

    return bytes;
}

struct allocation {
    size_t bytes;
    bool device;
    void *base;
    size_t mapped;
};

static std::map<uintptr_t, allocation> &allocations(void)
{
    static auto *all = new std::map<uintptr_t, allocation>;
    return *all;
}

static size_t device_used, device_most, device_calls, device_held, pinned_used, pinned_most;

static void tell_most(void)
{
    fprintf(stderr,
            "hostgpu: %zu bytes of the device at most, in %zu allocations, %zu held by libraries, "
            "%zu of the host pinned\n",
            device_most, device_calls, device_held, pinned_most);
}

static void count(size_t bytes)
{
    static const bool told = getenv("HOSTGPU_PEAK") && atexit(tell_most) == 0;

    (void)told;
    device_used += bytes;
    if (device_used > device_most)
        device_most = device_used;
    if (pinned_used > pinned_most)
        pinned_most = pinned_used;
}

static size_t round_up(size_t bytes, size_t unit)
{
    return (bytes + unit - 1) / unit * unit;
}

static cudaError_t allocate(void **out, size_t bytes, bool device)
{
    std::lock_guard<std::recursive_mutex> held(hostgpu_lock());
    size_t body = round_up(bytes ? bytes : 1, DEVICE_ALIGN);
    size_t mapped = round_up(body, PAGE) + 2 * (size_t)PAGE;

    hostgpu_device_check("an allocation");
    if (cudaError_t error = hostgpu_capture_forbids())
        return error;
    if (device && device_used + body > hostgpu_memory_bytes())
        return cudaErrorMemoryAllocation;
    char *base = (char *)mmap(nullptr, mapped, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED)
        return cudaErrorMemoryAllocation;
    if (mapped >= LARGE)
        madvise(base, mapped, MADV_HUGEPAGE); /* poisoning it would take a fault for each page */
    mprotect(base, PAGE, PROT_NONE);
    mprotect(base + mapped - PAGE, PAGE, PROT_NONE);
    char *user = base + mapped - PAGE - body;
    hostgpu_poison(user, body);
    allocations()[(uintptr_t)user] = {bytes, device, base, mapped};
    pinned_used += device ? 0 : bytes;
    device_calls += device;
    count(device ? body : 0);
    hostgpu_race_memory(user, bytes, false);
    *out = user;
    return cudaSuccess;
}

cudaError_t hostgpu_memory_hold(size_t bytes)
{
    std::lock_guard<std::recursive_mutex> held(hostgpu_lock());

    if (device_used + bytes > hostgpu_memory_bytes())
        return cudaErrorMemoryAllocation;
    device_held += bytes;
    count(bytes);
    return cudaSuccess;
}

void hostgpu_memory_let_go(size_t bytes)
{
    std::lock_guard<std::recursive_mutex> held(hostgpu_lock());

    device_used -= bytes;
}

cudaError_t hostgpu_memory_share(void **out, size_t bytes, int file)
{
    std::lock_guard<std::recursive_mutex> held(hostgpu_lock());
    size_t mapped = bytes + 2 * (size_t)PAGE;

    if (cudaError_t error = hostgpu_capture_forbids())
        return error;
    if (device_used + bytes > hostgpu_memory_bytes())
        return cudaErrorMemoryAllocation;
    char *base = (char *)mmap(nullptr, mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED ||
        mmap(base + PAGE, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0) == MAP_FAILED)
        return cudaErrorMemoryAllocation;
    hostgpu_poison(base + PAGE, bytes);
    allocations()[(uintptr_t)base + PAGE] = {bytes, true, base, mapped};
    device_held += bytes;
    count(bytes);
    hostgpu_race_memory(base + PAGE, bytes, false);
    *out = base + PAGE;
    return cudaSuccess;
}

static cudaError_t give_back(void *p, bool device)
{
    if (!p)
        return cudaSuccess;
    std::lock_guard<std::recursive_mutex> held(hostgpu_lock());
    if (cudaError_t error = hostgpu_capture_forbids())
        return error;
    auto found = allocations().find((uintptr_t)p);
    if (found == allocations().end() || found->second.device != device)
        hostgpu_fail("%p is freed, which is no such allocation", p);
    if (!hostgpu_idle())
        hostgpu_fail("%s memory of %zu bytes is freed while the device works: it may be what is read or "
                     "written, and nothing says that this call waits",
                     device ? "device" : "pinned", found->second.bytes);
    allocation a = found->second;

    for (size_t i = a.bytes; i < round_up(a.bytes, DEVICE_ALIGN); i++)
        if (((unsigned char *)p)[i] != 0xff)
            hostgpu_fail("bytes past the end of an allocation of %zu bytes were written", a.bytes);
    hostgpu_race_memory(p, 0, false);
    device_used -= device ? round_up(a.bytes ? a.bytes : 1, DEVICE_ALIGN) : 0;
    pinned_used -= device ? 0 : a.bytes;
    mprotect(a.base, a.mapped, PROT_NONE);
    madvise(a.base, a.mapped, MADV_DONTNEED);
    allocations().erase(found);
    return cudaSuccess;
}

/* The allocation that holds p; *start is where it begins. */
static const allocation *find(const void *p, uintptr_t *start)
{
    auto next = allocations().upper_bound((uintptr_t)p);

    if (next == allocations().begin())
        return nullptr;
    --next;
    *start = next->first;
    return (uintptr_t)p < next->first + next->second.bytes ? &next->second : nullptr;
}

void hostgpu_memory_check(const void *p, size_t bytes, bool device, const char *what)
{
    uintptr_t start;

    if (bytes == 0)
        return;
    const allocation *a = find(p, &start);
    if (!a)
        hostgpu_fail("%s: %p is not memory of the device, nor pinned", what, p);
    if (a->device != device)
        hostgpu_fail("%s: %p is %s memory, the call says %s", what, p, a->device ? "device" : "host",
                     device ? "device" : "host");
    if ((uintptr_t)p + bytes > start + a->bytes)
        hostgpu_fail("%s: %zu bytes at %p run past the end of the allocation", what, bytes, p);
}

bool hostgpu_memory_is_device(const void *p, size_t bytes)
{
    uintptr_t start;
    const allocation *a = find(p, &start);

    return a && a->device && (uintptr_t)p + bytes <= start + a->bytes;
}

bool hostgpu_memory_find(const void *p, uintptr_t *start, uintptr_t *end)
{
    const allocation *a = find(p, start);

    if (!a)
        return false;
    *end = *start + a->bytes;
    return true;
}

extern "C" cudaError_t cudaMalloc(void **out, size_t bytes)
{
    return allocate(out, bytes, true);
}

extern "C" cudaError_t cudaFree(void *p)
{
    return give_back(p, true);
}

extern "C" cudaError_t cudaMallocHost(void **out, size_t bytes)
{
    return allocate(out, bytes, false);
}

extern "C" cudaError_t cudaFreeHost(void *p)
{
    return give_back(p, false);
}

extern "C" cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total)
{
    const char *foreign = getenv("HOSTGPU_FOREIGN");     /* what others have taken */
    const char *context = getenv("HOSTGPU_CONTEXT_NOW"); /* and the driver for this process */

    *free_bytes = hostgpu_memory_bytes() - device_used - (foreign ? strtoull(foreign, nullptr, 0) : 0) -
                  (context ? strtoull(context, nullptr, 0) : 0);
    *total = hostgpu_memory_bytes();
    return cudaSuccess;
}

extern "C" cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
                                       cudaStream_t stream)
{
    if (bytes == 0)
        return cudaSuccess;
    if (kind != cudaMemcpyHostToDevice && kind != cudaMemcpyDeviceToHost && kind != cudaMemcpyDeviceToDevice)
        hostgpu_fail("cudaMemcpyAsync of kind %d", (int)kind);
    {
        std::lock_guard<std::recursive_mutex> held(hostgpu_lock());

        hostgpu_memory_check(to, bytes, kind != cudaMemcpyDeviceToHost, "cudaMemcpyAsync destination");
        hostgpu_memory_check(from, bytes, kind != cudaMemcpyHostToDevice, "cudaMemcpyAsync source");
        if (kind == cudaMemcpyDeviceToHost && hostgpu_capture_of(stream))
            hostgpu_fail("cudaMemcpyAsync: a copy to the host in a capture is not emulated");
        if (kind == cudaMemcpyDeviceToHost)
            hostgpu_poison(to, bytes); /* the host must not read it before it has waited */
    }
    hostgpu_push(stream, {"memcpy",
                          [=] {
                              hostgpu_touch(from, bytes, false);
                              hostgpu_touch(to, bytes, true);
                              memmove(to, from, bytes);
                          },
                          nullptr, nullptr, nullptr});
    return cudaSuccess;
}

extern "C" cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t stream)
{
    if (bytes == 0)
        return cudaSuccess;
    {
        std::lock_guard<std::recursive_mutex> held(hostgpu_lock());

        hostgpu_memory_check(p, bytes, true, "cudaMemsetAsync");
    }
    hostgpu_push(stream, {"memset",
                          [=] {
                              hostgpu_touch(p, bytes, true);
                              memset(p, value, bytes);
                          },
                          nullptr, nullptr, nullptr});
    return cudaSuccess;
}
