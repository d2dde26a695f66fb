/* family_glm4_moe.c - GLM-4.5, 4.6 and their kin
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Dense layers first, half rotation of half a head, sigmoid scores whose choice is corrected by a bias, a
 * shared expert. */
#include "engine/family.h"

#include "engine/frequency.h"

#include <math.h>

#define FIELD(name) offsetof(struct config, name)

static const struct family_key keys[] = {
    {"vocab_size", KEY_INT, FIELD(vocabulary), 1, 1 << 24, 151552},
    {"hidden_size", KEY_INT, FIELD(width), 1, 1 << 18, 4096},
    {"num_hidden_layers", KEY_INT, FIELD(layers), 1, 1024, 46},
    {"num_attention_heads", KEY_INT, FIELD(heads), 1, 4096, 96},
    {"num_key_value_heads", KEY_INT, FIELD(kv_heads), 1, 4096, 8},
    {"head_dim", KEY_INT, FIELD(head_width), 1, 4096, 0},
    {"rms_norm_eps", KEY_FLOAT, FIELD(norm_epsilon), 0, 1, 1e-5},
    {"max_position_embeddings", KEY_INT, FIELD(max_positions), 1, 1 << 30, 131072},
    {"intermediate_size", KEY_INT, FIELD(dense_width), 1, 1 << 20, 10944},
    {"moe_intermediate_size", KEY_INT, FIELD(expert_width), 1, 1 << 20, 1408},
    {"n_routed_experts", KEY_INT, FIELD(experts), 1, 4096, 128},
    {"num_experts_per_tok", KEY_INT, FIELD(choices), 1, 4096, 8},
    {"n_group", KEY_INT, FIELD(groups), 1, ROUTE_GROUPS_MOST, 1},
    {"topk_group", KEY_INT, FIELD(kept_groups), 1, ROUTE_GROUPS_MOST, 1},
    {"norm_topk_prob", KEY_BOOL, FIELD(renormalise), 0, 1, 1},
    {"routed_scaling_factor", KEY_FLOAT, FIELD(route_scale), 1e-6, 1e6, 1},
    {"attention_bias", KEY_BOOL, FIELD(attention_bias_qkv), 0, 1, 0},
    {NULL, KEY_INT, 0, 0, 0, 0},
};

static const struct family_fixed fixed[] = {
    {"hidden_act", "\"silu\""},      {"pruned_heads", "{}"},           {"is_decoder", "false"},
    {"is_encoder_decoder", "false"}, {"add_cross_attention", "false"}, {NULL, NULL},
};

static const char *const derived_keys[] = {"first_k_dense_replace", "n_shared_experts",
                                           "partial_rotary_factor", "use_qk_norm", NULL};

static const char *const ignored_keys[] = {"num_nextn_predict_layers", NULL};

static enum status check_groups(const struct config *c, const struct json_at *text)
{
    int size = c->experts / c->groups;

    if (c->groups > 1 && (c->experts % c->groups != 0 || size < 2 || c->kept_groups > c->groups ||
                          c->choices > size * c->kept_groups))
        return FAIL(STATUS_BAD_INPUT,
                    "%s: %d experts per token cannot come from %d of %d groups of %d experts", text->file,
                    c->choices, c->kept_groups, c->groups, c->experts);
    return STATUS_OK;
}

static enum status derive(struct config *c, struct arena *arena, const struct json_at *text)
{
    struct config_layer *layer;
    int dense = 1, shared = 1;
    bool norm = false;

    TRY(check_groups(c, text));
    TRY(arena_take_array(arena, (size_t)c->layers, sizeof *layer, "layers", &layer));
    TRY(json_get_int(text, "first_k_dense_replace", 0, c->layers, &dense));
    TRY(json_get_int(text, "n_shared_experts", 0, 64, &shared));
    TRY(json_get_bool(text, "use_qk_norm", &norm));
    for (int i = 0; i < c->layers; i++)
        layer[i].experts = i >= dense;
    c->shared_width = shared * c->expert_width; /* one block as wide as all of them */
    TRY(frequency_read(c, arena, text, 10000, 0.5f));
    for (int i = 0; i < c->layers; i++)
        layer[i].rope = true;
    family_number_experts(c, layer);
    c->layer = layer;
    c->attention_scale = 1.0f / sqrtf((float)c->head_width);
    c->qk_norm = norm ? QK_NORM_HEAD_BEFORE_ROPE : QK_NORM_NONE;
    c->score = SCORE_SIGMOID;
    c->route_bias = true;
    return STATUS_OK;
}

const struct family family_glm4_moe = {
    .name = "glm4_moe",
    .architectures = (const char *const[]){"Glm4MoeForCausalLM", NULL},
    .model_types = (const char *const[]){"glm4_moe", NULL},
    .keys = keys,
    .fixed = fixed,
    .derived_keys = derived_keys,
    .ignored_keys = ignored_keys,
    .bos = -1,
    .eos = -1,
    .derive = derive,
    .prefixes = (const struct family_prefix[]){{"model.", ""}, {NULL, NULL}},
    .names = {FAMILY_USUAL_NAMES,
              FAMILY_MLP_NAMES, [ROLE_ROUTER_BIAS] = "layers.{layer}.mlp.gate.e_score_correction_bias",
              [ROLE_SHARED_GATE] = "layers.{layer}.mlp.shared_experts.gate_proj.weight",
              [ROLE_SHARED_UP] = "layers.{layer}.mlp.shared_experts.up_proj.weight",
              [ROLE_SHARED_DOWN] = "layers.{layer}.mlp.shared_experts.down_proj.weight"},
    .layer_prefix = "layers.",
};
