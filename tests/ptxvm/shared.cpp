/* shared.cpp - shared memory of a block, and what may go wrong with it
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * For each granule, the smallest access that the kernel makes, it is remembered who wrote it last, two who
 * read it since, and when: how many barriers the block and how many __syncwarp the warp had passed. Two
 * accesses, one of them a write, must be ordered by one or the other, whatever order they really came in. */
#include "ptx.h"

static bool ordered(const ptx_stamp &before, const ptx_stamp &now)
{
    return before.barrier != now.barrier || before.thread == now.thread ||
           (before.thread / PTX_LANES == now.thread / PTX_LANES && before.sync != now.sync);
}

static void race(ptx_warp &w, const ptx_instruction &i, int lane, uint64_t address, bool write,
                 bool by_writer, unsigned thread) __attribute__((noreturn));
static void race(ptx_warp &w, const ptx_instruction &i, int lane, uint64_t address, bool write,
                 bool by_writer, unsigned thread)
{
    ptx_fail(w, i, lane, "race: %s shared byte %#llx, which thread %u has %s without a barrier between",
             write ? "writes" : "reads", (unsigned long long)address, thread, by_writer ? "written" : "read");
}

static void read_granule(ptx_granule *g, const ptx_stamp &now)
{
    if (!g->was_read || ordered(g->reader[0], now)) {
        g->reader[0] = now;
        g->was_read = true;
    } else if (!g->read_twice || ordered(g->reader[1], now) ||
               g->reader[1].thread / PTX_LANES == g->reader[0].thread / PTX_LANES) {
        g->reader[1] = now;
        g->read_twice = true;
    }
}

static void write_granule(ptx_warp &w, const ptx_instruction &i, int lane, uint64_t address, ptx_granule *g,
                          const ptx_stamp &now)
{
    if (g->was_read && !ordered(g->reader[0], now))
        race(w, i, lane, address, true, false, g->reader[0].thread);
    if (g->read_twice && !ordered(g->reader[1], now))
        race(w, i, lane, address, true, false, g->reader[1].thread);
    g->writer = now;
    g->written = true;
    g->was_read = g->read_twice = false;
}

/* Where an address lies in the block's memory. */
static size_t place(const ptx_block &b, uint64_t address)
{
    uint32_t dynamic = b.kernel->dynamic;

    return dynamic > 0 && address >= dynamic ? address - dynamic + b.kernel->shared_end : (size_t)address;
}

uint8_t *ptx_shared_access(ptx_warp &w, const ptx_instruction &i, int lane, uint64_t address, uint32_t bytes,
                           bool write)
{
    ptx_block &b = *w.block;
    uint32_t granule = b.kernel->granule;
    size_t at = place(b, address);
    ptx_stamp now = {b.barriers, (w.first + (uint32_t)lane) & 1023, w.syncs & 0x3fffff};

    if (address % bytes != 0)
        ptx_fail(w, i, lane, "shared address %#llx is not aligned to %u", (unsigned long long)address, bytes);
    if (at + bytes > b.shared.size() || (address >= b.kernel->shared_end && at == address))
        ptx_fail(w, i, lane, "shared address %#llx is no variable's", (unsigned long long)address);
    for (uint32_t n = 0; n < bytes; n += granule) {
        ptx_granule *g = &b.granules[(at + n) / granule];

        if (g->state == PTX_NOT_THERE)
            ptx_fail(w, i, lane, "shared address %#llx is no variable's", (unsigned long long)(address + n));
        if (g->state == PTX_IN_FLIGHT)
            ptx_fail(w, i, lane, "shared byte %#llx is %s before the cp.async to it has been waited for",
                     (unsigned long long)(address + n), write ? "written" : "read");
        if (g->state == PTX_NEVER_WRITTEN && !write)
            ptx_fail(w, i, lane, "shared byte %#llx is read, which nobody has written",
                     (unsigned long long)(address + n));
        if (g->written && !ordered(g->writer, now))
            race(w, i, lane, address + n, write, true, g->writer.thread);
        if (write) {
            write_granule(w, i, lane, address + n, g, now);
            g->state = PTX_WRITTEN;
        } else {
            read_granule(g, now);
        }
    }
    return &b.shared[at];
}

static void set_state(ptx_block &b, uint64_t address, uint32_t bytes, enum ptx_state state)
{
    size_t at = place(b, address);

    for (uint32_t n = 0; n < bytes; n += b.kernel->granule)
        b.granules[(at + n) / b.kernel->granule].state = (uint8_t)state;
}

/* Between issue and wait the destination is NaN, and nobody may touch it. */
void ptx_copy_issue(ptx_warp &w, const ptx_instruction &i, int lane, ptx_copy copy)
{
    memset(ptx_shared_access(w, i, lane, copy.to, copy.bytes, true), 0xff, copy.bytes);
    set_state(*w.block, copy.to, copy.bytes, PTX_IN_FLIGHT);
    w.copies[lane].push_back(copy);
}

void ptx_copy_commit(ptx_warp &w, int lane)
{
    w.groups[lane].push_back(w.copies[lane].size());
}

void ptx_copy_wait(ptx_warp &w, const ptx_instruction &i, int lane, size_t keep)
{
    std::vector<ptx_copy> &copies = w.copies[lane];
    std::vector<size_t> &groups = w.groups[lane];

    if (groups.size() <= keep)
        return;
    size_t arrived = groups[groups.size() - 1 - keep];
    for (size_t n = 0; n < arrived; n++) {
        set_state(*w.block, copies[n].to, copies[n].bytes, PTX_WRITTEN);
        uint8_t *to = ptx_shared_access(w, i, lane, copies[n].to, copies[n].bytes, true);
        memcpy(to, reinterpret_cast<const void *>((uintptr_t)copies[n].from), copies[n].bytes);
    }
    copies.erase(copies.begin(), copies.begin() + (ptrdiff_t)arrived);
    groups.erase(groups.begin(), groups.end() - (ptrdiff_t)keep);
    for (size_t &upto : groups)
        upto -= arrived;
}
