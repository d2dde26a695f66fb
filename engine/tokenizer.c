/* tokenizer.c - text to token ids and back, as tokenizer.json defines them
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Text goes down these steps, each from left to right: cut at the added tokens, normalize what is between
 * them, cut that at the added tokens that are looked for in normalized text, split what is between these,
 * merge each piece. */
#include "engine/tokenizer.h"
#include "engine/tokenizer_load.h"
#include "engine/utf8.h"

#include <string.h>

struct tokenizer {
    struct tokenizer_parts parts;
    char *text; /* scratch: one byte for a blank in front, then repaired text */
};

static const size_t SCRATCH_BYTES = 1 + (size_t)TOKENIZER_TEXT_LIMIT * UTF8_REPLACEMENT_BYTES;

enum status tokenizer_open(struct tokenizer **out, const char *directory)
{
    struct tokenizer_parts parts;
    struct tokenizer *t;
    enum status status;
    char *text;

    TRY(tokenizer_load(&parts, directory, SCRATCH_BYTES + sizeof *t + 2 * (size_t)ARENA_ALIGN));
    status = arena_take(&parts.arena, SCRATCH_BYTES, "text", &text);
    if (status == STATUS_OK)
        status = arena_take(&parts.arena, sizeof *t, "the tokenizer", &t);
    if (status != STATUS_OK) {
        tokenizer_load_close(&parts);
        return status;
    }
    arena_seal(&parts.arena);
    t->parts = parts;
    t->text = text;
    *out = t;
    return STATUS_OK;
}

void tokenizer_close(struct tokenizer *t)
{
    struct tokenizer_parts parts;

    if (!t)
        return;
    parts = t->parts; /* the tokenizer itself lies in their arena */
    tokenizer_load_close(&parts);
}

/* One call of tokenizer_encode on its way down. */
struct encoding {
    struct tokenizer_parts *parts;
    struct tokenizer_literal literal;
    const char *start;      /* of the text as it came */
    const char *normalized; /* beginning of the text that the normalizer gave; NULL: not that of the whole */
    struct tokens *out;
};

static enum status take_piece(void *context, const char *piece, size_t bytes)
{
    struct encoding *e = context;
    struct tokenizer_parts *p = e->parts;
    int id = p->ignore_merges ? tokenizer_vocabulary_find(&p->vocabulary, piece, bytes) : -1;

    if (id >= 0)
        return tokens_append(e->out, id);
    return p->pipeline.byte_level
               ? tokenizer_merge_piece(&p->merge, piece, bytes, e->out)
               : tokenizer_characters_piece(&p->characters, &p->vocabulary, &p->merge, piece, bytes, e->out);
}

/* Text between all added tokens, or one that was found behind the normalizer. */
static enum status take_normalized(void *context, const char *text, size_t bytes,
                                   const struct tokenizer_added_token *token)
{
    struct encoding *e = context;
    struct tokenizer_pipeline *p = &e->parts->pipeline;
    struct tokenizer_split_taker taker = {.take = take_piece, .context = e};

    if (token)
        return tokens_append(e->out, token->id);
    TRY(tokenizer_normal_run(&p->blanks, text == e->normalized, &text, &bytes));
    if (p->prefix_space && text[0] != ' ') {
        /* The text is ours then (see tokenizer_encode), and what stands before this part has been encoded
         * already. */
        ((char *)text)[-1] = ' ';
        text--;
        bytes++;
    }
    return tokenizer_split_run(e->parts->split, text, bytes, &taker);
}

/* Is any of this text in a literal stretch? */
static bool is_literal(const struct tokenizer_literal *literal, const char *text, size_t bytes)
{
    size_t begin = literal->count > 0 ? (size_t)(text - literal->origin) : 0;

    for (int i = 0; i < literal->count; i++)
        if (literal->spans[i].begin < begin + bytes && literal->spans[i].end > begin)
            return true;
    return false;
}

/* Text between the added tokens of the text as it came, or one of these. */
static enum status take_raw(void *context, const char *text, size_t bytes,
                            const struct tokenizer_added_token *token)
{
    struct encoding *e = context;
    struct tokenizer_added_taker taker = {.take = take_normalized, .context = e};
    struct tokenizer_literal literal = e->literal;
    struct tokenizer_span whole = {0};
    const char *raw = text;
    size_t raw_bytes = bytes;

    if (token)
        return tokens_append(e->out, token->id);
    TRY(tokenizer_normal_run(&e->parts->pipeline.normal, text == e->start, &text, &bytes));
    e->normalized = raw == e->start ? text : NULL;
    if (text != raw) { /* the stretches cannot be found any more: all is literal, or nothing */
        whole.end = bytes;
        literal.count = is_literal(&e->literal, raw, raw_bytes);
        literal.origin = text;
        literal.spans = &whole;
    }
    return tokenizer_added_run(&e->parts->added, true, &literal, text, bytes, &taker);
}

static enum status append_all(struct tokens *out, const int32_t *ids, int count)
{
    for (int i = 0; i < count; i++)
        TRY(tokens_append(out, ids[i]));
    return STATUS_OK;
}

static enum status encode(struct encoding *e, const char *text, size_t bytes, bool add_special)
{
    const struct tokenizer_pipeline *p = &e->parts->pipeline;
    struct tokenizer_added_taker taker = {.take = take_raw, .context = e};

    e->start = text;
    TRY(append_all(e->out, p->before, add_special ? p->before_count : 0));
    TRY(tokenizer_added_run(&e->parts->added, false, &e->literal, text, bytes, &taker));
    return append_all(e->out, p->after, add_special ? p->after_count : 0);
}

/* The ids of valid UTF-8, of which the stretches in e->literal are plain; what failed leaves the list as it
 * was. */
static enum status encode_text(struct tokenizer *t, struct encoding *e, const char *text, size_t bytes,
                               bool add_special)
{
    int count = e->out->count;
    enum status status;

    e->parts = &t->parts;
    e->literal.origin = text;
    status = encode(e, text, bytes, add_special);
    if (status != STATUS_OK)
        e->out->count = count;
    return status;
}

static enum status check_length(size_t bytes)
{
    if (bytes > TOKENIZER_TEXT_LIMIT)
        return FAIL(STATUS_BAD_INPUT, "text of %zu bytes; at most %d can be encoded at once", bytes,
                    TOKENIZER_TEXT_LIMIT);
    return STATUS_OK;
}

enum status tokenizer_encode(struct tokenizer *t, const char *text, size_t bytes, unsigned flags,
                             struct tokens *out)
{
    struct encoding e = {.out = out};
    struct tokenizer_span all;

    TRY(check_length(bytes));
    if (t->parts.pipeline.prefix_space || !utf8_valid(text, bytes)) {
        bytes = utf8_repair(t->text + 1, text, bytes);
        text = t->text + 1;
    }
    all = (struct tokenizer_span){.end = bytes};
    e.literal.spans = &all;
    e.literal.count = flags & TOKENIZER_LITERAL && bytes > 0;
    return encode_text(t, &e, text, bytes, flags & TOKENIZER_ADD_SPECIAL);
}

enum status tokenizer_encode_spans(struct tokenizer *t, const char *text, size_t bytes,
                                   const struct tokenizer_span *plain, int count, struct tokens *out)
{
    struct encoding e = {.out = out, .literal = {.spans = plain, .count = count}};

    TRY(check_length(bytes));
    if (!utf8_valid(text, bytes))
        return FAIL(STATUS_BUG, "text with plain stretches must be valid UTF-8");
    if (t->parts.pipeline.prefix_space) {
        memcpy(t->text + 1, text, bytes);
        text = t->text + 1;
    }
    return encode_text(t, &e, text, bytes, false);
}

int tokenizer_size(const struct tokenizer *t)
{
    return t->parts.vocabulary.size;
}

int tokenizer_find(const struct tokenizer *t, const char *content)
{
    const struct tokenizer_added *added = &t->parts.added;
    size_t bytes = strlen(content);

    for (int i = 0; i < added->count; i++)
        if (added->tokens[i].bytes == bytes && memcmp(added->tokens[i].content, content, bytes) == 0)
            return added->tokens[i].id;
    return tokenizer_vocabulary_find_name(&t->parts.vocabulary, content, bytes);
}

const char *tokenizer_bytes(const struct tokenizer *t, int id, size_t *bytes, bool *special)
{
    const struct tokenizer_vocabulary *v = &t->parts.vocabulary;
    bool known = id >= 0 && id < v->size && v->entries[id].bytes;

    *special = known && v->entries[id].special;
    *bytes = 0;
    if (!known)
        return "";
    *bytes = v->shown[id].bytes ? v->shown[id].length : v->entries[id].length;
    return v->shown[id].bytes ? v->shown[id].bytes : v->entries[id].bytes;
}

const char *tokenizer_strip(const struct tokenizer *t, int *count)
{
    *count = t->parts.pipeline.decoder.strip_count;
    return t->parts.pipeline.decoder.strip;
}

size_t tokenizer_longest(const struct tokenizer *t)
{
    return t->parts.vocabulary.longest;
}

const char *tokenizer_chat_template(const struct tokenizer *t)
{
    return t->parts.chat_template;
}

int tokenizer_eos(const struct tokenizer *t)
{
    return t->parts.eos;
}
