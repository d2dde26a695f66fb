/* utf8.c - characters in bytes: which are whole, which are broken, which are not complete yet
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/utf8.h"

#include <string.h>

const char utf8_replacement[UTF8_REPLACEMENT_BYTES + 1] = "\xEF\xBF\xBD";

/* Bytes of a character by its first byte; 0: none begins so. */
static size_t character_bytes(unsigned char lead)
{
    if (lead < 0x80)
        return 1;
    if (lead >= 0xC2 && lead <= 0xDF)
        return 2;
    if (lead >= 0xE0 && lead <= 0xEF)
        return 3;
    return lead >= 0xF0 && lead <= 0xF4 ? 4 : 0;
}

/* Overlong forms, surrogates and code points from U+110000 show in the second byte. */
static bool second_fits(unsigned char lead, unsigned char second)
{
    switch (lead) {
    case 0xE0:
        return second >= 0xA0 && second <= 0xBF;
    case 0xED:
        return second >= 0x80 && second <= 0x9F;
    case 0xF0:
        return second >= 0x90 && second <= 0xBF;
    case 0xF4:
        return second >= 0x80 && second <= 0x8F;
    default:
        return second >= 0x80 && second <= 0xBF;
    }
}

enum utf8_kind utf8_step(const char *text, size_t bytes, size_t *length)
{
    const unsigned char *at = (const unsigned char *)text;
    size_t need = character_bytes(at[0]);
    size_t have = 1;

    while (have < need && have < bytes && (have == 1 ? second_fits(at[0], at[1]) : (at[have] & 0xC0) == 0x80))
        have++;
    *length = have;
    if (have == need)
        return UTF8_WHOLE;
    return have < need && have == bytes ? UTF8_UNFINISHED : UTF8_BROKEN;
}

uint32_t utf8_code(const char *character, size_t length)
{
    static const unsigned char payload[] = {0, 0x7F, 0x1F, 0x0F, 0x07};
    uint32_t code = (unsigned char)character[0] & payload[length];

    for (size_t i = 1; i < length; i++)
        code = code << 6 | ((unsigned char)character[i] & 0x3F);
    return code;
}

/* How many bytes at the front are ASCII, counted in eights. */
static size_t ascii_run(const char *text, size_t bytes)
{
    size_t run = 0;

    while (bytes - run >= sizeof(uint64_t)) {
        uint64_t eight;

        memcpy(&eight, text + run, sizeof eight);
        if (eight & UINT64_C(0x8080808080808080))
            break;
        run += sizeof eight;
    }
    return run;
}

bool utf8_valid(const char *text, size_t bytes)
{
    size_t at = 0;

    while (at < bytes) {
        size_t length;

        at += ascii_run(text + at, bytes - at);
        if (at == bytes)
            break;
        if (utf8_step(text + at, bytes - at, &length) != UTF8_WHOLE)
            return false;
        at += length;
    }
    return true;
}

size_t utf8_repair(char *out, const char *text, size_t bytes)
{
    size_t written = 0;
    size_t length;

    for (size_t at = 0; at < bytes; at += length) {
        bool whole = utf8_step(text + at, bytes - at, &length) == UTF8_WHOLE;
        size_t copied = whole ? length : UTF8_REPLACEMENT_BYTES;

        memcpy(out + written, whole ? text + at : utf8_replacement, copied);
        written += copied;
    }
    return written;
}

bool utf8_white_space(uint32_t code)
{
    return (code >= 0x09 && code <= 0x0D) || code == 0x20 || code == 0x85 || code == 0xA0 || code == 0x1680 ||
           (code >= 0x2000 && code <= 0x200A) || code == 0x2028 || code == 0x2029 || code == 0x202F ||
           code == 0x205F || code == 0x3000;
}
