/* arena.c - memory taken at the start and given back all at once
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/base/arena.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

static const size_t HUGE_PAGE = (size_t)2 << 20;

enum status arena_open(struct arena *arena, const char *name, size_t bytes)
{
    size_t size = (bytes + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);
    void *base;

    memset(arena, 0, sizeof *arena);
    if (size < bytes)
        return FAIL(STATUS_NO_MEMORY, "memory for %s: %zu bytes are more than this machine can address", name,
                    bytes);
    if (size == 0)
        size = HUGE_PAGE;
    base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED)
        return FAIL(STATUS_NO_MEMORY, "memory for %s: %.1f MiB could not be had (%s)", name,
                    (double)size / 1048576.0, strerror(errno));
    /* A wish: without it only the TLB suffers. Not for the rest behind the last whole huge page, which would
     * take one though it is smaller. */
    if (bytes >= HUGE_PAGE)
        madvise(base, bytes & ~(HUGE_PAGE - 1), MADV_HUGEPAGE);
    arena->name = name;
    arena->base = base;
    arena->size = size;
    return STATUS_OK;
}

enum status arena_take(struct arena *arena, size_t bytes, const char *what, void *out)
{
    size_t padded = (bytes + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);

    if (arena->sealed)
        return FAIL(STATUS_BUG, "%zu bytes for %s asked of the sealed memory for %s", bytes, what,
                    arena->name);
    if (padded < bytes || padded > arena->size - arena->used)
        return FAIL(STATUS_NO_MEMORY,
                    "memory for %s: %zu bytes for %s do not fit into what is left, %zu of %zu bytes",
                    arena->name, bytes, what, arena->size - arena->used, arena->size);
    *(void **)out = arena->base + arena->used;
    arena->used += padded;
    return STATUS_OK;
}

enum status arena_take_array(struct arena *arena, size_t count, size_t size, const char *what, void *out)
{
    size_t bytes;

    if (__builtin_mul_overflow(count, size, &bytes))
        return FAIL(STATUS_NO_MEMORY, "memory for %s: %zu times %zu bytes for %s are too many", arena->name,
                    count, size, what);
    return arena_take(arena, bytes, what, out);
}

void arena_seal(struct arena *arena)
{
    arena->sealed = true;
}

void arena_close(struct arena *arena)
{
    if (arena->base)
        munmap(arena->base, arena->size);
    memset(arena, 0, sizeof *arena);
}
