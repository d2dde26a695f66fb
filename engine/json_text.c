/* json_text.c - text as a JSON string
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/json_text.h"

#include <string.h>

size_t json_text_escape(char *out, const char *text, size_t bytes)
{
    static const char plain[] = "\"\\\b\f\n\r\t";
    static const char letters[] = "\"\\bfnrt";
    static const char digits[] = "0123456789abcdef";
    char *to = out;

    for (size_t i = 0; i < bytes; i++) {
        unsigned char byte = (unsigned char)text[i];
        const char *known = byte ? strchr(plain, byte) : NULL;

        if (known) {
            *to++ = '\\';
            *to++ = letters[known - plain];
        } else if (byte < 0x20) {
            memcpy(to, "\\u00", 4);
            to[4] = digits[byte >> 4];
            to[5] = digits[byte & 15];
            to += 6;
        } else {
            *to++ = (char)byte;
        }
    }
    return (size_t)(to - out);
}
