/* kv_cache.c - keys and values of all sequences on this rank, in pages from one pool
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/kv_cache.h"

#include <string.h>

size_t kv_cache_page_bytes(const struct config *c, const struct kernels *k, int kv_heads)
{
    return (size_t)c->layers * kernels_page_bytes(k, kv_heads, c->head_width);
}

static enum status alloc_layers(struct kv_cache *kv)
{
    size_t page_bytes = kernels_page_bytes(kv->kernels, kv->kv_heads, kv->head_width), bytes;

    if (__builtin_mul_overflow(page_bytes, (size_t)kv->pages, &bytes))
        return FAIL(STATUS_NO_MEMORY,
                    "%d pages of %zu bytes of keys and values are more than can be addressed", kv->pages,
                    page_bytes);
    for (int i = 0; i < kv->layers; i++) {
        kv->layer[i] =
            (struct cache_layer){.pages = kv->pages, .kv_heads = kv->kv_heads, .head_width = kv->head_width};
        /* A rank beyond the last key-value head holds none and still keeps the tables. */
        if (bytes > 0)
            TRY(kv->kernels->alloc(kv->kernels, bytes, "keys and values", &kv->layer[i].data));
    }
    return STATUS_OK;
}

enum status kv_cache_open(struct kv_cache *kv, struct arena *arena, struct kernels *k, const struct config *c,
                          int kv_heads, int pages, int max_sequences, int max_positions)
{
    struct kv_cache open = {.kernels = k,
                            .layers = c->layers,
                            .kv_heads = kv_heads,
                            .head_width = c->head_width,
                            .pages = pages,
                            .max_sequences = max_sequences,
                            .table_pages = max_positions / PAGE_ROWS + (max_positions % PAGE_ROWS > 0)};
    enum status status;

    if (kv_heads < 0 || pages < 1 || max_sequences < 1 || max_positions < 1)
        return FAIL(STATUS_BUG, "a cache of %d heads, %d pages, %d sequences of %d positions", kv_heads,
                    pages, max_sequences, max_positions);
    TRY(arena_take_array(arena, (size_t)open.layers, sizeof *open.layer, "layers of the cache", &open.layer));
    TRY(arena_take_array(arena, (size_t)max_sequences * (size_t)open.table_pages, sizeof *open.table,
                         "page tables", &open.table));
    TRY(arena_take_array(arena, (size_t)max_sequences, sizeof *open.table_used, "lengths of page tables",
                         &open.table_used));
    status = alloc_layers(&open);
    if (status != STATUS_OK) {
        kv_cache_close(&open);
        return status;
    }
    *kv = open;
    return STATUS_OK;
}

void kv_cache_close(struct kv_cache *kv)
{
    for (int i = 0; i < kv->layers && kv->layer; i++) {
        if (kv->layer[i].data)
            kv->kernels->release(kv->kernels, kv->layer[i].data);
    }
    memset(kv, 0, sizeof *kv);
}

static enum status append_pages(struct kv_cache *kv, const struct batch *b, const struct batch_piece *p)
{
    int32_t *table = kv->table + (ptrdiff_t)p->sequence * kv->table_pages;
    int32_t used = batch_starts(p) ? 0 : kv->table_used[p->sequence];

    if (!batch_starts(p) && p->position > (int64_t)used * PAGE_ROWS)
        return FAIL(STATUS_BUG, "batch %llu: sequence %d goes on at position %d, its table holds %d pages",
                    (unsigned long long)b->number, p->sequence, p->position, used);
    if (p->new_pages > kv->table_pages - used)
        return FAIL(STATUS_BUG, "batch %llu: sequence %d gets %d pages, its table of %d holds %d",
                    (unsigned long long)b->number, p->sequence, p->new_pages, kv->table_pages, used);
    for (int i = 0; i < p->new_pages; i++) {
        int32_t page = b->pages[p->first_page + i];

        if (page < 0 || page >= kv->pages)
            return FAIL(STATUS_BUG, "batch %llu: sequence %d gets page %d, the pool has %d",
                        (unsigned long long)b->number, p->sequence, page, kv->pages);
        table[used++] = page;
    }
    if ((int64_t)p->position + p->rows > (int64_t)used * PAGE_ROWS)
        return FAIL(STATUS_BUG, "batch %llu: sequence %d reaches position %lld, its %d pages end at %lld",
                    (unsigned long long)b->number, p->sequence, (long long)p->position + p->rows - 1, used,
                    (long long)used * PAGE_ROWS - 1);
    kv->table_used[p->sequence] = used;
    return STATUS_OK;
}

enum status kv_cache_apply(struct kv_cache *kv, const struct batch *b, int group)
{
    for (int i = 0; i < b->piece_count; i++) {
        const struct batch_piece *p = &b->pieces[i];

        if (p->group != group)
            continue;
        if (p->sequence < 0 || p->sequence >= kv->max_sequences)
            return FAIL(STATUS_BUG, "batch %llu: sequence %d, there are %d", (unsigned long long)b->number,
                        p->sequence, kv->max_sequences);
        TRY(append_pages(kv, b, p));
    }
    return STATUS_OK;
}

void kv_cache_spans(const struct kv_cache *kv, const struct batch *b, int group, struct span *out, int *count)
{
    int first_row = batch_group_rows(b, group).first;
    int spans = 0;

    for (int i = 0; i < b->piece_count; i++) {
        const struct batch_piece *p = &b->pieces[i];

        if (p->group != group)
            continue;
        out[spans++] = (struct span){.first_row = p->first_row - first_row,
                                     .rows = p->rows,
                                     .first_position = p->position,
                                     .pages = kv->table + (ptrdiff_t)p->sequence * kv->table_pages};
    }
    *count = spans;
}
