/* safetensors.h - the tensors of one file: names, formats, shapes, places
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * A file is  u64 N | N bytes of JSON | data.  Ten checks in the order of the format's own reader, each with a
 * sentence of its own; see safetensors_open. Only headers are read here. */
#ifndef SAFETENSORS_H
#define SAFETENSORS_H

#include "engine/base/arena.h"
#include "engine/base/file.h"
#include "engine/base/status.h"
#include "kernels/dtype.h"

enum { SAFETENSORS_DIMENSIONS = 8 };

struct tensor {
    const char *name;
    enum dtype dtype;
    int dimensions;
    int64_t shape[SAFETENSORS_DIMENSIONS];
    const struct file *file;
    int64_t offset; /* of the first byte in the file */
    int64_t bytes;
};

/* One file. */
struct safetensors {
    struct file file;
    struct tensor *tensors; /* [count] by offset */
    int count;
};

enum status safetensors_open(struct safetensors *s, struct arena *arena, const char *path);
void safetensors_close(struct safetensors *s);

/* All files of a model directory: model.safetensors, or the shards that model.safetensors.index.json names.
 */
struct tensor_set {
    struct safetensors *shards;
    int shard_count;
    struct tensor **by_name; /* [count] sorted by name */
    int count;
    int64_t bytes; /* of all tensors */
};

enum status tensor_set_open(struct tensor_set *set, struct arena *arena, const char *directory);
void tensor_set_close(struct tensor_set *set);

/* Place in by_name, -1 when there is no tensor of this name. */
int tensor_set_index(const struct tensor_set *set, const char *name);

/* NULL when there is no tensor of this name. */
const struct tensor *tensor_set_find(const struct tensor_set *set, const char *name);

/* Elements [first_row, +rows) of the first dimension, or a rectangle of the last two: bytes of
 * tensor[plane][row0 .. row0+rows)[column0 .. column0+columns) packed without gaps into out. For 1-D tensors
 * plane and row0 are 0, rows 1. Reads with pread only what is asked. */
struct tensor_part {
    int64_t plane; /* index into the first of three dimensions; 0 otherwise */
    int64_t row, rows;
    int64_t column, columns;
};
enum status tensor_read(const struct tensor *t, const struct tensor_part *part, void *out);

#endif
