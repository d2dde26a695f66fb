/* kv_cache.h - keys and values of all sequences on this rank, in pages from one pool
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Rank 0's scheduler hands out page numbers (they travel in the batch); every rank of the group keeps the
 * same page tables and holds its own heads under the same numbers. */
#ifndef KV_CACHE_H
#define KV_CACHE_H

#include "engine/base/arena.h"
#include "engine/batch.h"
#include "engine/config.h"
#include "kernels/kernels.h"

struct kv_cache {
    struct kernels *kernels;
    int layers;
    int kv_heads; /* of this rank */
    int head_width;
    int pages; /* in the pool of this rank's group */
    int max_sequences;
    int table_pages;           /* most pages of one sequence */
    struct cache_layer *layer; /* [layers] */
    int32_t *table;            /* [max_sequences, table_pages] */
    int32_t *table_used;       /* [max_sequences] pages in use */
};

/* Bytes that one page takes over all layers on a rank with kv_heads heads. */
size_t kv_cache_page_bytes(const struct config *c, const struct kernels *k, int kv_heads);

enum status kv_cache_open(struct kv_cache *kv, struct arena *arena, struct kernels *k, const struct config *c,
                          int kv_heads, int pages, int max_sequences, int max_positions);
void kv_cache_close(struct kv_cache *kv);

/* Takes the new pages of this group's pieces into the tables. A table that a batch contradicts is STATUS_BUG.
 */
enum status kv_cache_apply(struct kv_cache *kv, const struct batch *b, int group);

/* The spans of this group's pieces, rows counted from the group's first row; *count of them. out [pieces]. */
void kv_cache_spans(const struct kv_cache *kv, const struct batch *b, int group, struct span *out,
                    int *count);

#endif
