/* tokenizer_vocabulary.c - tokens by their bytes and by their id
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/tokenizer_vocabulary.h"
#include "engine/utf8.h"

#include <string.h>

static size_t slot_count(size_t count)
{
    size_t slots = 16;

    while (slots < count * 2)
        slots *= 2;
    return slots;
}

size_t tokenizer_vocabulary_room(int size, size_t count, size_t text_bytes)
{
    return (size_t)size * (sizeof(struct tokenizer_entry) + sizeof(struct tokenizer_shown)) +
           slot_count(count) * sizeof(uint32_t) + 2 * text_bytes + 8 * (size_t)ARENA_ALIGN;
}

enum status tokenizer_vocabulary_open(struct tokenizer_vocabulary *v, struct arena *arena, bool byte_level,
                                      int size, size_t count, size_t text_bytes)
{
    struct tokenizer_vocabulary fresh = {
        .byte_level = byte_level, .size = size, .mask = slot_count(count) - 1, .text_bytes = text_bytes};

    TRY(arena_take_array(arena, (size_t)size, sizeof *fresh.entries, "tokens by id", &fresh.entries));
    TRY(arena_take_array(arena, fresh.mask + 1, sizeof *fresh.slots, "tokens by bytes", &fresh.slots));
    TRY(arena_take_array(arena, (size_t)size, sizeof *fresh.shown, "what tokens show", &fresh.shown));
    TRY(arena_take(arena, text_bytes, "bytes of tokens", &fresh.text));
    TRY(arena_take(arena, text_bytes, "what tokens show", &fresh.shown_text));
    *v = fresh;
    return STATUS_OK;
}

/* FNV-1a over one more stretch of bytes. */
static uint64_t mix(uint64_t h, const char *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++)
        h = (h ^ (unsigned char)bytes[i]) * UINT64_C(0x100000001B3);
    return h;
}

static const uint64_t MIX_START = UINT64_C(0xCBF29CE484222325);

/* The upper half is folded in because the mask looks at the lower. */
static size_t slot_of(const struct tokenizer_vocabulary *v, uint64_t h)
{
    return (size_t)(h ^ h >> 32) & v->mask;
}

/* The entry of a slot, NULL: free. */
static const struct tokenizer_entry *entry_at(const struct tokenizer_vocabulary *v, size_t slot)
{
    return v->slots[slot] ? &v->entries[v->slots[slot] - 1] : NULL;
}

/* Two stretches that are one token together; the second may be empty. */
static int find(const struct tokenizer_vocabulary *v, const struct tokenizer_entry part[2], bool spelled)
{
    size_t length = (size_t)part[0].length + part[1].length;
    size_t slot =
        slot_of(v, mix(mix(MIX_START, part[0].bytes, part[0].length), part[1].bytes, part[1].length));
    const struct tokenizer_entry *entry;

    for (; (entry = entry_at(v, slot)); slot = (slot + 1) & v->mask)
        if (entry->length == length && entry->spelled == spelled &&
            memcmp(entry->bytes, part[0].bytes, part[0].length) == 0 &&
            memcmp(entry->bytes + part[0].length, part[1].bytes, part[1].length) == 0)
            return (int)v->slots[slot] - 1;
    return -1;
}

int tokenizer_vocabulary_find(const struct tokenizer_vocabulary *v, const char *bytes, size_t length)
{
    struct tokenizer_entry part[2] = {{.bytes = bytes, .length = (uint32_t)length}, {.bytes = ""}};

    return length > v->longest ? -1 : find(v, part, true);
}

int tokenizer_vocabulary_find_pair(const struct tokenizer_vocabulary *v, int left, int right)
{
    struct tokenizer_entry part[2] = {v->entries[left], v->entries[right]};

    return part[0].spelled && part[1].spelled ? find(v, part, true) : -1;
}

/* GPT-2's alphabet: printable Latin-1 stands for itself, the other 68 bytes for U+0100 ... U+0143 in order.
 */
static bool stands_for_itself(uint32_t code)
{
    return (code >= 33 && code <= 126) || (code >= 161 && code <= 172) || (code >= 174 && code <= 255);
}

/* The byte that a character of the alphabet stands for; -1: it is none. */
static int alphabet_byte(uint32_t code)
{
    if (stands_for_itself(code))
        return (int)code;
    if (code < 0x100 || code > 0x143)
        return -1;
    code -= 0x100;
    if (code <= 32)
        return (int)code;                           /* 0 ... 32 */
    return code <= 66 ? (int)code - 33 + 127 : 173; /* 127 ... 160, then 173 */
}

/* The next byte that a name stands for; -1: a character outside the alphabet. */
static int next_byte(const char *name, size_t bytes, size_t *at)
{
    size_t length;
    int byte = -1;

    if (utf8_step(name + *at, bytes - *at, &length) == UTF8_WHOLE)
        byte = alphabet_byte(utf8_code(name + *at, length));
    *at += length;
    return byte;
}

/* All bytes that a name stands for, into out (at most `bytes`); -1: a character outside the alphabet. */
static long spell(char *out, const char *name, size_t bytes)
{
    long written = 0;

    for (size_t at = 0; at < bytes;) {
        int byte = next_byte(name, bytes, &at);

        if (byte < 0)
            return -1;
        out[written++] = (char)byte;
    }
    return written;
}

static bool spells(const char *name, size_t bytes, const struct tokenizer_entry *entry)
{
    size_t same = 0;

    for (size_t at = 0; at < bytes; same++)
        if (same == entry->length || next_byte(name, bytes, &at) != (unsigned char)entry->bytes[same])
            return false;
    return same == entry->length;
}

int tokenizer_vocabulary_find_name(const struct tokenizer_vocabulary *v, const char *name, size_t bytes)
{
    struct tokenizer_entry literal[2] = {{.bytes = name, .length = (uint32_t)bytes}, {.bytes = ""}};
    const struct tokenizer_entry *entry;
    uint64_t h = MIX_START;
    size_t slot;

    if (bytes > UINT32_MAX)
        return -1;
    if (!v->byte_level)
        return find(v, literal, true);
    for (size_t at = 0; at < bytes;) {
        int byte = next_byte(name, bytes, &at);

        if (byte < 0)
            return find(v, literal, false);
        h = mix(h, &(const char){(char)byte}, 1);
    }
    for (slot = slot_of(v, h); (entry = entry_at(v, slot)); slot = (slot + 1) & v->mask)
        if (entry->spelled && spells(name, bytes, entry))
            return (int)v->slots[slot] - 1;
    return -1;
}

/* Takes an id and room for `bytes` of text, which may be less in the end. */
static enum status claim(const struct tokenizer_vocabulary *v, int id, const char *name, size_t bytes)
{
    if (id < 0 || id >= v->size)
        return FAIL(STATUS_BUG, "id %d outside of a vocabulary of %d", id, v->size);
    if (bytes > v->text_bytes - v->text_used)
        return FAIL(STATUS_BUG, "no room for the %zu bytes of token \"%.40s\"", bytes, name);
    return STATUS_OK;
}

static void put(struct tokenizer_vocabulary *v, int id, size_t length, bool spelled)
{
    v->entries[id] = (struct tokenizer_entry){
        .bytes = v->text + v->text_used, .length = (uint32_t)length, .spelled = spelled};
    v->text_used += length;
    if (length > v->longest)
        v->longest = length;
}

enum status tokenizer_vocabulary_add(struct tokenizer_vocabulary *v, int id, const char *name, size_t bytes)
{
    size_t slot;
    long spelled;

    TRY(claim(v, id, name, bytes));
    if (v->entries[id].bytes)
        return FAIL(STATUS_BAD_INPUT, "model.vocab gives id %d twice, to \"%.40s\" at last", id, name);
    spelled = v->byte_level ? spell(v->text + v->text_used, name, bytes) : -1;
    if (spelled < 0)
        memcpy(v->text + v->text_used, name, bytes);
    put(v, id, spelled < 0 ? bytes : (size_t)spelled, spelled >= 0 || !v->byte_level);
    slot = slot_of(v, mix(MIX_START, v->entries[id].bytes, v->entries[id].length));
    while (v->slots[slot])
        slot = (slot + 1) & v->mask;
    v->slots[slot] = (uint32_t)id + 1;
    return STATUS_OK;
}

enum status tokenizer_vocabulary_add_content(struct tokenizer_vocabulary *v, int id, const char *content,
                                             size_t bytes, bool special)
{
    TRY(claim(v, id, content, bytes));
    if (!v->entries[id].bytes) {
        memcpy(v->text + v->text_used, content, bytes);
        put(v, id, bytes, false);
    } else if (tokenizer_vocabulary_find_name(v, content, bytes) != id) {
        return FAIL(STATUS_BAD_INPUT, "added_tokens gives id %d to \"%.40s\", but another token has it", id,
                    content);
    }
    v->entries[id].special = special;
    return STATUS_OK;
}

enum status tokenizer_vocabulary_show(struct tokenizer_vocabulary *v, const struct tokenizer_decoder *decoder)
{
    size_t used = 0;

    for (int id = 0; id < v->size; id++) {
        const struct tokenizer_entry *entry = &v->entries[id];
        char *shown = v->shown_text + used;

        if (!entry->bytes)
            continue;
        if (entry->length > v->text_bytes - used)
            return FAIL(STATUS_BUG, "no room for what token %d shows", id);
        v->shown[id].length = (uint32_t)tokenizer_decoder_show(decoder, entry->bytes, entry->length, shown);
        v->shown[id].bytes = shown;
        used += v->shown[id].length;
    }
    return STATUS_OK;
}
