/* host.c - memory of the backends that compute on the processor
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels/host.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* Lies at the front of its own arena; pieces follow. */
struct host_block {
    struct arena arena;
    struct host_block *next;
    size_t pieces; /* not yet released */
};

static const size_t SHARED_BYTES = (size_t)32 << 20; /* of address space: what is not touched is not used */
static const size_t LARGE_BYTES = (size_t)4 << 20;   /* from here on a piece has a block of its own */
static const size_t HEADER_BYTES = (sizeof(struct host_block) + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);

static enum status block_open(struct host_memory *memory, size_t bytes, const char *what)
{
    struct arena arena;
    struct host_block *block;

    if (bytes > SIZE_MAX - HEADER_BYTES - ARENA_ALIGN)
        return FAIL(STATUS_NO_MEMORY, "%s: %zu bytes are more than this machine can address", what, bytes);
    TRY(arena_open(&arena, what, HEADER_BYTES + bytes + ARENA_ALIGN));
    arena.name = "kernels"; /* `what` need not outlive this call */
    TRY(arena_take(&arena, sizeof *block, "block header", &block));
    *block = (struct host_block){.arena = arena, .next = memory->blocks};
    memory->blocks = block;
    return STATUS_OK;
}

static bool block_fits(const struct host_block *block, size_t bytes)
{
    return block && block->arena.size - block->arena.used >= bytes + ARENA_ALIGN;
}

enum status host_alloc(struct host_memory *memory, size_t bytes, const char *what, void **out)
{
    struct host_block *block = memory->blocks;
    void *piece;

    if (bytes >= LARGE_BYTES) {
        TRY(block_open(memory, bytes, what));
        block = memory->blocks;
    } else {
        while (block && !block_fits(block, bytes))
            block = block->next;
        if (!block) {
            TRY(block_open(memory, SHARED_BYTES - HEADER_BYTES - ARENA_ALIGN, what));
            block = memory->blocks;
        }
    }
    /* An empty piece takes a line too, so that every pointer is a piece of its own. */
    TRY(arena_take(&block->arena, bytes ? bytes : 1, what, &piece));
    block->pieces++;
    *out = piece;
    return STATUS_OK;
}

void host_release(struct host_memory *memory, void *piece)
{
    struct host_block **link = &memory->blocks;
    uintptr_t address = (uintptr_t)piece;

    if (!piece)
        return;
    for (; *link; link = &(*link)->next) {
        struct host_block *block = *link;
        uintptr_t base = (uintptr_t)block->arena.base;

        if (address < base || address >= base + block->arena.size)
            continue;
        if (--block->pieces == 0) {
            struct arena arena = block->arena;

            *link = block->next;
            arena_close(&arena);
        }
        return;
    }
}

void host_close(struct host_memory *memory)
{
    while (memory->blocks) {
        struct arena arena = memory->blocks->arena;

        memory->blocks = memory->blocks->next;
        arena_close(&arena);
    }
}

/* The number behind `key` in a file of the system, for example "MemAvailable:" in /proc/meminfo; with an
 * empty key the first number. False when it is not there. */
static bool read_number(const char *path, const char *key, size_t *out)
{
    FILE *file = fopen(path, "re");
    char line[256];
    bool found = false;

    if (!file)
        return false;
    while (!found && fgets(line, sizeof line, file)) {
        size_t length = strlen(key);
        char *end;
        unsigned long long value;

        if (strncmp(line, key, length) != 0)
            continue;
        errno = 0;
        value = strtoull(line + length, &end, 10);
        found = errno == 0 && end != line + length;
        if (found)
            *out = (size_t)value;
        else if (length == 0)
            break;
    }
    fclose(file);
    return found;
}

/* What `limit` leaves after `used`, when that is less than `bytes`. */
static size_t lessen(size_t bytes, size_t limit, size_t used)
{
    size_t left = limit > used ? limit - used : 0;

    return left < bytes ? left : bytes;
}

size_t host_free_bytes(void)
{
    size_t kibibytes = 0, limit, used;
    size_t bytes = SIZE_MAX;
    struct rlimit space;

    if (read_number("/proc/meminfo", "MemAvailable:", &kibibytes))
        bytes = kibibytes * 1024;
    if (read_number("/sys/fs/cgroup/memory.max", "", &limit) &&
        read_number("/sys/fs/cgroup/memory.current", "", &used))
        bytes = lessen(bytes, limit, used);
    else if (read_number("/sys/fs/cgroup/memory/memory.limit_in_bytes", "", &limit) &&
             read_number("/sys/fs/cgroup/memory/memory.usage_in_bytes", "", &used))
        bytes = lessen(bytes, limit, used);
    if (getrlimit(RLIMIT_AS, &space) == 0 && space.rlim_cur != RLIM_INFINITY &&
        read_number("/proc/self/statm", "", &used))
        bytes = lessen(bytes, (size_t)space.rlim_cur, used * (size_t)sysconf(_SC_PAGESIZE));
    return bytes == SIZE_MAX ? 0 : bytes;
}
