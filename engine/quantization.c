/* quantization.c - what a configuration says about quantised weights, accepted or refused by name
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/quantization.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

enum { PATH_BYTES = 256 };

static const char WHAT_TO_DO[] =
    "FP8 (E4M3) weights with a scale for each output, matrix or block are; use such a release of the model, "
    "or the bfloat16 one";

/* Keys that say nothing about what a weight is worth. */
static const char *const IGNORED[] = {"actorder",
                                      "config_groups",
                                      "dequantize",
                                      "format",
                                      "global_compression_ratio",
                                      "group_size",
                                      "ignore",
                                      "ignored_layers",
                                      "modules_to_not_convert",
                                      "observer",
                                      "observer_kwargs",
                                      "quant_method",
                                      "quantization_status",
                                      "scale_fmt",
                                      "targets",
                                      "version",
                                      NULL};

/* A key that is understood with one value, written as JSON, or missing. */
struct rule {
    const char *key, *value;
};

static const struct rule FP8[] = {{"fmt", "\"e4m3\""},
                                  {"activation_scheme", "\"dynamic\""},
                                  {"is_checkpoint_fp8_serialized", "true"},
                                  {"weight_block_size", NULL},
                                  {0}};
static const struct rule COMPRESSED[] = {
    {"kv_cache_scheme", "null"}, {"sparsity_config", "{}"}, {"transform_config", "{}"}, {0}};
static const struct rule GROUP[] = {
    {"weights", NULL}, {"input_activations", NULL}, {"output_activations", "null"}, {0}};
static const struct rule NUMBERS[] = {
    {"num_bits", "8"},       {"type", "\"float\""}, {"symmetric", "true"},
    {"strategy", NULL},      {"dynamic", NULL},     {"block_structure", NULL},
    {"scale_dtype", "null"}, {"zp_dtype", "null"},  {0}};

static enum status refuse(const struct json_at *at, const char *key)
{
    const char *text = json_string_value(json_object_get(at->object, key));

    return FAIL(STATUS_BAD_INPUT,
                "%s: \"%s%.60s\"%s%.60s%s: weights quantised like this are not supported; %s", at->file,
                at->path, key, text ? " is \"" : "", text ? text : "", text ? "\"" : "", WHAT_TO_DO);
}

static bool listed(const char *key)
{
    for (const char *const *known = IGNORED; *known; known++)
        if (strcmp(*known, key) == 0)
            return true;
    return false;
}

/* Every key of the object is in the rules with its value, or says nothing. */
static enum status check_rules(const struct json_at *at, const struct rule *rules)
{
    const char *key;
    json_t *value;

    json_object_foreach(at->object, key, value)
    {
        const struct rule *rule = rules;

        while (rule->key && strcmp(rule->key, key) != 0)
            rule++;
        if (json_is_null(value) || (!rule->key && listed(key)) || (rule->key && !rule->value))
            continue;
        if (rule->key) {
            json_t *only = json_loads(rule->value, JSON_DECODE_ANY, NULL);
            bool same = only && json_equal(only, value);

            json_decref(only);
            if (same)
                continue;
        }
        return refuse(at, key);
    }
    return STATUS_OK;
}

/* The same kind of scales for every weight. */
static enum status set_scales(struct config *c, const struct json_at *at, enum config_scales scales,
                              const char *block_key)
{
    int block[2] = {0, 0};
    struct json_ints sizes = {.least = 1, .most = INT_MAX / 2, .capacity = 2, .values = block, .count = -1};

    if (scales == SCALES_BLOCKS) {
        TRY(json_get_ints(at, block_key, &sizes));
        if (sizes.count != 2 || block[1] % SCALE_INPUTS != 0)
            return FAIL(STATUS_BAD_INPUT,
                        "%s: \"%s%s\" must be two numbers, the outputs and the inputs of a block, the second "
                        "a multiple of %d",
                        at->file, at->path, block_key, SCALE_INPUTS);
    }
    if (c->scales != SCALES_NONE &&
        (c->scales != scales || c->scale_rows != block[0] || c->scale_columns != block[1]))
        return FAIL(STATUS_BAD_INPUT, "%s: \"%s\" scales some weights in another way than others; %s",
                    at->file, at->path, WHAT_TO_DO);
    c->scales = scales;
    c->scale_rows = block[0];
    c->scale_columns = block[1];
    return STATUS_OK;
}

/* One group of compressed-tensors. */
static enum status read_group(struct config *c, const struct json_at *group)
{
    char weights_path[PATH_BYTES], activations_path[PATH_BYTES];
    struct json_at weights, activations;
    const char *strategy = NULL;
    bool dynamic = false;

    snprintf(weights_path, sizeof weights_path, "%sweights.", group->path);
    snprintf(activations_path, sizeof activations_path, "%sinput_activations.", group->path);
    TRY(check_rules(group, GROUP));
    TRY(json_get_object(group, "weights", weights_path, &weights));
    if (!weights.object || !json_has(&weights, "num_bits") || !json_has(&weights, "type"))
        return refuse(group, "weights");
    TRY(check_rules(&weights, NUMBERS));
    TRY(json_get_bool(&weights, "dynamic", &dynamic));
    if (dynamic)
        return refuse(&weights, "dynamic");

    TRY(json_get_object(group, "input_activations", activations_path, &activations));
    if (activations.object) {
        /* Scales for activations in the files would mean numbers that no one reads. */
        TRY(check_rules(&activations, NUMBERS));
        TRY(json_get_bool(&activations, "dynamic", &dynamic));
        if (!dynamic)
            return refuse(&activations, "dynamic");
    }

    TRY(json_get_text(&weights, "strategy", &strategy));
    if (strategy && strcmp(strategy, "block") == 0)
        return set_scales(c, &weights, SCALES_BLOCKS, "block_structure");
    if (!strategy || (strcmp(strategy, "channel") != 0 && strcmp(strategy, "tensor") != 0))
        return refuse(&weights, "strategy");
    return set_scales(c, &weights, SCALES_OUTPUTS, NULL);
}

static enum status read_compressed(struct config *c, const struct json_at *at)
{
    const char *format = NULL;
    struct json_at groups;
    char path[PATH_BYTES];
    const char *key;
    json_t *value;

    TRY(json_get_text(at, "format", &format));
    if (!format || strcmp(format, "float-quantized") != 0)
        return refuse(at, "format");
    TRY(check_rules(at, COMPRESSED));
    TRY(json_get_object(at, "config_groups", at->path, &groups));
    if (!groups.object || json_object_size(groups.object) == 0)
        return refuse(at, "config_groups");
    json_object_foreach(groups.object, key, value)
    {
        struct json_at group;

        snprintf(path, sizeof path, "%sconfig_groups.%.60s.", at->path, key);
        TRY(json_get_object(&groups, key, path, &group));
        if (group.object)
            TRY(read_group(c, &group));
    }
    return c->scales == SCALES_NONE ? refuse(at, "config_groups") : STATUS_OK;
}

enum status quantization_read(struct config *c, const struct json_at *at)
{
    struct json_at read;
    const char *method = NULL;
    char path[PATH_BYTES];

    snprintf(path, sizeof path, "%squantization_config.", at->path);
    TRY(json_get_object(at, "quantization_config", path, &read));
    if (!read.object)
        return STATUS_OK;
    TRY(json_get_text(&read, "quant_method", &method));
    if (method && strcmp(method, "compressed-tensors") == 0)
        return read_compressed(c, &read);
    if (!method || strcmp(method, "fp8") != 0)
        return refuse(&read, "quant_method");
    TRY(check_rules(&read, FP8));
    return set_scales(c, &read, json_has(&read, "weight_block_size") ? SCALES_BLOCKS : SCALES_OUTPUTS,
                      "weight_block_size");
}
