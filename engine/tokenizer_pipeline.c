/* tokenizer_pipeline.c - what tokenizer.json says to do with text before and behind the model
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/tokenizer_pipeline.h"

#include <limits.h>
#include <string.h>

/* The expression that ByteLevel splits by when use_regex is true. */
static const char gpt2_pattern[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/* One of the four, or a member of a Sequence in it. */
struct stage {
    const char *key;     /* "pre_tokenizer" */
    const char *members; /* key of a Sequence's list: "pretokenizers" */
    struct json_at at;
    const char *type;
};

static enum status stage_open(struct stage *stage, json_t *object)
{
    stage->at.object = object;
    stage->type = NULL;
    if (!json_is_object(object))
        return FAIL(STATUS_BAD_INPUT, "%s: %s must be an object with a type", stage->at.file, stage->key);
    TRY(json_require(&stage->at, "type"));
    return json_get_text(&stage->at, "type", &stage->type);
}

static enum status stage_refuse(const struct stage *stage, const char *what)
{
    return FAIL(STATUS_BAD_INPUT, "%s: %s %s is not supported%s%s", stage->at.file, stage->key, stage->type,
                *what ? ": " : "", what);
}

/* A Sequence calls `read` for each member; anything else is read itself. */
static enum status stage_read(struct stage stage, json_t *object, void *context,
                              enum status (*read)(const struct stage *stage, void *context))
{
    json_t *members;

    TRY(stage_open(&stage, object));
    if (strcmp(stage.type, "Sequence") != 0)
        return read(&stage, context);
    members = json_object_get(object, stage.members);
    if (!json_is_array(members))
        return FAIL(STATUS_BAD_INPUT, "%s: the Sequence of %s needs a list \"%s\"", stage.at.file, stage.key,
                    stage.members);
    for (size_t i = 0; i < json_array_size(members); i++)
        TRY(stage_read(stage, json_array_get(members, i), context, read));
    return STATUS_OK;
}

static enum status read_normalizer(const struct stage *stage, void *context)
{
    (void)context;
    return stage_refuse(stage, "only tokenizers without a normalizer can be read");
}

struct reader {
    struct tokenizer_pipeline *pipeline;
    struct tokenizer_split *split;
    int steps;       /* Split steps so far */
    bool byte_level; /* ByteLevel was seen */
    bool template;   /* TemplateProcessing was seen */
};

static enum status read_split(const struct stage *stage, struct reader *reader)
{
    enum tokenizer_split_keep keep = TOKENIZER_SPLIT_ALL;
    json_t *pattern = json_object_get(stage->at.object, "pattern");
    json_t *literal = json_object_get(pattern, "String");
    json_t *text = literal ? literal : json_object_get(pattern, "Regex");
    const char *behavior = "";
    bool invert = false;
    enum status status;

    TRY(json_get_text(&stage->at, "behavior", &behavior));
    TRY(json_get_bool(&stage->at, "invert", &invert));
    if (!json_is_string(text))
        return FAIL(STATUS_BAD_INPUT, "%s: %s Split needs a pattern with a Regex or a String", stage->at.file,
                    stage->key);
    if (strcmp(behavior, "Removed") == 0)
        keep = invert ? TOKENIZER_SPLIT_MATCHES : TOKENIZER_SPLIT_GAPS;
    else if (strcmp(behavior, "Isolated") != 0)
        return FAIL(STATUS_BAD_INPUT, "%s: %s Split with behavior \"%s\" is not supported", stage->at.file,
                    stage->key, behavior);
    status = tokenizer_split_add(reader->split, json_string_value(text), json_string_length(text), keep,
                                 literal != NULL);
    reader->steps++;
    return status == STATUS_OK ? status : status_prefix(status, "%s: %s: ", stage->at.file, stage->key);
}

static enum status read_byte_level(const struct stage *stage, struct reader *reader)
{
    bool use_regex = true;

    TRY(json_require(&stage->at, "add_prefix_space"));
    TRY(json_get_bool(&stage->at, "add_prefix_space", &reader->pipeline->prefix_space));
    TRY(json_get_bool(&stage->at, "use_regex", &use_regex));
    if (reader->pipeline->prefix_space && reader->steps > 0)
        return stage_refuse(stage, "add_prefix_space behind another step");
    reader->byte_level = true;
    return use_regex ? tokenizer_split_add(reader->split, gpt2_pattern, sizeof gpt2_pattern - 1,
                                           TOKENIZER_SPLIT_ALL, false)
                     : STATUS_OK;
}

static enum status read_pre_tokenizer(const struct stage *stage, void *context)
{
    struct reader *reader = context;

    if (reader->byte_level)
        return stage_refuse(stage, "ByteLevel must be the last step");
    if (strcmp(stage->type, "Split") == 0)
        return read_split(stage, reader);
    if (strcmp(stage->type, "ByteLevel") == 0)
        return read_byte_level(stage, reader);
    return stage_refuse(stage, "");
}

/* The ids that stand for one special token of the template. */
static enum status read_template_ids(const struct stage *stage, json_t *piece, int32_t *ids, int *count)
{
    const char *name = json_string_value(json_object_get(piece, "id"));
    json_t *entry = name ? json_object_get(json_object_get(stage->at.object, "special_tokens"), name) : NULL;
    json_t *list = json_object_get(entry, "ids");

    if (!json_is_array(list))
        return FAIL(STATUS_BAD_INPUT, "%s: %s TemplateProcessing has no ids for \"%s\"", stage->at.file,
                    stage->key, name ? name : "");
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_t *id = json_array_get(list, i);

        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) > INT32_MAX)
            return FAIL(STATUS_BAD_INPUT, "%s: %s TemplateProcessing: an id of \"%s\" is no id",
                        stage->at.file, stage->key, name);
        if (*count == TOKENIZER_PIPELINE_EXTRA)
            return stage_refuse(stage, "too many special tokens");
        ids[(*count)++] = (int32_t)json_integer_value(id);
    }
    return STATUS_OK;
}

static enum status read_template(const struct stage *stage, struct reader *reader)
{
    struct tokenizer_pipeline *p = reader->pipeline;
    json_t *single = json_object_get(stage->at.object, "single");
    bool seen = false;

    if (reader->template)
        return stage_refuse(stage, "it stands there twice");
    reader->template = true;
    for (size_t i = 0; i < json_array_size(single); i++) {
        json_t *item = json_array_get(single, i);
        json_t *special = json_object_get(item, "SpecialToken");
        const char *sequence = json_string_value(json_object_get(json_object_get(item, "Sequence"), "id"));

        if (special)
            TRY(read_template_ids(stage, special, seen ? p->after : p->before,
                                  seen ? &p->after_count : &p->before_count));
        else if (!seen && sequence && strcmp(sequence, "A") == 0)
            seen = true;
        else
            return stage_refuse(stage, "a \"single\" with anything but special tokens and one A");
    }
    return seen ? STATUS_OK : stage_refuse(stage, "a \"single\" without A");
}

static enum status read_post_processor(const struct stage *stage, void *context)
{
    if (strcmp(stage->type, "TemplateProcessing") == 0)
        return read_template(stage, context);
    if (strcmp(stage->type, "ByteLevel") == 0) /* moves offsets only */
        return STATUS_OK;
    return stage_refuse(stage, "");
}

static enum status read_decoder(const struct stage *stage, void *context)
{
    if (strcmp(stage->type, "ByteLevel") == 0)
        *(bool *)context = true;
    else if (strcmp(stage->type, "Fuse") != 0) /* joins pieces that are joined anyway */
        return stage_refuse(stage, "");
    return STATUS_OK;
}

static enum status read_key(const struct json_at *root, const char *key, const char *members, void *context,
                            enum status (*read)(const struct stage *stage, void *context))
{
    struct stage stage = {.key = key, .members = members, .at = {.file = root->file, .path = ""}};

    return json_has(root, key) ? stage_read(stage, json_object_get(root->object, key), context, read)
                               : STATUS_OK;
}

enum status tokenizer_pipeline_read(struct tokenizer_pipeline *out, const struct json_at *root,
                                    struct tokenizer_split *split)
{
    struct tokenizer_pipeline pipeline = {0};
    struct reader reader = {.pipeline = &pipeline, .split = split};
    bool decodes = false;

    TRY(read_key(root, "normalizer", "normalizers", NULL, read_normalizer));
    TRY(read_key(root, "pre_tokenizer", "pretokenizers", &reader, read_pre_tokenizer));
    if (!reader.byte_level)
        return FAIL(STATUS_BAD_INPUT,
                    "%s: pre_tokenizer has no ByteLevel: only byte-level tokenizers are supported",
                    root->file);
    TRY(read_key(root, "post_processor", "processors", &reader, read_post_processor));
    TRY(read_key(root, "decoder", "decoders", &decodes, read_decoder));
    if (!decodes)
        return FAIL(STATUS_BAD_INPUT,
                    "%s: decoder has no ByteLevel: only byte-level tokenizers are supported", root->file);
    *out = pipeline;
    return STATUS_OK;
}
