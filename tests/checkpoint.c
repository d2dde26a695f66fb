/* checkpoint.c - altered copies of a golden checkpoint, for tests
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "tests/checkpoint.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

void checkpoint_open(struct checkpoint *c)
{
    c->header = json_object();
    c->data = tmpfile();
    c->bytes = 0;
    assert_non_null(c->data);
}

void checkpoint_add(struct checkpoint *c, const char *name, enum dtype dtype, int dimensions,
                    const int64_t *shape, const void *data)
{
    int64_t bytes = dtype_bits(dtype) / 8;
    json_t *sizes = json_array();
    void *zeros;

    for (int i = 0; i < dimensions; i++) {
        bytes *= shape[i];
        json_array_append_new(sizes, json_integer(shape[i]));
    }
    json_object_set_new(c->header, name,
                        json_pack("{s:s, s:o, s:[I, I]}", "dtype", dtype_name(dtype), "shape", sizes,
                                  "data_offsets", (json_int_t)c->bytes, (json_int_t)(c->bytes + bytes)));
    zeros = calloc(1, (size_t)bytes + 1);
    assert_int_equal(fwrite(data ? data : zeros, 1, (size_t)bytes, c->data), bytes);
    free(zeros);
    c->bytes += bytes;
}

void checkpoint_copy(struct checkpoint *c, const struct tensor *t)
{
    void *data = checkpoint_bytes(t);

    checkpoint_add(c, t->name, t->dtype, t->dimensions, t->shape, data);
    free(data);
}

void checkpoint_write(struct checkpoint *c, const char *directory)
{
    char path[512];
    char *header = json_dumps(c->header, JSON_COMPACT);
    uint64_t length = strlen(header);
    FILE *file;

    snprintf(path, sizeof path, "%s/model.safetensors", directory);
    file = fopen(path, "wb");
    assert_non_null(file);
    for (int i = 0; i < 8; i++)
        fputc((int)(length >> (8 * i) & 255), file);
    fputs(header, file);
    rewind(c->data);
    for (int byte; (byte = fgetc(c->data)) != EOF;)
        fputc(byte, file);
    assert_int_equal(fclose(file), 0);
    fclose(c->data);
    free(header);
    json_decref(c->header);
}

void *checkpoint_bytes(const struct tensor *t)
{
    void *data = malloc((size_t)t->bytes + 1);

    assert_non_null(data);
    assert_int_equal(file_read(t->file, t->offset, data, (size_t)t->bytes), STATUS_OK);
    return data;
}
