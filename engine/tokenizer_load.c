/* tokenizer_load.c - the parts of a tokenizer, read from a model's directory
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/tokenizer_load.h"
#include "engine/base/file.h"
#include "engine/json.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

enum {
    TOKENIZER_BYTES = 512 << 20, /* of tokenizer.json */
    CONFIG_BYTES = 64 << 20,     /* of tokenizer_config.json */
    TEMPLATE_BYTES = 1 << 20,    /* of a chat template */
};

/* What tokenizer.json will need, counted before any memory is taken. */
struct measure {
    int size;          /* one more than the largest id */
    size_t tokens;     /* in model.vocab */
    size_t text_bytes; /* of all names and contents */
    size_t pairs;
    int added;
    size_t added_bytes;
};

struct source {
    struct json_at root;
    struct json_at model;
    json_t *vocab, *merges, *added; /* `added` may be NULL */
};

/* The most bytes that a content may have once it is normalized. */
static size_t added_room(size_t bytes)
{
    return 4 * bytes + 32;
}

static enum status refuse_key(const struct json_at *at, const char *key, const char *why)
{
    return FAIL(STATUS_BAD_INPUT, "%s: \"%s%s\" %s", at->file, at->path, key, why);
}

static enum status check_text_empty(const struct json_at *model, const char *key)
{
    const char *text = "";

    TRY(json_get_text(model, key, &text));
    return *text ? refuse_key(model, key, "is not supported") : STATUS_OK;
}

/* Settings of the model that change ids. */
static enum status check_model(const struct json_at *model)
{
    const char *type = "BPE"; /* files from before "type" was written hold BPE */
    float dropout = 0;

    TRY(json_get_text(model, "type", &type));
    if (strcmp(type, "BPE") != 0)
        return FAIL(STATUS_BAD_INPUT, "%s: a tokenizer of type %s is not supported, only BPE is", model->file,
                    type);
    TRY(json_get_float(model, "dropout", 0, 1, &dropout));
    if (dropout > 0)
        return refuse_key(model, "dropout", "is not supported: ids would be random");
    TRY(check_text_empty(model, "continuing_subword_prefix"));
    return check_text_empty(model, "end_of_word_suffix");
}

static enum status source_open(struct source *out, const struct json *json)
{
    struct source s = {0};

    TRY(json_get_root(json, &s.root));
    TRY(json_require(&s.root, "model"));
    TRY(json_get_object(&s.root, "model", "model.", &s.model));
    TRY(check_model(&s.model));
    s.vocab = json_object_get(s.model.object, "vocab");
    s.merges = json_object_get(s.model.object, "merges");
    s.added = json_object_get(s.root.object, "added_tokens");
    if (!json_is_object(s.vocab) || json_object_size(s.vocab) == 0)
        return refuse_key(&s.model, "vocab", "must be an object with tokens and their ids");
    if (!json_is_array(s.merges))
        return refuse_key(&s.model, "merges", "must be a list");
    if (s.added && !json_is_null(s.added) && !json_is_array(s.added))
        return refuse_key(&s.root, "added_tokens", "must be a list");
    *out = s;
    return STATUS_OK;
}

/* An id, which also makes the vocabulary as large as needed. */
static enum status measure_id(const struct source *s, struct measure *m, json_t *id, const char *token)
{
    if (!json_is_integer(id) || json_integer_value(id) < 0 ||
        json_integer_value(id) >= TOKENIZER_VOCABULARY_LIMIT)
        return FAIL(STATUS_BAD_INPUT, "%s: the id of token \"%.40s\" must be a whole number from 0 to %d",
                    s->root.file, token, TOKENIZER_VOCABULARY_LIMIT - 1);
    if (json_integer_value(id) >= m->size)
        m->size = (int)json_integer_value(id) + 1;
    return STATUS_OK;
}

static enum status measure_source(struct source *s, struct measure *out)
{
    struct measure m = {.tokens = json_object_size(s->vocab), .pairs = json_array_size(s->merges)};

    for (void *at = json_object_iter(s->vocab); at; at = json_object_iter_next(s->vocab, at)) {
        TRY(measure_id(s, &m, json_object_iter_value(at), json_object_iter_key(at)));
        m.text_bytes += json_object_iter_key_len(at);
    }
    for (size_t i = 0; i < json_array_size(s->added); i++) {
        json_t *item = json_array_get(s->added, i);
        json_t *content = json_object_get(item, "content");

        if (!json_is_string(content))
            return FAIL(STATUS_BAD_INPUT, "%s: added_tokens[%zu] has no content", s->root.file, i);
        TRY(measure_id(s, &m, json_object_get(item, "id"), json_string_value(content)));
        m.text_bytes += json_string_length(content);
        m.added_bytes += added_room(json_string_length(content));
        m.added++;
    }
    if (m.pairs > INT32_MAX || m.added_bytes > INT32_MAX)
        return refuse_key(&s->model, "merges", "lists more than can be read");
    *out = m;
    return STATUS_OK;
}

/* Both parts of a merge, given as ["a", "b"] or as "a b". false: it is neither. */
static bool merge_parts(json_t *item, const char *part[2], size_t bytes[2])
{
    if (json_is_string(item)) {
        const char *blank = strchr(json_string_value(item), ' ');

        if (!blank || strchr(blank + 1, ' '))
            return false;
        part[0] = json_string_value(item);
        bytes[0] = (size_t)(blank - part[0]);
        part[1] = blank + 1;
        bytes[1] = json_string_length(item) - bytes[0] - 1;
        return true;
    }
    for (size_t i = 0; i < 2; i++) {
        json_t *text = json_array_get(item, i);

        part[i] = json_string_value(text);
        bytes[i] = json_string_length(text);
    }
    return json_array_size(item) == 2 && part[0] && part[1];
}

/* "#version: 0.2", the first line of the text files that old merges came from, has no rank. */
static bool is_version(json_t *item)
{
    return json_is_string(item) && strncmp(json_string_value(item), "#version", 8) == 0;
}

static enum status load_merges(struct tokenizer_parts *p, const struct source *s)
{
    uint32_t rank = 0;

    for (size_t i = 0; i < json_array_size(s->merges); i++) {
        json_t *item = json_array_get(s->merges, i);
        struct tokenizer_pair pair = {.rank = rank};
        const char *part[2];
        size_t bytes[2];

        if (is_version(item))
            continue;
        if (!merge_parts(item, part, bytes))
            return FAIL(STATUS_BAD_INPUT, "%s: model.merges[%zu] is neither \"a b\" nor [\"a\", \"b\"]",
                        s->root.file, i);
        pair.left = tokenizer_vocabulary_find_name(&p->vocabulary, part[0], bytes[0]);
        pair.right = tokenizer_vocabulary_find_name(&p->vocabulary, part[1], bytes[1]);
        if (pair.left < 0 || pair.right < 0)
            return FAIL(STATUS_BAD_INPUT, "%s: model.merges[%zu] joins a token that model.vocab lacks",
                        s->root.file, i);
        pair.id = tokenizer_vocabulary_find_pair(&p->vocabulary, pair.left, pair.right);
        if (pair.id < 0)
            return FAIL(STATUS_BAD_INPUT, "%s: model.merges[%zu] makes a token that model.vocab lacks",
                        s->root.file, i);
        tokenizer_merge_add(&p->merge, &pair);
        rank++;
    }
    return STATUS_OK;
}

/* How text becomes the first symbols where tokens are spelled in characters. */
static enum status load_characters(struct tokenizer_parts *p, const struct source *s)
{
    struct tokenizer_characters *c = &p->characters;
    const char *unknown = NULL;

    TRY(json_get_bool(&s->model, "byte_fallback", &c->byte_fallback));
    TRY(json_get_bool(&s->model, "fuse_unk", &c->fuse_unknown));
    TRY(json_get_text(&s->model, "unk_token", &unknown));
    if (p->pipeline.byte_level)
        return c->byte_fallback ? refuse_key(&s->model, "byte_fallback", "is not supported beside ByteLevel")
                                : STATUS_OK;
    tokenizer_characters_open(c, &p->vocabulary);
    c->unknown = unknown ? tokenizer_vocabulary_find_name(&p->vocabulary, unknown, strlen(unknown)) : -1;
    return unknown && c->unknown < 0
               ? refuse_key(&s->model, "unk_token", "names a token that model.vocab lacks")
               : STATUS_OK;
}

static enum status load_model(struct tokenizer_parts *p, const struct source *s)
{
    for (void *at = json_object_iter(s->vocab); at; at = json_object_iter_next(s->vocab, at))
        TRY(tokenizer_vocabulary_add(&p->vocabulary, (int)json_integer_value(json_object_iter_value(at)),
                                     json_object_iter_key(at), json_object_iter_key_len(at)));
    for (int byte = 0; byte < 256; byte++)
        p->merge.byte_ids[byte] = tokenizer_vocabulary_find(&p->vocabulary, &(const char){(char)byte}, 1);
    TRY(json_get_bool(&s->model, "ignore_merges", &p->ignore_merges));
    TRY(load_characters(p, s));
    return load_merges(p, s);
}

/* The content that is looked for in text: as it is written, or what the normalizer makes of it. */
static enum status keep_content(struct tokenizer_parts *p, struct tokenizer_added_token *token)
{
    const char *text = token->content;
    size_t bytes = token->bytes;
    char *copy;

    if (token->normalized && bytes > 0)
        TRY(tokenizer_normal_run(&p->pipeline.normal, false, &text, &bytes));
    if (bytes > added_room(token->bytes))
        return FAIL(STATUS_BAD_INPUT, "added_tokens: the normalizer makes \"%.40s\" too long",
                    token->content);
    TRY(arena_take(&p->arena, bytes, "added tokens", &copy));
    memcpy(copy, text, bytes);
    token->content = copy;
    token->bytes = bytes;
    return STATUS_OK;
}

static enum status load_added(struct tokenizer_parts *p, const struct source *s)
{
    for (size_t i = 0; i < json_array_size(s->added); i++) {
        struct json_at at = {
            .file = s->root.file, .path = "added_tokens[].", .object = json_array_get(s->added, i)};
        json_t *content = json_object_get(at.object, "content");
        int id = (int)json_integer_value(json_object_get(at.object, "id"));
        struct tokenizer_added_token token = {.bytes = json_string_length(content), .id = id};
        int known = tokenizer_vocabulary_find_name(&p->vocabulary, json_string_value(content), token.bytes);

        if (known >= 0 && known != id)
            return FAIL(STATUS_BAD_INPUT, "%s: added_tokens gives \"%.40s\" id %d, model.vocab gives it %d",
                        s->root.file, json_string_value(content), id, known);
        TRY(json_get_bool(&at, "special", &token.special));
        token.normalized = !token.special;
        TRY(json_get_bool(&at, "normalized", &token.normalized));
        TRY(json_get_bool(&at, "lstrip", &token.lstrip));
        TRY(json_get_bool(&at, "rstrip", &token.rstrip));
        TRY(json_get_bool(&at, "single_word", &token.single_word));
        TRY(tokenizer_vocabulary_add_content(&p->vocabulary, id, json_string_value(content), token.bytes,
                                             token.special));
        token.content = json_string_value(content);
        TRY(keep_content(p, &token));
        TRY(tokenizer_added_add(&p->added, &token));
    }
    return p->pipeline.byte_level ? STATUS_OK
                                  : tokenizer_vocabulary_show(&p->vocabulary, &p->pipeline.decoder);
}

static enum status check_template_ids(const struct tokenizer_parts *p, const struct source *s)
{
    const struct tokenizer_pipeline *pipeline = &p->pipeline;

    for (int i = 0; i < pipeline->before_count + pipeline->after_count; i++) {
        int32_t id =
            i < pipeline->before_count ? pipeline->before[i] : pipeline->after[i - pipeline->before_count];

        if (id >= p->vocabulary.size || !p->vocabulary.entries[id].bytes)
            return FAIL(STATUS_BAD_INPUT, "%s: post_processor adds id %d, which is no token", s->root.file,
                        id);
    }
    return STATUS_OK;
}

/* Takes the memory and fills it; what failed half-way is closed by the caller. */
static enum status load_json(struct tokenizer_parts *p, const struct json *json, size_t extra)
{
    struct source source;
    struct measure m = {0};

    TRY(source_open(&source, json));
    TRY(measure_source(&source, &m));
    TRY(arena_open(&p->arena, "the tokenizer",
                   extra + TEMPLATE_BYTES + tokenizer_vocabulary_room(m.size, m.tokens, m.text_bytes) +
                       tokenizer_merge_room(m.pairs) + tokenizer_added_room(m.added, m.added_bytes) +
                       tokenizer_pipeline_room() + m.added_bytes + ((size_t)m.added + 8) * ARENA_ALIGN +
                       (size_t)TOKENIZER_SPLIT_PATTERN_BYTES * 16));
    TRY(tokenizer_split_open(&p->split, &p->arena));
    TRY(tokenizer_pipeline_read(&p->pipeline, &p->arena, &source.root, p->split));
    TRY(tokenizer_vocabulary_open(&p->vocabulary, &p->arena, p->pipeline.byte_level, m.size, m.tokens,
                                  m.text_bytes));
    TRY(tokenizer_merge_open(&p->merge, &p->arena, m.pairs));
    TRY(tokenizer_added_open(&p->added, &p->arena, m.added, m.added_bytes));
    TRY(load_model(p, &source));
    TRY(load_added(p, &source));
    return check_template_ids(p, &source);
}

static enum status path_in(char path[PATH_MAX], const char *directory, const char *name)
{
    int length = snprintf(path, PATH_MAX, "%s/%s", directory, name);

    if (length < 0 || length >= PATH_MAX)
        return FAIL(STATUS_NO_INPUT, "%.80s...: the path is too long", directory);
    return STATUS_OK;
}

/* Vocabularies in other forms are named, with the way to this one. */
static enum status refuse_missing(const char *directory)
{
    static const char *const others[] = {"tokenizer.model", "tiktoken.model", "vocab.json", "tekken.json"};
    char path[PATH_MAX];

    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        TRY(path_in(path, directory, others[i]));
        if (file_exists(path))
            return FAIL(STATUS_NO_INPUT,
                        "%s: there is no tokenizer.json, and %s cannot be read: write the former with "
                        "transformers, AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)",
                        directory, others[i]);
    }
    return FAIL(STATUS_NO_INPUT, "%s: there is no tokenizer.json, which says how text becomes tokens",
                directory);
}

static enum status load_tokenizer(struct tokenizer_parts *p, const char *directory, size_t extra)
{
    struct json json = {0};
    char path[PATH_MAX];
    enum status status;

    TRY(path_in(path, directory, "tokenizer.json"));
    if (!file_exists(path))
        return refuse_missing(directory);
    TRY(json_open_file(&json, path, TOKENIZER_BYTES, JSON_OPEN_NUL));
    status = load_json(p, &json, extra);
    json_close(&json);
    return status;
}

static enum status keep_template(struct tokenizer_parts *p, const char *file, const char *text)
{
    size_t bytes = strlen(text) + 1;
    char *copy;

    if (bytes > TEMPLATE_BYTES / 2)
        return FAIL(STATUS_BAD_INPUT, "%s: the chat template is longer than %d bytes", file,
                    TEMPLATE_BYTES / 2);
    TRY(arena_take(&p->arena, bytes, "the chat template", &copy));
    memcpy(copy, text, bytes);
    p->chat_template = copy;
    return STATUS_OK;
}

/* chat_template is text, or a list of {"name", "template"} of which "default" counts. */
static enum status config_template(struct tokenizer_parts *p, const struct json_at *root)
{
    json_t *value = json_object_get(root->object, "chat_template");

    for (size_t i = 0; i < json_array_size(value); i++) {
        json_t *item = json_array_get(value, i);
        const char *name = json_string_value(json_object_get(item, "name"));

        if (name && strcmp(name, "default") == 0)
            value = json_object_get(item, "template");
    }
    return json_is_string(value) ? keep_template(p, root->file, json_string_value(value)) : STATUS_OK;
}

/* eos_token is text, or an object with its content. */
static void config_eos(struct tokenizer_parts *p, const struct json_at *root)
{
    json_t *value = json_object_get(root->object, "eos_token");
    const char *content =
        json_string_value(json_is_object(value) ? json_object_get(value, "content") : value);
    size_t bytes = content ? strlen(content) : 0;

    p->eos = -1;
    for (int i = 0; content && i < p->added.count; i++)
        if (p->added.tokens[i].bytes == bytes && memcmp(p->added.tokens[i].content, content, bytes) == 0)
            p->eos = p->added.tokens[i].id;
    if (p->eos < 0 && content)
        p->eos = tokenizer_vocabulary_find_name(&p->vocabulary, content, bytes);
}

static enum status load_config(struct tokenizer_parts *p, const char *directory)
{
    struct json json = {0};
    struct json_at root;
    char path[PATH_MAX];
    enum status status;

    p->eos = -1;
    TRY(path_in(path, directory, "tokenizer_config.json"));
    if (!file_exists(path))
        return STATUS_OK;
    /* "model_max_length": 1000000000000000019884624838656 is how an unknown length is spelled. */
    TRY(json_open_file(&json, path, CONFIG_BYTES, JSON_OPEN_NUL | JSON_OPEN_REAL));
    status = json_get_root(&json, &root);
    if (status == STATUS_OK)
        status = config_template(p, &root);
    if (status == STATUS_OK)
        config_eos(p, &root);
    json_close(&json);
    return status;
}

/* A template in a file of its own counts before the one in tokenizer_config.json. */
static enum status load_template_file(struct tokenizer_parts *p, const char *directory)
{
    char path[PATH_MAX];
    size_t bytes;
    char *text;

    TRY(path_in(path, directory, "chat_template.jinja"));
    if (!file_exists(path))
        return STATUS_OK;
    TRY(file_whole(&p->arena, path, TEMPLATE_BYTES / 2 - ARENA_ALIGN, &text, &bytes));
    p->chat_template = text;
    return STATUS_OK;
}

enum status tokenizer_load(struct tokenizer_parts *out, const char *directory, size_t extra)
{
    struct tokenizer_parts parts = {0};
    enum status status = load_tokenizer(&parts, directory, extra);

    if (status == STATUS_OK)
        status = load_config(&parts, directory);
    if (status == STATUS_OK)
        status = load_template_file(&parts, directory);
    if (status != STATUS_OK)
        tokenizer_load_close(&parts);
    else
        *out = parts;
    return status;
}

void tokenizer_load_close(struct tokenizer_parts *parts)
{
    tokenizer_split_close(parts->split);
    tokenizer_added_close(&parts->added);
    arena_close(&parts->arena);
    memset(parts, 0, sizeof *parts);
}
