/* config.c - what a model directory says about its model, checked, in the engine's own words
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/config.h"

#include "engine/base/file.h"
#include "engine/base/log.h"
#include "engine/family.h"
#include "engine/frequency.h"
#include "engine/json.h"
#include "engine/quantization.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { FILE_MOST = 16 << 20, PATH_BYTES = 4096, HEAD_COLUMNS_MOST = 1 << 20, LIST_BYTES = 1024 };

/* DIR/NAME in an arena, for it goes into messages and must outlive the call. */
static enum status join_path(struct arena *arena, const char *directory, const char *name, char **path)
{
    size_t bytes = strlen(directory) + strlen(name) + 2;

    if (bytes > PATH_BYTES)
        return FAIL(STATUS_NO_INPUT, "%.80s...: the path of the model directory is longer than %d bytes",
                    directory, PATH_BYTES);
    TRY(arena_take(arena, bytes, "path", path));
    snprintf(*path, bytes, "%s/%s", directory, name);
    return STATUS_OK;
}

static enum status keep_text(struct arena *arena, const char *text, const char **kept)
{
    size_t bytes = strlen(text) + 1;
    char *copy;

    TRY(arena_take(arena, bytes, "configuration", &copy));
    memcpy(copy, text, bytes);
    *kept = copy;
    return STATUS_OK;
}

/* -- which family -- */

static enum status find_family(const struct json_at *outer, const struct json_at *text,
                               const struct family **family, const char **type)
{
    json_t *list = json_object_get(outer->object, "architectures");
    const char *architecture = json_string_value(json_array_get(list, 0));
    char supported[LIST_BYTES];

    family_list(supported, sizeof supported);
    if (!architecture)
        return FAIL(STATUS_BAD_INPUT, "%s: \"architectures\" names no architecture; supported are %s",
                    outer->file, supported);
    *family = family_of_architecture(architecture);
    if (!*family)
        return FAIL(STATUS_BAD_INPUT,
                    "%s: architecture %.80s is not supported by this version; supported are %s", outer->file,
                    architecture, supported);
    *type = NULL;
    TRY(json_get_text(outer, "model_type", type));
    TRY(json_get_text(text, "model_type", type));
    if (!*type || !family_listed((*family)->model_types, *type))
        return FAIL(STATUS_BAD_INPUT,
                    "%s: \"%smodel_type\" is \"%.80s\", which does not go with architecture %.80s",
                    text->file, text->path, *type ? *type : "", architecture);
    return STATUS_OK;
}

/* -- no key is passed over -- */

static bool same_value(const json_t *a, const json_t *b)
{
    if (json_is_number(a) && json_is_number(b))
        return json_number_value(a) == json_number_value(b);
    return json_equal(a, b) != 0;
}

static enum status check_fixed(const struct family_fixed *fixed, const struct json_at *at,
                               const json_t *value)
{
    json_t *only = json_loads(fixed->value, JSON_DECODE_ANY, NULL);
    bool same = only && same_value(only, value);

    json_decref(only);
    if (!same)
        return FAIL(STATUS_BAD_INPUT, "%s: \"%s%s\" is supported with the value %s only", at->file, at->path,
                    fixed->key, fixed->value);
    return STATUS_OK;
}

/* Is the key one that config_read or the family reads? */
static bool key_is_read(const struct family *f, const char *key)
{
    for (const struct family_key *known = f->keys; known->key; known++)
        if (strcmp(known->key, key) == 0)
            return true;
    return family_listed(f->derived_keys, key) || family_listed(frequency_keys, key);
}

/* A key with the value null says nothing; quantization_read looks through its object itself. */
static enum status check_keys(const struct family *f, const struct json_at *at, bool is_text, bool is_outer)
{
    const char *key;
    json_t *value;

    json_object_foreach(at->object, key, value)
    {
        const struct family_fixed *fixed = f->fixed;

        if (json_is_null(value) || strcmp(key, "quantization_config") == 0)
            continue;
        while (fixed->key && strcmp(fixed->key, key) != 0)
            fixed++;
        if (fixed->key) {
            TRY(check_fixed(fixed, at, value));
            continue;
        }
        if (family_ignores(f, key) || (is_text && key_is_read(f, key)) ||
            (is_outer && (family_listed(f->outer_keys, key) || strcmp(key, "text_config") == 0)))
            continue;
        return FAIL(STATUS_BAD_INPUT,
                    "%s: \"%s%.80s\" is not known to this version; it could change what the model computes, "
                    "so the model "
                    "is refused",
                    at->file, at->path, key);
    }
    return STATUS_OK;
}

/* -- values -- */

static enum status read_keys(struct config *c, const struct family *f, const struct json_at *text)
{
    for (const struct family_key *known = f->keys; known->key; known++) {
        void *field = (char *)c + known->field;

        switch (known->kind) {
        case KEY_INT:
            *(int *)field = (int)known->fallback;
            TRY(json_get_int(text, known->key, (int)known->least, (int)known->most, field));
            break;
        case KEY_FLOAT:
            *(float *)field = (float)known->fallback;
            TRY(json_get_float(text, known->key, known->least, known->most, field));
            break;
        case KEY_BOOL:
            *(bool *)field = known->fallback != 0;
            TRY(json_get_bool(text, known->key, field));
            break;
        case KEY_FLAG:
            *(bool *)field = known->fallback != 0;
            TRY(json_get_flag(text, known->key, field));
            break;
        }
    }
    return STATUS_OK;
}

/* What must fit together in every family, before anything is derived from it. */
static enum status check_sizes(struct config *c, const struct json_at *text)
{
    if (c->head_width == 0 && c->width % c->heads != 0)
        return FAIL(STATUS_BAD_INPUT,
                    "%s: %d attention heads do not divide the hidden size %d, and no head_dim is given",
                    text->file, c->heads, c->width);
    if (c->head_width == 0)
        c->head_width = c->width / c->heads;
    if (c->kv_heads == 0)
        c->kv_heads = c->heads;
    if (c->heads % c->kv_heads != 0)
        return FAIL(STATUS_BAD_INPUT, "%s: %d attention heads are not a multiple of %d key-value heads",
                    text->file, c->heads, c->kv_heads);
    if ((int64_t)c->heads * c->head_width > HEAD_COLUMNS_MOST)
        return FAIL(STATUS_BAD_INPUT,
                    "%s: %d attention heads of %d numbers are more than the %d that are supported",
                    text->file, c->heads, c->head_width, HEAD_COLUMNS_MOST);
    if (c->choices > c->experts)
        return FAIL(STATUS_BAD_INPUT, "%s: %d experts per token are asked for, there are %d", text->file,
                    c->choices, c->experts);
    if (!(c->norm_epsilon > 0))
        return FAIL(STATUS_BAD_INPUT, "%s: \"%srms_norm_eps\" must be more than 0", text->file, text->path);
    return STATUS_OK;
}

/* Ids outside the vocabulary can never come up and are left out. */
static enum status read_stops(struct config *c, const struct json_at *at, bool *found)
{
    int values[CONFIG_STOP_LIMIT];
    struct json_ints ids = {
        .least = 0, .most = INT32_MAX, .capacity = CONFIG_STOP_LIMIT, .values = values, .count = -1};

    TRY(json_get_ints(at, "eos_token_id", &ids));
    *found = ids.count >= 0;
    if (!*found)
        return STATUS_OK;
    c->stop_count = 0;
    for (int i = 0; i < ids.count; i++)
        if (values[i] < c->vocabulary)
            c->stop[c->stop_count++] = values[i];
    return STATUS_OK;
}

static enum status read_special(struct config *c, const struct family *f, const struct json_at *outer,
                                const struct json_at *text)
{
    bool found;

    c->bos = f->bos;
    TRY(json_get_int(outer, "bos_token_id", 0, INT32_MAX, &c->bos));
    TRY(json_get_int(text, "bos_token_id", 0, INT32_MAX, &c->bos));
    if (c->bos >= c->vocabulary)
        c->bos = -1;
    TRY(read_stops(c, text, &found));
    if (!found)
        TRY(read_stops(c, outer, &found));
    if (!found && f->eos >= 0 && f->eos < c->vocabulary)
        c->stop[c->stop_count++] = f->eos;
    TRY(json_get_bool(outer, "tie_word_embeddings", &c->tied));
    return json_get_bool(text, "tie_word_embeddings", &c->tied);
}

static enum status read_model(struct config *c, struct arena *arena, const struct json *json)
{
    struct json_at outer, text;
    const struct family *family = NULL;
    const char *type = NULL;
    bool nested;

    TRY(json_get_root(json, &outer));
    TRY(json_get_object(&outer, "text_config", "text_config.", &text));
    nested = text.object != NULL;
    if (!nested)
        text = outer;
    TRY(find_family(&outer, &text, &family, &type));
    TRY(check_keys(family, &outer, !nested, nested));
    if (nested)
        TRY(check_keys(family, &text, true, false));
    TRY(quantization_read(c, &outer));
    if (nested)
        TRY(quantization_read(c, &text));
    TRY(keep_text(arena, type, &c->model_type));
    TRY(keep_text(arena, json_string_value(json_array_get(json_object_get(outer.object, "architectures"), 0)),
                  &c->architecture));
    c->family = family->name;
    TRY(read_keys(c, family, &text));
    TRY(check_sizes(c, &text));
    TRY(read_special(c, family, &outer, &text));
    return family->derive(c, arena, &text);
}

/* -- generation_config.json -- */

/* Keys that change which token is picked and that the sampler has no word for, with the value that changes
 * nothing. */
static void warn_unused(const struct json_at *at)
{
    static const struct {
        const char *key;
        double neutral;
    } unused[] = {{"presence_penalty", 0}, {"frequency_penalty", 0}, {"no_repeat_ngram_size", 0},
                  {"typical_p", 1},        {"epsilon_cutoff", 0},    {"eta_cutoff", 0}};

    for (size_t i = 0; i < sizeof unused / sizeof unused[0]; i++) {
        const json_t *value = json_object_get(at->object, unused[i].key);

        if (json_is_number(value) && json_number_value(value) != unused[i].neutral && log_rank() <= 0)
            log_line(LOG_WARN, "%s: \"%s\" is not applied", at->file, unused[i].key);
    }
}

static enum status read_generation(struct config *c, const struct json *json)
{
    struct json_at at;
    bool found;

    TRY(json_get_root(json, &at));
    TRY(json_get_float(&at, "temperature", 0, 1000, &c->temperature));
    TRY(json_get_float(&at, "top_p", 1e-9, 1, &c->top_p));
    TRY(json_get_float(&at, "min_p", 0, 1, &c->min_p));
    TRY(json_get_float(&at, "repetition_penalty", 1e-3, 100, &c->repetition));
    TRY(json_get_int(&at, "top_k", -1, INT32_MAX, &c->top_k));
    TRY(json_get_bool(&at, "do_sample", &c->sample));
    warn_unused(&at);
    return read_stops(c, &at, &found);
}

enum status config_read(struct config *c, struct arena *arena, const char *directory)
{
    struct config read = {.temperature = NAN, .top_p = NAN, .min_p = NAN, .repetition = NAN, .top_k = -1};
    struct json json = {0};
    enum status status;
    char *path;

    TRY(join_path(arena, directory, "config.json", &path));
    TRY(json_open_file(&json, path, FILE_MOST, 0));
    status = read_model(&read, arena, &json);
    json_close(&json);
    if (status != STATUS_OK)
        return status;

    TRY(join_path(arena, directory, "generation_config.json", &path));
    if (file_exists(path)) {
        TRY(json_open_file(&json, path, FILE_MOST, 0));
        status = read_generation(&read, &json);
        json_close(&json);
    }
    if (status == STATUS_OK)
        *c = read;
    return status;
}
