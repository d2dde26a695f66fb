/* chat.c - messages to the prompt a model was trained on; one renderer per family
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/chat.h"
#include "engine/chat_glm4.h"
#include "engine/chat_llama.h"
#include "engine/chat_mixtral.h"
#include "engine/chat_qwen3.h"
#include "engine/json_text.h"

#include <string.h>

enum { TYPES = 4, MARKS = 6 };

/* A form of prompt. Templates are compared with marks: blanks between the words of a template do not count,
 * blanks in its strings do, and both kinds of quotes are one. */
struct chat {
    const char *model_types[TYPES];
    const char *all[MARKS];  /* the template holds all of these */
    const char *any[MARKS];  /* and one of these, if there are any */
    const char *none[MARKS]; /* and none of these */
    const char *tokens[2];   /* the tokenizer has these */
    bool bare;               /* also serves a directory without a template */
    enum status (*render)(struct chat_prompt *p, const struct chat_job *job);
};

/* Of several forms that fit the first counts. */
static const struct chat forms[] = {
    {.model_types = {"llama4", "llama4_text"},
     .all = {"<|header_start|>"},
     .any = {"message['content']|trim", "message.content|trim"},
     .tokens = {"<|header_start|>", "<|eot|>"},
     .render = chat_llama_4_trimmed},
    {.model_types = {"llama4", "llama4_text"},
     .all = {"<|header_start|>"},
     .bare = true,
     .tokens = {"<|header_start|>", "<|eot|>"},
     .render = chat_llama_4},
    {.model_types = {"llama"},
     .all = {"<|start_header_id|>", "message['content']|trim", "<|eot_id|>"},
     .none = {"Cutting Knowledge Date", "date_string"},
     .bare = true,
     .tokens = {"<|start_header_id|>", "<|eot_id|>"},
     .render = chat_llama_3},
    {.model_types = {"qwen3_moe", "qwen3"},
     .all = {"<|im_start|>", "last_query_index", "</think>", "enable_thinking is false"},
     .none = {"'<|im_start|>assistant\\n<think>", "You are Qwen", "helpful"},
     .bare = true,
     .tokens = {"<|im_start|>", "<|im_end|>"},
     .render = chat_qwen3_hybrid},
    {.model_types = {"qwen3_moe", "qwen3"},
     .all = {"<|im_start|>", "last_query_index", "</think>", "'<|im_start|>assistant\\n<think>\\n'}}"},
     .none = {"enable_thinking", "You are Qwen", "helpful"},
     .tokens = {"<|im_start|>", "<|im_end|>"},
     .render = chat_qwen3_thinking},
    {.model_types = {"qwen3_moe", "qwen3"},
     .all = {"'<|im_start|>'+message.role+'\\n'", "'<|im_start|>assistant\\n'}}",
             "messages[0].role=='system'"},
     .none = {"think>", "trim", "strip", "You are Qwen", "helpful"},
     .tokens = {"<|im_start|>", "<|im_end|>"},
     .render = chat_qwen3_instruct},
    {.model_types = {"mixtral"},
     .all = {"'[INST] '+message['content']+' [/INST]'", "{{message['content']+eos_token}}", "must alternate"},
     .none = {"system", "trim", "strip"},
     .bare = true,
     .tokens = {"<s>", "</s>"},
     .render = chat_mixtral_first},
    {.model_types = {"mixtral"},
     .all = {"' [INST] '+system_message+'\\n\\n'+message['content']+' [/INST]'",
             "' [INST] '+message['content']+' [/INST]'", "' '+message['content']+eos_token", "loop.first"},
     .none = {"trim", "strip"},
     .tokens = {"<s>", "</s>"},
     .render = chat_mixtral_later},
    {.model_types = {"glm4_moe"},
     .all = {"[gMASK]<sop>", "<|user|>\n", "/nothink", "<|observation|>", "<|assistant|>", "<think></think>"},
     .bare = true,
     .tokens = {"<|user|>", "<|assistant|>"},
     .render = chat_glm4},
};

enum { FORMS = sizeof forms / sizeof *forms };

static bool serves(const struct chat *c, const char *model_type)
{
    for (int i = 0; i < TYPES && c->model_types[i]; i++)
        if (strcmp(c->model_types[i], model_type) == 0)
            return true;
    return false;
}

static char plain(char c)
{
    return c == '"' ? '\'' : c;
}

/* Does the mark stand at this place of a template? */
static bool stands_at(const char *template, const char *mark)
{
    bool quoted = false;

    for (; *mark; mark++) {
        while (*template == ' ' && *mark != ' ' && !quoted)
            template ++;
        if (plain(*template) != *mark)
            return false;
        quoted ^= *mark == '\'';
        template ++;
    }
    return true;
}

static bool holds(const char *template, const char *mark)
{
    for (; *template; template ++)
        if (*template != ' ' && stands_at(template, mark))
            return true;
    return false;
}

/* What a template lacks for this form, or has against it; NULL: it fits. */
static const char *amiss(const struct chat *c, const char *template)
{
    bool one = !c->any[0];

    for (int i = 0; i < MARKS && c->all[i]; i++)
        if (!holds(template, c->all[i]))
            return c->all[i];
    for (int i = 0; i < MARKS && c->none[i]; i++)
        if (holds(template, c->none[i]))
            return c->none[i];
    for (int i = 0; i < MARKS && c->any[i]; i++)
        one |= holds(template, c->any[i]);
    return one ? NULL : c->any[0];
}

/* Prompts in tokens that the tokenizer lacks would be nonsense to the model. */
static enum status check_tokens(const struct chat *c, const char *model_type, const struct tokenizer *t)
{
    for (int i = 0; i < 2; i++)
        if (tokenizer_find(t, c->tokens[i]) < 0)
            return FAIL(
                STATUS_BAD_INPUT,
                "the tokenizer has no token \"%s\", which chats of %s are made of: send complete prompts "
                "instead",
                c->tokens[i], model_type);
    return STATUS_OK;
}

enum status chat_find(const struct chat **out, const char *model_type, const struct tokenizer *t)
{
    const char *template = tokenizer_chat_template(t);
    const char *why = NULL;

    for (int i = 0; i < FORMS; i++) {
        const struct chat *c = &forms[i];
        const char *wrong = NULL;

        if (!serves(c, model_type))
            continue;
        wrong = template ? amiss(c, template) : NULL;
        if (template ? !wrong : c->bare) {
            TRY(check_tokens(c, model_type, t));
            *out = c;
            return STATUS_OK;
        }
        if (c->bare || !why)
            why = wrong ? wrong : "";
    }
    if (why)
        return FAIL(
            STATUS_BAD_INPUT,
            "the directory's chat template is none of those of %s that can be rendered (see its \"%s\"): "
            "send complete prompts instead",
            model_type, why);
    return FAIL(STATUS_BAD_INPUT,
                "there is no chat renderer for model_type \"%s\": send complete prompts instead", model_type);
}

enum status chat_render(const struct chat *c, const struct chat_job *job, struct chat_prompt *out)
{
    out->bytes = 0;
    out->content_count = 0;
    if (job->count < 1)
        return FAIL(STATUS_BAD_INPUT, "a chat needs one message at least");
    TRY(c->render(out, job));
    if (out->bytes > out->capacity)
        return FAIL(STATUS_BAD_INPUT, "a prompt of %zu bytes; there is room for %zu", out->bytes,
                    out->capacity);
    return STATUS_OK;
}

size_t chat_room(const struct chat_message *messages, int count)
{
    static const size_t frame = 128; /* the longest text around a message, its role not counted */
    size_t room = 2 * frame;

    for (int i = 0; i < count; i++)
        room += frame + JSON_TEXT_GROWTH * (strlen(messages[i].role) + messages[i].bytes);
    return room;
}
