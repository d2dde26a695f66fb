/* test_config.c - a model directory is understood, or refused by the name of what is wrong
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Cases are the golden configurations with a few keys changed, written into a scratch directory. */
#include "engine/config.h"

#include "engine/base/file.h"
#include "engine/json.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static const char NESTED[] = "tests/golden/llama4_a/config.json";
static const char PLAIN[] = "tests/golden/llama4_b/config.json";

static char scratch[] = "/tmp/switchyard-config-XXXXXX";
static struct arena arena;

static int set_up(void **state)
{
    (void)state;
    return mkdtemp(scratch) && arena_open(&arena, "test", 64 << 20) == STATUS_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    char command[128];

    (void)state;
    arena_close(&arena);
    snprintf(command, sizeof command, "rm -rf %s", scratch);
    return system(command);
}

static const char *in_scratch(const char *name)
{
    static char path[4][512];
    static int turn;
    char *next = path[turn++ % 4];

    snprintf(next, 512, "%s/%s", scratch, name);
    return next;
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

/* Reads `base` with the keys of `changes` (JSON) put into text_config, or into the root when `outer` or there
 * is none. A changed value of "-" takes the key away. */
static enum status read_changed(struct config *c, const char *base, const char *changes, bool outer)
{
    json_t *root = json_load_file(base, 0, NULL);
    json_t *patch = json_loads(changes, 0, NULL);
    json_t *text = json_object_get(root, "text_config");
    json_t *target = outer || !text ? root : text;
    enum status status;
    const char *key;
    json_t *value;

    assert_non_null(root);
    if (!patch)
        fail_msg("the test's own changes are no JSON: %s", changes);
    json_object_foreach(patch, key, value)
    {
        if (json_is_string(value) && strcmp(json_string_value(value), "-") == 0)
            json_object_del(target, key);
        else
            json_object_set(target, key, value);
    }
    assert_int_equal(json_dump_file(root, in_scratch("config.json"), 0), 0);
    json_decref(root);
    json_decref(patch);
    status = config_read(c, &arena, scratch);
    return status;
}

static void expect_refused(const char *base, const char *changes, bool outer, const char *words)
{
    struct config c = {.vocabulary = -77};

    if (read_changed(&c, base, changes, outer) != STATUS_BAD_INPUT)
        fail_msg("%s was not refused", changes);
    if (!strstr(status_text(), words) || !strstr(status_text(), "config.json"))
        fail_msg("%s: \"%s\" does not say \"%s\"", changes, status_text(), words);
    assert_int_equal(c.vocabulary, -77);
}

static void expect_accepted(struct config *c, const char *base, const char *changes, bool outer)
{
    if (read_changed(c, base, changes, outer) != STATUS_OK)
        fail_msg("%s: %s", changes, status_text());
}

static void test_golden_llama4_a_means_what_its_makers_say(void **state)
{
    struct config c;

    (void)state;
    assert_int_equal(config_read(&c, &arena, "tests/golden/llama4_a"), STATUS_OK);
    assert_string_equal(c.family, "llama4");
    assert_string_equal(c.architecture, "Llama4ForConditionalGeneration");
    assert_string_equal(c.model_type, "llama4_text");
    assert_int_equal(c.vocabulary, 256);
    assert_int_equal(c.head_width, 32);
    assert_int_equal(c.expert_width, 32);
    assert_int_equal(c.shared_width, 32);
    assert_int_equal(c.dense_width, 96);
    assert_int_equal(c.expert_layers, 4);
    for (int i = 0; i < 8; i++) {
        bool rope = i != 3 && i != 7;

        assert_int_equal(c.layer[i].experts, i % 2 == 1);
        assert_int_equal(c.layer[i].expert_layer, i % 2 == 1 ? i / 2 : -1);
        assert_int_equal(c.layer[i].rope, rope);
        assert_int_equal(c.layer[i].mask, rope ? MASK_CHUNK : MASK_FULL);
        assert_int_equal(c.layer[i].mask_size, rope ? 8 : 0);
    }
    assert_true(c.rope_interleaved && c.weight_on_input && !c.renormalise && !c.tied &&
                !c.attention_bias_qkv);
    assert_int_equal(c.qk_norm, QK_NORM_HEAD_AFTER_ROPE_WEIGHTLESS);
    assert_true(c.temperature_tuning && c.temperature_floor == 4 && c.temperature_scale == 0.5f);
    assert_true(fabsf(c.attention_scale - 0.1767767f) < 1e-6f);
    assert_int_equal(c.bos, 1);
    assert_int_equal(c.stop_count, 2);
    assert_int_equal(c.stop[1], 3);
    assert_true(isnan(c.temperature) && isnan(c.top_p) && isnan(c.min_p) && c.top_k == -1 && !c.sample);
}

static void test_golden_llama4_b_means_what_its_makers_say(void **state)
{
    struct config c;

    (void)state;
    assert_int_equal(config_read(&c, &arena, "tests/golden/llama4_b"), STATUS_OK);
    assert_true(c.tied && c.attention_bias_qkv && c.attention_bias_out && !c.temperature_tuning);
    assert_int_equal(c.qk_norm, QK_NORM_NONE);
    assert_int_equal(c.choices, 2);
    assert_int_equal(c.expert_layers, 2);
    assert_true(c.layer[0].experts && !c.layer[1].experts && c.layer[2].experts && !c.layer[3].experts);
    assert_true(c.layer[0].rope && !c.layer[1].rope && c.layer[2].rope && c.layer[3].rope);
    for (int i = 0; i < 4; i++)
        assert_int_equal(c.layer[i].mask, MASK_FULL);
    assert_int_equal(c.stop_count, 1); /* the class's own 2 */
    assert_int_equal(c.stop[0], 2);
}

static void test_llama3_scaling_with_equal_borders_divides_the_slow_pairs(void **state)
{
    struct config c, plain;
    int kept = 0, divided = 0;

    (void)state;
    assert_int_equal(config_read(&c, &arena, "tests/golden/llama4_a"), STATUS_OK);
    expect_accepted(&plain, NESTED, "{\"rope_scaling\": null}", false);
    for (int i = 0; i < 16; i++) {
        kept += c.frequency[i] == plain.frequency[i];
        divided += c.frequency[i] == plain.frequency[i] / 16;
    }
    assert_int_equal(kept, 3);
    assert_int_equal(divided, 13);
    assert_true(plain.frequency[0] == 1.0f);
    assert_true(fabs((double)plain.frequency[1] - pow(500000, -2.0 / 32)) < 1e-7);
}

/* A pair that turns exactly once over the old positions stands on both borders. */
static void test_a_pair_on_equal_borders_is_not_zero_by_zero(void **state)
{
    struct config c;

    (void)state;
    expect_accepted(&c, NESTED,
                    "{\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 16, \"low_freq_factor\": "
                    "0.15915493667125702, \"high_freq_factor\": 0.15915493667125702, "
                    "\"original_max_position_embeddings\": 1}}",
                    false);
    for (int i = 0; i < 16; i++)
        assert_true(isfinite(c.frequency[i]) && c.frequency[i] > 0);
}

/* Released Scout: 64 pairs, of which 35 stay and 29 turn 16 times slower. */
static void test_scout_scaling_has_its_known_counts(void **state)
{
    struct config c, plain;
    int kept = 0, divided = 0;

    (void)state;
    expect_accepted(&c, NESTED,
                    "{\"head_dim\": 128, \"rope_scaling\": {\"factor\": 16.0, \"high_freq_factor\": 1.0, "
                    "\"low_freq_factor\": "
                    "1.0, \"original_max_position_embeddings\": 8192, \"rope_type\": \"llama3\"}}",
                    false);
    expect_accepted(&plain, NESTED, "{\"head_dim\": 128, \"rope_scaling\": null}", false);
    for (int i = 0; i < 64; i++) {
        kept += c.frequency[i] == plain.frequency[i];
        divided += c.frequency[i] == plain.frequency[i] / 16;
    }
    assert_int_equal(kept, 35);
    assert_int_equal(divided, 29);
}

static void test_newer_rope_parameters_equal_the_older_spelling(void **state)
{
    struct config older, newer;

    (void)state;
    expect_accepted(&older, NESTED, "{}", false);
    expect_accepted(
        &newer, NESTED,
        "{\"rope_theta\": \"-\", \"rope_scaling\": \"-\", \"rope_parameters\": {\"rope_type\": \"llama3\", "
        "\"rope_theta\": 500000, \"factor\": 16, \"low_freq_factor\": 1, \"high_freq_factor\": 1, "
        "\"original_max_position_embeddings\": 64}}",
        false);
    assert_memory_equal(older.frequency, newer.frequency, 16 * sizeof(float));
    expect_accepted(&newer, NESTED, "{\"rope_scaling\": {\"type\": \"default\"}}", false);
    assert_true(newer.frequency[15] > older.frequency[15] * 15);
    expect_accepted(&newer, NESTED,
                    "{\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 1, "
                    "\"high_freq_factor\": 4, \"original_max_position_embeddings\": 64}}",
                    false);
    for (int i = 0; i < 16; i++)
        assert_true(isfinite(newer.frequency[i]) && newer.frequency[i] > 0);
}

static void test_every_spelling_of_layer_kinds(void **state)
{
    struct config c;

    (void)state;
    expect_accepted(&c, NESTED, "{\"no_rope_layers\": \"-\"}", false);
    assert_false(c.layer[3].rope);
    expect_accepted(&c, NESTED, "{\"no_rope_layers\": null, \"no_rope_layer_interval\": 2}", false);
    assert_true(c.layer[0].rope && !c.layer[1].rope && c.layer[2].rope && !c.layer[7].rope);
    expect_accepted(&c, NESTED, "{\"no_rope_layers\": [0, 1, 1, 1, 1, 1, 1, 1]}", false);
    assert_true(!c.layer[0].rope && c.layer[3].rope);
    assert_int_equal(c.layer[0].mask, MASK_FULL);
    expect_refused(NESTED, "{\"no_rope_layers\": [1, 0]}", false, "lists 2 layers, the model has 8");
    expect_refused(NESTED, "{\"no_rope_layers\": [1, 0, 1, 1, 1, 1, 1, 2]}", false, "place 7");

    expect_accepted(&c, NESTED, "{\"moe_layers\": []}", false);
    assert_int_equal(c.expert_layers, 0);
    assert_int_equal(c.experts, 0);
    expect_accepted(&c, NESTED, "{\"moe_layers\": null, \"interleave_moe_layer_step\": 1}", false);
    assert_int_equal(c.expert_layers, 8);
    expect_accepted(&c, NESTED, "{\"interleave_moe_layer_step\": \"-\"}", false);
    assert_int_equal(c.expert_layers, 8);
    expect_accepted(&c, NESTED, "{\"interleave_moe_layer_step\": 0}", false);
    assert_int_equal(c.expert_layers, 0);
    expect_accepted(&c, NESTED, "{\"interleave_moe_layer_step\": 3}", false);
    assert_true(c.layer[2].experts && c.layer[5].experts && c.expert_layers == 2);
    expect_refused(NESTED, "{\"moe_layers\": [8]}", false, "from 0 to 7");

    expect_accepted(&c, NESTED, "{\"attention_chunk_size\": \"-\"}", false);
    assert_int_equal(c.layer[0].mask_size, 8192);
    expect_accepted(&c, NESTED, "{\"attention_chunk_size\": null}", false);
    assert_int_equal(c.layer[0].mask, MASK_FULL);
    expect_accepted(
        &c, PLAIN,
        "{\"attention_chunk_size\": 16, \"layer_types\": [\"full_attention\", \"chunked_attention\", "
        "\"full_attention\", \"full_attention\"]}",
        false);
    assert_int_equal(c.layer[0].mask, MASK_FULL);
    assert_int_equal(c.layer[1].mask, MASK_CHUNK);
    expect_refused(PLAIN, "{\"layer_types\": [\"full_attention\"]}", false, "each of the 4 layers");
    expect_refused(PLAIN,
                   "{\"layer_types\": [\"full_attention\", \"sliding_attention\", \"full_attention\", "
                   "\"full_attention\"]}",
                   false, "sliding_attention for layer 1");

    expect_accepted(&c, NESTED, "{\"attn_temperature_tuning\": 4}", false);
    assert_true(c.temperature_tuning);
    expect_accepted(&c, NESTED, "{\"attn_temperature_tuning\": 0}", false);
    assert_false(c.temperature_tuning);
    expect_accepted(&c, NESTED, "{\"attn_temperature_tuning\": \"-\"}", false);
    assert_true(c.temperature_tuning);
    expect_accepted(&c, NESTED, "{\"head_dim\": null}", false);
    assert_int_equal(c.head_width, 16);
}

/* What released Llama 4 files hold beside the arithmetic. */
static void test_clutter_of_released_files_is_passed_over(void **state)
{
    struct config c;

    (void)state;
    expect_accepted(
        &c, NESTED,
        "{\"_attn_implementation_autoset\": true, \"attention_dropout\": 0.0, \"for_llm_compressor\": false, "
        "\"initializer_range\": 0.02, \"output_router_logits\": false, \"router_aux_loss_coef\": 0.001, "
        "\"router_jitter_noise\": 0.0, \"torch_dtype\": \"bfloat16\", \"use_cache\": true, "
        "\"cache_implementation\": \"hybrid\", \"moe_layers\": null, \"unheard_of\": null, \"pruned_heads\": "
        "{}, "
        "\"is_decoder\": false, \"id2label\": {\"0\": \"LABEL_0\"}, \"pad_token_id\": 200018}",
        false);
    expect_accepted(
        &c, NESTED,
        "{\"boi_token_index\": 200080, \"eoi_token_index\": 200081, \"image_token_index\": 200092, "
        "\"torch_dtype\": \"bfloat16\", \"transformers_version\": \"4.51.0.dev0\", \"vision_config\": "
        "{\"hidden_size\": 1408, \"anything\": 1}, \"quantization_config\": null}",
        true);
}

static void test_what_could_change_the_arithmetic_is_refused_by_name(void **state)
{
    (void)state;
    expect_refused(NESTED, "{\"sliding_window\": 4096}", false, "text_config.sliding_window");
    expect_refused(PLAIN, "{\"logits_scaling\": 8}", false, "\"logits_scaling\"");
    expect_refused(NESTED, "{\"final_logit_softcapping\": 30.0}", true, "final_logit_softcapping");
    expect_refused(NESTED, "{\"hidden_size\": 64}", true, "\"hidden_size\" is not known");
    expect_refused(NESTED, "{\"hidden_act\": \"gelu\"}", false, "\"silu\" only");
    expect_refused(NESTED, "{\"pruned_heads\": {\"1\": [0]}}", false, "pruned_heads");
    expect_refused(NESTED, "{\"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 4}}", false, "yarn");
    expect_refused(NESTED, "{\"rope_scaling\": {\"rope_type\": \"llama3\"}}", false,
                   "rope_scaling.factor\" is missing");
    expect_refused(NESTED, "{\"rope_scaling\": {\"rope_type\": \"default\", \"mscale\": 1}}", false,
                   "mscale");
    expect_refused(NESTED, "{\"rope_parameters\": {\"rope_type\": \"default\"}}", false, "contradict");
    expect_refused(NESTED, "{\"rope_scaling\": null, \"rope_parameters\": {\"rope_theta\": 10000}}", false,
                   "rope_theta");
    expect_refused(NESTED, "{\"quantization_config\": {\"quant_method\": \"gptq\"}}", true, "\"gptq\"");
    expect_refused(NESTED, "{\"quantization_config\": {\"quant_method\": \"mxfp4\"}}", false, "\"mxfp4\"");
    expect_refused(NESTED, "{\"architectures\": [\"GptOssForCausalLM\"]}", true,
                   "GptOssForCausalLM is not supported by this version; supported are "
                   "Llama4ForConditionalGeneration, Llama4ForCausalLM, Qwen3MoeForCausalLM");
    expect_refused(NESTED, "{\"architectures\": \"-\"}", true, "architectures");
    expect_refused(NESTED, "{\"model_type\": \"llama\"}", false, "model_type");
}

static void test_sizes_that_contradict_each_other_are_refused(void **state)
{
    (void)state;
    expect_refused(NESTED, "{\"vocab_size\": 0}", false, "vocab_size");
    expect_refused(NESTED, "{\"vocab_size\": -5}", false, "vocab_size");
    expect_refused(NESTED, "{\"num_hidden_layers\": 4000000000}", false, "num_hidden_layers");
    expect_refused(NESTED, "{\"hidden_size\": 64.5}", false, "hidden_size");
    expect_refused(NESTED, "{\"num_key_value_heads\": 3}", false, "multiple of 3");
    expect_refused(NESTED, "{\"num_experts_per_tok\": 5}", false, "5 experts per token");
    expect_refused(NESTED, "{\"num_local_experts\": 5000}", false, "num_local_experts");
    expect_refused(NESTED, "{\"num_attention_heads\": 4096, \"num_key_value_heads\": 1, \"head_dim\": 4096}",
                   false, "more than the");
    expect_refused(NESTED, "{\"num_attention_heads\": 3, \"num_key_value_heads\": 1, \"head_dim\": null}",
                   false, "do not divide");
    expect_refused(NESTED, "{\"head_dim\": 31}", false, "even");
    expect_refused(NESTED, "{\"rms_norm_eps\": 0}", false, "rms_norm_eps");
    expect_refused(NESTED, "{\"floor_scale\": 0}", false, "floor_scale");
    expect_refused(NESTED, "{\"eos_token_id\": [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]}", false,
                   "eos_token_id");
}

static void test_generation_config_gives_defaults_and_stops(void **state)
{
    struct config c;

    (void)state;
    write_file(in_scratch("generation_config.json"),
               "{\"do_sample\": true, \"temperature\": 0.6, \"top_p\": 0.9, \"top_k\": 40, \"min_p\": null, "
               "\"eos_token_id\": [7, 9, 300], \"transformers_version\": \"4.51\"}");
    expect_accepted(&c, NESTED, "{}", false);
    assert_true(c.sample && c.temperature == 0.6f && c.top_p == 0.9f && c.top_k == 40 && isnan(c.min_p));
    assert_int_equal(c.stop_count, 2); /* 300 is outside the vocabulary */
    assert_int_equal(c.stop[0], 7);
    write_file(in_scratch("generation_config.json"), "{\"eos_token_id\": null}");
    expect_accepted(&c, NESTED, "{}", false);
    assert_int_equal(c.stop_count, 2);
    assert_int_equal(c.stop[0], 2);
    expect_accepted(&c, NESTED, "{\"eos_token_id\": 5}", false);
    assert_int_equal(c.stop_count, 1);
    write_file(in_scratch("generation_config.json"), "{\"temperature\": \"hot\"}");
    expect_refused(NESTED, "{}", false, "generation_config.json: \"temperature\" is text");
    write_file(in_scratch("generation_config.json"), "{\"top_p\": 1.5}");
    expect_refused(NESTED, "{}", false, "top_p");
    assert_int_equal(unlink(in_scratch("generation_config.json")), 0);
}

static void expect_not_found(const char *model, const char *cache, enum status status, const char *words)
{
    const char *directory = "untouched";

    assert_int_equal(config_locate(&arena, model, cache, &directory), status);
    if (!strstr(status_text(), words))
        fail_msg("%s: \"%s\" does not say \"%s\"", model, status_text(), words);
    assert_string_equal(directory, "untouched");
}

static void test_models_are_found_in_directories_and_in_the_cache(void **state)
{
    static const char commit[] = "0123456789abcdef0123456789abcdef01234567";
    const char *directory;
    char cache[64], path[512];

    (void)state;
    assert_int_equal(config_locate(&arena, "tests/golden/llama4_a", NULL, &directory), STATUS_OK);
    assert_string_equal(directory, "tests/golden/llama4_a");

    snprintf(cache, sizeof cache, "%s/hub", scratch);
    expect_not_found("some-org/Some.Model-1", cache, STATUS_NO_INPUT, "hf download some-org/Some.Model-1");
    snprintf(path, sizeof path,
             "mkdir -p %s/models--some-org--Some.Model-1/refs %s/models--some-org--Some.Model-1/snapshots/%s",
             cache, cache, commit);
    assert_int_equal(system(path), 0);
    snprintf(path, sizeof path, "%s/models--some-org--Some.Model-1/refs/main", cache);
    write_file(path, commit);
    expect_not_found("some-org/Some.Model-1", cache, STATUS_NO_INPUT,
                     "hf download"); /* nothing in the snapshot yet */
    snprintf(path, sizeof path, "%s/models--some-org--Some.Model-1/snapshots/%s/config.json", cache, commit);
    write_file(path, "{}");
    assert_int_equal(config_locate(&arena, "some-org/Some.Model-1", cache, &directory), STATUS_OK);
    assert_non_null(strstr(directory, commit));
    snprintf(path, sizeof path, "%s/models--some-org--Some.Model-1/refs/main", cache);
    write_file(path, "../../../etc\n");
    expect_not_found("some-org/Some.Model-1", cache, STATUS_NO_INPUT, "hf download");

    expect_not_found("no/such/directory", cache, STATUS_NO_INPUT, "no such directory");
    expect_not_found("../x", cache, STATUS_NO_INPUT, "no such directory");
    expect_not_found("", cache, STATUS_USAGE, "empty");
    assert_int_equal(unlink(in_scratch("config.json")), 0);
    expect_not_found(scratch, cache, STATUS_NO_INPUT, "no config.json");
}

static void test_gguf_is_refused_with_the_way_out(void **state)
{
    const char *path;

    (void)state;
    path = in_scratch("small.gguf");
    write_file(path, "anything");
    expect_not_found(path, NULL, STATUS_BAD_INPUT, "Hugging Face directory");
    expect_not_found(scratch, NULL, STATUS_BAD_INPUT, "small.gguf is a GGUF file");
    path = in_scratch("weights.bin");
    write_file(path, "GGUF\3");
    expect_not_found(path, NULL, STATUS_BAD_INPUT, "GGUF");
    write_file(path, "other");
    expect_not_found(path, NULL, STATUS_BAD_INPUT, "name the directory");
    expect_not_found("org/model.gguf", NULL, STATUS_NO_INPUT, "GGUF files are not read");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_llama4_a_means_what_its_makers_say),
        cmocka_unit_test(test_golden_llama4_b_means_what_its_makers_say),
        cmocka_unit_test(test_llama3_scaling_with_equal_borders_divides_the_slow_pairs),
        cmocka_unit_test(test_a_pair_on_equal_borders_is_not_zero_by_zero),
        cmocka_unit_test(test_scout_scaling_has_its_known_counts),
        cmocka_unit_test(test_newer_rope_parameters_equal_the_older_spelling),
        cmocka_unit_test(test_every_spelling_of_layer_kinds),
        cmocka_unit_test(test_clutter_of_released_files_is_passed_over),
        cmocka_unit_test(test_what_could_change_the_arithmetic_is_refused_by_name),
        cmocka_unit_test(test_sizes_that_contradict_each_other_are_refused),
        cmocka_unit_test(test_generation_config_gives_defaults_and_stops),
        cmocka_unit_test(test_models_are_found_in_directories_and_in_the_cache),
        cmocka_unit_test(test_gguf_is_refused_with_the_way_out),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
