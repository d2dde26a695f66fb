/* page_pool.c - the cache pages of a data group: who uses them, and what the unused ones still hold
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/page_pool.h"

#include <string.h>

enum { NONE = -1 };

static uint32_t buckets_for(int pages)
{
    uint32_t buckets = 16;

    while (buckets < (uint32_t)pages)
        buckets *= 2;
    return buckets;
}

size_t page_pool_bytes(int pages)
{
    return (size_t)pages * sizeof(struct page) + buckets_for(pages) * sizeof(int32_t) +
           2 * (size_t)ARENA_ALIGN;
}

/* Puts an unused page in front of those that are taken soon, or behind all. */
static void add_unused(struct page_pool *p, int32_t page, bool soon)
{
    struct page *entry = &p->page[page];

    entry->before = soon ? NONE : p->last;
    entry->after = soon ? p->first : NONE;
    *(entry->before == NONE ? &p->first : &p->page[entry->before].after) = page;
    *(entry->after == NONE ? &p->last : &p->page[entry->after].before) = page;
    p->unused++;
}

static void remove_unused(struct page_pool *p, int32_t page)
{
    const struct page *entry = &p->page[page];

    *(entry->before == NONE ? &p->first : &p->page[entry->before].after) = entry->after;
    *(entry->after == NONE ? &p->last : &p->page[entry->after].before) = entry->before;
    p->unused--;
}

enum status page_pool_open(struct page_pool *p, struct arena *arena, int pages, bool sharing)
{
    *p = (struct page_pool){
        .pages = pages, .sharing = sharing, .first = NONE, .last = NONE, .buckets = buckets_for(pages)};
    TRY(arena_take_array(arena, (size_t)pages, sizeof *p->page, "pages of the cache", &p->page));
    TRY(arena_take_array(arena, p->buckets, sizeof *p->bucket, "names of cached blocks", &p->bucket));
    memset(p->bucket, NONE, p->buckets * sizeof *p->bucket);
    for (int32_t page = 0; page < pages; page++) /* the lowest number is taken first */
        add_unused(p, page, false);
    return STATUS_OK;
}

static int32_t *bucket_of(const struct page_pool *p, uint64_t parent, const int32_t *tokens)
{
    uint64_t hash = parent * 0x9e3779b97f4a7c15u;

    for (int i = 0; i < PAGE_ROWS; i++) {
        hash = (hash ^ (uint32_t)tokens[i]) * 0x9e3779b97f4a7c15u;
        hash ^= hash >> 32;
    }
    return &p->bucket[hash & (p->buckets - 1)];
}

/* What the page held can no longer be found. */
static void forget(struct page_pool *p, int32_t page)
{
    struct page *entry = &p->page[page];
    int32_t *link;

    if (entry->name == 0)
        return;
    for (link = bucket_of(p, entry->parent, entry->tokens); *link != page;)
        link = &p->page[*link].next;
    *link = entry->next;
    entry->name = 0;
}

enum status page_pool_take(struct page_pool *p, int32_t *page)
{
    int32_t taken = p->first;

    if (taken == NONE)
        return FAIL(STATUS_BUG, "a page is wanted of a pool whose %d pages are all in use", p->pages);
    remove_unused(p, taken);
    forget(p, taken);
    p->page[taken].users = 1;
    *page = taken;
    return STATUS_OK;
}

bool page_pool_find(const struct page_pool *p, uint64_t parent, const int32_t *tokens, int32_t *page)
{
    if (!p->sharing)
        return false;
    for (int32_t at = *bucket_of(p, parent, tokens); at != NONE; at = p->page[at].next) {
        if (p->page[at].parent == parent &&
            memcmp(p->page[at].tokens, tokens, sizeof p->page[at].tokens) == 0) {
            *page = at;
            return true;
        }
    }
    return false;
}

void page_pool_keep(struct page_pool *p, int32_t page)
{
    if (p->page[page].users++ == 0)
        remove_unused(p, page);
}

void page_pool_release(struct page_pool *p, int32_t page)
{
    if (--p->page[page].users == 0)
        add_unused(p, page, p->page[page].name == 0);
}

uint64_t page_pool_publish(struct page_pool *p, int32_t page, uint64_t parent, const int32_t *tokens)
{
    struct page *entry = &p->page[page];
    int32_t twin, *bucket;

    if (!p->sharing)
        return 0;
    if (page_pool_find(p, parent, tokens, &twin))
        return p->page[twin].name;
    bucket = bucket_of(p, parent, tokens);
    memcpy(entry->tokens, tokens, sizeof entry->tokens);
    entry->parent = parent;
    entry->name = ++p->names;
    entry->next = *bucket;
    *bucket = page;
    return entry->name;
}
