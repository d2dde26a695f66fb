/* tokenizer_added.c - find the added tokens ("<|eot|>") that stand in text
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/tokenizer_added.h"
#include "engine/utf8.h"

#include <string.h>

size_t tokenizer_added_room(int capacity, size_t bytes)
{
    return (size_t)capacity * sizeof(struct tokenizer_added_token) +
           (bytes + 1) * sizeof(struct tokenizer_added_node) + (size_t)TOKENIZER_SPLIT_PATTERN_BYTES * 16;
}

enum status tokenizer_added_open(struct tokenizer_added *a, struct arena *arena, int capacity, size_t bytes)
{
    static const char word[] = "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}]";
    struct tokenizer_added fresh = {.capacity = capacity, .node_count = 1, .node_capacity = bytes + 1};
    enum status status;

    TRY(arena_take_array(arena, (size_t)capacity, sizeof *fresh.tokens, "added tokens", &fresh.tokens));
    TRY(arena_take_array(arena, bytes + 1, sizeof *fresh.nodes, "added tokens", &fresh.nodes));
    TRY(tokenizer_split_open(&fresh.word, arena));
    status = tokenizer_split_add(fresh.word, word, sizeof word - 1, TOKENIZER_SPLIT_MATCHES, false);
    if (status != STATUS_OK) {
        tokenizer_split_close(fresh.word);
        return status;
    }
    *a = fresh;
    return STATUS_OK;
}

void tokenizer_added_close(struct tokenizer_added *a)
{
    tokenizer_split_close(a->word);
    a->word = NULL;
}

/* The node of one byte in the list that begins at *from; made if it is not there. */
static int32_t grow(struct tokenizer_added *a, int32_t *from, unsigned char byte)
{
    int32_t made;

    for (int32_t node = *from; node; node = a->nodes[node].sibling)
        if (a->nodes[node].byte == byte)
            return node;
    made = (int32_t)a->node_count++;
    a->nodes[made] = (struct tokenizer_added_node){.token = -1, .sibling = *from, .byte = byte};
    *from = made;
    return made;
}

enum status tokenizer_added_add(struct tokenizer_added *a, const struct tokenizer_added_token *token)
{
    struct tokenizer_added_set *set = &a->sets[token->normalized];
    const unsigned char *content = (const unsigned char *)token->content;
    int32_t node;

    if (token->bytes == 0)
        return FAIL(STATUS_BAD_INPUT, "added_tokens: the content of id %d is empty", token->id);
    if (a->count == a->capacity || token->bytes > a->node_capacity - a->node_count)
        return FAIL(STATUS_BUG, "no room for the added token \"%.40s\"", token->content);
    node = grow(a, &set->first[content[0]], content[0]);
    for (size_t i = 1; i < token->bytes; i++)
        node = grow(a, &a->nodes[node].child, content[i]);
    if (a->nodes[node].token >= 0)
        return FAIL(STATUS_BAD_INPUT, "added_tokens: \"%.40s\" is listed twice", token->content);
    a->nodes[node].token = a->count;
    a->tokens[a->count++] = *token;
    set->count++;
    return STATUS_OK;
}

/* The longest token that begins at the front of the text; NULL: none. */
static const struct tokenizer_added_token *longest(const struct tokenizer_added *a,
                                                   const struct tokenizer_added_set *set, const char *text,
                                                   size_t bytes)
{
    int32_t node = set->first[(unsigned char)text[0]];
    int32_t found = -1;

    for (size_t i = 1; node; i++) {
        if (a->nodes[node].token >= 0)
            found = a->nodes[node].token;
        node = i < bytes ? a->nodes[node].child : 0;
        while (node && a->nodes[node].byte != (unsigned char)text[i])
            node = a->nodes[node].sibling;
    }
    return found < 0 ? NULL : &a->tokens[found];
}

static size_t character_before(const char *text, size_t at)
{
    do
        at--;
    while (at > 0 && ((unsigned char)text[at] & 0xC0) == 0x80);
    return at;
}

static size_t character_end(const char *text, size_t bytes, size_t at)
{
    size_t length;

    utf8_step(text + at, bytes - at, &length);
    return at + length;
}

static enum status note(void *context, const char *piece, size_t bytes)
{
    (void)piece;
    (void)bytes;
    *(bool *)context = true;
    return STATUS_OK;
}

/* Does the character in text[from ... to) belong to a word? An empty range does not. */
static enum status in_word(const struct tokenizer_added *a, const char *text, size_t from, size_t to,
                           bool *word)
{
    struct tokenizer_split_taker taker = {.take = note, .context = word};

    *word = false;
    return from == to ? STATUS_OK : tokenizer_split_run(a->word, text + from, to - from, &taker);
}

static enum status stands_alone(const struct tokenizer_added *a, const char *text, size_t bytes,
                                const size_t range[2], bool *alone)
{
    size_t before = range[0] > 0 ? character_before(text, range[0]) : 0;
    size_t behind = range[1] < bytes ? character_end(text, bytes, range[1]) : bytes;
    bool left, right;

    TRY(in_word(a, text, before, range[0], &left));
    TRY(in_word(a, text, range[1], behind, &right));
    *alone = !left && !right;
    return STATUS_OK;
}

/* Widens a match over white space, at the left not beyond `least`. */
static void widen(const struct tokenizer_added_token *token, const char *text, size_t bytes, size_t least,
                  size_t range[2])
{
    while (token->lstrip && range[0] > least) {
        size_t before = character_before(text, range[0]);

        if (!utf8_white_space(utf8_code(text + before, range[0] - before)))
            break;
        range[0] = before;
    }
    while (token->rstrip && range[1] < bytes) {
        size_t behind = character_end(text, bytes, range[1]);

        if (!utf8_white_space(utf8_code(text + range[1], behind - range[1])))
            break;
        range[1] = behind;
    }
}

/* Where the search goes on from `at`, and how far a token may reach: up to the next literal stretch. *next is
 * the number of that stretch. */
static size_t pass_literal(const struct tokenizer_literal *literal, size_t base, size_t at, size_t bytes,
                           int *next, size_t *limit)
{
    for (; *next < literal->count && literal->spans[*next].begin <= base + at; ++*next)
        if (literal->spans[*next].end > base + at)
            at = literal->spans[*next].end - base;
    *limit = *next < literal->count && literal->spans[*next].begin < base + bytes
                 ? literal->spans[*next].begin - base
                 : bytes;
    return at;
}

enum status tokenizer_added_run(const struct tokenizer_added *a, bool normalized,
                                const struct tokenizer_literal *literal, const char *text, size_t bytes,
                                const struct tokenizer_added_taker *taker)
{
    const struct tokenizer_added_set *set = &a->sets[normalized];
    size_t base = literal->count > 0 ? (size_t)(text - literal->origin) : 0;
    size_t limit, done = 0;
    int next = 0;

    for (size_t at = 0;
         set->count > 0 && (at = pass_literal(literal, base, at, bytes, &next, &limit)) < bytes;) {
        const struct tokenizer_added_token *token = longest(a, set, text + at, limit - at);
        size_t range[2] = {at, at + (token ? token->bytes : 1)};
        bool alone = true;

        at = range[1]; /* a match that is not taken is passed over as a whole */
        if (!token)
            continue;
        if (token->single_word)
            TRY(stands_alone(a, text, bytes, range, &alone));
        if (!alone)
            continue;
        widen(token, text, bytes, done, range);
        if (range[0] > done)
            TRY(taker->take(taker->context, text + done, range[0] - done, NULL));
        TRY(taker->take(taker->context, text + range[0], range[1] - range[0], token));
        at = done = range[1];
    }
    return done < bytes ? taker->take(taker->context, text + done, bytes - done, NULL) : STATUS_OK;
}
