/* config_fields.h - the sizes and switches of a model, in the engine's own words
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Apart from config.h so that the descriptions of families, which fill these fields, stand below the reading
 * of files. */
#ifndef CONFIG_FIELDS_H
#define CONFIG_FIELDS_H

#include "kernels/kernels.h"

#include <stdbool.h>

enum { CONFIG_STOP_LIMIT = 16 };

/* What differs from layer to layer. */
struct config_layer {
    bool experts; /* router and experts; otherwise a dense block */
    bool rope;
    enum mask_kind mask;
    int mask_size;    /* chunk or window; unused for MASK_FULL */
    int expert_layer; /* number among the layers with experts, -1 for dense */
};

enum config_qk_norm {
    QK_NORM_NONE,
    QK_NORM_HEAD_AFTER_ROPE_WEIGHTLESS,
    QK_NORM_HEAD_BEFORE_ROPE,
    QK_NORM_WHOLE_BEFORE_ROPE
};

/* How the scales of F8_E4M3 weights are stored. */
enum config_scales {
    SCALES_NONE,    /* there are no such weights */
    SCALES_OUTPUTS, /* one for each output, or one for the whole matrix: their shape says which */
    SCALES_BLOCKS   /* one for each block */
};

struct config {
    const char *family;       /* "llama4" */
    const char *architecture; /* as in the file */
    const char *model_type;   /* of the text model, as in the file */

    int vocabulary; /* V */
    int width;      /* D */
    int layers;
    int heads;        /* H */
    int kv_heads;     /* K */
    int head_width;   /* W */
    int dense_width;  /* F of dense blocks */
    int expert_width; /* F of routed experts */
    int shared_width; /* F of the shared expert, 0: none */
    int experts;      /* E, 0: dense model */
    int choices;      /* k */
    int expert_layers;
    float norm_epsilon;
    bool attention_bias_qkv, attention_bias_out;
    bool tied; /* the head is the embedding */
    int max_positions;

    bool rope_interleaved;
    int rotated;            /* dimensions of a head that turn */
    const float *frequency; /* [rotated / 2], scaling applied */
    float rope_attention_factor;
    enum config_qk_norm qk_norm;
    float clip_qkv;          /* 0: off */
    bool temperature_tuning; /* on layers without rope */
    float temperature_scale, temperature_floor;
    float attention_scale; /* W^-0.5 unless the family says otherwise */

    enum score_kind score;
    bool renormalise;
    bool route_bias; /* added to scores for the choice alone */
    int groups, kept_groups;
    float route_scale;
    bool weight_on_input; /* Llama 4 scales the expert's input, others its output */

    enum config_scales scales;
    int scale_rows, scale_columns; /* outputs and inputs of a block; the second in whole SCALE_INPUTS */

    const struct config_layer *layer; /* [layers] */

    int bos; /* -1: none */
    int stop[CONFIG_STOP_LIMIT];
    int stop_count;

    /* generation_config.json; NAN / -1 where it says nothing */
    float temperature, top_p, min_p, repetition;
    int top_k;
    bool sample; /* do_sample */
};

#endif
