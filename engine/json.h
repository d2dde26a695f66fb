/* json.h - reading JSON strictly, with errors that name the file and the key
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * json_open parses a whole text; its values are walked with jansson's own functions (json_object_get,
 * json_array_get, json_object_foreach ...) or read by the typed getters below. They live until json_close and
 * are never released one by one: a large text's values lie in one piece of memory that is given back at once.
 *
 * Refused: a key that stands twice in an object, trailing text, NaN, lone surrogates, invalid UTF-8, numbers
 * out of range, nesting deeper than 2048. */
#ifndef JSON_H
#define JSON_H

#include "engine/base/arena.h"
#include "engine/base/status.h"

#include <jansson.h>
#include <stdint.h>

struct json {
    const char *name;   /* of the file or text, for messages; not copied */
    json_t *root;       /* an object or an array */
    struct arena arena; /* holds the values of a large text */
};

enum {
    JSON_OPEN_NUL = 1,  /* \u0000 is legal inside strings: use json_string_length */
    JSON_OPEN_REAL = 2, /* every number is read as a fraction: whole ones may have any size */
};

/* Parses `bytes` of text, which may be given back afterwards. STATUS_BAD_INPUT names `name`, line and column.
 */
enum status json_open(struct json *json, const char *name, const char *text, size_t bytes, unsigned flags);

/* The same for a file of at most `limit` bytes. */
enum status json_open_file(struct json *json, const char *path, int64_t limit, unsigned flags);

/* Takes a zeroed document. */
void json_close(struct json *json);

/* An object and where it stands. The getters leave *out as it is when the key is missing or null, so put the
 * default there before; a value of another kind or out of range is STATUS_BAD_INPUT. */
struct json_at {
    const char *file;
    const char *path; /* of the object, with its dot: "text_config."; "" for the root */
    json_t *object;
};

/* The root, which must be an object. */
enum status json_get_root(const struct json *json, struct json_at *out);

/* Is the key there, and not null? */
bool json_has(const struct json_at *at, const char *key);

/* STATUS_BAD_INPUT when it is not. */
enum status json_require(const struct json_at *at, const char *key);

/* The object under `key`; out->object is NULL when it is missing or null. `path` is what messages call it. */
enum status json_get_object(const struct json_at *at, const char *key, const char *path, struct json_at *out);

enum status json_get_int(const struct json_at *at, const char *key, int least, int most, int *out);

/* A whole number is a float too. */
enum status json_get_float(const struct json_at *at, const char *key, double least, double most, float *out);

enum status json_get_bool(const struct json_at *at, const char *key, bool *out);

/* true, false or a whole number, of which 0 is false: some released files spell booleans so. */
enum status json_get_flag(const struct json_at *at, const char *key, bool *out);

/* Text without NUL, living as long as the document. */
enum status json_get_text(const struct json_at *at, const char *key, const char **out);

/* A list of at most `capacity` whole numbers, or one number standing for a list of one. *count stays as it is
 * when the key is missing or null, and is 0 for []. */
struct json_ints {
    int least, most; /* range of each */
    int capacity;
    int *values;
    int count; /* -1 before the call tells a missing key from [] */
};
enum status json_get_ints(const struct json_at *at, const char *key, struct json_ints *out);

#endif
