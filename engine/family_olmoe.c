/* family_olmoe.c - OLMoE
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Norms of queries and keys over all heads, optionally clipped queries, keys and values; softmax over all. */
#include "engine/family.h"

#include "engine/frequency.h"

#include <math.h>

#define FIELD(name) offsetof(struct config, name)

static const struct family_key keys[] = {
    {"vocab_size", KEY_INT, FIELD(vocabulary), 1, 1 << 24, 50304},
    {"hidden_size", KEY_INT, FIELD(width), 1, 1 << 18, 2048},
    {"num_hidden_layers", KEY_INT, FIELD(layers), 1, 1024, 16},
    {"num_attention_heads", KEY_INT, FIELD(heads), 1, 4096, 16},
    {"num_key_value_heads", KEY_INT, FIELD(kv_heads), 1, 4096, 0},
    {"head_dim", KEY_INT, FIELD(head_width), 1, 4096, 0},
    {"rms_norm_eps", KEY_FLOAT, FIELD(norm_epsilon), 0, 1, 1e-5},
    {"max_position_embeddings", KEY_INT, FIELD(max_positions), 1, 1 << 30, 4096},
    {"intermediate_size", KEY_INT, FIELD(expert_width), 1, 1 << 20, 2048},
    {"num_experts", KEY_INT, FIELD(experts), 1, 4096, 64},
    {"num_experts_per_tok", KEY_INT, FIELD(choices), 1, 4096, 8},
    {"norm_topk_prob", KEY_BOOL, FIELD(renormalise), 0, 1, 0},
    {"clip_qkv", KEY_FLOAT, FIELD(clip_qkv), 1e-6, 1e9, 0},
    {NULL, KEY_INT, 0, 0, 0, 0},
};

static const struct family_fixed fixed[] = {
    {"hidden_act", "\"silu\""},      {"pruned_heads", "{}"},           {"is_decoder", "false"},
    {"is_encoder_decoder", "false"}, {"add_cross_attention", "false"}, {NULL, NULL},
};

static const char *const derived_keys[] = {"attention_bias", NULL};

static enum status derive(struct config *c, struct arena *arena, const struct json_at *text)
{
    struct config_layer *layer;
    bool bias = false;

    TRY(arena_take_array(arena, (size_t)c->layers, sizeof *layer, "layers", &layer));
    TRY(json_get_bool(text, "attention_bias", &bias));
    TRY(frequency_read(c, arena, text, 10000, 1));
    for (int i = 0; i < c->layers; i++) {
        layer[i].experts = true;
        layer[i].rope = true;
    }
    family_number_experts(c, layer);
    c->layer = layer;
    c->attention_scale = 1.0f / sqrtf((float)c->head_width);
    c->attention_bias_qkv = bias;
    c->attention_bias_out = bias;
    c->qk_norm = QK_NORM_WHOLE_BEFORE_ROPE;
    c->score = SCORE_SOFTMAX_ALL;
    return STATUS_OK;
}

const struct family family_olmoe = {
    .name = "olmoe",
    .architectures = (const char *const[]){"OlmoeForCausalLM", NULL},
    .model_types = (const char *const[]){"olmoe", NULL},
    .keys = keys,
    .fixed = fixed,
    .derived_keys = derived_keys,
    .bos = -1,
    .eos = 50279,
    .derive = derive,
    .prefixes = (const struct family_prefix[]){{"model.", ""}, {NULL, NULL}},
    .names = {FAMILY_USUAL_NAMES, FAMILY_MLP_NAMES},
    .layer_prefix = "layers.",
};
