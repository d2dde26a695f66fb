/* tokenizer_merge.c - byte pair encoding of one piece of text
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/tokenizer_merge.h"

#include <string.h>

/* Symbols stay where their first byte was; a merged one is left out by its neighbours. */
struct tokenizer_symbol {
    int32_t id;
    int32_t next;     /* place; -1: the last */
    int32_t previous; /* place; -1: the first */
    uint32_t rank;    /* of the pair with the next symbol; NO_RANK: none */
    int32_t merged;   /* id of that pair */
};

static const uint32_t NO_RANK = UINT32_MAX;

static size_t place_count(size_t count)
{
    size_t places = 16;

    while (places < count * 2)
        places *= 2;
    return places;
}

/* Every merge takes one entry from the heap at least and brings two at most. */
static const size_t HEAP_LIMIT = 2 * (size_t)TOKENIZER_MERGE_PIECE_LIMIT;

size_t tokenizer_merge_room(size_t count)
{
    return place_count(count) * sizeof(struct tokenizer_pair) +
           (size_t)TOKENIZER_MERGE_PIECE_LIMIT * sizeof(struct tokenizer_symbol) +
           HEAP_LIMIT * sizeof(uint64_t) + 4 * (size_t)ARENA_ALIGN;
}

enum status tokenizer_merge_open(struct tokenizer_merge *m, struct arena *arena, size_t count)
{
    struct tokenizer_merge fresh = {.mask = place_count(count) - 1};

    TRY(arena_take_array(arena, fresh.mask + 1, sizeof *fresh.pairs, "merges", &fresh.pairs));
    TRY(arena_take_array(arena, TOKENIZER_MERGE_PIECE_LIMIT, sizeof *fresh.symbols, "symbols",
                         &fresh.symbols));
    TRY(arena_take_array(arena, HEAP_LIMIT, sizeof *fresh.heap, "the heap of merges", &fresh.heap));
    for (size_t i = 0; i <= fresh.mask; i++)
        fresh.pairs[i].left = -1;
    for (int i = 0; i < 256; i++)
        fresh.byte_ids[i] = -1;
    *m = fresh;
    return STATUS_OK;
}

/* Where a pair is, or would be put. */
static struct tokenizer_pair *find(const struct tokenizer_merge *m, int32_t left, int32_t right)
{
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    size_t place = (size_t)((key * UINT64_C(0x9E3779B97F4A7C15)) >> 24) & m->mask;

    while (m->pairs[place].left >= 0 && (m->pairs[place].left != left || m->pairs[place].right != right))
        place = (place + 1) & m->mask;
    return &m->pairs[place];
}

void tokenizer_merge_add(struct tokenizer_merge *m, const struct tokenizer_pair *pair)
{
    *find(m, pair->left, pair->right) = *pair;
}

static void heap_sink(struct tokenizer_merge *m, size_t at)
{
    uint64_t entry = m->heap[at];

    for (;;) {
        size_t child = 2 * at + 1;

        if (child + 1 < m->heap_count && m->heap[child + 1] < m->heap[child])
            child++;
        if (child >= m->heap_count || m->heap[child] >= entry)
            break;
        m->heap[at] = m->heap[child];
        at = child;
    }
    m->heap[at] = entry;
}

static void heap_push(struct tokenizer_merge *m, uint64_t entry)
{
    size_t at = m->heap_count++;

    while (at > 0 && m->heap[(at - 1) / 2] > entry) {
        m->heap[at] = m->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    m->heap[at] = entry;
}

static uint64_t heap_pop(struct tokenizer_merge *m)
{
    uint64_t entry = m->heap[0];

    m->heap[0] = m->heap[--m->heap_count];
    heap_sink(m, 0);
    return entry;
}

/* Looks up the pair of a symbol and its next; true: it has a rank. */
static bool rank_pair(struct tokenizer_merge *m, int32_t place)
{
    struct tokenizer_symbol *s = &m->symbols[place];
    const struct tokenizer_pair *pair;

    s->rank = NO_RANK;
    if (s->next < 0)
        return false;
    pair = find(m, s->id, m->symbols[s->next].id);
    if (pair->left < 0)
        return false;
    s->rank = pair->rank;
    s->merged = pair->id;
    return true;
}

static uint64_t heap_entry(const struct tokenizer_merge *m, int32_t place)
{
    return (uint64_t)m->symbols[place].rank << 32 | (uint32_t)place;
}

void tokenizer_merge_start(struct tokenizer_merge *m)
{
    m->symbol_count = 0;
}

enum status tokenizer_merge_push(struct tokenizer_merge *m, int32_t id)
{
    int32_t place = m->symbol_count;

    if (place == TOKENIZER_MERGE_PIECE_LIMIT)
        return FAIL(STATUS_BAD_INPUT,
                    "a piece of more than %d characters without a place to split: shorten the text",
                    TOKENIZER_MERGE_PIECE_LIMIT);
    m->symbols[place] = (struct tokenizer_symbol){.id = id, .previous = place - 1, .next = place + 1};
    m->symbol_count++;
    return STATUS_OK;
}

/* A heap of the pairs between the symbols. */
static void build_heap(struct tokenizer_merge *m)
{
    m->heap_count = 0;
    for (int32_t i = 0; i < m->symbol_count; i++)
        if (rank_pair(m, i))
            m->heap[m->heap_count++] = heap_entry(m, i);
    for (size_t i = m->heap_count / 2; i > 0; i--)
        heap_sink(m, i - 1);
}

static void merge_at(struct tokenizer_merge *m, int32_t place)
{
    struct tokenizer_symbol *s = &m->symbols[place];
    struct tokenizer_symbol *gone = &m->symbols[s->next];

    s->id = s->merged;
    s->next = gone->next;
    gone->rank = NO_RANK; /* its entries in the heap are stale now */
    if (s->next >= 0)
        m->symbols[s->next].previous = place;
    if (rank_pair(m, place))
        heap_push(m, heap_entry(m, place));
    if (s->previous >= 0 && rank_pair(m, s->previous))
        heap_push(m, heap_entry(m, s->previous));
}

enum status tokenizer_merge_finish(struct tokenizer_merge *m, struct tokens *out)
{
    if (m->symbol_count == 0)
        return STATUS_OK;
    m->symbols[m->symbol_count - 1].next = -1;
    build_heap(m);
    while (m->heap_count > 0) {
        uint64_t entry = heap_pop(m);
        int32_t place = (int32_t)(uint32_t)entry;

        if (m->symbols[place].rank == (uint32_t)(entry >> 32))
            merge_at(m, place);
    }
    for (int32_t place = 0; place >= 0; place = m->symbols[place].next)
        TRY(tokens_append(out, m->symbols[place].id));
    return STATUS_OK;
}

enum status tokenizer_merge_piece(struct tokenizer_merge *m, const char *piece, size_t bytes,
                                  struct tokens *out)
{
    tokenizer_merge_start(m);
    for (size_t i = 0; i < bytes; i++) {
        unsigned char byte = (unsigned char)piece[i];

        if (m->byte_ids[byte] < 0)
            return FAIL(STATUS_BAD_INPUT, "the vocabulary has no token for byte 0x%02X of the text", byte);
        TRY(tokenizer_merge_push(m, m->byte_ids[byte]));
    }
    return tokenizer_merge_finish(m, out);
}
