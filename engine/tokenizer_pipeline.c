/* tokenizer_pipeline.c - what tokenizer.json says to do with text before and behind the model
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/tokenizer_pipeline.h"
#include "engine/utf8.h"

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

struct reader {
    struct tokenizer_pipeline *pipeline;
    struct tokenizer_split *split;
    int steps;       /* Split steps so far */
    bool byte_level; /* ByteLevel was seen */
    bool metaspace;  /* Metaspace was seen */
    bool template;   /* TemplateProcessing was seen */
};

/* A failure of a part of the pipeline gets the file and the stage in front. */
static enum status stage_name(const struct stage *stage, enum status status)
{
    return status == STATUS_OK
               ? status
               : status_prefix(status, "%s: %s %s: ", stage->at.file, stage->key, stage->type);
}

/* Text of a stage, which may hold NUL. */
static enum status stage_text(const struct stage *stage, const char *key, const char **text, size_t *bytes)
{
    json_t *value = json_object_get(stage->at.object, key);

    if (!json_is_string(value))
        return FAIL(STATUS_BAD_INPUT, "%s: %s %s needs a text \"%s\"", stage->at.file, stage->key,
                    stage->type, key);
    *text = json_string_value(value);
    *bytes = json_string_length(value);
    return STATUS_OK;
}

/* The plain text that a Replace looks for and what it puts there. */
static enum status stage_replace(const struct stage *stage, struct tokenizer_normal_step *out)
{
    json_t *pattern = json_object_get(json_object_get(stage->at.object, "pattern"), "String");

    if (!json_is_string(pattern))
        return stage_refuse(stage, "its pattern is no String");
    out->kind = TOKENIZER_NORMAL_REPLACE;
    out->from = json_string_value(pattern);
    out->from_bytes = json_string_length(pattern);
    return stage_text(stage, "content", &out->to, &out->to_bytes);
}

static enum status read_normalizer(const struct stage *stage, void *context)
{
    static const char *const forms[] = {"NFD", "NFC", "NFKD", "NFKC"};
    struct reader *reader = context;
    struct tokenizer_normal_step step = {.kind = TOKENIZER_NORMAL_FORM};
    bool known = false;

    for (int i = 0; i < 4; i++)
        if (strcmp(stage->type, forms[i]) == 0) {
            known = true;
            step.compose = i % 2;
            step.compatible = i / 2;
        }
    if (strcmp(stage->type, "Prepend") == 0) {
        known = true;
        step.kind = TOKENIZER_NORMAL_PREPEND;
        TRY(stage_text(stage, "prepend", &step.to, &step.to_bytes));
    }
    if (strcmp(stage->type, "Replace") == 0) {
        known = true;
        TRY(stage_replace(stage, &step));
    }
    if (!known)
        return stage_refuse(stage, "NFC, NFD, NFKC, NFKD, Prepend, Replace and Sequence are");
    return stage_name(stage, tokenizer_normal_add(&reader->pipeline->normal, &step));
}

static enum status read_split(const struct stage *stage, struct reader *reader)
{
    enum tokenizer_split_keep keep = TOKENIZER_SPLIT_ALL;
    json_t *pattern = json_object_get(stage->at.object, "pattern");
    json_t *literal = json_object_get(pattern, "String");
    json_t *text = literal ? literal : json_object_get(pattern, "Regex");
    const char *behavior = "";
    bool invert = false;

    TRY(json_get_text(&stage->at, "behavior", &behavior));
    TRY(json_get_bool(&stage->at, "invert", &invert));
    if (!json_is_string(text))
        return FAIL(STATUS_BAD_INPUT, "%s: %s Split needs a pattern with a Regex or a String", stage->at.file,
                    stage->key);
    if (strcmp(behavior, "Removed") == 0)
        keep = invert ? TOKENIZER_SPLIT_MATCHES : TOKENIZER_SPLIT_GAPS;
    else if (strcmp(behavior, "MergedWithNext") == 0)
        keep = TOKENIZER_SPLIT_NEXT;
    else if (strcmp(behavior, "Isolated") != 0)
        return FAIL(STATUS_BAD_INPUT, "%s: %s Split with behavior \"%s\" is not supported", stage->at.file,
                    stage->key, behavior);
    reader->steps++;
    return stage_name(stage, tokenizer_split_add(reader->split, json_string_value(text),
                                                 json_string_length(text), keep, literal != NULL));
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

/* Blanks become the replacement, one of which comes in front; each then begins a piece if `split`. */
static enum status read_metaspace(const struct stage *stage, struct reader *reader)
{
    struct tokenizer_normal *blanks = &reader->pipeline->blanks;
    struct tokenizer_normal_step blank = {.kind = TOKENIZER_NORMAL_REPLACE, .from = " ", .from_bytes = 1};
    struct tokenizer_normal_step front = {.kind = TOKENIZER_NORMAL_BEGIN};
    const char *scheme = "always";
    bool prefix = true;
    bool split = true;

    if (reader->metaspace || reader->steps > 0)
        return stage_refuse(stage, "it must be the only step");
    reader->metaspace = true;
    TRY(stage_text(stage, "replacement", &blank.to, &blank.to_bytes));
    TRY(json_get_bool(&stage->at, "add_prefix_space", &prefix)); /* as older files say it */
    scheme = prefix ? scheme : "never";
    TRY(json_get_text(&stage->at, "prepend_scheme", &scheme));
    TRY(json_get_bool(&stage->at, "split", &split));
    TRY(stage_name(stage, tokenizer_normal_add(blanks, &blank)));
    front.to = blank.to;
    front.to_bytes = blank.to_bytes;
    if (strcmp(scheme, "first") == 0)
        front.kind = TOKENIZER_NORMAL_FIRST;
    else if (strcmp(scheme, "always") != 0 && strcmp(scheme, "never") != 0)
        return FAIL(STATUS_BAD_INPUT, "%s: %s Metaspace with prepend_scheme \"%s\" is not supported",
                    stage->at.file, stage->key, scheme);
    if (strcmp(scheme, "never") != 0)
        TRY(stage_name(stage, tokenizer_normal_add(blanks, &front)));
    return split ? stage_name(stage, tokenizer_split_add(reader->split, blank.to, blank.to_bytes,
                                                         TOKENIZER_SPLIT_NEXT, true))
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
    if (strcmp(stage->type, "Metaspace") == 0)
        return read_metaspace(stage, reader);
    return stage_refuse(stage, "Split, ByteLevel, Metaspace and Sequence are");
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

/* A Replace of the decoder, on each token by itself. */
static enum status read_decoder_replace(const struct stage *stage, struct tokenizer_decoder *d)
{
    struct tokenizer_normal_step step = {0};
    struct tokenizer_decoder_replace replace = {0};

    if (d->byte_fallback || d->fused)
        return stage_refuse(stage, "it must stand before ByteFallback and Fuse");
    TRY(stage_replace(stage, &step));
    if (step.from_bytes > sizeof replace.from || step.to_bytes > sizeof replace.to)
        return stage_refuse(stage, "its texts are too long");
    memcpy(replace.from, step.from, step.from_bytes);
    memcpy(replace.to, step.to, step.to_bytes);
    replace.from_bytes = step.from_bytes;
    replace.to_bytes = step.to_bytes;
    return stage_name(stage, tokenizer_decoder_add(d, &replace));
}

/* Takes `start` times a character from the beginning of the whole text. */
static enum status read_decoder_strip(const struct stage *stage, struct tokenizer_decoder *d)
{
    const char *content;
    int stop = 0;
    size_t bytes, length;

    TRY(stage_text(stage, "content", &content, &bytes));
    TRY(json_get_int(&stage->at, "start", 0, 1 << 20, &d->strip_count));
    TRY(json_get_int(&stage->at, "stop", 0, 1 << 20, &stop));
    if (bytes == 0 || utf8_step(content, bytes, &length) != UTF8_WHOLE || length != bytes || *content == '\0')
        return stage_refuse(stage, "its content must be one character");
    if (!d->fused || *d->strip)
        return stage_refuse(stage, "it must stand once, behind Fuse");
    if (stop > 0)
        return stage_refuse(stage, "it takes from the end of a text, which is not known while tokens come");
    memcpy(d->strip, content, bytes);
    return STATUS_OK;
}

static enum status read_decoder(const struct stage *stage, void *context)
{
    struct tokenizer_decoder *d = context;

    if (strcmp(stage->type, "ByteLevel") == 0)
        d->byte_level = true;
    else if (strcmp(stage->type, "Fuse") == 0) /* joins what is joined anyway; Strip needs it */
        d->fused = true;
    else if (strcmp(stage->type, "ByteFallback") == 0 && !d->fused)
        d->byte_fallback = true;
    else if (strcmp(stage->type, "Replace") == 0)
        return read_decoder_replace(stage, d);
    else if (strcmp(stage->type, "Strip") == 0)
        return read_decoder_strip(stage, d);
    else
        return stage_refuse(stage, "ByteLevel, and Replace, ByteFallback, Fuse, Strip in this order, are");
    return STATUS_OK;
}

static enum status read_key(const struct json_at *root, const char *key, const char *members, void *context,
                            enum status (*read)(const struct stage *stage, void *context))
{
    struct stage stage = {.key = key, .members = members, .at = {.file = root->file, .path = ""}};

    return json_has(root, key) ? stage_read(stage, json_object_get(root->object, key), context, read)
                               : STATUS_OK;
}

/* Both ends must speak of bytes, or both of characters. */
static enum status check_level(const struct json_at *root, const struct reader *reader)
{
    const struct tokenizer_decoder *d = &reader->pipeline->decoder;

    if (reader->byte_level && reader->metaspace)
        return FAIL(STATUS_BAD_INPUT,
                    "%s: pre_tokenizer has both Metaspace and ByteLevel, which is not supported", root->file);
    if (reader->byte_level && !d->byte_level)
        return FAIL(STATUS_BAD_INPUT,
                    "%s: pre_tokenizer is ByteLevel, but decoder is not: ids would show as "
                    "other text than they came from",
                    root->file);
    if (d->byte_level && !reader->byte_level)
        return FAIL(STATUS_BAD_INPUT, "%s: decoder is ByteLevel, but pre_tokenizer has no ByteLevel",
                    root->file);
    if (d->byte_level && (d->replace_count || d->byte_fallback || d->strip_count))
        return FAIL(STATUS_BAD_INPUT, "%s: decoder has ByteLevel beside other steps, which is not supported",
                    root->file);
    return STATUS_OK;
}

size_t tokenizer_pipeline_room(void)
{
    return 2 * tokenizer_normal_room();
}

enum status tokenizer_pipeline_read(struct tokenizer_pipeline *out, struct arena *arena,
                                    const struct json_at *root, struct tokenizer_split *split)
{
    struct tokenizer_pipeline pipeline = {0};
    struct reader reader = {.pipeline = &pipeline, .split = split};

    TRY(tokenizer_normal_open(&pipeline.normal, arena));
    TRY(tokenizer_normal_open(&pipeline.blanks, arena));
    TRY(read_key(root, "normalizer", "normalizers", &reader, read_normalizer));
    TRY(read_key(root, "pre_tokenizer", "pretokenizers", &reader, read_pre_tokenizer));
    TRY(read_key(root, "post_processor", "processors", &reader, read_post_processor));
    TRY(read_key(root, "decoder", "decoders", &pipeline.decoder, read_decoder));
    TRY(check_level(root, &reader));
    pipeline.byte_level = reader.byte_level;
    *out = pipeline;
    return STATUS_OK;
}
