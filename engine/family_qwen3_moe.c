/* family_qwen3_moe.c - Qwen3-MoE, and the text model of Qwen3-VL-MoE
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Per-head query and key norms before half rotation, softmax over all experts, dense layers by list or step.
 * The two differ in their names, in how experts are stored, and in a few defaults. */
#include "engine/family.h"

#include "engine/frequency.h"

#include <math.h>
#include <string.h>

#define FIELD(name) offsetof(struct config, name)

static const struct family_key keys[] = {
    {"vocab_size", KEY_INT, FIELD(vocabulary), 1, 1 << 24, 151936},
    {"hidden_size", KEY_INT, FIELD(width), 1, 1 << 18, 2048},
    {"num_hidden_layers", KEY_INT, FIELD(layers), 1, 1024, 24},
    {"num_attention_heads", KEY_INT, FIELD(heads), 1, 4096, 32},
    {"num_key_value_heads", KEY_INT, FIELD(kv_heads), 1, 4096, 4},
    {"head_dim", KEY_INT, FIELD(head_width), 1, 4096, 0},
    {"rms_norm_eps", KEY_FLOAT, FIELD(norm_epsilon), 0, 1, 1e-6},
    {"max_position_embeddings", KEY_INT, FIELD(max_positions), 1, 1 << 30, 32768},
    {"intermediate_size", KEY_INT, FIELD(dense_width), 1, 1 << 20, 6144},
    {"moe_intermediate_size", KEY_INT, FIELD(expert_width), 1, 1 << 20, 768},
    {"num_experts", KEY_INT, FIELD(experts), 1, 4096, 128},
    {"num_experts_per_tok", KEY_INT, FIELD(choices), 1, 4096, 8},
    {NULL, KEY_INT, 0, 0, 0, 0},
};

static const struct family_fixed fixed[] = {
    {"hidden_act", "\"silu\""},
    {"use_sliding_window", "false"},
    {"pruned_heads", "{}"},
    {"is_decoder", "false"},
    {"is_encoder_decoder", "false"},
    {"add_cross_attention", "false"},
    {NULL, NULL},
};

static const char *const derived_keys[] = {"attention_bias", "decoder_sparse_step", "mlp_only_layers",
                                           "norm_topk_prob", NULL};

static const char *const ignored_keys[] = {"max_window_layers", "sliding_window", NULL};

static const char *const outer_keys[] = {"image_token_id",      "video_token_id", "vision_start_token_id",
                                         "vision_end_token_id", "vision_config",  NULL};

static enum status derive_experts(struct config *c, struct arena *arena, struct config_layer *layer,
                                  const struct json_at *text)
{
    struct json_ints dense = {.least = 0, .most = c->layers - 1, .capacity = c->layers, .count = 0};
    int step = 1;

    TRY(arena_take_array(arena, (size_t)c->layers, sizeof(int), "mlp_only_layers", &dense.values));
    TRY(json_get_int(text, "decoder_sparse_step", 1, 1 << 20, &step));
    TRY(json_get_ints(text, "mlp_only_layers", &dense));
    for (int i = 0; i < c->layers; i++)
        layer[i].experts = (i + 1) % step == 0;
    for (int i = 0; i < dense.count; i++)
        layer[dense.values[i]].experts = false;
    return STATUS_OK;
}

static enum status derive(struct config *c, struct arena *arena, const struct json_at *text)
{
    bool sees = strcmp(c->model_type, "qwen3_moe") != 0;
    struct config_layer *layer;
    bool bias = false;

    TRY(arena_take_array(arena, (size_t)c->layers, sizeof *layer, "layers", &layer));
    TRY(derive_experts(c, arena, layer, text));
    TRY(json_get_bool(text, "attention_bias", &bias));
    c->renormalise = sees; /* the text model of images always does */
    TRY(json_get_bool(text, "norm_topk_prob", &c->renormalise));
    if (sees && !c->renormalise)
        return FAIL(STATUS_BAD_INPUT, "%s: \"%snorm_topk_prob\" is supported with the value true only",
                    text->file, text->path);
    TRY(frequency_read(c, arena, text, sees ? 500000 : 10000, 1));
    for (int i = 0; i < c->layers; i++)
        layer[i].rope = true;
    family_number_experts(c, layer);
    c->layer = layer;
    c->attention_scale = 1.0f / sqrtf((float)c->head_width);
    c->attention_bias_qkv = bias;
    c->attention_bias_out = bias;
    c->qk_norm = QK_NORM_HEAD_BEFORE_ROPE;
    c->score = SCORE_SOFTMAX_ALL;
    return STATUS_OK;
}

const struct family family_qwen3_moe = {
    .name = "qwen3_moe",
    .architectures = (const char *const[]){"Qwen3MoeForCausalLM", "Qwen3VLMoeForConditionalGeneration", NULL},
    .model_types = (const char *const[]){"qwen3_moe", "qwen3_vl_moe_text", "qwen3_vl_moe", NULL},
    .keys = keys,
    .fixed = fixed,
    .derived_keys = derived_keys,
    .ignored_keys = ignored_keys,
    .outer_keys = outer_keys,
    .bos = -1,
    .eos = -1,
    .derive = derive,
    .prefixes = (const struct family_prefix[]){{"model.language_model.", ""}, {"model.", ""}, {NULL, NULL}},
    .names = {FAMILY_USUAL_NAMES,
              FAMILY_MLP_NAMES, [ROLE_EXPERTS_GATE_UP] = "layers.{layer}.mlp.experts.gate_up_proj",
              [ROLE_EXPERTS_DOWN] = "layers.{layer}.mlp.experts.down_proj"},
    .fusion = FUSED_INPUT_FIRST,
    .layer_prefix = "layers.",
    .skipped_tensors = (const char *const[]){"model.visual.", NULL},
};
