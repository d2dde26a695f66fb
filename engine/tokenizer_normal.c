/* tokenizer_normal.c - rewrite text before it is split, as the normalizer of tokenizer.json says
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/tokenizer_normal.h"
#include "engine/utf8.h"

#include <string.h>
#include <utf8proc.h>

enum {
    CLASSES = 256,   /* canonical combining classes */
    DECOMPOSED = 32, /* characters that one may become: 18 at most */
};

size_t tokenizer_normal_room(void)
{
    return 2 * ((size_t)TOKENIZER_NORMAL_LIMIT + 1) + TOKENIZER_NORMAL_TEXT +
           2 * (size_t)TOKENIZER_NORMAL_RUN * sizeof(int32_t) + 8 * (size_t)ARENA_ALIGN;
}

enum status tokenizer_normal_open(struct tokenizer_normal *n, struct arena *arena)
{
    struct tokenizer_normal fresh = {0};

    TRY(arena_take(arena, TOKENIZER_NORMAL_TEXT, "texts of normalizers", &fresh.text));
    for (int i = 0; i < 2; i++) {
        TRY(arena_take(arena, (size_t)TOKENIZER_NORMAL_LIMIT + 1, "normalized text", &fresh.buffers[i]));
        fresh.buffers[i]++; /* the byte in front is the caller's */
    }
    TRY(arena_take_array(arena, TOKENIZER_NORMAL_RUN, sizeof *fresh.codes, "characters", &fresh.codes));
    TRY(arena_take_array(arena, TOKENIZER_NORMAL_RUN, sizeof *fresh.codes, "characters", &fresh.sorted));
    *n = fresh;
    return STATUS_OK;
}

static const char *keep(struct tokenizer_normal *n, const char *text, size_t bytes)
{
    char *copy = n->text + n->text_used;

    if (bytes > 0)
        memcpy(copy, text, bytes);
    n->text_used += bytes;
    return copy;
}

enum status tokenizer_normal_add(struct tokenizer_normal *n, const struct tokenizer_normal_step *step)
{
    struct tokenizer_normal_step *own = &n->steps[n->count];

    if (n->count == TOKENIZER_NORMAL_STEPS)
        return FAIL(STATUS_BAD_INPUT, "more than %d normalizers", TOKENIZER_NORMAL_STEPS);
    if (step->from_bytes > TOKENIZER_NORMAL_TEXT - n->text_used ||
        step->to_bytes > TOKENIZER_NORMAL_TEXT - n->text_used - step->from_bytes)
        return FAIL(STATUS_BAD_INPUT, "normalizers with more than %d bytes of text", TOKENIZER_NORMAL_TEXT);
    if (step->kind == TOKENIZER_NORMAL_REPLACE && step->from_bytes == 0)
        return FAIL(STATUS_BAD_INPUT, "a normalizer that replaces nothing: the pattern is empty");
    *own = *step;
    own->from = keep(n, step->from, step->from_bytes);
    own->to = keep(n, step->to, step->to_bytes);
    n->count++;
    return STATUS_OK;
}

/* Rewritten text as it grows. */
struct output {
    char *text;
    size_t bytes;
};

static enum status put(struct output *out, const char *text, size_t bytes)
{
    if (bytes > TOKENIZER_NORMAL_LIMIT - out->bytes)
        return FAIL(STATUS_BAD_INPUT, "text that is longer than %d bytes once it is normalized: shorten it",
                    TOKENIZER_NORMAL_LIMIT);
    if (bytes > 0)
        memcpy(out->text + out->bytes, text, bytes);
    out->bytes += bytes;
    return STATUS_OK;
}

static enum status replace(const struct tokenizer_normal_step *step, const char *text, size_t bytes,
                           struct output *out)
{
    for (size_t done = 0; done < bytes;) {
        const char *at = memmem(text + done, bytes - done, step->from, step->from_bytes);
        size_t before = at ? (size_t)(at - text) - done : bytes - done;

        TRY(put(out, text + done, before));
        if (!at)
            break;
        TRY(put(out, step->to, step->to_bytes));
        done += before + step->from_bytes;
    }
    return STATUS_OK;
}

static unsigned class_of(int32_t code)
{
    return (unsigned)utf8proc_get_property(code)->combining_class & (CLASSES - 1);
}

/* Does nothing in front of this character ever join with it? So can be said of all but marks, and the vowels
 * and last consonants of Korean. */
static bool stands_apart(int32_t code)
{
    utf8proc_category_t category = utf8proc_category(code);

    return class_of(code) == 0 && category != UTF8PROC_CATEGORY_MN && category != UTF8PROC_CATEGORY_MC &&
           category != UTF8PROC_CATEGORY_ME && !(code >= 0x1160 && code <= 0x11FF);
}

/* Marks in the order of their classes, those of one class as they came: counted, so that a megabyte of marks
 * is no trouble. */
static void sort_marks(struct tokenizer_normal *n, int32_t *marks, size_t count)
{
    size_t start[CLASSES + 1] = {0};

    for (size_t i = 0; i < count; i++)
        start[class_of(marks[i]) + 1]++;
    for (int i = 0; i < CLASSES; i++)
        start[i + 1] += start[i];
    for (size_t i = 0; i < count; i++)
        n->sorted[start[class_of(marks[i])]++] = marks[i];
    memcpy(marks, n->sorted, count * sizeof *marks);
}

static void order_marks(struct tokenizer_normal *n, size_t count)
{
    for (size_t at = 0; at < count;) {
        size_t begin = at;
        bool sorted = true;

        for (; at < count && class_of(n->codes[at]) != 0; at++)
            sorted &= at == begin || class_of(n->codes[at - 1]) <= class_of(n->codes[at]);
        if (!sorted)
            sort_marks(n, n->codes + begin, at - begin);
        at += at == begin;
    }
}

/* The characters in n->codes, which nothing before or behind belongs to. */
static enum status put_codes(struct tokenizer_normal *n, const struct tokenizer_normal_step *step,
                             size_t count, struct output *out)
{
    order_marks(n, count);
    if (step->compose && count > 1)
        count = (size_t)utf8proc_normalize_utf32(n->codes, (utf8proc_ssize_t)count,
                                                 UTF8PROC_COMPOSE | UTF8PROC_STABLE);
    for (size_t i = 0; i < count; i++) {
        utf8proc_uint8_t bytes[4];
        utf8proc_ssize_t length = utf8proc_encode_char(n->codes[i], bytes);

        TRY(put(out, (const char *)bytes, (size_t)length));
    }
    return STATUS_OK;
}

/* What one character decomposes to, into codes[DECOMPOSED]. */
static enum status decompose(const struct tokenizer_normal_step *step, int32_t code, int32_t *codes,
                             size_t *count)
{
    int options = UTF8PROC_STABLE | (step->compose ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) |
                  (step->compatible ? UTF8PROC_COMPAT : 0);
    int bound = 0;
    utf8proc_ssize_t length =
        utf8proc_decompose_char(code, codes, DECOMPOSED, (utf8proc_option_t)options, &bound);

    if (length < 0 || length > DECOMPOSED)
        return FAIL(STATUS_BUG, "utf8proc on U+%04X: %s", (unsigned)code,
                    length < 0 ? utf8proc_errmsg(length) : "it becomes too many characters");
    *count = (size_t)length;
    return STATUS_OK;
}

/* One more character behind the `*count` that wait in n->codes. */
static enum status push(struct tokenizer_normal *n, const struct tokenizer_normal_step *step, int32_t code,
                        size_t *count, struct output *out)
{
    int32_t codes[DECOMPOSED];
    size_t more = 0;

    TRY(decompose(step, code, codes, &more));
    if (*count > 0 && stands_apart(codes[0])) {
        TRY(put_codes(n, step, *count, out));
        *count = 0;
    }
    if (more > TOKENIZER_NORMAL_RUN - *count)
        return FAIL(STATUS_BAD_INPUT, "text with a letter that carries more than %d marks: shorten it",
                    TOKENIZER_NORMAL_RUN - DECOMPOSED);
    memcpy(n->codes + *count, codes, more * sizeof *codes);
    *count += more;
    return STATUS_OK;
}

/* Plain ASCII stays as it is, but for its last character, which a mark may follow. */
static size_t ascii_run(const char *text, size_t bytes)
{
    size_t length = 0;

    while (length < bytes && (unsigned char)text[length] < 0x80)
        length++;
    return length == bytes ? length : length - (length > 0);
}

static enum status rewrite(struct tokenizer_normal *n, const struct tokenizer_normal_step *step,
                           const char *text, size_t bytes, struct output *out)
{
    size_t count = 0;

    for (size_t at = 0; at < bytes;) {
        size_t plain = ascii_run(text + at, bytes - at);
        size_t length;

        if (plain > 0) {
            TRY(put_codes(n, step, count, out));
            count = 0;
            TRY(put(out, text + at, plain));
            at += plain;
            continue;
        }
        utf8_step(text + at, bytes - at, &length);
        TRY(push(n, step, (int32_t)utf8_code(text + at, length), &count, out));
        at += length;
    }
    return put_codes(n, step, count, out);
}

static bool wanted_in_front(const struct tokenizer_normal_step *step, bool first, const char *text,
                            size_t bytes)
{
    if (step->kind == TOKENIZER_NORMAL_PREPEND)
        return true;
    if (step->kind == TOKENIZER_NORMAL_FIRST && !first)
        return false;
    return bytes < step->to_bytes || memcmp(text, step->to, step->to_bytes) != 0;
}

static enum status run_step(struct tokenizer_normal *n, const struct tokenizer_normal_step *step, bool first,
                            const char *text, size_t bytes, struct output *out)
{
    switch (step->kind) {
    case TOKENIZER_NORMAL_FORM:
        return rewrite(n, step, text, bytes, out);
    case TOKENIZER_NORMAL_REPLACE:
        return replace(step, text, bytes, out);
    case TOKENIZER_NORMAL_PREPEND:
    case TOKENIZER_NORMAL_BEGIN:
    case TOKENIZER_NORMAL_FIRST:
        break;
    }
    if (bytes > 0 && wanted_in_front(step, first, text, bytes))
        TRY(put(out, step->to, step->to_bytes));
    return put(out, text, bytes);
}

enum status tokenizer_normal_run(struct tokenizer_normal *n, bool first, const char **text, size_t *bytes)
{
    const char *from = *text;
    size_t length = *bytes;

    for (int i = 0; i < n->count; i++) {
        struct output out = {.text = n->buffers[i % 2]};

        TRY(run_step(n, &n->steps[i], first, from, length, &out));
        from = out.text;
        length = out.bytes;
    }
    *text = from;
    *bytes = length;
    return STATUS_OK;
}
