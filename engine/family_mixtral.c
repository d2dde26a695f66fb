/* family_mixtral.c - Mixtral 8x7B, 8x22B and their kin
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Experts in every layer, softmax over all with renormalised choices, and names of its own for experts. */
#include "engine/family.h"

#include "engine/frequency.h"

#include <math.h>

#define FIELD(name) offsetof(struct config, name)

static const struct family_key keys[] = {
    {"vocab_size", KEY_INT, FIELD(vocabulary), 1, 1 << 24, 32000},
    {"hidden_size", KEY_INT, FIELD(width), 1, 1 << 18, 4096},
    {"num_hidden_layers", KEY_INT, FIELD(layers), 1, 1024, 32},
    {"num_attention_heads", KEY_INT, FIELD(heads), 1, 4096, 32},
    {"num_key_value_heads", KEY_INT, FIELD(kv_heads), 1, 4096, 8},
    {"head_dim", KEY_INT, FIELD(head_width), 1, 4096, 0},
    {"rms_norm_eps", KEY_FLOAT, FIELD(norm_epsilon), 0, 1, 1e-5},
    {"max_position_embeddings", KEY_INT, FIELD(max_positions), 1, 1 << 30, 4096 * 32},
    {"intermediate_size", KEY_INT, FIELD(expert_width), 1, 1 << 20, 14336},
    {"num_local_experts", KEY_INT, FIELD(experts), 1, 4096, 8},
    {"num_experts_per_tok", KEY_INT, FIELD(choices), 1, 4096, 2},
    {NULL, KEY_INT, 0, 0, 0, 0},
};

static const struct family_fixed fixed[] = {
    {"hidden_act", "\"silu\""},      {"pruned_heads", "{}"},           {"is_decoder", "false"},
    {"is_encoder_decoder", "false"}, {"add_cross_attention", "false"}, {NULL, NULL},
};

static const char *const derived_keys[] = {"sliding_window", NULL};

static enum status derive(struct config *c, struct arena *arena, const struct json_at *text)
{
    struct config_layer *layer;
    int window = 0;

    TRY(arena_take_array(arena, (size_t)c->layers, sizeof *layer, "layers", &layer));
    TRY(json_get_int(text, "sliding_window", 1, 1 << 30, &window));
    for (int i = 0; i < c->layers; i++) {
        layer[i].experts = true;
        layer[i].mask = window > 0 ? MASK_WINDOW : MASK_FULL;
        layer[i].mask_size = window;
    }
    TRY(frequency_read(c, arena, text, 1000000, 1));
    for (int i = 0; i < c->layers; i++)
        layer[i].rope = true;
    family_number_experts(c, layer);
    c->layer = layer;
    c->attention_scale = 1.0f / sqrtf((float)c->head_width);
    c->score = SCORE_SOFTMAX_ALL;
    c->renormalise = true;
    return STATUS_OK;
}

const struct family family_mixtral = {
    .name = "mixtral",
    .architectures = (const char *const[]){"MixtralForCausalLM", NULL},
    .model_types = (const char *const[]){"mixtral", NULL},
    .keys = keys,
    .fixed = fixed,
    .derived_keys = derived_keys,
    .bos = 1,
    .eos = 2,
    .derive = derive,
    .prefixes = (const struct family_prefix[]){{"model.", ""}, {NULL, NULL}},
    .names = {FAMILY_USUAL_NAMES, [ROLE_ROUTER] = "layers.{layer}.block_sparse_moe.gate.weight",
              [ROLE_EXPERT_GATE] = "layers.{layer}.block_sparse_moe.experts.{expert}.w1.weight",
              [ROLE_EXPERT_UP] = "layers.{layer}.block_sparse_moe.experts.{expert}.w3.weight",
              [ROLE_EXPERT_DOWN] = "layers.{layer}.block_sparse_moe.experts.{expert}.w2.weight"},
    .layer_prefix = "layers.",
};
