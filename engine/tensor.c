/* tensor.c - all tensors of a model directory, and reading parts of them
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/safetensors.h"

#include "engine/base/log.h"
#include "engine/json.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_BYTES = 4096, INDEX_MOST = 256 << 20, SHARDS_MOST = 4096 };

static const char INDEX[] = "model.safetensors.index.json";
static const char SINGLE[] = "model.safetensors";

static enum status join_path(const char *directory, const char *name, char path[PATH_BYTES])
{
    int used = snprintf(path, PATH_BYTES, "%s/%s", directory, name);

    if (used < 0 || used >= PATH_BYTES)
        return FAIL(STATUS_NO_INPUT, "%.80s...: the path of %.80s is longer than %d bytes", directory, name,
                    PATH_BYTES);
    return STATUS_OK;
}

/* -- the names of all shards -- */

static int compare_names(const void *left, const void *right)
{
    return strcmp((*(struct tensor *const *)left)->name, (*(struct tensor *const *)right)->name);
}

static const char *shard_name(const struct tensor *t)
{
    const char *slash = strrchr(t->file->path, '/');

    return slash ? slash + 1 : t->file->path;
}

/* by_name over the tensors of all shards. */
static enum status sort_names(struct tensor_set *set, struct arena *arena)
{
    int64_t count = 0;
    int filled = 0;

    for (int i = 0; i < set->shard_count; i++)
        count += set->shards[i].count;
    if (count > INT_MAX)
        return FAIL(STATUS_BAD_INPUT, "%s: more tensors than can be counted", set->shards[0].file.path);
    TRY(arena_take_array(arena, (size_t)count, sizeof(struct tensor *), "tensor list", &set->by_name));
    for (int i = 0; i < set->shard_count; i++)
        for (int n = 0; n < set->shards[i].count; n++) {
            set->by_name[filled++] = &set->shards[i].tensors[n];
            set->bytes += set->shards[i].tensors[n].bytes;
        }
    set->count = filled;
    qsort(set->by_name, (size_t)filled, sizeof(struct tensor *), compare_names);
    for (int i = 1; i < filled; i++)
        if (strcmp(set->by_name[i - 1]->name, set->by_name[i]->name) == 0)
            return FAIL(STATUS_BAD_INPUT, "tensor %s stands in two files, %s and %s", set->by_name[i]->name,
                        set->by_name[i - 1]->file->path, set->by_name[i]->file->path);
    return STATUS_OK;
}

/* -- the index -- */

/* Nothing that leads out of the directory, or is hidden. */
static bool plain_name(const char *name)
{
    size_t length = strlen(name);

    if (length <= strlen(".safetensors") || length > 255 || name[0] == '.' || strchr(name, '/') ||
        strchr(name, '\\'))
        return false;
    return strcmp(name + length - strlen(".safetensors"), ".safetensors") == 0;
}

static int compare_text(const void *left, const void *right)
{
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

/* names[*count]: the different shards of weight_map, sorted. */
static enum status list_shards(const struct json_at *map, struct arena *scratch, const char ***names,
                               int *count)
{
    size_t used = 0;
    const char **list;
    const char *key;
    json_t *value;
    int different = 0;

    TRY(arena_take_array(scratch, json_object_size(map->object), sizeof *list, "shard names", &list));
    json_object_foreach(map->object, key, value)
    {
        const char *name = json_string_value(value);

        if (!name || !plain_name(name))
            return FAIL(STATUS_BAD_INPUT,
                        "%s: tensor %.80s is said to be in \"%.80s\"; only plain names of .safetensors files "
                        "beside the index "
                        "are allowed",
                        map->file, key, name ? name : "(no text)");
        if (used == 0 || strcmp(list[used - 1], name) != 0)
            list[used++] = name;
    }
    qsort(list, used, sizeof *list, compare_text);
    for (size_t i = 0; i < used; i++)
        if (different == 0 || strcmp(list[different - 1], list[i]) != 0)
            list[different++] = list[i];
    if (different == 0 || different > SHARDS_MOST)
        return FAIL(STATUS_BAD_INPUT, "%s: names %d weight files, 1 to %d are possible", map->file, different,
                    SHARDS_MOST);
    *names = list;
    *count = different;
    return STATUS_OK;
}

/* Every tensor of the index is in the shard it names, and no shard has others. */
static enum status check_index(const struct tensor_set *set, const struct json_at *map)
{
    const char *key;
    json_t *value;

    json_object_foreach(map->object, key, value)
    {
        const struct tensor *t = tensor_set_find(set, key);

        if (!t || strcmp(shard_name(t), json_string_value(value)) != 0)
            return FAIL(STATUS_BAD_INPUT, "%s: says tensor %.200s is in %s, but %s%s", map->file, key,
                        json_string_value(value), t ? "it is in " : "it is not there",
                        t ? shard_name(t) : "");
    }
    for (int i = 0; i < set->count; i++)
        if (!json_object_get(map->object, set->by_name[i]->name))
            return FAIL(STATUS_BAD_INPUT, "%s: tensor %s is not in %s", set->by_name[i]->file->path,
                        set->by_name[i]->name, INDEX);
    return STATUS_OK;
}

/* Published totals are now and then wrong (shared tensors counted twice) and every tensor has been checked by
 * itself, so this is worth a word and no more. */
static enum status check_total(const struct tensor_set *set, const struct json_at *root)
{
    struct json_at metadata;
    json_t *total;

    TRY(json_get_object(root, "metadata", "metadata.", &metadata));
    total = json_object_get(metadata.object, "total_size");
    if (json_is_number(total) && json_number_value(total) != (double)set->bytes && log_rank() <= 0)
        log_line(LOG_WARN, "%s: says the tensors have %.0f bytes, they have %lld", root->file,
                 json_number_value(total), (long long)set->bytes);
    return STATUS_OK;
}

static enum status open_shards(struct tensor_set *set, struct arena *arena, const char *directory,
                               const char **names, int count)
{
    char path[PATH_BYTES];

    TRY(arena_take_array(arena, (size_t)count, sizeof *set->shards, "weight files", &set->shards));
    for (int i = 0; i < count; i++) {
        TRY(join_path(directory, names[i], path));
        if (count > 1 && !file_exists(path))
            return FAIL(STATUS_NO_INPUT, "%s: this weight file is missing or cannot be read; %s names it",
                        path, INDEX);
        TRY(safetensors_open(&set->shards[i], arena, path));
        set->shard_count = i + 1;
    }
    return sort_names(set, arena);
}

static enum status open_indexed(struct tensor_set *set, struct arena *arena, const char *directory,
                                const struct json *json)
{
    struct arena scratch = {0};
    struct json_at root, map;
    const char **names = NULL;
    enum status status;
    int count = 0;

    TRY(json_get_root(json, &root));
    TRY(json_require(&root, "weight_map"));
    TRY(json_get_object(&root, "weight_map", "weight_map.", &map));
    TRY(arena_open(&scratch, "the list of weight files",
                   json_object_size(map.object) * sizeof *names + ARENA_ALIGN));
    status = list_shards(&map, &scratch, &names, &count);
    if (status == STATUS_OK)
        status = open_shards(set, arena, directory, names, count);
    arena_close(&scratch);
    if (status == STATUS_OK)
        status = check_index(set, &map);
    if (status == STATUS_OK)
        status = check_total(set, &root);
    return status;
}

enum status tensor_set_open(struct tensor_set *set, struct arena *arena, const char *directory)
{
    const char *single = SINGLE;
    struct json json = {0};
    enum status status;
    char path[PATH_BYTES];

    memset(set, 0, sizeof *set);
    TRY(join_path(directory, SINGLE, path));
    if (file_exists(path)) {
        status = open_shards(set, arena, directory, &single, 1);
    } else {
        TRY(join_path(directory, INDEX, path));
        if (!file_exists(path))
            return FAIL(STATUS_NO_INPUT, "%s: holds neither %s nor %s", directory, SINGLE, INDEX);
        TRY(json_open_file(&json, path, INDEX_MOST, 0));
        status = open_indexed(set, arena, directory, &json);
        json_close(&json);
    }
    if (status != STATUS_OK)
        tensor_set_close(set);
    return status;
}

void tensor_set_close(struct tensor_set *set)
{
    for (int i = 0; i < set->shard_count; i++)
        safetensors_close(&set->shards[i]);
    memset(set, 0, sizeof *set);
}

int tensor_set_index(const struct tensor_set *set, const char *name)
{
    int low = 0, high = set->count - 1;

    while (low <= high) {
        int middle = low + (high - low) / 2;
        int order = strcmp(set->by_name[middle]->name, name);

        if (order == 0)
            return middle;
        if (order < 0)
            low = middle + 1;
        else
            high = middle - 1;
    }
    return -1;
}

const struct tensor *tensor_set_find(const struct tensor_set *set, const char *name)
{
    int index = tensor_set_index(set, name);

    return index < 0 ? NULL : set->by_name[index];
}

/* -- parts -- */

static bool inside(int64_t first, int64_t count, int64_t whole)
{
    return first >= 0 && count >= 0 && first <= whole && count <= whole - first;
}

enum status tensor_read(const struct tensor *t, const struct tensor_part *part, void *out)
{
    int last = t->dimensions - 1;
    int64_t columns = last >= 0 ? t->shape[last] : 1;
    int64_t rows = last >= 1 ? t->shape[last - 1] : 1;
    int64_t planes = last >= 2 ? t->shape[last - 2] : 1;
    int64_t element = dtype_bits(t->dtype) / 8;
    unsigned char *to = out;
    int64_t offset;

    if (last > 2 || element == 0 || !inside(part->plane, 1, planes) || !inside(part->row, part->rows, rows) ||
        !inside(part->column, part->columns, columns))
        return FAIL(STATUS_BUG,
                    "%s: tensor %s has no part of %lld rows from %lld, %lld columns from %lld in plane %lld",
                    t->file->path, t->name, (long long)part->rows, (long long)part->row,
                    (long long)part->columns, (long long)part->column, (long long)part->plane);
    offset = t->offset + ((part->plane * rows + part->row) * columns + part->column) * element;
    if (part->columns == columns)
        return file_read(t->file, offset, to, (size_t)(part->rows * columns * element));
    for (int64_t i = 0; i < part->rows; i++)
        TRY(file_read(t->file, offset + i * columns * element, to + i * part->columns * element,
                      (size_t)(part->columns * element)));
    return STATUS_OK;
}
