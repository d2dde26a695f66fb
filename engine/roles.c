/* roles.c - which tensor of the files plays which part in the model, and is it as it should be
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/roles.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SHAPE_TEXT = 160 };

/* Up to three dimensions. */
struct shape {
    int dimensions;
    int64_t size[3];
};

static struct shape vector(int64_t n)
{
    return (struct shape){.dimensions = 1, .size = {n}};
}

static struct shape table(int64_t rows, int64_t columns)
{
    return (struct shape){.dimensions = 2, .size = {rows, columns}};
}

/* The shape of each role, in the letters of kernels.h. */
static struct shape role_shape(const struct roles *r, enum family_role role)
{
    const struct config *c = r->config;
    bool input_first = r->family->fusion == FUSED_INPUT_FIRST;
    int64_t queries = (int64_t)c->heads * c->head_width;
    int64_t keys = (int64_t)c->kv_heads * c->head_width;
    int64_t both = 2 * (int64_t)c->expert_width;

    switch (role) {
    case ROLE_EMBEDDING:
    case ROLE_HEAD:
        return table(c->vocabulary, c->width);
    case ROLE_FINAL_NORM:
    case ROLE_ATTENTION_NORM:
    case ROLE_FEED_NORM:
    case ROLE_OUT_BIAS:
        return vector(c->width);
    case ROLE_QUERY:
        return table(queries, c->width);
    case ROLE_KEY:
    case ROLE_VALUE:
        return table(keys, c->width);
    case ROLE_OUT:
        return table(c->width, queries);
    case ROLE_QUERY_BIAS:
        return vector(queries);
    case ROLE_KEY_BIAS:
    case ROLE_VALUE_BIAS:
        return vector(keys);
    case ROLE_QUERY_NORM:
        return vector(c->qk_norm == QK_NORM_WHOLE_BEFORE_ROPE ? queries : c->head_width);
    case ROLE_KEY_NORM:
        return vector(c->qk_norm == QK_NORM_WHOLE_BEFORE_ROPE ? keys : c->head_width);
    case ROLE_ROUTER_BIAS:
        return vector(c->experts);
    case ROLE_ROUTER:
        return table(c->experts, c->width);
    case ROLE_EXPERTS_GATE_UP:
        return (struct shape){3, {c->experts, input_first ? c->width : both, input_first ? both : c->width}};
    case ROLE_EXPERTS_DOWN:
        return (struct shape){
            3,
            {c->experts, input_first ? c->expert_width : c->width, input_first ? c->width : c->expert_width}};
    case ROLE_EXPERT_GATE:
    case ROLE_EXPERT_UP:
        return table(c->expert_width, c->width);
    case ROLE_EXPERT_DOWN:
        return table(c->width, c->expert_width);
    case ROLE_SHARED_GATE:
    case ROLE_SHARED_UP:
        return table(c->shared_width, c->width);
    case ROLE_SHARED_DOWN:
        return table(c->width, c->shared_width);
    case ROLE_DENSE_GATE:
    case ROLE_DENSE_UP:
        return table(c->dense_width, c->width);
    case ROLE_DENSE_DOWN:
        return table(c->width, c->dense_width);
    case ROLE_COUNT:
        break;
    }
    return vector(0);
}

/* Does the configuration ask for this role in this layer? Of the two ways to store experts, the one that is
 * there. */
static bool wanted(const struct roles *r, enum family_role role, int layer)
{
    const struct config *c = r->config;
    const struct config_layer *kind = &c->layer[layer];

    if (role >= ROLE_QUERY_BIAS && role <= ROLE_VALUE_BIAS)
        return c->attention_bias_qkv;
    if (role == ROLE_OUT_BIAS)
        return c->attention_bias_out;
    if (role == ROLE_QUERY_NORM || role == ROLE_KEY_NORM)
        return c->qk_norm == QK_NORM_HEAD_BEFORE_ROPE || c->qk_norm == QK_NORM_WHOLE_BEFORE_ROPE;
    if (role == ROLE_ROUTER_BIAS)
        return kind->experts && c->route_bias;
    if (role == ROLE_ROUTER)
        return kind->experts;
    if (role == ROLE_EXPERTS_GATE_UP || role == ROLE_EXPERTS_DOWN)
        return kind->experts && roles_fused(r, layer);
    if (role >= ROLE_EXPERT_GATE && role <= ROLE_EXPERT_DOWN)
        return kind->experts && !roles_fused(r, layer);
    if (role >= ROLE_SHARED_GATE && role <= ROLE_SHARED_DOWN)
        return kind->experts && c->shared_width > 0;
    if (role >= ROLE_DENSE_GATE && role <= ROLE_DENSE_DOWN)
        return !kind->experts;
    return true;
}

/* Place in the set, -1: not there. */
static int role_index(const struct roles *r, enum family_role role, int layer, int expert)
{
    char name[FAMILY_NAME_BYTES];

    if (!r->family->names[role] ||
        family_tensor_name(r->family, r->prefix, role, layer, expert, name, sizeof name) != STATUS_OK)
        return -1;
    return tensor_set_index(r->set, name);
}

bool roles_fused(const struct roles *r, int layer)
{
    return role_index(r, ROLE_EXPERTS_GATE_UP, layer, 0) >= 0 || !r->family->names[ROLE_EXPERT_GATE];
}

enum status roles_find(const struct roles *r, enum family_role role, int layer, int expert,
                       const struct tensor **out)
{
    int index = role_index(r, role, layer, expert);
    char name[FAMILY_NAME_BYTES];

    if (index < 0) {
        TRY(family_tensor_name(r->family, r->prefix, role, layer, expert, name, sizeof name));
        return FAIL(STATUS_BAD_INPUT, "%s: tensor %s is missing%s", r->set->shards[0].file.path, name,
                    r->set->shard_count > 1 ? " from this file and the other parts" : "");
    }
    *out = r->set->by_name[index];
    return STATUS_OK;
}

static void shape_text(char text[SHAPE_TEXT], const int64_t *size, int dimensions)
{
    int used = snprintf(text, SHAPE_TEXT, "[");

    for (int i = 0; i < dimensions; i++)
        used += snprintf(text + used, (size_t)(SHAPE_TEXT - used), "%s%lld", i > 0 ? ", " : "",
                         (long long)size[i]);
    snprintf(text + used, (size_t)(SHAPE_TEXT - used), "]");
}

/* The scales of `t`, which is F8_E4M3, beside it under its name. */
static enum status find_scale(const struct roles *r, const struct tensor *t, const struct tensor **out)
{
    static const char *const endings[] = {"_scale", "_scale_inv"};
    char name[FAMILY_NAME_BYTES + 16];

    *out = NULL;
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        const struct tensor *found;

        snprintf(name, sizeof name, "%s%s", t->name, endings[i]);
        found = tensor_set_find(r->set, name);
        if (found && *out)
            return FAIL(STATUS_BAD_INPUT, "%s: tensor %s has two sets of scales, %s and %s", t->file->path,
                        t->name, (*out)->name, found->name);
        if (found)
            *out = found;
    }
    if (!*out)
        return FAIL(
            STATUS_BAD_INPUT,
            "%s: tensor %s is F8_E4M3 and needs its scales, %s_scale or %s_scale_inv, which are missing",
            t->file->path, t->name, t->name, t->name);
    return STATUS_OK;
}

static bool has_shape(const struct tensor *t, struct shape shape)
{
    return t->dimensions == shape.dimensions &&
           memcmp(t->shape, shape.size, (size_t)shape.dimensions * sizeof shape.size[0]) == 0;
}

static int64_t blocks(int64_t whole, int block)
{
    return (whole + block - 1) / block;
}

enum status roles_scale(const struct roles *r, const struct tensor *t, struct roles_scale *out)
{
    const struct config *c = r->config;
    int64_t outputs = t->shape[0], inputs = t->shape[1];
    char found[SHAPE_TEXT], needed[SHAPE_TEXT];
    const struct tensor *s;
    struct shape grid;

    *out = (struct roles_scale){0};
    if (t->dtype != DTYPE_F8_E4M3)
        return STATUS_OK;
    TRY(find_scale(r, t, &s));
    if (s->dtype != DTYPE_F32 && s->dtype != DTYPE_BF16 && s->dtype != DTYPE_F16)
        return FAIL(STATUS_BAD_INPUT, "%s: the scales %s are %s; they must be F32, BF16 or F16",
                    s->file->path, s->name, dtype_name(s->dtype));
    grid = c->scales == SCALES_BLOCKS
               ? table(blocks(outputs, c->scale_rows), blocks(inputs, c->scale_columns))
               : table(outputs, 1);
    if (has_shape(s, grid) || (c->scales == SCALES_OUTPUTS && has_shape(s, vector(outputs))))
        *out = (struct roles_scale){.tensor = s,
                                    .rows = c->scales == SCALES_BLOCKS ? c->scale_rows : 1,
                                    .columns = c->scales == SCALES_BLOCKS ? c->scale_columns : (int)inputs};
    else if (c->scales == SCALES_OUTPUTS &&
             (s->dimensions == 0 || has_shape(s, vector(1)) || has_shape(s, table(1, 1))))
        *out = (struct roles_scale){.tensor = s, .rows = (int)outputs, .columns = (int)inputs};
    if (out->tensor)
        return STATUS_OK;
    shape_text(found, s->shape, s->dimensions);
    shape_text(needed, grid.size, grid.dimensions);
    return FAIL(
        STATUS_BAD_INPUT,
        "%s: the scales %s have the shape %s; by config.json and the shape of their weight they must be "
        "%s%s",
        s->file->path, s->name, found, needed,
        c->scales == SCALES_OUTPUTS ? ", or as many without the 1, or one number" : "");
}

/* Can a tensor of this format be multiplied? Marks its scales. */
static enum status check_format(const struct roles *r, const struct tensor *t, unsigned char *expected)
{
    struct roles_scale scale;

    if (t->dtype == DTYPE_BF16 || t->dtype == DTYPE_F16 || t->dtype == DTYPE_F32)
        return STATUS_OK;
    if (t->dtype != DTYPE_F8_E4M3)
        return FAIL(
            STATUS_BAD_INPUT,
            "%s: tensor %s is %s; this version multiplies BF16, F16, F32, and F8_E4M3 with scales: use "
            "such a release of the model",
            t->file->path, t->name, dtype_name(t->dtype));
    if (t->dimensions != 2)
        return FAIL(STATUS_BAD_INPUT,
                    "%s: tensor %s is F8_E4M3, which this version takes for matrices with scales alone%s",
                    t->file->path, t->name,
                    t->dimensions == 3 ? ": use a release with a tensor for each expert" : "");
    if (r->config->scales == SCALES_NONE)
        return FAIL(
            STATUS_BAD_INPUT,
            "%s: tensor %s is F8_E4M3, and config.json has no \"quantization_config\" that says how its "
            "scales are stored",
            t->file->path, t->name);
    TRY(roles_scale(r, t, &scale));
    expected[tensor_set_index(r->set, scale.tensor->name)] = 1;
    return STATUS_OK;
}

static enum status check_tensor(const struct roles *r, enum family_role role, int layer, int expert,
                                unsigned char *expected)
{
    struct shape shape = role_shape(r, role);
    const struct tensor *t;
    char found[SHAPE_TEXT], needed[SHAPE_TEXT];

    TRY(roles_find(r, role, layer, expert, &t));
    expected[tensor_set_index(r->set, t->name)] = 1;
    if (!has_shape(t, shape)) {
        shape_text(found, t->shape, t->dimensions);
        shape_text(needed, shape.size, shape.dimensions);
        return FAIL(STATUS_BAD_INPUT, "%s: tensor %s has the shape %s, by config.json it must be %s",
                    t->file->path, t->name, found, needed);
    }
    return check_format(r, t, expected);
}

/* A tensor of a layer behind the last one: blocks that predict further tokens. */
static bool behind_last_layer(const struct roles *r, const char *name)
{
    size_t body = strlen(r->prefix->body);
    size_t mark = strlen(r->family->layer_prefix);
    char *end;
    long layer;

    if (strncmp(name, r->prefix->body, body) != 0 || strncmp(name + body, r->family->layer_prefix, mark) != 0)
        return false;
    layer = strtol(name + body + mark, &end, 10);
    return end != name + body + mark && *end == '.' && layer >= r->config->layers;
}

static bool left_out(const struct roles *r, const char *name)
{
    static const char inverse[] = ".rotary_emb.inv_freq";
    size_t length = strlen(name);

    for (const char *const *skipped = r->family->skipped_tensors; skipped && *skipped; skipped++)
        if (strncmp(name, *skipped, strlen(*skipped)) == 0)
            return true;
    if (length >= sizeof inverse - 1 && strcmp(name + length - (sizeof inverse - 1), inverse) == 0)
        return true;
    return behind_last_layer(r, name);
}

static enum status check_others(const struct roles *r, const unsigned char *expected)
{
    for (int i = 0; i < r->set->count; i++) {
        const struct tensor *t = r->set->by_name[i];

        if (!expected[i] && !left_out(r, t->name))
            return FAIL(STATUS_BAD_INPUT,
                        "%s: tensor %s has no place in a %s model with this config.json; passing it over "
                        "could change what "
                        "the model computes, so the model is refused",
                        t->file->path, t->name, r->config->architecture);
    }
    return STATUS_OK;
}

static enum status check_layer(const struct roles *r, int layer, unsigned char *expected)
{
    for (int role = ROLE_ATTENTION_NORM; role < ROLE_COUNT; role++) {
        bool each = role >= ROLE_EXPERT_GATE && role <= ROLE_EXPERT_DOWN;

        if (!wanted(r, (enum family_role)role, layer))
            continue;
        for (int expert = 0; expert < (each ? r->config->experts : 1); expert++)
            TRY(check_tensor(r, (enum family_role)role, layer, expert, expected));
    }
    return STATUS_OK;
}

static enum status check_all(const struct roles *r, unsigned char *expected)
{
    int head = role_index(r, ROLE_HEAD, 0, 0);

    TRY(check_tensor(r, ROLE_EMBEDDING, 0, 0, expected));
    TRY(check_tensor(r, ROLE_FINAL_NORM, 0, 0, expected));
    if (!r->tied)
        TRY(check_tensor(r, ROLE_HEAD, 0, 0, expected));
    if (head >= 0)
        expected[head] = 1; /* a second copy of a tied embedding is common */
    for (int layer = 0; layer < r->config->layers; layer++)
        TRY(check_layer(r, layer, expected));
    return check_others(r, expected);
}

/* The first prefix under which there is an embedding. */
static enum status find_prefix(struct roles *r)
{
    char name[FAMILY_NAME_BYTES];

    for (r->prefix = r->family->prefixes; r->prefix->body; r->prefix++)
        if (role_index(r, ROLE_EMBEDDING, 0, 0) >= 0)
            return STATUS_OK;
    r->prefix = r->family->prefixes;
    TRY(family_tensor_name(r->family, r->prefix, ROLE_EMBEDDING, 0, 0, name, sizeof name));
    return FAIL(STATUS_BAD_INPUT, "%s: tensor %s is missing, under every prefix that %s models have",
                r->set->shards[0].file.path, name, r->config->architecture);
}

enum status roles_open(struct roles *r, const struct config *c, const struct tensor_set *set)
{
    struct roles found = {.config = c, .set = set, .family = family_find(c->family)};
    struct arena scratch = {0};
    unsigned char *expected;
    enum status status;

    if (!found.family)
        return FAIL(STATUS_BUG, "no family %s", c->family);
    TRY(find_prefix(&found));
    found.tied = c->tied || role_index(&found, ROLE_HEAD, 0, 0) < 0;
    TRY(arena_open(&scratch, "the check of tensors", (size_t)set->count + ARENA_ALIGN));
    status = arena_take(&scratch, (size_t)set->count, "marks", &expected);
    if (status == STATUS_OK)
        status = check_all(&found, expected);
    arena_close(&scratch);
    if (status == STATUS_OK)
        *r = found;
    return status;
}
