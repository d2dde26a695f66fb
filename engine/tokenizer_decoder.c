/* tokenizer_decoder.c - what a token shows, as the decoder of tokenizer.json says
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/tokenizer_decoder.h"

#include <string.h>

enum status tokenizer_decoder_add(struct tokenizer_decoder *d,
                                  const struct tokenizer_decoder_replace *replace)
{
    if (d->replace_count == TOKENIZER_DECODER_REPLACES)
        return FAIL(STATUS_BAD_INPUT, "more than %d Replace", TOKENIZER_DECODER_REPLACES);
    if (replace->from_bytes == 0 || replace->from_bytes < replace->to_bytes)
        return FAIL(STATUS_BAD_INPUT, "a Replace that makes text longer");
    d->replaces[d->replace_count++] = *replace;
    return STATUS_OK;
}

static int digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int tokenizer_decoder_byte(const char *name, size_t bytes)
{
    if (bytes != 6 || memcmp(name, "<0x", 3) != 0 || name[5] != '>' || digit(name[3]) < 0 ||
        digit(name[4]) < 0)
        return -1;
    return digit(name[3]) * 16 + digit(name[4]);
}

/* In place: text never grows. */
static size_t replace(const struct tokenizer_decoder_replace *r, char *text, size_t bytes)
{
    size_t written = 0;

    for (size_t at = 0; at < bytes;) {
        if (bytes - at >= r->from_bytes && memcmp(text + at, r->from, r->from_bytes) == 0) {
            memcpy(text + written, r->to, r->to_bytes);
            written += r->to_bytes;
            at += r->from_bytes;
        } else {
            text[written++] = text[at++];
        }
    }
    return written;
}

size_t tokenizer_decoder_show(const struct tokenizer_decoder *d, const char *name, size_t bytes, char *out)
{
    size_t length = bytes;
    int byte;

    memcpy(out, name, bytes);
    for (int i = 0; i < d->replace_count; i++)
        length = replace(&d->replaces[i], out, length);
    byte = d->byte_fallback ? tokenizer_decoder_byte(out, length) : -1;
    if (byte < 0)
        return length;
    out[0] = (char)byte;
    return 1;
}
