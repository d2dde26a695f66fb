/* json_text.h - text as a JSON string
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef JSON_TEXT_H
#define JSON_TEXT_H

#include <stddef.h>

enum { JSON_TEXT_GROWTH = 6 /* bytes that one byte may become: \u001f */ };

/* Escapes what must be escaped inside of quotes and nothing more, so UTF-8 stays readable; the quotes are the
 * caller's. Works byte by byte: text may come in any parts. Returns the bytes written, at most
 * JSON_TEXT_GROWTH * bytes. */
size_t json_text_escape(char *out, const char *text, size_t bytes);

#endif
