/* chat_prompt.c - a prompt as a renderer writes it: the template's own text, and the content of messages
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/chat_prompt.h"
#include "engine/json_text.h"
#include "engine/utf8.h"

#include <string.h>

enum { CHUNK = 256 /* bytes escaped at once */ };

static void put_bytes(struct chat_prompt *p, const char *text, size_t bytes)
{
    if (p->bytes + bytes <= p->capacity && bytes > 0)
        memcpy(p->text + p->bytes, text, bytes);
    p->bytes += bytes;
}

/* The text from `begin` on is content; it may go on where the last content ended. */
static void note_content(struct chat_prompt *p, size_t begin)
{
    struct tokenizer_span *last = p->content_count > 0 ? &p->content[p->content_count - 1] : NULL;

    if (!p->content || begin == p->bytes)
        return;
    if (last && last->end == begin)
        last->end = p->bytes;
    else if (p->content_count < p->content_capacity)
        p->content[p->content_count++] = (struct tokenizer_span){.begin = begin, .end = p->bytes};
}

void chat_prompt_put(struct chat_prompt *p, const char *text)
{
    put_bytes(p, text, strlen(text));
}

void chat_prompt_content(struct chat_prompt *p, struct chat_text text)
{
    size_t begin = p->bytes;
    size_t length;

    if (utf8_valid(text.text, text.bytes)) {
        put_bytes(p, text.text, text.bytes);
    } else {
        for (size_t at = 0; at < text.bytes; at += length) {
            bool whole = utf8_step(text.text + at, text.bytes - at, &length) == UTF8_WHOLE;

            put_bytes(p, whole ? text.text + at : utf8_replacement, whole ? length : UTF8_REPLACEMENT_BYTES);
        }
    }
    note_content(p, begin);
}

void chat_prompt_role(struct chat_prompt *p, const struct chat_message *message)
{
    chat_prompt_content(p, (struct chat_text){.text = message->role, .bytes = strlen(message->role)});
}

void chat_prompt_json(struct chat_prompt *p, const struct chat_message *message)
{
    char escaped[JSON_TEXT_GROWTH * CHUNK];
    size_t begin;

    chat_prompt_put(p, "\"");
    begin = p->bytes;
    for (size_t at = 0; at < message->bytes;) {
        size_t length;

        if (utf8_step(message->content + at, message->bytes - at, &length) == UTF8_WHOLE)
            put_bytes(p, escaped, json_text_escape(escaped, message->content + at, length));
        else
            chat_prompt_put(p, utf8_replacement);
        at += length;
    }
    note_content(p, begin);
    chat_prompt_put(p, "\"");
}

bool chat_prompt_is_role(const struct chat_message *message, const char *role)
{
    return strcmp(message->role, role) == 0;
}

struct chat_text chat_prompt_text(const struct chat_message *message)
{
    return (struct chat_text){.text = message->content, .bytes = message->bytes};
}

/* White space as Python's str.strip sees it: White_Space and four separators more. */
static bool is_blank(const char *character, size_t length)
{
    uint32_t code = utf8_code(character, length);

    return utf8_white_space(code) || (code >= 0x1C && code <= 0x1F);
}

struct chat_text chat_prompt_trim(struct chat_text text)
{
    size_t begin = text.bytes;
    size_t end = text.bytes;
    size_t length;

    for (size_t at = 0; at < text.bytes; at += length) {
        enum utf8_kind kind = utf8_step(text.text + at, text.bytes - at, &length);

        if (kind == UTF8_WHOLE && is_blank(text.text + at, length))
            continue;
        if (begin > at)
            begin = at;
        end = at + length;
    }
    return (struct chat_text){.text = text.text + begin, .bytes = end - begin};
}

struct chat_text chat_prompt_lines_after(struct chat_text text)
{
    while (text.bytes > 0 && text.text[0] == '\n') {
        text.text++;
        text.bytes--;
    }
    return text;
}

struct chat_text chat_prompt_lines_before(struct chat_text text)
{
    while (text.bytes > 0 && text.text[text.bytes - 1] == '\n')
        text.bytes--;
    return text;
}

struct chat_text chat_prompt_before(struct chat_text text, const char *mark)
{
    const char *at = memmem(text.text, text.bytes, mark, strlen(mark));

    if (at)
        text.bytes = (size_t)(at - text.text);
    return text;
}

struct chat_text chat_prompt_behind(struct chat_text text, const char *mark)
{
    size_t length = strlen(mark);
    const char *at;

    while ((at = memmem(text.text, text.bytes, mark, length))) {
        text.bytes -= (size_t)(at - text.text) + length;
        text.text = at + length;
    }
    return text;
}

bool chat_prompt_holds(struct chat_text text, const char *mark)
{
    return memmem(text.text, text.bytes, mark, strlen(mark)) != NULL;
}

bool chat_prompt_begins(struct chat_text text, const char *mark)
{
    size_t length = strlen(mark);

    return text.bytes >= length && memcmp(text.text, mark, length) == 0;
}

bool chat_prompt_ends(struct chat_text text, const char *mark)
{
    size_t length = strlen(mark);

    return text.bytes >= length && memcmp(text.text + text.bytes - length, mark, length) == 0;
}
