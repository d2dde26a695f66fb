/* family_llama4.c - Llama 4 (Scout, Maverick and their kin): the text model
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Dense and expert layers in any order, a shared expert, rotary layers with chunked attention between layers
 * without rotation (NoPE) that see everything, sigmoid scores on the experts' input. */
#include "engine/family.h"

#include "engine/frequency.h"

#include <math.h>
#include <string.h>

#define FIELD(name) offsetof(struct config, name)

static const struct family_key keys[] = {
    {"vocab_size", KEY_INT, FIELD(vocabulary), 1, 1 << 24, 202048},
    {"hidden_size", KEY_INT, FIELD(width), 1, 1 << 18, 5120},
    {"num_hidden_layers", KEY_INT, FIELD(layers), 1, 1024, 48},
    {"num_attention_heads", KEY_INT, FIELD(heads), 1, 4096, 40},
    {"num_key_value_heads", KEY_INT, FIELD(kv_heads), 1, 4096, 8},
    {"head_dim", KEY_INT, FIELD(head_width), 1, 4096, 0},
    {"intermediate_size", KEY_INT, FIELD(expert_width), 1, 1 << 20, 8192},
    {"intermediate_size_mlp", KEY_INT, FIELD(dense_width), 1, 1 << 20, 16384},
    {"num_local_experts", KEY_INT, FIELD(experts), 1, 4096, 16},
    {"num_experts_per_tok", KEY_INT, FIELD(choices), 1, 4096, 1},
    {"rms_norm_eps", KEY_FLOAT, FIELD(norm_epsilon), 0, 1, 1e-5},
    {"max_position_embeddings", KEY_INT, FIELD(max_positions), 1, 1 << 30, 131072},
    {"attn_temperature_tuning", KEY_FLAG, FIELD(temperature_tuning), 0, 1, 1},
    {"floor_scale", KEY_FLOAT, FIELD(temperature_floor), 1, 1e9, 8192},
    {"attn_scale", KEY_FLOAT, FIELD(temperature_scale), 0, 1e6, 0.1},
    {NULL, KEY_INT, 0, 0, 0, 0},
};

static const struct family_fixed fixed[] = {
    {"hidden_act", "\"silu\""},
    {"mlp_bias", "false"},
    {"pretraining_tp", "1"},
    {"partial_rotary_factor", "1"},
    {"pruned_heads", "{}"},
    {"is_decoder", "false"},
    {"is_encoder_decoder", "false"},
    {"add_cross_attention", "false"},
    {NULL, NULL},
};

static const char *const derived_keys[] = {
    "attention_bias", "attention_chunk_size", "interleave_moe_layer_step",
    "layer_types",    "moe_layers",           "no_rope_layer_interval",
    "no_rope_layers", "use_qk_norm",          NULL};

static const char *const ignored_keys[] = {"unsloth_fixed", NULL};

static const char *const outer_keys[] = {"boi_token_id",    "boi_token_index", "eoi_token_id",
                                         "eoi_token_index", "image_token_id",  "image_token_index",
                                         "vision_config",   "unsloth_fixed",   NULL};

enum { STEP_MOST = 1 << 20 };

/* experts of each layer: moe_layers when it is given, even as []; else every step-th layer. */
static enum status derive_experts(struct config *c, struct arena *arena, struct config_layer *layer,
                                  const struct json_at *text)
{
    struct json_ints listed = {.least = 0, .most = c->layers - 1, .capacity = c->layers, .count = -1};
    int step = 1;

    TRY(arena_take_array(arena, (size_t)c->layers, sizeof(int), "moe_layers", &listed.values));
    TRY(json_get_int(text, "interleave_moe_layer_step", 0, STEP_MOST, &step));
    TRY(json_get_ints(text, "moe_layers", &listed));
    for (int i = 0; i < c->layers; i++)
        layer[i].experts = listed.count < 0 && step > 0 && (i + 1) % step == 0;
    for (int i = 0; i < listed.count; i++)
        layer[listed.values[i]].experts = true;

    c->shared_width = c->expert_width;
    family_number_experts(c, layer);
    return STATUS_OK;
}

/* no_rope_layers says 1 for a layer with rotation (sic); missing, null and [] mean all but every interval-th.
 */
static enum status derive_rotation(struct config *c, struct arena *arena, struct config_layer *layer,
                                   const struct json_at *text)
{
    struct json_ints listed = {.least = 0, .most = 1, .capacity = 1024, .count = 0};
    int interval = 4;

    TRY(arena_take_array(arena, (size_t)listed.capacity, sizeof(int), "no_rope_layers", &listed.values));
    TRY(json_get_int(text, "no_rope_layer_interval", 1, STEP_MOST, &interval));
    TRY(json_get_ints(text, "no_rope_layers", &listed));
    if (listed.count > 0 && listed.count != c->layers)
        return FAIL(STATUS_BAD_INPUT, "%s: \"%sno_rope_layers\" lists %d layers, the model has %d",
                    text->file, text->path, listed.count, c->layers);
    for (int i = 0; i < c->layers; i++)
        layer[i].rope = listed.count > 0 ? listed.values[i] : (i + 1) % interval != 0;
    return STATUS_OK;
}

/* Rotating layers see their chunk, the others everything, unless layer_types says otherwise. */
static enum status derive_masks(struct config *c, struct config_layer *layer, const struct json_at *text)
{
    json_t *types = json_object_get(text->object, "layer_types");
    int chunk = json_object_get(text->object, "attention_chunk_size")
                    ? 0
                    : 8192; /* null: none; missing: the default */

    TRY(json_get_int(text, "attention_chunk_size", 1, 1 << 30, &chunk));
    if (json_is_null(types))
        types = NULL;
    if (types && (!json_is_array(types) || json_array_size(types) != (size_t)c->layers))
        return FAIL(STATUS_BAD_INPUT,
                    "%s: \"%slayer_types\" must be a list with one name for each of the %d layers",
                    text->file, text->path, c->layers);
    for (int i = 0; i < c->layers; i++) {
        const char *type = layer[i].rope ? "chunked_attention" : "full_attention";

        if (types)
            type = json_string_value(json_array_get(types, (size_t)i));
        if (!type || (strcmp(type, "chunked_attention") != 0 && strcmp(type, "full_attention") != 0))
            return FAIL(STATUS_BAD_INPUT,
                        "%s: \"%slayer_types\" has %.60s for layer %d; chunked_attention and full_attention "
                        "are supported",
                        text->file, text->path, type ? type : "no text", i);
        layer[i].mask = strcmp(type, "chunked_attention") == 0 && chunk > 0 ? MASK_CHUNK : MASK_FULL;
        layer[i].mask_size = layer[i].mask == MASK_CHUNK ? chunk : 0;
    }
    return STATUS_OK;
}

static enum status derive(struct config *c, struct arena *arena, const struct json_at *text)
{
    struct config_layer *layer;
    bool bias = false, norm = true;

    TRY(arena_take_array(arena, (size_t)c->layers, sizeof *layer, "layers", &layer));
    TRY(derive_experts(c, arena, layer, text));
    TRY(derive_rotation(c, arena, layer, text));
    TRY(derive_masks(c, layer, text));
    TRY(json_get_bool(text, "attention_bias", &bias));
    TRY(json_get_bool(text, "use_qk_norm", &norm));
    TRY(frequency_read(c, arena, text, 500000, 1));
    c->layer = layer;
    c->attention_bias_qkv = bias;
    c->attention_bias_out = bias;
    c->rope_interleaved = true;
    c->qk_norm = norm ? QK_NORM_HEAD_AFTER_ROPE_WEIGHTLESS : QK_NORM_NONE;
    c->attention_scale = 1.0f / sqrtf((float)c->head_width);
    c->score = SCORE_SIGMOID;
    c->renormalise = false;
    c->weight_on_input = true;
    return STATUS_OK;
}

const struct family family_llama4 = {
    .name = "llama4",
    .architectures = (const char *const[]){"Llama4ForConditionalGeneration", "Llama4ForCausalLM", NULL},
    .model_types = (const char *const[]){"llama4_text", "llama4", NULL},
    .keys = keys,
    .fixed = fixed,
    .derived_keys = derived_keys,
    .ignored_keys = ignored_keys,
    .outer_keys = outer_keys,
    .bos = 1,
    .eos = 2,
    .derive = derive,
    .prefixes = (const struct family_prefix[]){{"language_model.model.", "language_model."},
                                               {"model.", ""},
                                               {NULL, NULL}},
    .names =
        {
            [ROLE_EMBEDDING] = "embed_tokens.weight",
            [ROLE_HEAD] = "lm_head.weight",
            [ROLE_FINAL_NORM] = "norm.weight",
            [ROLE_ATTENTION_NORM] = "layers.{layer}.input_layernorm.weight",
            [ROLE_FEED_NORM] = "layers.{layer}.post_attention_layernorm.weight",
            [ROLE_QUERY] = "layers.{layer}.self_attn.q_proj.weight",
            [ROLE_KEY] = "layers.{layer}.self_attn.k_proj.weight",
            [ROLE_VALUE] = "layers.{layer}.self_attn.v_proj.weight",
            [ROLE_OUT] = "layers.{layer}.self_attn.o_proj.weight",
            [ROLE_QUERY_BIAS] = "layers.{layer}.self_attn.q_proj.bias",
            [ROLE_KEY_BIAS] = "layers.{layer}.self_attn.k_proj.bias",
            [ROLE_VALUE_BIAS] = "layers.{layer}.self_attn.v_proj.bias",
            [ROLE_OUT_BIAS] = "layers.{layer}.self_attn.o_proj.bias",
            [ROLE_ROUTER] = "layers.{layer}.feed_forward.router.weight",
            [ROLE_EXPERTS_GATE_UP] = "layers.{layer}.feed_forward.experts.gate_up_proj",
            [ROLE_EXPERTS_DOWN] = "layers.{layer}.feed_forward.experts.down_proj",
            [ROLE_EXPERT_GATE] = "layers.{layer}.feed_forward.experts.{expert}.gate_proj.weight",
            [ROLE_EXPERT_UP] = "layers.{layer}.feed_forward.experts.{expert}.up_proj.weight",
            [ROLE_EXPERT_DOWN] = "layers.{layer}.feed_forward.experts.{expert}.down_proj.weight",
            [ROLE_SHARED_GATE] = "layers.{layer}.feed_forward.shared_expert.gate_proj.weight",
            [ROLE_SHARED_UP] = "layers.{layer}.feed_forward.shared_expert.up_proj.weight",
            [ROLE_SHARED_DOWN] = "layers.{layer}.feed_forward.shared_expert.down_proj.weight",
            [ROLE_DENSE_GATE] = "layers.{layer}.feed_forward.gate_proj.weight",
            [ROLE_DENSE_UP] = "layers.{layer}.feed_forward.up_proj.weight",
            [ROLE_DENSE_DOWN] = "layers.{layer}.feed_forward.down_proj.weight",
        },
    .fusion = FUSED_INPUT_FIRST,
    .layer_prefix = "layers.",
    .skipped_tensors = (const char *const[]){"vision_model.", "vision_tower.", "multi_modal_projector.",
                                             "mm_projector", NULL},
};
