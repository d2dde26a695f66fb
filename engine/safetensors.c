/* safetensors.c - the tensors of one file: names, formats, shapes, places
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/safetensors.h"

#include "engine/json.h"
#include "engine/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    LENGTH_BYTES = 8,
    HEADER_MOST = 100000000,
    TENSORS_MOST = 1 << 20, /* of one file; the largest published models have 0.2 million over all files */
    PATH_SHOWN = 1024,
    NAME_MOST = 512, /* bytes of a tensor name; the longest published ones have about 100 */
};

/* A header while it is read. */
struct header {
    const struct file *file;
    const char *text;
    int64_t bytes;
    struct arena arena; /* of the text */
};

static const char METADATA[] = "__metadata__";

/* -- checks 1 to 4: length and encoding -- */

static enum status check_utf8(const struct header *h)
{
    size_t bytes = (size_t)h->bytes;

    for (size_t i = 0, step; i < bytes; i += step)
        if (utf8_step(h->text + i, bytes - i, &step) != UTF8_WHOLE)
            return FAIL(STATUS_BAD_INPUT, "%s: the header is not UTF-8 (byte 0x%02x at %zu)", h->file->path,
                        (unsigned char)h->text[i], i + LENGTH_BYTES);
    return STATUS_OK;
}

/* h->text and bytes; the text lies in h->arena. */
static enum status read_header(struct header *h)
{
    const struct file *file = h->file;
    unsigned char length[LENGTH_BYTES];
    uint64_t bytes = 0;
    char *text;

    if (file->size < LENGTH_BYTES)
        return FAIL(STATUS_BAD_INPUT,
                    "%s: %lld bytes, a safetensors file begins with 8 bytes that hold the header's length",
                    file->path, (long long)file->size);
    TRY(file_read(file, 0, length, sizeof length));
    for (int i = LENGTH_BYTES - 1; i >= 0; i--)
        bytes = bytes << 8 | length[i];
    if (bytes > HEADER_MOST)
        return FAIL(STATUS_BAD_INPUT, "%s: says its header has %llu bytes, more than the %d of the format",
                    file->path, (unsigned long long)bytes, HEADER_MOST);
    if ((int64_t)bytes > file->size - LENGTH_BYTES)
        return FAIL(STATUS_BAD_INPUT,
                    "%s: says its header has %llu bytes, the file has %lld: it is truncated or no "
                    "safetensors file",
                    file->path, (unsigned long long)bytes, (long long)file->size);
    TRY(arena_open(&h->arena, file->path, (size_t)bytes + ARENA_ALIGN));
    TRY(arena_take(&h->arena, (size_t)bytes, "header", &text));
    TRY(file_read(file, LENGTH_BYTES, text, (size_t)bytes));
    h->text = text;
    h->bytes = (int64_t)bytes;
    return check_utf8(h);
}

/* -- check 5: the exact shape of the JSON -- */

/* Counted before parsing, so that a file of ten million entries costs no memory. */
static enum status check_count(const struct header *h)
{
    static const char before[] = "\"data", after[] = "_offsets\"";
    const char *end = h->text + h->bytes;
    int count = 0;

    for (const char *at = h->text; (at = memchr(at, '_', (size_t)(end - at))); at++)
        if (at - h->text >= (ptrdiff_t)sizeof before - 1 && end - at >= (ptrdiff_t)sizeof after - 1 &&
            memcmp(at - (sizeof before - 1), before, sizeof before - 1) == 0 &&
            memcmp(at, after, sizeof after - 1) == 0 && ++count > TENSORS_MOST)
            return FAIL(STATUS_BAD_INPUT, "%s: the header names more than %d tensors", h->file->path,
                        TENSORS_MOST);
    return STATUS_OK;
}

static enum status check_name(const struct header *h, const char *name)
{
    size_t length = strlen(name);

    if (length > NAME_MOST)
        return FAIL(STATUS_BAD_INPUT, "%s: the header has a tensor name of %zu bytes, more than %d",
                    h->file->path, length, NAME_MOST);
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)name[i] < ' ' || name[i] == 0x7f)
            return FAIL(STATUS_BAD_INPUT,
                        "%s: the header has a tensor name with a control character at byte %zu",
                        h->file->path, i);
    return STATUS_OK;
}

static enum status check_metadata(const struct header *h, json_t *metadata)
{
    const char *key;
    json_t *value;

    if (!json_is_object(metadata))
        return FAIL(STATUS_BAD_INPUT, "%s: %s in the header is not an object", h->file->path, METADATA);
    json_object_foreach(metadata, key, value)
    {
        if (!json_is_string(value))
            return FAIL(STATUS_BAD_INPUT, "%s: %s in the header has \"%.80s\", whose value is not text",
                        h->file->path, METADATA, key);
    }
    return STATUS_OK;
}

static enum status read_shape(const struct header *h, json_t *shape, struct tensor *t)
{
    size_t dimensions = json_array_size(shape);

    if (!json_is_array(shape) || dimensions > SAFETENSORS_DIMENSIONS)
        return FAIL(STATUS_BAD_INPUT, "%s: tensor %s: \"shape\" is not a list of at most %d numbers",
                    h->file->path, t->name, SAFETENSORS_DIMENSIONS);
    t->dimensions = (int)dimensions;
    for (size_t i = 0; i < dimensions; i++) {
        json_t *size = json_array_get(shape, i);

        if (!json_is_integer(size) || json_integer_value(size) < 0)
            return FAIL(STATUS_BAD_INPUT,
                        "%s: tensor %s: \"shape\" holds something else than a whole number from 0 on",
                        h->file->path, t->name);
        t->shape[i] = json_integer_value(size);
    }
    return STATUS_OK;
}

/* offset and bytes of t, counted from the end of the header. */
static enum status read_offsets(const struct header *h, json_t *offsets, struct tensor *t)
{
    json_t *begin = json_array_get(offsets, 0);
    json_t *end = json_array_get(offsets, 1);

    if (json_array_size(offsets) != 2 || !json_is_integer(begin) || !json_is_integer(end) ||
        json_integer_value(begin) < 0 || json_integer_value(end) < 0)
        return FAIL(STATUS_BAD_INPUT,
                    "%s: tensor %s: \"data_offsets\" is not a list of two whole numbers from 0 on",
                    h->file->path, t->name);
    t->offset = json_integer_value(begin);
    t->bytes = json_integer_value(end) - json_integer_value(begin);
    return STATUS_OK;
}

static enum status read_entry(const struct header *h, json_t *entry, struct tensor *t)
{
    static const char *const known[] = {"dtype", "shape", "data_offsets"};
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));

    if (!json_is_object(entry))
        return FAIL(STATUS_BAD_INPUT, "%s: tensor %s: the header has no object for it", h->file->path,
                    t->name);
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (!json_object_get(entry, known[i]))
            return FAIL(STATUS_BAD_INPUT, "%s: tensor %s: the header has no \"%s\" for it", h->file->path,
                        t->name, known[i]);
    if (json_object_size(entry) != sizeof known / sizeof known[0])
        return FAIL(STATUS_BAD_INPUT,
                    "%s: tensor %s: the header says more than dtype, shape and data_offsets", h->file->path,
                    t->name);
    if (!dtype || !dtype_find(dtype, &t->dtype))
        return FAIL(STATUS_BAD_INPUT, "%s: tensor %s: \"dtype\" is %.20s, which is none of the format's",
                    h->file->path, t->name, dtype ? dtype : "not text");
    TRY(read_shape(h, json_object_get(entry, "shape"), t));
    return read_offsets(h, json_object_get(entry, "data_offsets"), t);
}

/* Names lie behind each other in one piece: one of 64 bytes each would double the memory. */
static enum status take_tensors(struct safetensors *s, struct arena *arena, const struct header *h,
                                json_t *root)
{
    size_t count = 0, bytes = 0;
    const char *key;
    json_t *value;
    char *names;

    json_object_foreach(root, key, value)
    {
        if (strcmp(key, METADATA) == 0) {
            TRY(check_metadata(h, value));
            continue;
        }
        TRY(check_name(h, key));
        count++;
        bytes += strlen(key) + 1;
    }
    if (count > TENSORS_MOST)
        return FAIL(STATUS_BAD_INPUT, "%s: the header names more than %d tensors", h->file->path,
                    TENSORS_MOST);
    TRY(arena_take_array(arena, count, sizeof *s->tensors, "tensor list", &s->tensors));
    TRY(arena_take(arena, bytes, "tensor names", &names));
    json_object_foreach(root, key, value)
    {
        struct tensor *t = &s->tensors[s->count];

        if (strcmp(key, METADATA) == 0)
            continue;
        t->name = strcpy(names, key);
        names += strlen(key) + 1;
        t->file = &s->file;
        TRY(read_entry(h, value, t));
        s->count++;
    }
    return STATUS_OK;
}

/* -- checks 6 to 10: the places -- */

/* By offset; among equal ones those without bytes first. */
static int compare_places(const void *left, const void *right)
{
    const struct tensor *a = left;
    const struct tensor *b = right;

    if (a->offset != b->offset)
        return a->offset < b->offset ? -1 : 1;
    return (a->bytes > b->bytes) - (a->bytes < b->bytes);
}

static enum status check_size(const struct header *h, const struct tensor *t)
{
    uint64_t bits = 1;
    bool overflow = false;

    for (int i = 0; i < t->dimensions; i++)
        overflow = __builtin_mul_overflow(bits, (uint64_t)t->shape[i], &bits) || overflow;
    overflow = __builtin_mul_overflow(bits, (uint64_t)dtype_bits(t->dtype), &bits) || overflow;
    if (overflow)
        return FAIL(STATUS_BAD_INPUT, "%s: tensor %s: its shape has more elements than can be counted",
                    h->file->path, t->name);
    if (bits % 8 != 0)
        return FAIL(STATUS_BAD_INPUT, "%s: tensor %s: its %llu bits are not whole bytes", h->file->path,
                    t->name, (unsigned long long)bits);
    if ((uint64_t)t->bytes != bits / 8)
        return FAIL(STATUS_BAD_INPUT, "%s: tensor %s: has %lld bytes of data, its shape and dtype need %llu",
                    h->file->path, t->name, (long long)t->bytes, (unsigned long long)(bits / 8));
    return STATUS_OK;
}

static enum status check_places(struct safetensors *s, const struct header *h)
{
    int64_t end = 0;

    qsort(s->tensors, (size_t)s->count, sizeof *s->tensors, compare_places);
    for (int i = 0; i < s->count; i++) {
        struct tensor *t = &s->tensors[i];

        if (t->offset != end || t->bytes < 0)
            return FAIL(
                STATUS_BAD_INPUT,
                "%s: tensor %s: its data stands at %lld to %lld, but the data before ends at %lld: holes and "
                "overlaps are not allowed",
                h->file->path, t->name, (long long)t->offset, (long long)(t->offset + t->bytes),
                (long long)end);
        TRY(check_size(h, t));
        end += t->bytes;
        t->offset += LENGTH_BYTES + h->bytes;
    }
    if (end != h->file->size - LENGTH_BYTES - h->bytes)
        return FAIL(STATUS_BAD_INPUT,
                    "%s: the header describes %lld bytes of data, the file holds %lld: it is %s",
                    h->file->path, (long long)end, (long long)(h->file->size - LENGTH_BYTES - h->bytes),
                    end > h->file->size - LENGTH_BYTES - h->bytes ? "truncated" : "longer than it should be");
    return STATUS_OK;
}

/* -- the file -- */

static enum status read_tensors(struct safetensors *s, struct arena *arena, struct header *h)
{
    struct json json = {0};
    enum status status;
    char name[PATH_SHOWN];

    TRY(read_header(h));
    TRY(check_count(h));
    snprintf(name, sizeof name, "%s: header", s->file.path);
    TRY(json_open(&json, name, h->text, (size_t)h->bytes, 0));
    if (json_is_object(json.root))
        status = take_tensors(s, arena, h, json.root);
    else
        status = FAIL(STATUS_BAD_INPUT, "%s: the header is not a JSON object", s->file.path);
    json_close(&json);
    if (status == STATUS_OK)
        status = check_places(s, h);
    return status;
}

enum status safetensors_open(struct safetensors *s, struct arena *arena, const char *path)
{
    size_t bytes = strlen(path) + 1;
    struct header header = {0};
    enum status status;
    char *kept;

    memset(s, 0, sizeof *s);
    TRY(arena_take(arena, bytes, "path of a weight file", &kept));
    memcpy(kept, path, bytes);
    TRY(file_open(&s->file, kept));
    header.file = &s->file;
    status = read_tensors(s, arena, &header);
    arena_close(&header.arena);
    if (status != STATUS_OK)
        safetensors_close(s);
    return status;
}

void safetensors_close(struct safetensors *s)
{
    file_close(&s->file);
    memset(s, 0, sizeof *s);
}
