/* counting.c - a backend that gives no memory and counts what is asked of it
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels/counting.h"

static struct counting *of(struct kernels *k)
{
    return (struct counting *)(void *)k;
}

static enum status alloc(struct kernels *k, size_t bytes, const char *what, void **out)
{
    struct counting *c = of(k);
    size_t padded = kernels_piece_bytes(k, bytes);

    if (padded < bytes || __builtin_add_overflow(c->bytes, padded, &c->bytes))
        return FAIL(STATUS_NO_MEMORY, "%s: %zu bytes are more than any machine can address", what, bytes);
    *out = (void *)(uintptr_t)ARENA_ALIGN; /* a write there is a fault, and seen */
    return STATUS_OK;
}

static void release(struct kernels *k, void *memory)
{
    (void)k;
    (void)memory;
}

static enum status upload(struct kernels *k, void *device, const void *host, size_t bytes)
{
    (void)k;
    (void)device;
    (void)host;
    (void)bytes;
    return STATUS_OK;
}

static enum status weight_plan(struct kernels *k, struct weight *w, enum dtype dtype, int rows, int columns)
{
    struct kernels *real = of(k)->real;

    return real->weight_plan(real, w, dtype, rows, columns);
}

static size_t free_bytes(struct kernels *k)
{
    struct kernels *real = of(k)->real;

    return real->free_bytes(real);
}

void counting_open(struct counting *c, struct kernels *real)
{
    *c = (struct counting){.table = {.name = real->name,
                                     .threads = real->threads,
                                     .cache_dtype = real->cache_dtype,
                                     .align = real->align,
                                     .apart = real->apart,
                                     .total_bytes = real->total_bytes,
                                     .foreign_bytes = real->foreign_bytes,
                                     .own_bytes = real->own_bytes,
                                     .alloc = alloc,
                                     .release = release,
                                     .free_bytes = free_bytes,
                                     .upload = upload,
                                     .weight_plan = weight_plan},
                           .real = real};
}
