/* frequency.c - how fast each pair of dimensions turns with the position (rotary embedding)
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/frequency.h"

#include <math.h>
#include <string.h>

const char *const frequency_keys[] = {"rope_theta", "rope_scaling", "rope_parameters", NULL};

static const float PI = 3.14159265358979323846f;
static const double THETA_MOST = 1e12;

/* Llama 3's stretching: slow pairs turn `factor` times slower, fast ones as before, those between are
 * blended. */
struct stretch {
    float factor;
    float low, high; /* borders, in turns over `original` positions */
    int original;    /* positions that the model was first trained on */
};

static enum status read_stretch(struct stretch *s, const struct json_at *at)
{
    TRY(json_require(at, "factor"));
    TRY(json_require(at, "low_freq_factor"));
    TRY(json_require(at, "high_freq_factor"));
    TRY(json_require(at, "original_max_position_embeddings"));
    TRY(json_get_float(at, "factor", 1, 1e6, &s->factor));
    TRY(json_get_float(at, "low_freq_factor", 1e-6, 1e6, &s->low));
    TRY(json_get_float(at, "high_freq_factor", 1e-6, 1e6, &s->high));
    TRY(json_get_int(at, "original_max_position_embeddings", 1, 1 << 30, &s->original));
    if (s->high < s->low)
        return FAIL(STATUS_BAD_INPUT, "%s: \"%shigh_freq_factor\" %g is below low_freq_factor %g", at->file,
                    at->path, (double)s->high, (double)s->low);
    return STATUS_OK;
}

/* In single precision, operation by operation as the models were trained. Equal borders (released Scout: 1
 * and 1) leave nothing to blend, and the quotient would be 0 / 0. */
static float stretch_one(const struct stretch *s, float frequency)
{
    float old = (float)s->original;
    float length = 2.0f * PI / frequency;
    float blend;

    if (length < old / s->high || s->low == s->high)
        return length > old / s->low ? frequency / s->factor : frequency;
    if (length > old / s->low)
        return frequency / s->factor;
    blend = (old / length - s->low) / (s->high - s->low);
    return (1.0f - blend) * frequency / s->factor + blend * frequency;
}

static enum status check_keys(const struct json_at *at)
{
    static const char *const known[] = {"rope_type", "type", "rope_theta", "factor", "low_freq_factor",
                                        "high_freq_factor", "original_max_position_embeddings",
                                        "partial_rotary_factor",
                                        /* of images; positions of text are equal on all axes */
                                        "mrope_section", "mrope_interleaved"};
    const char *key;
    json_t *value;

    json_object_foreach(at->object, key, value)
    {
        bool found = json_is_null(value);

        for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
            found = found || strcmp(key, known[i]) == 0;
        if (!found)
            return FAIL(STATUS_BAD_INPUT,
                        "%s: \"%s%s\" is not known to this version, it could change the arithmetic", at->file,
                        at->path, key);
    }
    return STATUS_OK;
}

/* *kind: "default" or "llama3". */
static enum status read_kind(const struct json_at *at, const char **kind, float *part)
{
    const char *name = "default";
    const char *old = NULL;
    float given = *part;

    TRY(check_keys(at));
    TRY(json_get_text(at, "rope_type", &name));
    TRY(json_get_text(at, "type", &old));
    if (old && json_has(at, "rope_type") && strcmp(old, name) != 0)
        return FAIL(STATUS_BAD_INPUT, "%s: \"%srope_type\" is \"%.40s\" but \"type\" is \"%.40s\"", at->file,
                    at->path, name, old);
    if (old)
        name = old;
    if (strcmp(name, "default") != 0 && strcmp(name, "llama3") != 0)
        return FAIL(STATUS_BAD_INPUT,
                    "%s: \"%srope_type\" is \"%.40s\", which this version does not support; it knows default "
                    "and llama3",
                    at->file, at->path, name);
    TRY(json_get_float(at, "partial_rotary_factor", 0, 1, &given));
    if (*part == 1.0f && given != 1.0f)
        return FAIL(STATUS_BAD_INPUT,
                    "%s: \"%spartial_rotary_factor\" is %g, this family is supported with 1 only", at->file,
                    at->path, (double)given);
    *part = given;
    *kind = name;
    return STATUS_OK;
}

enum status frequency_read(struct config *c, struct arena *arena, const struct json_at *at, float theta,
                           float part)
{
    struct stretch stretch = {.factor = 1};
    struct json_at newer, older, scaling;
    const char *kind = "default";
    float *frequency;
    float inner;

    TRY(json_get_object(at, "rope_parameters", "rope_parameters.", &newer));
    TRY(json_get_object(at, "rope_scaling", "rope_scaling.", &older));
    if (newer.object && older.object && !json_equal(newer.object, older.object))
        return FAIL(STATUS_BAD_INPUT, "%s: \"%srope_parameters\" and \"rope_scaling\" contradict each other",
                    at->file, at->path);
    TRY(json_get_float(at, "rope_theta", 1, THETA_MOST, &theta));
    if (part != 1.0f)
        TRY(json_get_float(at, "partial_rotary_factor", 0, 1, &part));
    inner = theta;
    scaling = newer.object ? newer : older;
    if (scaling.object) {
        TRY(read_kind(&scaling, &kind, &part));
        TRY(json_get_float(&scaling, "rope_theta", 1, THETA_MOST, &inner));
        if (inner != theta && json_has(at, "rope_theta"))
            return FAIL(STATUS_BAD_INPUT, "%s: \"%srope_theta\" is %g but %srope_theta is %g", at->file,
                        at->path, (double)theta, scaling.path, (double)inner);
    }
    if (strcmp(kind, "llama3") == 0)
        TRY(read_stretch(&stretch, &scaling));
    if (c->head_width % 2 != 0)
        return FAIL(STATUS_BAD_INPUT, "%s: \"%shead_dim\" is %d, rotary embedding needs an even number",
                    at->file, at->path, c->head_width);

    c->rotated = (int)((float)c->head_width * part) / 2 * 2;
    TRY(arena_take_array(arena, (size_t)c->rotated / 2, sizeof *frequency, "rotary frequencies", &frequency));
    for (int i = 0; i < c->rotated / 2; i++) {
        frequency[i] = 1.0f / powf(inner, (float)(2 * i) / (float)c->rotated);
        if (strcmp(kind, "llama3") == 0)
            frequency[i] = stretch_one(&stretch, frequency[i]);
    }
    c->frequency = frequency;
    c->rope_attention_factor = 1;
    return STATUS_OK;
}
