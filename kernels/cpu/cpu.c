/* cpu.c - the fast backend for processors: packed weights, vectors, threads
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cpu/cpu.h"

#include "kernels/cpu/cpu_stages.h"
#include "kernels/cpu/cpu_table.h"

#include <stdio.h>

enum cpu_path cpu_best_path(void)
{
#ifdef __x86_64__
    /* These ask the system as well (XGETBV): registers it does not save are no use. */
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("fma"))
        return CPU_AVX512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return CPU_AVX2;
#endif
    return CPU_PORTABLE;
}

/* VDPBF16PS: what lower precision is worth on processors that have it. Elsewhere it was tried with whole
 * numbers and gained too little, see docs/performance.md, which has this figure too. */
enum { LOWER_SPEED = 160 };

static bool has_bf16(void)
{
#ifdef __x86_64__
    return __builtin_cpu_supports("avx512bf16");
#else
    return false;
#endif
}

const char *cpu_path_name(enum cpu_path path)
{
    switch (path) {
    case CPU_PORTABLE:
        return "portable";
    case CPU_AVX2:
        return "avx2";
    case CPU_AVX512:
        return "avx512";
    }
    return "unknown";
}

static const struct cpu_stages *stages_of(enum cpu_path path)
{
#ifdef __x86_64__
    if (path == CPU_AVX512)
        return &cpu_table_avx512;
    if (path == CPU_AVX2)
        return &cpu_table_avx2;
#endif
    (void)path;
    return &cpu_table_portable;
}

static enum status memory_alloc(struct kernels *k, size_t bytes, const char *what, void **out)
{
    return host_alloc(&((struct cpu *)(void *)k)->memory, bytes, what, out);
}

static void memory_release(struct kernels *k, void *memory)
{
    host_release(&((struct cpu *)(void *)k)->memory, memory);
}

static size_t memory_free_bytes(struct kernels *k)
{
    (void)k;
    return host_free_bytes();
}

/* Both directions: this backend's memory is host memory. */
static enum status copy(struct kernels *k, void *to, const void *from, size_t bytes)
{
    (void)k;
    if (bytes > 0)
        memcpy(to, from, bytes);
    return STATUS_OK;
}

static enum status wait_nothing(struct kernels *k)
{
    (void)k;
    return STATUS_OK;
}

static void close_all(struct kernels *k)
{
    struct cpu *cpu = (struct cpu *)(void *)k;
    struct host_memory memory;

    if (!k)
        return;
    cpu_pool_close(&cpu->pool);
    memory = cpu->memory; /* the table lies in it */
    host_close(&memory);
}

/* Everything lies in `memory`, which the caller gives back when this fails. */
static enum status open_in(struct host_memory *memory, enum cpu_path path, int threads, const int *pinned,
                           struct cpu **out)
{
    struct cpu *cpu;
    void *space, *workers;

    TRY(host_alloc(memory, sizeof *cpu, "the cpu backend", &space));
    TRY(host_alloc(memory, (size_t)threads * sizeof(struct cpu_worker), "threads of the cpu backend",
                   &workers));
    cpu = space;
    cpu->table = (struct kernels){.name = cpu->name,
                                  .threads = threads,
                                  .cache_dtype = DTYPE_BF16,
                                  .align = ARENA_ALIGN,
                                  .alloc = memory_alloc,
                                  .release = memory_release,
                                  .free_bytes = memory_free_bytes,
                                  .upload = copy,
                                  .download = copy,
                                  .copy = copy,
                                  .wait = wait_nothing,
                                  .close = close_all};
    cpu_stages_enter(&cpu->table);
    cpu->stages = stages_of(path);
    cpu->table.lower_speed = path == CPU_AVX512 && has_bf16() ? LOWER_SPEED : 0;
    snprintf(cpu->name, sizeof cpu->name, "cpu (%s, %d thread%s)", cpu_path_name(path), threads,
             threads == 1 ? "" : "s");
    TRY(cpu_pool_open(&cpu->pool, workers, threads, pinned));
    *out = cpu;
    return STATUS_OK;
}

enum status cpu_open(enum cpu_path path, int threads, const int *pinned, struct kernels **out)
{
    struct host_memory memory = {0};
    enum status status;
    struct cpu *cpu;

    if (path > cpu_best_path())
        return FAIL(STATUS_UNAVAILABLE, "this processor has no %s; its best path is %s", cpu_path_name(path),
                    cpu_path_name(cpu_best_path()));
    if (threads < 1)
        return FAIL(STATUS_USAGE, "%d threads: at least 1 is needed", threads);
    status = open_in(&memory, path, threads, pinned, &cpu);
    if (status != STATUS_OK) {
        host_close(&memory);
        return status;
    }
    cpu->memory = memory;
    *out = &cpu->table;
    return STATUS_OK;
}
