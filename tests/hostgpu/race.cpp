/* race.cpp - a race detector by CUDA's ordering rules, over objects compiled with -fsanitize=thread
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * The compiler puts a call beside every access; the functions it calls are these, the compiler's own runtime
 * is not linked. Of every two bytes the last write and two reads are remembered. Accesses are ordered of one
 * block: by __syncthreads, of one warp also by __syncwarp; of two blocks of one kernel: never; of two
 * operations, or an operation and the host: by streams, events and waiting, as a vector clock says; and by a
 * flag: what its writer did before it released the flag, with its block before a barrier, is before what its
 * reader does after it acquired it, its block after a barrier, its stream in later operations, and whatever
 * waits for that stream by an event. Two that
 * are not ordered, one of them a write, not both atomic, are a race, whatever order was run. */
#include "race.h"
#include "runtime.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <map>

/* LOCAL_BYTES above the stack pointer are variables of the function that accesses them: an allocation has a
 * page that faults in front of it. */
enum { EXIT_RACE = 66, GRAIN = 2, WARP = 32, READERS = 2, LOCAL_BYTES = 4096 };

/* Operations of a stream after which what was acquired of one is known by the stream's clock to all who ask.
 */
enum { KNOWN_OPERATIONS = 256 };

struct visit {
    const char *what; /* NULL: there was none */
    const void *from; /* the instruction */
    uint32_t operation, block;
    uint16_t thread, barrier, warp;
    uint8_t stream; /* 0: the host */
    bool atomic;
};

struct cell {
    struct visit write, read[READERS];
};

struct range {
    uintptr_t start;
    size_t bytes;
    bool shared;
    struct cell *cells; /* zeroed pages that cost nothing until they are touched */
    bool touched;       /* some are */
    struct visit whole; /* wrote all of it before: for cells that nothing has written since */
};

static std::mutex &lock(void)
{
    static auto *mutex = new std::mutex; /* never destroyed: the device thread may outlive main */
    return *mutex;
}

static std::map<uintptr_t, range> &ranges(void)
{
    static auto *all = new std::map<uintptr_t, range>;
    return *all;
}

static range *latest;

static range *find(uintptr_t at)
{
    if (latest && at - latest->start < latest->bytes)
        return latest;
    auto next = ranges().upper_bound(at);
    if (next == ranges().begin())
        return nullptr;
    --next;
    if (at - next->first >= next->second.bytes)
        return nullptr;
    latest = &next->second;
    return latest;
}

static size_t cells_bytes(size_t bytes)
{
    return (bytes + GRAIN - 1) / GRAIN * sizeof(cell);
}

void hostgpu_race_memory(void *p, size_t bytes, bool shared)
{
    std::lock_guard<std::mutex> held(lock());
    uintptr_t start = (uintptr_t)p;
    auto old = ranges().find(start);

    latest = nullptr;
    if (old != ranges().end()) {
        munmap(old->second.cells, cells_bytes(old->second.bytes));
        ranges().erase(old);
    }
    if (bytes == 0)
        return;
    void *cells = mmap(nullptr, cells_bytes(bytes), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (cells == MAP_FAILED)
        hostgpu_fail("no memory to watch %zu bytes for races", bytes);
    ranges()[start] = {start, bytes, shared, (struct cell *)cells, false, {}};
}

/* -- flags --- */

/* The last that was released at a place: by whom, and what it had seen of other operations. */
struct release {
    visit by;
    hostgpu_clock seen;
};

static std::map<uintptr_t, release> &releases(void)
{
    static auto *all = new std::map<uintptr_t, release>;
    return *all;
}

/* Who has acquired, and of whom; for each pair of streams and each block that released. */
struct acquired {
    visit by, of;
};

static std::map<std::pair<uint8_t, std::pair<uint8_t, uint32_t>>, std::vector<acquired>> &acquisitions(void)
{
    static auto *all = new std::map<std::pair<uint8_t, std::pair<uint8_t, uint32_t>>, std::vector<acquired>>;
    return *all;
}

/* In one block: is what `a` does before what `b` does, by the barriers of the block? */
static bool before_in_block(const visit &a, const visit &b)
{
    return a.thread == b.thread || a.barrier < b.barrier;
}

/* Did `before` come before a release that `stream` acquired before `now`? */
static bool ordered_by_flag_of(size_t stream, const visit &before, const visit &now,
                               const hostgpu_clock *seen)
{
    auto found = acquisitions().find({(uint8_t)stream, {before.stream, before.block}});

    if (found == acquisitions().end())
        return false;
    for (const acquired &a : found->second) {
        bool there = before.operation == a.of.operation && before_in_block(before, a.of);
        bool here = stream != now.stream ? (*seen)[stream] >= a.by.operation
                                         : now.operation > a.by.operation ||
                                               (now.operation == a.by.operation && now.block == a.by.block &&
                                                before_in_block(a.by, now));

        if (there && here)
            return true;
    }
    return false;
}

static bool ordered_by_flag(const visit &before, const visit &now, const hostgpu_clock *seen)
{
    if (ordered_by_flag_of(now.stream, before, now, seen))
        return true;
    for (size_t stream = 1; seen && stream < seen->size(); stream++)
        if (stream != now.stream && ordered_by_flag_of(stream, before, now, seen))
            return true;
    return false;
}

static void note_release(const void *p, const visit &now, const hostgpu_clock *seen)
{
    release r = {now, *seen};

    r.seen[now.stream] = now.operation - 1; /* of its own operation only this thread's part is known */
    releases()[(uintptr_t)p] = r;
}

/* What the releasing stream had done before counts from now on for all of this stream; what its operation
 * did, as the barriers say. */
static void note_acquisition(const void *p, const visit &now, hostgpu_clock *seen)
{
    auto found = releases().find((uintptr_t)p);

    if (found == releases().end())
        return;
    const release &r = found->second;
    if (seen->size() < r.seen.size())
        seen->resize(r.seen.size());
    for (size_t i = 0; i < r.seen.size(); i++)
        (*seen)[i] = std::max((*seen)[i], r.seen[i]);
    auto &known = acquisitions()[{now.stream, {r.by.stream, r.by.block}}];
    known.erase(
        std::remove_if(known.begin(), known.end(),
                       [&](const acquired &a) { return a.of.operation + KNOWN_OPERATIONS < r.by.operation; }),
        known.end());
    for (const acquired &a : known)
        if (a.by.operation == now.operation && a.by.block == now.block && a.by.thread == now.thread &&
            a.of.operation == r.by.operation)
            return;
    known.push_back({now, r.by});
}

/* Did `before` happen before what runs here now? */
static bool ordered(const visit &before, const visit &now, const hostgpu_clock *seen)
{
    if (!before.what)
        return true;
    if (before.stream == 0 && now.stream == 0)
        return true;
    if (before.stream == now.stream && before.operation == now.operation) {
        if (before.block != now.block)
            return false;
        if (before.thread == now.thread || before.barrier < now.barrier)
            return true;
        return before.thread / WARP == now.thread / WARP && before.warp < now.warp;
    }
    return (seen && before.stream < seen->size() && (*seen)[before.stream] >= before.operation) ||
           ordered_by_flag(before, now, seen);
}

static void describe(const visit &a)
{
    Dl_info where;
    bool known = dladdr(a.from, &where) != 0;
    uintptr_t at = (uintptr_t)a.from - (known ? (uintptr_t)where.dli_fbase : 0);

    if (a.stream == 0)
        fprintf(stderr, "the host");
    else if (a.block == ~0u)
        fprintf(stderr, "%s (stream %d operation %u)", a.what, a.stream - 1, a.operation);
    else
        fprintf(stderr, "%s (stream %d operation %u block %u thread %u)", a.what, a.stream - 1, a.operation,
                a.block, a.thread);
    fprintf(stderr, " at %#lx", (unsigned long)at); /* as addr2line takes it */
}

static void report(const range *r, size_t byte, const char *how, const visit &now, const visit &before)
{
    fprintf(stderr, "hostgpu race: %s, byte %zu of %zu of %s memory: ", how, byte, r->bytes,
            r->shared ? "shared" : "global");
    describe(now);
    fprintf(stderr, ", not ordered after ");
    describe(before);
    fprintf(stderr, "\n");
    fflush(stderr);
    _exit(EXIT_RACE);
}

static void check_cell(const range *r, size_t i, bool write, const visit &now, const hostgpu_clock *seen)
{
    cell &c = r->cells[i];
    const visit &last = c.write.what ? c.write : r->whole;

    if (!(now.atomic && last.atomic) && !ordered(last, now, seen))
        report(r, i * GRAIN, write ? "write after write" : "read after write", now, last);
    if (!write) {
        /* The first that is not ordered stays, and the newest. */
        c.read[ordered(c.read[0], now, seen) ? 0 : 1] = now;
        return;
    }
    for (visit &read : c.read) {
        if (!(now.atomic && read.atomic) && !ordered(read, now, seen))
            report(r, i * GRAIN, "write after read", now, read);
        read.what = nullptr;
    }
    c.write = now;
}

/* order: of an atomic access, as the compiler numbers it; PLAIN: it is none. */
enum { PLAIN = -1 };

static void check(const volatile void *p, size_t bytes, bool write, int order, const void *from)
{
    uintptr_t at = (uintptr_t)p;

    if (at - (uintptr_t)__builtin_frame_address(0) < LOCAL_BYTES)
        return;
    std::lock_guard<std::mutex> held(lock());
    range *r = bytes > 0 ? find(at) : nullptr;
    if (!r)
        return;
    const hostgpu_place &here = hostgpu_here();
    visit now = {here.what,
                 from,
                 here.stream ? here.operation : here.host_operation,
                 here.block,
                 here.thread,
                 here.barrier,
                 here.warp,
                 (uint8_t)here.stream,
                 order != PLAIN};
    size_t end = std::min(at + bytes - r->start, r->bytes);
    if (write && !r->touched && !r->whole.what && at == r->start && bytes >= r->bytes) {
        r->whole = now; /* memory is zeroed when it is taken: much of it is never seen again */
    } else {
        r->touched = true;
        for (size_t i = (at - r->start) / GRAIN; i * GRAIN < end; i++)
            check_cell(r, i, write, now, here.seen);
    }
    if (here.in_kernel && write && order == __ATOMIC_RELEASE)
        note_release((const void *)at, now, here.seen);
    if (here.in_kernel && !write && order == __ATOMIC_ACQUIRE)
        note_acquisition((const void *)at, now, here.seen);
}

void hostgpu_race_access(const void *p, size_t bytes, bool write, const void *from)
{
    check(p, bytes, write, PLAIN, from);
}

/* -- calls of the C library that gcc does not accompany -----------------------------------------------------
 */

#define FROM __builtin_return_address(0)

extern "C" void *race_memcpy(void *to, const void *from, size_t bytes)
{
    check(from, bytes, false, PLAIN, FROM);
    check(to, bytes, true, PLAIN, FROM);
    return memcpy(to, from, bytes);
}

extern "C" void *race_memset(void *p, int value, size_t bytes)
{
    check(p, bytes, true, PLAIN, FROM);
    return memset(p, value, bytes);
}

/* -- what the compiler calls --------------------------------------------------------------------------------
 */

#define ACCESSES(bytes)                                                                                      \
    void __tsan_read##bytes(void *p)                                                                         \
    {                                                                                                        \
        check(p, bytes, false, PLAIN, FROM);                                                                 \
    }                                                                                                        \
    void __tsan_write##bytes(void *p)                                                                        \
    {                                                                                                        \
        check(p, bytes, true, PLAIN, FROM);                                                                  \
    }                                                                                                        \
    void __tsan_unaligned_read##bytes(void *p)                                                               \
    {                                                                                                        \
        check(p, bytes, false, PLAIN, FROM);                                                                 \
    }                                                                                                        \
    void __tsan_unaligned_write##bytes(void *p)                                                              \
    {                                                                                                        \
        check(p, bytes, true, PLAIN, FROM);                                                                  \
    }

#define ATOMICS(bits, type)                                                                                  \
    type __tsan_atomic##bits##_load(const volatile type *p, int order)                                       \
    {                                                                                                        \
        check(p, sizeof(type), false, order, FROM);                                                          \
        return __atomic_load_n(p, __ATOMIC_SEQ_CST);                                                         \
    }                                                                                                        \
    void __tsan_atomic##bits##_store(volatile type *p, type v, int order)                                    \
    {                                                                                                        \
        check(p, sizeof(type), true, order, FROM);                                                           \
        __atomic_store_n(p, v, __ATOMIC_SEQ_CST);                                                            \
    }                                                                                                        \
    type __tsan_atomic##bits##_fetch_add(volatile type *p, type v, int order)                                \
    {                                                                                                        \
        check(p, sizeof(type), true, order, FROM);                                                           \
        return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST);                                                   \
    }

extern "C" {
void __tsan_init(void)
{
}
void __tsan_func_entry(void *)
{
}
void __tsan_func_exit(void)
{
}
void __tsan_vptr_read(void **)
{
}
void __tsan_vptr_update(void **, void *)
{
}
void __tsan_atomic_thread_fence(int)
{
}
void __tsan_read_range(void *p, size_t bytes)
{
    check(p, bytes, false, PLAIN, FROM);
}
void __tsan_write_range(void *p, size_t bytes)
{
    check(p, bytes, true, PLAIN, FROM);
}
void *__tsan_memcpy(void *to, const void *from, size_t bytes)
{
    return race_memcpy(to, from, bytes);
}
void *__tsan_memset(void *p, int value, size_t bytes)
{
    return race_memset(p, value, bytes);
}
ACCESSES(1)
ACCESSES(2)
ACCESSES(4)
ACCESSES(8)
ACCESSES(16)
ATOMICS(32, uint32_t)
ATOMICS(64, uint64_t)
}
