/* tokenizer_normal.h - rewrite text before it is split, as the normalizer of tokenizer.json says
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * open, add one step per normalizer in the order of the file, run as often as needed. The Unicode forms are
 * those of utf8proc; a character that is newer than its tables stays as it is. Takes no memory while it runs.
 */
#ifndef TOKENIZER_NORMAL_H
#define TOKENIZER_NORMAL_H

#include "engine/base/arena.h"
#include "engine/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum tokenizer_normal_kind {
    TOKENIZER_NORMAL_FORM,    /* NFC, NFD, NFKC, NFKD */
    TOKENIZER_NORMAL_REPLACE, /* every `from` becomes `to` */
    TOKENIZER_NORMAL_PREPEND, /* `to` in front */
    TOKENIZER_NORMAL_BEGIN,   /* `to` in front, unless the text begins with it */
    TOKENIZER_NORMAL_FIRST,   /* the same, but only in front of the first text */
};

struct tokenizer_normal_step {
    enum tokenizer_normal_kind kind;
    bool compose, compatible; /* of a form: C or D, K or not */
    const char *from, *to;
    size_t from_bytes, to_bytes;
};

enum {
    TOKENIZER_NORMAL_STEPS = 8,
    TOKENIZER_NORMAL_LIMIT = 64 << 20, /* bytes of rewritten text */
    TOKENIZER_NORMAL_RUN = 1 << 20, /* characters that must be looked at together: a letter and its marks */
    TOKENIZER_NORMAL_TEXT = 4096,   /* bytes of all `from` and `to` */
};

struct tokenizer_normal {
    struct tokenizer_normal_step steps[TOKENIZER_NORMAL_STEPS];
    int count;
    char *text; /* of the steps */
    size_t text_used;
    char *buffers[2];
    int32_t *codes, *sorted; /* [TOKENIZER_NORMAL_RUN] */
};

enum status tokenizer_normal_open(struct tokenizer_normal *n, struct arena *arena);

/* Bytes that tokenizer_normal_open takes at most; pages are touched as texts come. */
size_t tokenizer_normal_room(void);

/* Copies the texts of the step. STATUS_BAD_INPUT: too many, too long, or an empty `from`. */
enum status tokenizer_normal_add(struct tokenizer_normal *n, const struct tokenizer_normal_step *step);

/* Rewrites *text, valid UTF-8 and not empty. Without steps *text stays; else it then lies in memory of `n`,
 * valid until the next run, and one byte in front of it is the caller's. `first`: nothing stands before it.
 */
enum status tokenizer_normal_run(struct tokenizer_normal *n, bool first, const char **text, size_t *bytes);

#endif
