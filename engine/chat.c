/* chat.c - messages to the prompt a model was trained on; one renderer per family
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/chat.h"
#include "engine/json_text.h"
#include "engine/utf8.h"

#include <stdint.h>
#include <string.h>

/* The prompt as it grows. What does not fit is counted all the same. */
struct prompt {
    char *text;
    size_t capacity;
    size_t bytes;
};

struct chat {
    const char *model_types[4];
    const char *mark; /* a template of this family holds it */
    const char *
        variants[4]; /* the template of this very row holds one of them, blanks left out; none: any will do */
    enum status (*render)(struct prompt *p, const struct chat_message *messages, int count,
                          bool generation_prompt);
};

static void put_bytes(struct prompt *p, const char *text, size_t bytes)
{
    if (p->bytes + bytes <= p->capacity && bytes > 0)
        memcpy(p->text + p->bytes, text, bytes);
    p->bytes += bytes;
}

static void put(struct prompt *p, const char *text)
{
    put_bytes(p, text, strlen(text));
}

/* White space as Python's str.strip sees it: White_Space and four separators more. */
static bool is_blank(const char *character, size_t length)
{
    uint32_t code = utf8_code(character, length);

    return utf8_white_space(code) || (code >= 0x1C && code <= 0x1F);
}

static void put_trimmed(struct prompt *p, const struct chat_message *message)
{
    size_t begin = message->bytes;
    size_t end = 0;
    size_t length;

    for (size_t at = 0; at < message->bytes; at += length) {
        enum utf8_kind kind = utf8_step(message->content + at, message->bytes - at, &length);

        if (kind == UTF8_WHOLE && is_blank(message->content + at, length))
            continue;
        if (begin > at)
            begin = at;
        end = at + length;
    }
    if (begin < end)
        put_bytes(p, message->content + begin, end - begin);
}

/* Text as the filter tojson writes it. */
static void put_json(struct prompt *p, const struct chat_message *message)
{
    char escaped[JSON_TEXT_GROWTH * 256];

    put(p, "\"");
    for (size_t at = 0; at < message->bytes; at += 256) {
        size_t left = message->bytes - at;

        put_bytes(p, escaped, json_text_escape(escaped, message->content + at, left < 256 ? left : 256));
    }
    put(p, "\"");
}

static void llama4_header(struct prompt *p, const char *role)
{
    put(p, "<|header_start|>");
    put(p, role);
    put(p, "<|header_end|>\n\n");
}

/* As released: a system message in first place is trimmed, other text is not; results of tools are JSON. */
static enum status render_llama4(struct prompt *p, const struct chat_message *messages, int count,
                                 bool generation_prompt)
{
    put(p, "<|begin_of_text|>");
    for (int i = 0; i < count; i++) {
        const struct chat_message *message = &messages[i];
        bool tool = strcmp(message->role, "tool") == 0 || strcmp(message->role, "ipython") == 0;

        llama4_header(p, tool ? "ipython" : message->role);
        if (i == 0 && strcmp(message->role, "system") == 0)
            put_trimmed(p, message);
        else if (tool)
            put_json(p, message);
        else
            put_bytes(p, message->content, message->bytes);
        put(p, "<|eot|>");
    }
    if (generation_prompt)
        llama4_header(p, "assistant");
    return STATUS_OK;
}

/* A shorter template that trims every message. */
static enum status render_llama4_trimmed(struct prompt *p, const struct chat_message *messages, int count,
                                         bool generation_prompt)
{
    put(p, "<|begin_of_text|>");
    for (int i = 0; i < count; i++) {
        llama4_header(p, messages[i].role);
        put_trimmed(p, &messages[i]);
        put(p, "<|eot|>");
    }
    if (generation_prompt)
        llama4_header(p, "assistant");
    return STATUS_OK;
}

/* The first row that fits counts: a variant stands before the row without one. */
static const struct chat families[] = {
    {{"llama4", "llama4_text"},
     "<|header_start|>",
     {"message['content']|trim", "message[\"content\"]|trim", "message.content|trim"},
     render_llama4_trimmed},
    {{"llama4", "llama4_text"}, "<|header_start|>", {NULL}, render_llama4},
};

enum {
    FAMILIES = sizeof families / sizeof *families,
    TYPES = sizeof families->model_types / sizeof(char *),
    VARIANTS = sizeof families->variants / sizeof(char *),
};

static bool serves(const struct chat *c, const char *model_type)
{
    for (int i = 0; i < TYPES && c->model_types[i]; i++)
        if (strcmp(c->model_types[i], model_type) == 0)
            return true;
    return false;
}

/* Does the template hold `what`, its own blanks not counted? */
static bool holds(const char *template, const char *what)
{
    for (; *template; template ++) {
        const char *at = template;
        const char *want = what;

        while (*want && (*at == *want || *at == ' ')) {
            want += *at == *want;
            at++;
        }
        if (!*want)
            return true;
    }
    return false;
}

static bool is_variant(const struct chat *c, const char *template)
{
    for (int i = 0; i < VARIANTS && c->variants[i]; i++)
        if (template && holds(template, c->variants[i]))
            return true;
    return c->variants[0] == NULL;
}

enum status chat_find(const struct chat **out, const char *model_type, const struct tokenizer *t)
{
    const char *template = tokenizer_chat_template(t);
    const char *mark = NULL;

    for (int i = 0; i < FAMILIES; i++) {
        const struct chat *c = &families[i];

        if (!serves(c, model_type))
            continue;
        mark = c->mark;
        if (is_variant(c, template) && (!template || strstr(template, c->mark))) {
            *out = c;
            return STATUS_OK;
        }
    }
    if (mark)
        return FAIL(STATUS_BAD_INPUT,
                    "the directory's chat template does not hold \"%s\", as those of %s do: it is of another "
                    "form and cannot "
                    "be rendered; send complete prompts instead",
                    mark, model_type);
    return FAIL(STATUS_BAD_INPUT,
                "there is no chat renderer for model_type \"%s\": send complete prompts instead", model_type);
}

enum status chat_render(const struct chat *c, const struct chat_message *messages, int count,
                        bool generation_prompt, char *out, size_t capacity, size_t *bytes)
{
    struct prompt prompt = {.text = out, .capacity = capacity};

    TRY(c->render(&prompt, messages, count, generation_prompt));
    if (prompt.bytes > capacity)
        return FAIL(STATUS_BAD_INPUT, "a prompt of %zu bytes; there is room for %zu", prompt.bytes, capacity);
    *bytes = prompt.bytes;
    return STATUS_OK;
}

size_t chat_room(const struct chat_message *messages, int count)
{
    static const size_t frame = 128; /* the longest text around a message, its role not counted */
    size_t room = 2 * frame;

    for (int i = 0; i < count; i++)
        room += frame + strlen(messages[i].role) + JSON_TEXT_GROWTH * messages[i].bytes;
    return room;
}
