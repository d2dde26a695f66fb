/* family.c - the description of a model family: its keys, its tensor names, what it may ignore
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/family.h"

#include <stdio.h>
#include <string.h>

static const struct family *const families[] = {&family_llama4, &family_qwen3_moe, &family_mixtral,
                                                &family_olmoe, &family_glm4_moe};

enum { FAMILY_COUNT = sizeof families / sizeof families[0] };

/* What the library that writes these files adds to every one: training, generation and bookkeeping. */
static const char *const ignored_everywhere[] = {"_attn_implementation",
                                                 "_attn_implementation_autoset",
                                                 "_attn_implementation_internal",
                                                 "_commit_hash",
                                                 "_name_or_path",
                                                 "_output_attentions",
                                                 "architectures",
                                                 "attention_dropout",
                                                 "attn_implementation",
                                                 "bad_words_ids",
                                                 "base_model_ep_plan",
                                                 "base_model_pp_plan",
                                                 "base_model_tp_plan",
                                                 "begin_suppress_tokens",
                                                 "bos_token_id",
                                                 "cache_implementation",
                                                 "chunk_size_feed_forward",
                                                 "cross_attention_hidden_size",
                                                 "decoder_start_token_id",
                                                 "diversity_penalty",
                                                 "do_sample",
                                                 "dtype",
                                                 "early_stopping",
                                                 "encoder_no_repeat_ngram_size",
                                                 "eos_token_id",
                                                 "exponential_decay_length_penalty",
                                                 "finetuning_task",
                                                 "for_llm_compressor",
                                                 "forced_bos_token_id",
                                                 "forced_eos_token_id",
                                                 "gradient_checkpointing",
                                                 "id2label",
                                                 "initializer_range",
                                                 "label2id",
                                                 "length_penalty",
                                                 "max_length",
                                                 "min_length",
                                                 "model_type",
                                                 "no_repeat_ngram_size",
                                                 "num_beam_groups",
                                                 "num_beams",
                                                 "num_labels",
                                                 "num_return_sequences",
                                                 "output_attentions",
                                                 "output_hidden_states",
                                                 "output_router_logits",
                                                 "output_scores",
                                                 "pad_token_id",
                                                 "prefix",
                                                 "problem_type",
                                                 "remove_invalid_values",
                                                 "repetition_penalty",
                                                 "return_dict",
                                                 "return_dict_in_generate",
                                                 "router_aux_loss_coef",
                                                 "router_jitter_noise",
                                                 "sep_token_id",
                                                 "suppress_tokens",
                                                 "task_specific_params",
                                                 "temperature",
                                                 "tf_legacy_loss",
                                                 "tie_encoder_decoder",
                                                 "tie_word_embeddings",
                                                 "tokenizer_class",
                                                 "top_k",
                                                 "top_p",
                                                 "torch_dtype",
                                                 "torchscript",
                                                 "transformers_version",
                                                 "typical_p",
                                                 "use_bfloat16",
                                                 "use_cache",
                                                 NULL};

const struct family *family_find(const char *name)
{
    for (int i = 0; i < FAMILY_COUNT; i++)
        if (strcmp(families[i]->name, name) == 0)
            return families[i];
    return NULL;
}

const struct family *family_of_architecture(const char *architecture)
{
    for (int i = 0; i < FAMILY_COUNT; i++)
        if (family_listed(families[i]->architectures, architecture))
            return families[i];
    return NULL;
}

void family_list(char *out, size_t bytes)
{
    size_t used = 0;

    out[0] = '\0';
    for (int i = 0; i < FAMILY_COUNT; i++)
        for (const char *const *name = families[i]->architectures; *name && used < bytes; name++) {
            bool last = i == FAMILY_COUNT - 1 && !name[1];

            used += (size_t)snprintf(out + used, bytes - used, "%s%s",
                                     used == 0 ? ""
                                     : last    ? " and "
                                               : ", ",
                                     *name);
        }
}

bool family_listed(const char *const *list, const char *text)
{
    for (; list && *list; list++)
        if (strcmp(*list, text) == 0)
            return true;
    return false;
}

bool family_ignores(const struct family *f, const char *key)
{
    return family_listed(ignored_everywhere, key) || family_listed(f->ignored_keys, key);
}

void family_number_experts(struct config *c, struct config_layer *layer)
{
    c->expert_layers = 0;
    for (int i = 0; i < c->layers; i++)
        layer[i].expert_layer = layer[i].experts ? c->expert_layers++ : -1;
    if (c->expert_layers > 0)
        return;
    c->experts = 0;
    c->choices = 0;
    c->shared_width = 0;
}

/* Writes `number` where pattern says {layer} or {expert}; returns how many bytes of the pattern that took, 0:
 * none. */
static size_t fill_in(const char *pattern, int layer, int expert, char *number, size_t bytes)
{
    static const char layer_mark[] = "{layer}";
    static const char expert_mark[] = "{expert}";

    if (strncmp(pattern, layer_mark, sizeof layer_mark - 1) == 0) {
        snprintf(number, bytes, "%d", layer);
        return sizeof layer_mark - 1;
    }
    if (strncmp(pattern, expert_mark, sizeof expert_mark - 1) == 0) {
        snprintf(number, bytes, "%d", expert);
        return sizeof expert_mark - 1;
    }
    return 0;
}

enum status family_tensor_name(const struct family *f, const struct family_prefix *prefix,
                               enum family_role role, int layer, int expert, char *out, size_t bytes)
{
    const char *pattern = f->names[role];
    const char *before = role == ROLE_HEAD ? prefix->head : prefix->body;
    size_t used = strlen(before);

    if (!pattern || used + strlen(pattern) + 32 > bytes)
        return FAIL(STATUS_BUG, "family %s: no name for tensor role %d, or none that fits", f->name,
                    (int)role);
    memcpy(out, before, used);
    while (*pattern != '\0') {
        char number[16];
        size_t taken = fill_in(pattern, layer, expert, number, sizeof number);

        if (taken == 0) {
            out[used++] = *pattern++;
            continue;
        }
        pattern += taken;
        memcpy(out + used, number, strlen(number));
        used += strlen(number);
    }
    out[used] = '\0';
    return STATUS_OK;
}
