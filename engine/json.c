/* json.c - reading JSON strictly, with errors that name the file and the key
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * jansson takes its memory through hooks that hold for the whole process. Ours are put in once and behave as
 * malloc and free but while this thread parses a large text: then memory comes from the front of that
 * document's arena and nothing is given back before the document closes. That halves the time, for half of it
 * went into small mallocs. */
#include "engine/json.h"

#include "engine/base/file.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
    LARGE_BYTES = 1 << 20, /* a text that is worth an arena */
    ARENA_FACTOR = 20,     /* memory of the values over bytes of the text; reserved, touched only as needed */
    PIECE_ALIGN = 16,
};

static pthread_once_t hooks_once = PTHREAD_ONCE_INIT;
static _Thread_local struct arena *parsing; /* the arena that this thread parses into; NULL: malloc */

/* arena_take aligns to a cache line, which would triple the memory of values this small. */
static void *hook_take(size_t bytes)
{
    size_t padded = (bytes + PIECE_ALIGN - 1) & ~(size_t)(PIECE_ALIGN - 1);
    void *piece;

    if (!parsing)
        return malloc(bytes);
    if (padded < bytes || padded > parsing->size - parsing->used)
        return NULL;
    piece = parsing->base + parsing->used;
    parsing->used += padded;
    return piece;
}

static void hook_release(void *piece)
{
    if (!parsing)
        free(piece);
}

static void install_hooks(void)
{
    json_set_alloc_funcs(hook_take, hook_release);
}

enum status json_open(struct json *json, const char *name, const char *text, size_t bytes, unsigned flags)
{
    size_t how = JSON_REJECT_DUPLICATES | ((flags & JSON_OPEN_NUL) ? JSON_ALLOW_NUL : 0) |
                 ((flags & JSON_OPEN_REAL) ? JSON_DECODE_INT_AS_REAL : 0);
    struct arena arena = {0};
    json_error_t error;
    json_t *root = NULL;

    pthread_once(&hooks_once, install_hooks);
    if (bytes >= LARGE_BYTES && bytes < SIZE_MAX / ARENA_FACTOR &&
        arena_open(&arena, name, bytes * ARENA_FACTOR) == STATUS_OK) {
        parsing = &arena;
        root = json_loadb(text, bytes, how, &error);
        parsing = NULL;
        if (!root)
            arena_close(&arena);
    }
    /* Without an arena, or when it was too small. A text that is wrong is wrong again, with the same words.
     */
    if (!root)
        root = json_loadb(text, bytes, how, &error);
    if (!root && json_error_code(&error) == json_error_out_of_memory)
        return FAIL(STATUS_NO_MEMORY, "%s: memory for its values could not be had", name);
    if (!root)
        return FAIL(STATUS_BAD_INPUT, "%s: line %d, column %d: %s", name, error.line, error.column,
                    error.text);
    json->name = name;
    json->root = root;
    json->arena = arena;
    return STATUS_OK;
}

enum status json_open_file(struct json *json, const char *path, int64_t limit, unsigned flags)
{
    struct arena arena = {0};
    struct file file = {0};
    enum status status;
    size_t bytes = 0;
    char *text = NULL;

    TRY(file_open(&file, path));
    if (file.size > limit)
        status = FAIL(STATUS_BAD_INPUT, "%s: %lld bytes, more than the %lld that such a file may have", path,
                      (long long)file.size, (long long)limit);
    else
        status = arena_open(&arena, path, (size_t)file.size + ARENA_ALIGN);
    file_close(&file);
    if (status == STATUS_OK)
        status = file_whole(&arena, path, limit, &text, &bytes);
    if (status == STATUS_OK)
        status = json_open(json, path, text, bytes, flags);
    arena_close(&arena);
    return status;
}

void json_close(struct json *json)
{
    if (json->arena.base)
        arena_close(&json->arena);
    else
        json_decref(json->root);
    memset(json, 0, sizeof *json);
}

static const char *kind_name(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "a list";
    case JSON_STRING:
        return "text";
    case JSON_INTEGER:
        return "a whole number";
    case JSON_REAL:
        return "a fraction";
    case JSON_TRUE:
        return "true";
    case JSON_FALSE:
        return "false";
    case JSON_NULL:
        return "null";
    }
    return "nothing known";
}

enum status json_get_root(const struct json *json, struct json_at *out)
{
    if (!json_is_object(json->root))
        return FAIL(STATUS_BAD_INPUT, "%s: holds %s, an object is needed", json->name, kind_name(json->root));
    *out = (struct json_at){.file = json->name, .path = "", .object = json->root};
    return STATUS_OK;
}

/* NULL: missing or null. */
static json_t *find(const struct json_at *at, const char *key)
{
    json_t *value = json_object_get(at->object, key);

    return json_is_null(value) ? NULL : value;
}

static enum status refuse(const struct json_at *at, const char *key, const json_t *value, const char *needed)
{
    return FAIL(STATUS_BAD_INPUT, "%s: \"%s%s\" is %s, %s is needed", at->file, at->path, key,
                kind_name(value), needed);
}

bool json_has(const struct json_at *at, const char *key)
{
    return find(at, key) != NULL;
}

enum status json_require(const struct json_at *at, const char *key)
{
    if (!find(at, key))
        return FAIL(STATUS_BAD_INPUT, "%s: \"%s%s\" is missing", at->file, at->path, key);
    return STATUS_OK;
}

enum status json_get_object(const struct json_at *at, const char *key, const char *path, struct json_at *out)
{
    json_t *value = find(at, key);

    if (value && !json_is_object(value))
        return refuse(at, key, value, "an object");
    *out = (struct json_at){.file = at->file, .path = path, .object = value};
    return STATUS_OK;
}

enum status json_get_int(const struct json_at *at, const char *key, int least, int most, int *out)
{
    json_t *value = find(at, key);
    json_int_t number;

    if (!value)
        return STATUS_OK;
    if (!json_is_integer(value))
        return refuse(at, key, value, "a whole number");
    number = json_integer_value(value);
    if (number < least || number > most)
        return FAIL(STATUS_BAD_INPUT, "%s: \"%s%s\" is %lld, it must be from %d to %d", at->file, at->path,
                    key, (long long)number, least, most);
    *out = (int)number;
    return STATUS_OK;
}

enum status json_get_float(const struct json_at *at, const char *key, double least, double most, float *out)
{
    json_t *value = find(at, key);
    double number;

    if (!value)
        return STATUS_OK;
    if (!json_is_number(value))
        return refuse(at, key, value, "a number");
    number = json_number_value(value);
    if (!(number >= least && number <= most) || !isfinite((float)number))
        return FAIL(STATUS_BAD_INPUT, "%s: \"%s%s\" is %g, it must be from %g to %g", at->file, at->path, key,
                    number, least, most);
    *out = (float)number;
    return STATUS_OK;
}

enum status json_get_bool(const struct json_at *at, const char *key, bool *out)
{
    json_t *value = find(at, key);

    if (value && !json_is_boolean(value))
        return refuse(at, key, value, "true or false");
    if (value)
        *out = json_is_true(value);
    return STATUS_OK;
}

enum status json_get_flag(const struct json_at *at, const char *key, bool *out)
{
    json_t *value = find(at, key);

    if (value && json_is_integer(value))
        *out = json_integer_value(value) != 0;
    else if (value && !json_is_boolean(value))
        return refuse(at, key, value, "true, false or a whole number");
    else if (value)
        *out = json_is_true(value);
    return STATUS_OK;
}

enum status json_get_text(const struct json_at *at, const char *key, const char **out)
{
    json_t *value = find(at, key);

    if (!value)
        return STATUS_OK;
    if (!json_is_string(value))
        return refuse(at, key, value, "text");
    if (strlen(json_string_value(value)) != json_string_length(value))
        return FAIL(STATUS_BAD_INPUT, "%s: \"%s%s\" holds a NUL", at->file, at->path, key);
    *out = json_string_value(value);
    return STATUS_OK;
}

enum status json_get_ints(const struct json_at *at, const char *key, struct json_ints *out)
{
    json_t *value = find(at, key);
    size_t count;

    if (!value)
        return STATUS_OK;
    if (!json_is_array(value) && !json_is_integer(value))
        return refuse(at, key, value, "a list of whole numbers");
    count = json_is_array(value) ? json_array_size(value) : 1;
    if (count > (size_t)out->capacity)
        return FAIL(STATUS_BAD_INPUT, "%s: \"%s%s\" lists %zu numbers, at most %d are possible", at->file,
                    at->path, key, count, out->capacity);
    for (size_t i = 0; i < count; i++) {
        json_t *element = json_is_array(value) ? json_array_get(value, i) : value;

        if (!json_is_integer(element))
            return FAIL(STATUS_BAD_INPUT, "%s: \"%s%s\" holds %s at place %zu, a whole number is needed",
                        at->file, at->path, key, kind_name(element), i);
        if (json_integer_value(element) < out->least || json_integer_value(element) > out->most)
            return FAIL(STATUS_BAD_INPUT, "%s: \"%s%s\" holds %lld at place %zu, it must be from %d to %d",
                        at->file, at->path, key, (long long)json_integer_value(element), i, out->least,
                        out->most);
        out->values[i] = (int)json_integer_value(element);
    }
    out->count = (int)count;
    return STATUS_OK;
}
