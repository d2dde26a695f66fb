/* request_line.c - a line of JSON becomes a request, or says why it cannot
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/request_line.h"

#include "engine/json_text.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SHOWN_BYTES = 64 }; /* of a name or a value that is repeated in a message */

struct reading {
    struct request_line *line;
    int vocabulary;
};

struct field {
    const char *name;
    enum status (*read)(struct reading *r, const struct field *field, const json_t *value);
    size_t offset; /* into struct request_options, for whole and real numbers */
    double least, most;
    bool above; /* least itself is not legal */
};

static enum status refuse(const struct field *field, const char *legal)
{
    return FAIL(STATUS_BAD_INPUT, "\"%s\" must be %s", field->name, legal);
}

static void store(struct reading *r, const struct field *field, const void *value, size_t bytes)
{
    memcpy((char *)&r->line->options + field->offset, value, bytes);
}

static enum status read_whole(struct reading *r, const struct field *field, const json_t *value)
{
    json_int_t number = json_integer_value(value);

    if (!json_is_integer(value) || (double)number < field->least || (double)number > field->most)
        return FAIL(STATUS_BAD_INPUT, "\"%s\" must be a whole number from %.0f to %.0f", field->name,
                    field->least, field->most);
    store(r, field, &(int){(int)number}, sizeof(int));
    return STATUS_OK;
}

static enum status read_real(struct reading *r, const struct field *field, const json_t *value)
{
    double number = json_number_value(value);

    if (!json_is_number(value) || !isfinite(number) || number < field->least || number > field->most ||
        (field->above && (double)(float)number <= field->least))
        return FAIL(STATUS_BAD_INPUT,
                    field->above ? "\"%s\" must be a number above %g and at most %g"
                                 : "\"%s\" must be a number from %g to %g",
                    field->name, field->least, field->most);
    store(r, field, &(float){(float)number}, sizeof(float));
    return STATUS_OK;
}

static enum status read_copies(struct reading *r, const struct field *field, const json_t *value)
{
    json_int_t number = json_integer_value(value);

    if (!json_is_integer(value) || number < 1 || number > REQUEST_LINE_COPIES)
        return FAIL(STATUS_BAD_INPUT, "\"%s\" must be a whole number from 1 to %d", field->name,
                    REQUEST_LINE_COPIES);
    r->line->copies = (int)number;
    return STATUS_OK;
}

/* The same seed gives the same text whatever the request is called and wherever it stands. */
static enum status read_seed(struct reading *r, const struct field *field, const json_t *value)
{
    if (!json_is_integer(value))
        return refuse(field, "a whole number of 64 bits");
    r->line->options.sampling.seed = (uint64_t)json_integer_value(value);
    r->line->options.own_stream = true;
    r->line->options.stream = 0;
    return STATUS_OK;
}

static enum status read_ignore_eos(struct reading *r, const struct field *field, const json_t *value)
{
    if (!json_is_boolean(value))
        return refuse(field, "true or false");
    r->line->options.ignore_eos = json_is_true(value);
    return STATUS_OK;
}

static enum status read_logprobs(struct reading *r, const struct field *field, const json_t *value)
{
    json_int_t number = json_integer_value(value);

    if (!json_is_integer(value) || number < 0 || number > REQUEST_TOP)
        return FAIL(STATUS_BAD_INPUT, "\"%s\" must be a whole number from 0 to %d", field->name, REQUEST_TOP);
    store(r, field, &(struct request_logprobs){.wanted = true, .top = (int)number},
          sizeof(struct request_logprobs));
    return STATUS_OK;
}

static enum status read_stop(struct reading *r, const struct field *field, const json_t *value)
{
    struct request_options *o = &r->line->options;
    size_t count = json_is_array(value) ? json_array_size(value) : 1;

    if (count > DETOKENIZER_STOP_LIMIT)
        return FAIL(STATUS_BAD_INPUT, "\"stop\" has %zu texts; there may be %d", count,
                    DETOKENIZER_STOP_LIMIT);
    for (size_t i = 0; i < count; i++) {
        const json_t *text = json_is_array(value) ? json_array_get(value, i) : value;
        size_t bytes = json_string_length(text);

        if (!json_is_string(text))
            return refuse(field, "a text or a list of texts");
        if (bytes < 1 || bytes >= DETOKENIZER_STOP_BYTES)
            return FAIL(STATUS_BAD_INPUT, "a text of \"stop\" has %zu bytes; it must have 1 to %d", bytes,
                        DETOKENIZER_STOP_BYTES - 1);
        r->line->stops[i] = json_string_value(text);
        if (strlen(r->line->stops[i]) != bytes)
            return FAIL(STATUS_BAD_INPUT, "a text of \"stop\" holds the character U+0000, which cannot be "
                                          "looked for");
    }
    o->stops = r->line->stops;
    o->stop_count = (int)count;
    return STATUS_OK;
}

static enum status read_token(const struct field *field, const json_t *value, int vocabulary, int32_t *out)
{
    json_int_t number = json_integer_value(value);

    if (!json_is_integer(value))
        return refuse(field, "a list of token ids, which are whole numbers");
    if (number < 0 || number >= vocabulary)
        return FAIL(STATUS_BAD_INPUT, "\"%s\" holds the token id %lld; ids are from 0 to %d", field->name,
                    (long long)number, vocabulary - 1);
    *out = (int32_t)number;
    return STATUS_OK;
}

static enum status read_stop_ids(struct reading *r, const struct field *field, const json_t *value)
{
    size_t count = json_array_size(value);

    if (!json_is_array(value))
        return refuse(field, "a list of token ids");
    if (count > REQUEST_STOP_IDS)
        return FAIL(STATUS_BAD_INPUT, "\"stop_token_ids\" has %zu ids; there may be %d", count,
                    REQUEST_STOP_IDS);
    for (size_t i = 0; i < count; i++)
        TRY(read_token(field, json_array_get(value, i), r->vocabulary, &r->line->stop_ids[i]));
    r->line->options.stop_ids = r->line->stop_ids;
    r->line->options.stop_id_count = (int)count;
    return STATUS_OK;
}

/* {"42": -1.5, ...}; values beyond -100 ... 100 count as those, as with vLLM. */
static enum status read_bias(struct reading *r, const struct field *field, const json_t *value)
{
    struct logits_change *change = &r->line->options.change;
    json_t *object = (json_t *)(uintptr_t)value; /* jansson has no iteration over const */
    size_t count = json_object_size(value);
    const char *key;
    json_t *bias;
    int next = 0;

    if (!json_is_object(value))
        return refuse(field, "an object of numbers by token id, such as {\"42\": -1.5}");
    if (count > REQUEST_BIASES)
        return FAIL(STATUS_BAD_INPUT, "\"logit_bias\" has %zu tokens; there may be %d", count,
                    REQUEST_BIASES);
    json_object_foreach(object, key, bias)
    {
        double number = json_number_value(bias);
        char *end;
        long token;

        errno = 0;
        token = strtol(key, &end, 10);
        if (key[0] < '0' || key[0] > '9' || (key[0] == '0' && key[1]) || *end || errno ||
            token >= r->vocabulary)
            return FAIL(STATUS_BAD_INPUT, "\"logit_bias\" names the token \"%.*s\"; ids are from 0 to %d",
                        SHOWN_BYTES, key, r->vocabulary - 1);
        if (!json_is_number(bias) || !isfinite(number))
            return refuse(field, "an object of numbers by token id, such as {\"42\": -1.5}");
        r->line->biases[next++] = (struct logits_bias){(int32_t)token, (float)fmin(fmax(number, -100), 100)};
    }
    change->biases = r->line->biases;
    change->bias_count = next;
    return STATUS_OK;
}

static enum status read_prompt(struct reading *r, const struct field *field, const json_t *value)
{
    if (!json_is_string(value))
        return refuse(field, "text");
    r->line->form = REQUEST_LINE_TEXT;
    r->line->text = json_string_value(value);
    r->line->bytes = json_string_length(value);
    return STATUS_OK;
}

static enum status read_ids(struct reading *r, const struct field *field, const json_t *value)
{
    if (!json_is_array(value))
        return refuse(field, "a list of token ids");
    r->line->form = REQUEST_LINE_IDS;
    r->line->list = value;
    return STATUS_OK;
}

static enum status read_messages(struct reading *r, const struct field *field, const json_t *value)
{
    if (!json_is_array(value) || json_array_size(value) == 0)
        return refuse(field, "a list of messages, each with \"role\" and \"content\"");
    if (json_array_size(value) > REQUEST_LINE_MESSAGE_LIMIT)
        return FAIL(STATUS_BAD_INPUT, "%zu messages; there may be %d", json_array_size(value),
                    REQUEST_LINE_MESSAGE_LIMIT);
    r->line->form = REQUEST_LINE_MESSAGES;
    r->line->list = value;
    return STATUS_OK;
}

/* What the template is told beside the messages: as vLLM has it, but of one key alone. */
static enum status read_template(struct reading *r, const struct field *field, const json_t *value)
{
    const json_t *thinking = json_object_get(value, "enable_thinking");

    if (!json_is_object(value) || json_object_size(value) != (thinking != NULL) ||
        (thinking && !json_is_boolean(thinking)))
        return refuse(field, "an object with \"enable_thinking\", true or false, or an empty one");
    r->line->no_thinking = json_is_false(thinking);
    return STATUS_OK;
}

/* It was read first of all. */
static enum status skip(struct reading *r, const struct field *field, const json_t *value)
{
    (void)r;
    (void)field;
    (void)value;
    return STATUS_OK;
}

#define OPTION(name) offsetof(struct request_options, name)

static const struct field fields[] = {
    {"id", skip, 0, 0, 0, false},
    {"prompt", read_prompt, 0, 0, 0, false},
    {"prompt_token_ids", read_ids, 0, 0, 0, false},
    {"messages", read_messages, 0, 0, 0, false},
    {"chat_template_kwargs", read_template, 0, 0, 0, false},
    {"max_tokens", read_whole, OPTION(max_tokens), 1, INT_MAX, false},
    {"min_tokens", read_whole, OPTION(min_tokens), 0, INT_MAX, false},
    {"temperature", read_real, OPTION(sampling.temperature), 0, 100, false},
    {"top_p", read_real, OPTION(sampling.top_p), 0, 1, true},
    {"top_k", read_whole, OPTION(sampling.top_k), -1, INT_MAX, false},
    {"min_p", read_real, OPTION(sampling.min_p), 0, 1, false},
    {"repetition_penalty", read_real, OPTION(change.repetition), 0, 100, true},
    {"presence_penalty", read_real, OPTION(change.presence), -2, 2, false},
    {"frequency_penalty", read_real, OPTION(change.frequency), -2, 2, false},
    {"seed", read_seed, 0, 0, 0, false},
    {"stop", read_stop, 0, 0, 0, false},
    {"stop_token_ids", read_stop_ids, 0, 0, 0, false},
    {"ignore_eos", read_ignore_eos, 0, 0, 0, false},
    {"logprobs", read_logprobs, OPTION(logprobs), 0, 0, false},
    {"prompt_logprobs", read_logprobs, OPTION(prompt_logprobs), 0, 0, false},
    {"logit_bias", read_bias, 0, 0, 0, false},
    {"n", read_copies, 0, 0, 0, false},
    {"priority", read_whole, OPTION(priority), INT_MIN, INT_MAX, false},
};

enum { FIELDS = sizeof fields / sizeof fields[0] };

/* An id as JSON, the same for equal ids. */
static enum status keep_id(struct request_line *l, const char *name, const json_t *value)
{
    char text[REQUEST_ID_BYTES];
    size_t bytes = json_string_length(value);

    if (!json_is_string(value) && !json_is_number(value))
        return FAIL(STATUS_BAD_INPUT, "\"%s\" must be text or a number", name);
    if (json_is_integer(value)) {
        snprintf(text, sizeof text, "%lld", (long long)json_integer_value(value));
    } else if (json_is_real(value)) {
        snprintf(text, sizeof text, "%.17g", json_real_value(value));
    } else {
        char escaped[JSON_TEXT_GROWTH * REQUEST_ID_BYTES];

        if (bytes < sizeof text)
            bytes = json_text_escape(escaped, json_string_value(value), bytes);
        if (bytes + 3 > sizeof text)
            return FAIL(STATUS_BAD_INPUT, "\"%s\" is longer than %d bytes", name, REQUEST_ID_BYTES - 3);
        snprintf(text, sizeof text, "\"%.*s\"", (int)bytes, escaped);
    }
    memcpy(l->id, text, sizeof text);
    return STATUS_OK;
}

/* {"cancel": id} */
static enum status read_cancel(struct request_line *l, const json_t *object)
{
    if (json_object_size(object) != 1)
        return FAIL(STATUS_BAD_INPUT, "a line with \"cancel\" holds nothing else");
    l->form = REQUEST_LINE_CANCEL;
    return keep_id(l, "cancel", json_object_get(object, "cancel"));
}

static enum status read_field(struct reading *r, const char *key, const json_t *value)
{
    for (int i = 0; i < FIELDS; i++) {
        if (strcmp(fields[i].name, key) != 0)
            continue;
        return json_is_null(value) ? STATUS_OK : fields[i].read(r, &fields[i], value);
    }
    return FAIL(STATUS_BAD_INPUT, "there is no field \"%.*s\"", SHOWN_BYTES, key);
}

static enum status check_whole(const struct request_line *l, const json_t *object)
{
    static const char *const prompts[] = {"prompt", "prompt_token_ids", "messages"};
    const struct request_options *o = &l->options;
    int given = 0;

    for (int i = 0; i < 3; i++) {
        const json_t *value = json_object_get(object, prompts[i]);

        given += value && !json_is_null(value);
    }
    if (given != 1)
        return FAIL(STATUS_BAD_INPUT,
                    "a request has one of \"prompt\", \"prompt_token_ids\" and \"messages\"; this has %d",
                    given);
    if (l->form != REQUEST_LINE_MESSAGES &&
        json_object_size(json_object_get(object, "chat_template_kwargs")) > 0)
        return FAIL(STATUS_BAD_INPUT, "\"chat_template_kwargs\" goes with \"messages\" alone");
    if (o->min_tokens > o->max_tokens)
        return FAIL(STATUS_BAD_INPUT, "\"min_tokens\" is %d, more than \"max_tokens\", which is %d",
                    o->min_tokens, o->max_tokens);
    if (l->copies > 1 && o->sampling.temperature <= 0.0f)
        return FAIL(STATUS_BAD_INPUT, "\"n\" must be 1 where \"temperature\" is 0: all would be the same");
    return STATUS_OK;
}

static enum status read_object(struct reading *r, json_t *object)
{
    struct request_line *l = r->line;
    const json_t *id = json_object_get(object, "id");
    const char *key;
    json_t *value;

    if (!json_is_object(object))
        return FAIL(STATUS_BAD_INPUT, "the line is not a JSON object");
    if (json_object_get(object, "cancel"))
        return read_cancel(l, object);
    if (!id)
        return FAIL(STATUS_BAD_INPUT, "the request has no \"id\"");
    TRY(keep_id(l, "id", id));
    json_object_foreach(object, key, value) TRY(read_field(r, key, value));
    return check_whole(l, object);
}

/* A line that holds a number which is too large for any field is refused; who asked is found out all the
 * same. */
static void find_id(struct request_line *l, const char *text, size_t bytes)
{
    struct json json = {0};
    const json_t *id;

    if (json_open(&json, "not JSON", text, bytes, JSON_OPEN_NUL | JSON_OPEN_REAL) != STATUS_OK)
        return;
    id = json_object_get(json.root, "id");
    if (json_is_string(id))
        (void)keep_id(l, "id", id);
    else if (json_is_real(id) && fabs(json_real_value(id)) < 0x1p53 &&
             floor(json_real_value(id)) == json_real_value(id))
        snprintf(l->id, sizeof l->id, "%.0f", json_real_value(id));
    json_close(&json);
}

enum status request_line_open(struct request_line *l, const struct request_options *defaults, int vocabulary,
                              const char *text, size_t bytes)
{
    struct reading reading = {.line = l, .vocabulary = vocabulary};
    enum status status;

    memset(&l->json, 0, sizeof l->json);
    snprintf(l->id, sizeof l->id, "null");
    l->options = *defaults;
    l->copies = 1;
    l->text = NULL;
    l->list = NULL;
    l->no_thinking = false;
    status = json_open(&l->json, "not JSON", text, bytes, JSON_OPEN_NUL);
    if (status == STATUS_BAD_INPUT && strstr(status_text(), "too big")) {
        find_id(l, text, bytes);
        return json_open(&l->json, "not JSON", text, bytes, JSON_OPEN_NUL); /* the first words, once more */
    }
    TRY(status);
    TRY(read_object(&reading, l->json.root));
    l->options.id = l->id;
    l->options.copies = l->copies;
    return STATUS_OK;
}

void request_line_close(struct request_line *l)
{
    json_close(&l->json);
}

enum status request_line_ids(const struct request_line *l, int vocabulary, struct tokens *out)
{
    static const struct field field = {.name = "prompt_token_ids"};
    size_t count = json_array_size(l->list);

    for (size_t i = 0; i < count; i++) {
        int32_t id = 0;

        TRY(read_token(&field, json_array_get(l->list, i), vocabulary, &id));
        TRY(tokens_append(out, id));
    }
    return STATUS_OK;
}

static enum status read_message(json_t *item, size_t index, struct chat_message *out)
{
    const json_t *role = json_object_get(item, "role");
    const json_t *content = json_object_get(item, "content");
    const char *key;
    json_t *value;

    json_object_foreach(item, key, value)
    {
        if (strcmp(key, "role") != 0 && strcmp(key, "content") != 0)
            return FAIL(STATUS_BAD_INPUT, "\"messages\"[%zu] has the field \"%.*s\", which is not supported",
                        index, SHOWN_BYTES, key);
    }
    if (!json_is_string(role) || strlen(json_string_value(role)) != json_string_length(role))
        return FAIL(STATUS_BAD_INPUT, "\"messages\"[%zu] needs a \"role\" that is text", index);
    if (!json_is_string(content))
        return FAIL(STATUS_BAD_INPUT, "\"messages\"[%zu] needs a \"content\" that is text", index);
    *out = (struct chat_message){.role = json_string_value(role),
                                 .content = json_string_value(content),
                                 .bytes = json_string_length(content)};
    return STATUS_OK;
}

enum status request_line_messages(const struct request_line *l, struct chat_message *out, int *count)
{
    size_t messages = json_array_size(l->list);

    for (size_t i = 0; i < messages; i++)
        TRY(read_message(json_array_get(l->list, i), i, &out[i]));
    *count = (int)messages;
    return STATUS_OK;
}
