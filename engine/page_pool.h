/* page_pool.h - the cache pages of a data group: who uses them, and what the unused ones still hold
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 *     page_pool_take       an unused page for new positions
 *     page_pool_publish    its positions are all computed: others may find it
 *     page_pool_find, page_pool_keep    a page that holds a block already
 *     page_pool_release    one user less; unused, it keeps what it holds until it is taken
 *
 * A block is PAGE_ROWS tokens, and its keys and values depend on nothing but these and all tokens before
 * them. So a block is named by its parent's name and its own tokens, and both are compared: no hash is ever
 * believed. Names are never given twice. The page that has been unused for longest is taken first, pages
 * without a name before all others; whoever releases a sequence releases its last page first, so a block
 * outlives those that follow it. Everything costs the same however many pages there are. */
#ifndef PAGE_POOL_H
#define PAGE_POOL_H

#include "engine/base/arena.h"
#include "kernels/kernels.h"

/* What a page holds, and its places in the lists. Numbers of pages; -1: none. */
struct page {
    int32_t users;
    int32_t before, after; /* among unused pages */
    int32_t next;          /* in its bucket */
    uint64_t name;         /* of the block it holds; 0: none that can be found */
    uint64_t parent;       /* name of the block before, 0 for the first of a sequence */
    int32_t tokens[PAGE_ROWS];
};

struct page_pool {
    int pages;
    int unused;
    bool sharing; /* off: nothing is ever found */
    struct page *page;
    int32_t first, last; /* unused pages, the next to be taken first */
    int32_t *bucket;     /* [buckets] blocks by their hash */
    uint32_t buckets;    /* a power of two */
    uint64_t names;      /* given so far */
};

/* Address space for a pool of this size. */
size_t page_pool_bytes(int pages);

enum status page_pool_open(struct page_pool *p, struct arena *arena, int pages, bool sharing);

/* An unused page, now with one user; what it held is forgotten. STATUS_BUG when there is none. */
enum status page_pool_take(struct page_pool *p, int32_t *page);

/* Is there a page that holds these PAGE_ROWS tokens behind the block `parent` (0: at the beginning)? */
bool page_pool_find(const struct page_pool *p, uint64_t parent, const int32_t *tokens, int32_t *page);

/* One user more. */
void page_pool_keep(struct page_pool *p, int32_t page);

/* One user less. */
void page_pool_release(struct page_pool *p, int32_t page);

/* The page, in use and without a name, holds these tokens now. Returns the name of the block: that of the
 * page that holds it already, if one does. */
uint64_t page_pool_publish(struct page_pool *p, int32_t page, uint64_t parent, const int32_t *tokens);

#endif
