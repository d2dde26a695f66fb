/* tokenizer_split.c - cut text into the pieces that merges may not cross, by the patterns of tokenizer.json
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/tokenizer_split.h"
#include "engine/utf8.h"

#include <stdint.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

enum {
    STACK_START = 32 * 1024, /* bytes of the JIT's own stack */
    STACK_LIMIT = 1024 * 1024,
    MATCH_LIMIT = 50 * 1000 * 1000, /* a pattern comes from a file: no search may run for ever */
    DEPTH_LIMIT = 1000 * 1000,
    HEAP_LIMIT = 512 * 1024, /* KiB, for machines where PCRE2 has no JIT */
    GROWTH = 8,              /* "\s" becomes "\p{White_Space}" */
};

struct step {
    pcre2_code *code;
    enum tokenizer_split_keep keep;
};

struct tokenizer_split {
    struct step steps[TOKENIZER_SPLIT_STEPS];
    int count;
    pcre2_match_context *context;
    pcre2_match_data *match;
    pcre2_jit_stack *stack;
    char *rewritten; /* scratch of tokenizer_split_add */
};

enum status tokenizer_split_open(struct tokenizer_split **out, struct arena *arena)
{
    struct tokenizer_split *split;

    TRY(arena_take(arena, sizeof *split, "the splitter", &split));
    TRY(arena_take(arena, (size_t)TOKENIZER_SPLIT_PATTERN_BYTES * GROWTH, "split patterns",
                   &split->rewritten));
    split->context = pcre2_match_context_create(NULL);
    split->match = pcre2_match_data_create(1, NULL);
    split->stack = pcre2_jit_stack_create(STACK_START, STACK_LIMIT, NULL); /* NULL where there is no JIT */
    if (!split->context || !split->match) {
        tokenizer_split_close(split);
        return FAIL(STATUS_NO_MEMORY, "no memory for the regular expressions of the tokenizer");
    }
    pcre2_set_match_limit(split->context, MATCH_LIMIT);
    pcre2_set_depth_limit(split->context, DEPTH_LIMIT);
    pcre2_set_heap_limit(split->context, HEAP_LIMIT);
    if (split->stack)
        pcre2_jit_stack_assign(split->context, NULL, split->stack);
    *out = split;
    return STATUS_OK;
}

void tokenizer_split_close(struct tokenizer_split *split)
{
    if (!split)
        return;
    for (int i = 0; i < split->count; i++)
        pcre2_code_free(split->steps[i].code);
    pcre2_match_data_free(split->match);
    pcre2_match_context_free(split->context);
    pcre2_jit_stack_free(split->stack);
    memset(split, 0, sizeof *split);
}

/* A pattern on its way from Oniguruma's language to PCRE2's. */
struct rewrite {
    const char *from;
    size_t bytes;
    size_t at;
    char *to;
    size_t written;
    bool in_class;
};

static void copy(struct rewrite *r, size_t count)
{
    memcpy(r->to + r->written, r->from + r->at, count);
    r->written += count;
    r->at += count;
}

static void replace(struct rewrite *r, size_t count, const char *by)
{
    size_t length = strlen(by);

    memcpy(r->to + r->written, by, length);
    r->written += length;
    r->at += count;
}

static bool looking_at(const struct rewrite *r, const char *what)
{
    size_t length = strlen(what);

    return r->bytes - r->at >= length && memcmp(r->from + r->at, what, length) == 0;
}

/* A backslash and what belongs to it. */
static enum status rewrite_escape(struct rewrite *r)
{
    char letter = r->at + 1 < r->bytes ? r->from[r->at + 1] : '\0';
    const char *brace;

    if (letter == 's' || letter == 'S') {
        replace(r, 2, letter == 's' ? "\\p{White_Space}" : "\\P{White_Space}");
        return STATUS_OK;
    }
    if (((letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') ||
         (letter >= '0' && letter <= '9')) &&
        !strchr("dDpPnrtfeaxAzZ", letter))
        return FAIL(STATUS_BAD_INPUT, "split pattern: \\%c at byte %zu is not supported", letter, r->at);
    brace =
        (letter == 'p' || letter == 'P' || letter == 'x') && r->at + 2 < r->bytes && r->from[r->at + 2] == '{'
            ? memchr(r->from + r->at, '}', r->bytes - r->at)
            : NULL;
    copy(r, brace ? (size_t)(brace + 1 - (r->from + r->at)) : r->at + 1 < r->bytes ? 2 : 1);
    return STATUS_OK;
}

/* Outside a class: groups with flags, and {n,m} followed by + (possessive to PCRE2 alone). */
static enum status check_outside(const struct rewrite *r)
{
    size_t at = r->at;

    if (looking_at(r, "(*"))
        return FAIL(STATUS_BAD_INPUT, "split pattern: (* at byte %zu is not supported", at);
    if (looking_at(r, "(?") && at + 2 < r->bytes && !strchr(":=!<>i-", r->from[at + 2]))
        return FAIL(STATUS_BAD_INPUT, "split pattern: the group (?%c at byte %zu is not supported",
                    r->from[at + 2], at);
    if (looking_at(r, "(?i") && at + 3 < r->bytes && !strchr(":)", r->from[at + 3]))
        return FAIL(STATUS_BAD_INPUT, "split pattern: flags other than i at byte %zu are not supported", at);
    if (looking_at(r, "}+"))
        return FAIL(STATUS_BAD_INPUT, "split pattern: {..}+ at byte %zu is not supported", at);
    return STATUS_OK;
}

/* One character of a pattern, or one construct. */
static enum status rewrite_next(struct rewrite *r)
{
    if (r->from[r->at] == '\\')
        return rewrite_escape(r);
    if (!r->in_class) {
        TRY(check_outside(r));
        if (r->from[r->at] == '[') {
            r->in_class = true;
            copy(r, 1);
            if (looking_at(r, "^"))
                copy(r, 1);
            if (looking_at(r, "]")) /* in first place an ordinary character */
                copy(r, 1);
            return STATUS_OK;
        }
    } else if (r->from[r->at] == '[' || looking_at(r, "&&")) {
        return FAIL(STATUS_BAD_INPUT, "split pattern: %s inside a class, at byte %zu, is not supported",
                    r->from[r->at] == '[' ? "[" : "&&", r->at);
    } else if (r->from[r->at] == ']') {
        r->in_class = false;
    }
    copy(r, 1);
    return STATUS_OK;
}

static enum status compile(struct tokenizer_split *split, struct step *step, size_t bytes, bool literal)
{
    uint32_t options = literal ? PCRE2_UTF | PCRE2_LITERAL
                               : PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
    PCRE2_SIZE offset;
    int error;

    step->code = pcre2_compile((PCRE2_SPTR)split->rewritten, bytes, options, &error, &offset, NULL);
    if (!step->code) {
        PCRE2_UCHAR words[256] = "";

        pcre2_get_error_message(error, words, sizeof words);
        return FAIL(STATUS_BAD_INPUT, "split pattern: %s, near \"%.40s\"", (const char *)words,
                    offset < bytes ? split->rewritten + offset : "");
    }
    pcre2_jit_compile(step->code,
                      PCRE2_JIT_COMPLETE); /* without it pcre2_match interprets: slower, the same pieces */
    return STATUS_OK;
}

enum status tokenizer_split_add(struct tokenizer_split *split, const char *pattern, size_t bytes,
                                enum tokenizer_split_keep keep, bool literal)
{
    struct rewrite r = {.from = pattern, .bytes = bytes, .to = split->rewritten};
    struct step *step = &split->steps[split->count];

    if (split->count == TOKENIZER_SPLIT_STEPS)
        return FAIL(STATUS_BAD_INPUT, "more than %d Split steps", TOKENIZER_SPLIT_STEPS);
    if (bytes >= TOKENIZER_SPLIT_PATTERN_BYTES)
        return FAIL(STATUS_BAD_INPUT, "split pattern of %zu bytes; at most %d can be read", bytes,
                    TOKENIZER_SPLIT_PATTERN_BYTES - 1);
    if (literal)
        copy(&r, bytes);
    while (r.at < r.bytes)
        TRY(rewrite_next(&r));
    r.to[r.written] = '\0';
    TRY(compile(split, step, r.written, literal));
    step->keep = keep;
    split->count++;
    return STATUS_OK;
}

struct run {
    struct tokenizer_split *split;
    const struct tokenizer_split_taker *taker;
};

static enum status cut(const struct run *run, int level, const char *text, size_t bytes);

/* A piece of one step is the text of the next. */
static enum status deliver(const struct run *run, int level, const char *piece, size_t bytes)
{
    if (bytes == 0)
        return STATUS_OK;
    if (level + 1 < run->split->count)
        return cut(run, level + 1, piece, bytes);
    return run->taker->take(run->taker->context, piece, bytes);
}

/* The next match from *at on; false in *found at the end. A match of nothing right behind the last match is
 * passed over, as the iterator of Oniguruma's binding does. */
static enum status next_match(const struct run *run, int level, const char *text, size_t bytes, size_t *at,
                              size_t last, size_t range[2], bool *found)
{
    const struct tokenizer_split *split = run->split;

    *found = false;
    while (*at <= bytes) {
        int rc = pcre2_match(split->steps[level].code, (PCRE2_SPTR)text, bytes, *at, PCRE2_NO_UTF_CHECK,
                             split->match, split->context);
        const PCRE2_SIZE *span = pcre2_get_ovector_pointer(split->match);
        size_t length = 1;

        if (rc == PCRE2_ERROR_NOMATCH)
            return STATUS_OK;
        if (rc < 0) {
            PCRE2_UCHAR words[256] = "";

            pcre2_get_error_message(rc, words, sizeof words);
            return FAIL(STATUS_BAD_INPUT, "splitting text of %zu bytes: %s", bytes, (const char *)words);
        }
        if (span[0] != span[1] || span[1] != last) {
            range[0] = span[0];
            range[1] = *at = span[1];
            *found = true;
            return STATUS_OK;
        }
        if (*at < bytes)
            utf8_step(text + *at, bytes - *at, &length);
        *at += length;
    }
    return STATUS_OK;
}

static enum status cut(const struct run *run, int level, const char *text, size_t bytes)
{
    enum tokenizer_split_keep keep = run->split->steps[level].keep;
    size_t last = SIZE_MAX; /* no match yet */
    size_t done = 0;
    size_t at = 0;

    for (;;) {
        size_t range[2];
        bool found;

        TRY(next_match(run, level, text, bytes, &at, last, range, &found));
        if (!found)
            break;
        if (keep != TOKENIZER_SPLIT_MATCHES)
            TRY(deliver(run, level, text + done, range[0] - done));
        if (keep == TOKENIZER_SPLIT_ALL || keep == TOKENIZER_SPLIT_MATCHES)
            TRY(deliver(run, level, text + range[0], range[1] - range[0]));
        done = keep == TOKENIZER_SPLIT_NEXT ? range[0] : range[1];
        last = range[1];
    }
    return keep == TOKENIZER_SPLIT_MATCHES ? STATUS_OK : deliver(run, level, text + done, bytes - done);
}

enum status tokenizer_split_run(struct tokenizer_split *split, const char *text, size_t bytes,
                                const struct tokenizer_split_taker *taker)
{
    struct run run = {.split = split, .taker = taker};

    return deliver(&run, -1, text, bytes);
}
