/* placement_file.c - where experts lie, kept in a file from run to run
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/placement_file.h"

#include "engine/base/log.h"
#include "engine/json.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const int64_t FILE_LIMIT = (int64_t)256 << 20;

struct reading {
    const char *path;
    const struct config *config;
    struct placement *out;
    int layers;    /* rows that have been filled */
    char why[160]; /* it does not fit; "": it does */
};

static enum status read_list(struct reading *r, const json_t *list, const char *what, int32_t *out, int count)
{
    if (!json_is_array(list))
        return FAIL(STATUS_BAD_INPUT, "%s: %s is no list", r->path, what);
    for (int i = 0; i < count; i++) {
        const json_t *item = json_array_get(list, (size_t)i);
        json_int_t value = json_integer_value(item);

        if (!json_is_integer(item) || value < -1 || value > INT_MAX)
            return FAIL(STATUS_BAD_INPUT, "%s: number %d of %s is no expert", r->path, i, what);
        out[i] = (int32_t)value;
    }
    return STATUS_OK;
}

/* -- SGLang's and ours -- */

static enum status read_map(struct reading *r, const json_t *map)
{
    struct placement *p = r->out;
    const struct config *c = r->config;
    int rows;

    if (!json_is_array(map))
        return FAIL(STATUS_BAD_INPUT, "%s: physical_to_logical_map is no list", r->path);
    rows = (int)json_array_size(map);
    if (rows != c->expert_layers && rows != c->layers) {
        snprintf(r->why, sizeof r->why, "it has %d layers, the model has %d with experts of %d", rows,
                 c->expert_layers, c->layers);
        return STATUS_OK;
    }
    for (int layer = 0; layer < c->layers; layer++) {
        int expert_layer = c->layer[layer].expert_layer;
        const json_t *row;

        if (!c->layer[layer].experts)
            continue;
        row = json_array_get(map, (size_t)(rows == c->layers ? layer : expert_layer));
        if ((int)json_array_size(row) != p->slots) {
            snprintf(r->why, sizeof r->why, "it has %zu slots in layer %d, this run has %d",
                     json_array_size(row), layer, p->slots);
            return STATUS_OK;
        }
        TRY(read_list(r, row, "a layer", p->expert + (ptrdiff_t)expert_layer * p->slots, p->slots));
        r->layers++;
    }
    return STATUS_OK;
}

/* -- vLLM-Ascend's -- */

static enum status read_devices(struct reading *r, const json_t *devices, int32_t *expert)
{
    struct placement *p = r->out;
    const json_t *device;
    size_t at;

    if ((int)json_array_size(devices) != p->ranks) {
        snprintf(r->why, sizeof r->why, "it is for %zu devices, this run has %d ranks",
                 json_array_size(devices), p->ranks);
        return STATUS_OK;
    }
    json_array_foreach(devices, at, device)
    {
        const json_t *list = json_object_get(device, "device_expert");
        json_int_t id = json_integer_value(json_object_get(device, "device_id"));
        int slots;

        if (!json_is_integer(json_object_get(device, "device_id")) || id < 0 || id >= p->ranks)
            return FAIL(STATUS_BAD_INPUT, "%s: a device_id is not from 0 to %d", r->path, p->ranks - 1);
        slots = p->rank_first[id + 1] - p->rank_first[id];
        if ((int)json_array_size(list) != slots) {
            snprintf(r->why, sizeof r->why, "device %d has %zu slots there, rank %d has %d here", (int)id,
                     json_array_size(list), (int)id, slots);
            return STATUS_OK;
        }
        TRY(read_list(r, list, "device_expert", expert + p->rank_first[id], slots));
    }
    r->layers++;
    return STATUS_OK;
}

/* Are layers with experts alone counted? Else ids are those of the model's layers. */
static bool counts_experts(const json_t *list, const struct config *c)
{
    const json_t *layer;
    size_t at;

    json_array_foreach(list, at, layer)
    {
        if (json_integer_value(json_object_get(layer, "layer_id")) >= c->expert_layers)
            return false;
    }
    return json_array_size(list) == (size_t)c->expert_layers;
}

static enum status read_layer_list(struct reading *r, const json_t *list)
{
    struct placement *p = r->out;
    const struct config *c = r->config;
    bool counted = counts_experts(list, c);
    const json_t *layer;
    size_t at;

    json_array_foreach(list, at, layer)
    {
        json_int_t id = json_integer_value(json_object_get(layer, "layer_id"));
        int expert_layer = (int)id;

        if (!json_is_integer(json_object_get(layer, "layer_id")) || id < 0 || id >= c->layers)
            return FAIL(STATUS_BAD_INPUT, "%s: a layer_id is not from 0 to %d", r->path, c->layers - 1);
        if (!counted && c->layer[id].experts)
            expert_layer = c->layer[id].expert_layer;
        else if (!counted)
            continue;
        TRY(read_devices(r, json_object_get(layer, "device_list"),
                         p->expert + (ptrdiff_t)expert_layer * p->slots));
        if (r->why[0])
            return STATUS_OK;
    }
    return STATUS_OK;
}

/* -- all -- */

static enum status read_root(struct reading *r, const struct json *json, uint64_t model)
{
    const json_t *map, *list;
    const char *saved = NULL;
    struct json_at root;
    char mine[20];

    TRY(json_get_root(json, &root));
    TRY(json_get_text(&root, "model", &saved));
    snprintf(mine, sizeof mine, "%016" PRIx64, model);
    if (saved && strcmp(saved, mine) != 0) {
        snprintf(r->why, sizeof r->why, "it was saved for another model");
        return STATUS_OK;
    }
    map = json_object_get(root.object, "physical_to_logical_map");
    list = json_object_get(root.object, "layer_list");
    if (map)
        return read_map(r, map);
    if (json_is_array(list))
        return read_layer_list(r, list);
    return FAIL(STATUS_BAD_INPUT, "%s: neither \"physical_to_logical_map\" nor \"layer_list\" stands there",
                r->path);
}

/* Plans of others may give a rank two copies of an expert. The second would take no work away: it stays out.
 */
static void drop_doubles(const struct reading *r)
{
    struct placement *p = r->out;
    int dropped = 0;

    for (int layer = 0; layer < p->layers; layer++) {
        int32_t *expert = p->expert + (ptrdiff_t)layer * p->slots;

        for (int e = 0; e < p->experts; e++)
            p->seen[e] = -1;
        for (int rank = 0; rank < p->ranks; rank++)
            for (int s = p->rank_first[rank]; s < p->rank_first[rank + 1]; s++) {
                if (expert[s] < 0 || expert[s] >= p->experts)
                    continue;
                if (p->seen[expert[s]] == rank) {
                    expert[s] = -1;
                    dropped++;
                } else {
                    p->seen[expert[s]] = rank;
                }
            }
    }
    if (dropped > 0)
        log_line(LOG_INFO, "%s: %d slots with an expert that another slot of their rank has stay empty",
                 r->path, dropped);
}

/* What was read is complete, and every expert of every layer has a slot? */
static enum status check_read(struct reading *r)
{
    drop_doubles(r);
    if (!r->why[0] && r->layers != r->config->expert_layers)
        snprintf(r->why, sizeof r->why, "it has %d layers with experts, the model has %d", r->layers,
                 r->config->expert_layers);
    if (!r->why[0] && placement_index(r->out) != STATUS_OK)
        return status_prefix(STATUS_BAD_INPUT, "%s: ", r->path);
    return STATUS_OK;
}

enum status placement_file_read(const char *path, const struct config *c, uint64_t model, struct arena *arena,
                                struct placement *p, bool *fits)
{
    struct placement read;
    struct reading r = {.path = path, .config = c, .out = &read};
    struct json json = {0};
    enum status status;

    *fits = false;
    if (access(path, F_OK) != 0) {
        log_line(LOG_INFO, "%s is not there yet; `generate` writes it at its end", path);
        return STATUS_OK;
    }
    TRY(placement_like(&read, arena, p));
    TRY(json_open_file(&json, path, FILE_LIMIT, 0));
    status = read_root(&r, &json, model);
    json_close(&json);
    if (status == STATUS_OK)
        status = check_read(&r);
    if (status != STATUS_OK)
        return status;
    if (r.why[0]) {
        log_line(LOG_WARN, "%s does not fit: %s; experts start as without it", path, r.why);
        return STATUS_OK;
    }
    memcpy(p->expert, read.expert, (size_t)p->layers * (size_t)p->slots * sizeof *p->expert);
    TRY(placement_index(p));
    log_line(LOG_INFO, "experts start where %s has them", path);
    *fits = true;
    return STATUS_OK;
}

/* -- writing -- */

static json_t *numbers(const int32_t *values, int count)
{
    json_t *list = json_array();

    for (int i = 0; list && i < count; i++)
        if (json_array_append_new(list, json_integer(values[i])) != 0) {
            json_decref(list);
            return NULL;
        }
    return list;
}

static json_t *map_of(const struct placement *p)
{
    json_t *map = json_array();

    for (int layer = 0; map && layer < p->layers; layer++)
        if (json_array_append_new(map, numbers(p->expert + (ptrdiff_t)layer * p->slots, p->slots)) != 0) {
            json_decref(map);
            return NULL;
        }
    return map;
}

/* Opens a new file beside it, of a name that no other run has. */
static enum status open_beside(const char *path, char beside[static PATH_MAX], int *file)
{
    mode_t mask = umask(0);

    umask(mask);
    if (snprintf(beside, PATH_MAX, "%s.XXXXXX", path) >= PATH_MAX)
        return FAIL(STATUS_IO, "--expert-placement %s: the name is too long", path);
    *file = mkostemp(beside, O_CLOEXEC);
    if (*file < 0)
        return FAIL(STATUS_IO, "--expert-placement %s: %s", path, strerror(errno));
    (void)fchmod(*file, 0666 & ~mask); /* as any other file; else its owner alone can read it */
    return STATUS_OK;
}

enum status placement_file_check(const char *path)
{
    char beside[PATH_MAX];
    int file;

    TRY(open_beside(path, beside, &file));
    close(file);
    unlink(beside);
    return STATUS_OK;
}

static enum status dump(const json_t *all, int file)
{
    FILE *out = fdopen(file, "w");
    bool failed;

    if (!out) {
        close(file);
        return FAIL(STATUS_IO, "%s", strerror(errno));
    }
    failed = json_dumpf(all, out, JSON_INDENT(1)) != 0;
    if (fclose(out) != 0 || failed)
        return FAIL(STATUS_IO, "%s", strerror(errno));
    return STATUS_OK;
}

static enum status write_beside(const json_t *all, const char *path)
{
    char beside[PATH_MAX];
    enum status status;
    int file;

    TRY(open_beside(path, beside, &file));
    status = dump(all, file);
    if (status == STATUS_OK && rename(beside, path) != 0)
        status = FAIL(STATUS_IO, "%s", strerror(errno));
    if (status == STATUS_OK)
        return STATUS_OK;
    unlink(beside);
    return status_prefix(status, "--expert-placement %s: ", path);
}

enum status placement_file_write(const char *path, const struct config *c, uint64_t model,
                                 const struct placement *p)
{
    char name[20];
    json_t *all, *first = numbers(p->rank_first, p->ranks + 1), *map = map_of(p);
    enum status status;

    snprintf(name, sizeof name, "%016" PRIx64, model);
    all = first && map ? json_pack("{s:s, s:s, s:i, s:i, s:i, s:o, s:o}", "model", name, "architecture",
                                   c->architecture, "experts", p->experts, "slots", p->slots, "ranks",
                                   p->ranks, "rank_first", first, "physical_to_logical_map", map)
                       : NULL;
    if (!all)
        return FAIL(STATUS_NO_MEMORY, "no memory for --expert-placement %s", path);
    status = write_beside(all, path);
    json_decref(all);
    return status;
}
