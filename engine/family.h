/* family.h - the description of a model family: its keys, its tensor names, what it may ignore
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * All that differs between families when a directory is read stands in one struct family each, as static data
 * in family_NAME.c; what is done with it stands once, in config.c (keys), roles.c (tensors) and weights.c
 * (slices). A new family is a new description, one line at the end of this file and one in family.c. */
#ifndef FAMILY_H
#define FAMILY_H

#include "engine/base/arena.h"
#include "engine/base/status.h"
#include "engine/config_fields.h"
#include "engine/json.h"

#include <stddef.h>

/* What a tensor is for. The shape of each follows from struct config, see roles.h. */
enum family_role {
    ROLE_EMBEDDING,
    ROLE_HEAD,
    ROLE_FINAL_NORM,
    ROLE_ATTENTION_NORM, /* from here on one per layer */
    ROLE_FEED_NORM,
    ROLE_QUERY,
    ROLE_KEY,
    ROLE_VALUE,
    ROLE_OUT,
    ROLE_QUERY_BIAS,
    ROLE_KEY_BIAS,
    ROLE_VALUE_BIAS,
    ROLE_OUT_BIAS,
    ROLE_QUERY_NORM,
    ROLE_KEY_NORM,
    ROLE_ROUTER,
    ROLE_ROUTER_BIAS,
    ROLE_EXPERTS_GATE_UP, /* all experts of a layer in one tensor */
    ROLE_EXPERTS_DOWN,
    ROLE_EXPERT_GATE, /* one tensor per expert */
    ROLE_EXPERT_UP,
    ROLE_EXPERT_DOWN,
    ROLE_SHARED_GATE,
    ROLE_SHARED_UP,
    ROLE_SHARED_DOWN,
    ROLE_DENSE_GATE,
    ROLE_DENSE_UP,
    ROLE_DENSE_DOWN,
    ROLE_COUNT
};

/* How ROLE_EXPERTS_* tensors lie in their file. Gate stands before up. */
enum family_fusion {
    FUSED_INPUT_FIRST,  /* gate_up [E, D, 2F], down [E, F, D]: y = x W */
    FUSED_OUTPUT_FIRST, /* gate_up [E, 2F, D], down [E, D, F]: y = W x */
};

/* Tried in order: the first whose embedding exists holds for all tensors. */
struct family_prefix {
    const char *body; /* before every name but the head's */
    const char *head;
};

enum family_key_kind { KEY_INT, KEY_FLOAT, KEY_BOOL, KEY_FLAG /* a boolean that may be a number */ };

/* One key that goes into one field of struct config as it is. `fallback` is the value of the family's class
 * when the key is missing or null. */
struct family_key {
    const char *key;
    enum family_key_kind kind;
    size_t field; /* offset in struct config of an int, float or bool */
    double least, most;
    double fallback;
};

/* A key that is understood with one value only, written as JSON. */
struct family_fixed {
    const char *key;
    const char *value;
};

struct family {
    const char *name;
    const char *const *architectures; /* lists of text end with NULL */
    const char *const *model_types;   /* of the text model */

    const struct family_key *keys; /* end with a NULL key */
    const struct family_fixed *fixed;
    const char *const *derived_keys; /* that `derive` reads */
    const char *const *ignored_keys; /* change nothing, beside those that every family ignores */
    const char *const *outer_keys;   /* beside text_config, ignored */

    int bos, eos; /* of the family's class when the files name none; -1: none */

    /* Fills what does not follow from one key: layers, rotation, experts. All keys of the table are read. */
    enum status (*derive)(struct config *c, struct arena *arena, const struct json_at *text);

    const struct family_prefix *prefixes; /* end with a NULL body */
    const char *names[ROLE_COUNT]; /* "layers.{layer}.mlp.experts.{expert}.up_proj.weight"; NULL: none */
    enum family_fusion fusion;
    const char *layer_prefix;           /* "layers.": what follows up to a dot is a layer number */
    const char *const *skipped_tensors; /* beginnings of names of other parts (vision) */
};

/* The names that most families have, for a description's `names`. */
#define FAMILY_USUAL_NAMES                                                                                   \
    [ROLE_EMBEDDING] = "embed_tokens.weight", [ROLE_HEAD] = "lm_head.weight",                                \
    [ROLE_FINAL_NORM] = "norm.weight", [ROLE_ATTENTION_NORM] = "layers.{layer}.input_layernorm.weight",      \
    [ROLE_FEED_NORM] = "layers.{layer}.post_attention_layernorm.weight",                                     \
    [ROLE_QUERY] = "layers.{layer}.self_attn.q_proj.weight",                                                 \
    [ROLE_KEY] = "layers.{layer}.self_attn.k_proj.weight",                                                   \
    [ROLE_VALUE] = "layers.{layer}.self_attn.v_proj.weight",                                                 \
    [ROLE_OUT] = "layers.{layer}.self_attn.o_proj.weight",                                                   \
    [ROLE_QUERY_BIAS] = "layers.{layer}.self_attn.q_proj.bias",                                              \
    [ROLE_KEY_BIAS] = "layers.{layer}.self_attn.k_proj.bias",                                                \
    [ROLE_VALUE_BIAS] = "layers.{layer}.self_attn.v_proj.bias",                                              \
    [ROLE_OUT_BIAS] = "layers.{layer}.self_attn.o_proj.bias"

/* The same for the tensors of "mlp". */
#define FAMILY_MLP_NAMES                                                                                     \
    [ROLE_QUERY_NORM] = "layers.{layer}.self_attn.q_norm.weight",                                            \
    [ROLE_KEY_NORM] = "layers.{layer}.self_attn.k_norm.weight",                                              \
    [ROLE_ROUTER] = "layers.{layer}.mlp.gate.weight",                                                        \
    [ROLE_EXPERT_GATE] = "layers.{layer}.mlp.experts.{expert}.gate_proj.weight",                             \
    [ROLE_EXPERT_UP] = "layers.{layer}.mlp.experts.{expert}.up_proj.weight",                                 \
    [ROLE_EXPERT_DOWN] = "layers.{layer}.mlp.experts.{expert}.down_proj.weight",                             \
    [ROLE_DENSE_GATE] = "layers.{layer}.mlp.gate_proj.weight",                                               \
    [ROLE_DENSE_UP] = "layers.{layer}.mlp.up_proj.weight",                                                   \
    [ROLE_DENSE_DOWN] = "layers.{layer}.mlp.down_proj.weight"

/* Counts the layers with experts; in a model without any, the sizes of experts become 0. */
void family_number_experts(struct config *c, struct config_layer *layer);

/* NULL: none has this name, or lists this architecture. */
const struct family *family_find(const char *name);
const struct family *family_of_architecture(const char *architecture);

/* "A, B and C": the architectures of all families, for messages. out [bytes]. */
void family_list(char *out, size_t bytes);

/* Is `text` in this list? A NULL list is empty. */
bool family_listed(const char *const *list, const char *text);

/* Keys of Hugging Face configurations that never change what a text model computes. */
bool family_ignores(const struct family *f, const char *key);

/* The tensor's name; layer and expert are used where the pattern has them. STATUS_BUG when the family has no
 * such role or out [bytes] is too small. */
enum status family_tensor_name(const struct family *f, const struct family_prefix *prefix,
                               enum family_role role, int layer, int expert, char *out, size_t bytes);

enum { FAMILY_NAME_BYTES = 256 }; /* enough for every name of every family */

extern const struct family family_llama4;
extern const struct family family_qwen3_moe;
extern const struct family family_mixtral;
extern const struct family family_olmoe;
extern const struct family family_glm4_moe;

#endif
