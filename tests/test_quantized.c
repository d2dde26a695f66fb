/* test_quantized.c - FP8 weights come out of every legal file as their codes times their scales, and others
 * are refused by name
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cpu/cpu.h"
#include "tests/checkpoint.h"
#include "tests/held.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define EXPERTS "tests/golden/llama4_fp8_experts"
#define DYNAMIC "tests/golden/llama4_fp8_dynamic"
#define BLOCK "tests/golden/qwen3moe_fp8block"

static char scratch[] = "/tmp/switchyard-quantized-XXXXXX";

static int set_up(void **state)
{
    (void)state;
    return mkdtemp(scratch) ? 0 : -1;
}

static int tear_down(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", scratch);
    return system(command);
}

/* -- slices -- */

/* A tensor's numbers, worked out here from its codes and scales. */
struct numbers {
    uint8_t *codes; /* NULL: the tensor is BF16 */
    uint16_t *plain;
    float *scale;
    int inputs, scale_rows, scale_columns, scale_width;
};

static struct numbers numbers_of(const struct held *h, enum family_role role, int layer, int expert)
{
    const struct family *f = family_find(h->config.family);
    char name[FAMILY_NAME_BYTES], scale_name[FAMILY_NAME_BYTES + 16];
    bool block = h->config.scales == SCALES_BLOCKS;
    const struct tensor *t = NULL, *s;
    struct numbers n = {0};
    void *raw;
    size_t count;

    for (const struct family_prefix *prefix = f->prefixes; prefix->body && !t; prefix++) {
        held_must(family_tensor_name(f, prefix, role, layer, expert, name, sizeof name));
        t = tensor_set_find(&h->set, name);
    }
    assert_non_null(t);
    n.inputs = (int)t->shape[1];
    if (t->dtype == DTYPE_BF16) {
        n.plain = checkpoint_bytes(t);
        return n;
    }
    assert_int_equal(t->dtype, DTYPE_F8_E4M3);
    snprintf(scale_name, sizeof scale_name, "%s%s", name, block ? "_scale_inv" : "_scale");
    s = tensor_set_find(&h->set, scale_name);
    assert_non_null(s);
    n.codes = checkpoint_bytes(t);
    n.scale_rows = block ? 128 : 1;
    n.scale_columns = block ? 128 : n.inputs;
    n.scale_width = block ? (n.inputs + 127) / 128 : 1;
    raw = checkpoint_bytes(s);
    count = (size_t)(s->bytes * 8 / dtype_bits(s->dtype));
    n.scale = malloc(count * sizeof *n.scale);
    held_must(dtype_widen(n.scale, raw, s->dtype, count));
    free(raw);
    return n;
}

static float number_at(const struct numbers *n, int output, int input)
{
    int place = output * n->inputs + input;

    if (!n->codes)
        return dtype_from_bf16(n->plain[place]);
    return dtype_from_e4m3(n->codes[place]) *
           n->scale[output / n->scale_rows * n->scale_width + input / n->scale_columns];
}

/* Rows `to` ... of w are outputs `share` of this role's tensor. Returns the row behind them. */
static int expect_rows(const struct held *h, const struct weight *w, int to, enum family_role role, int layer,
                       int expert, struct range share)
{
    struct numbers n = numbers_of(h, role, layer, expert);

    assert_int_equal(w->columns, n.inputs);
    assert_in_range(to + share.count, 0, w->rows);
    for (int r = 0; r < share.count; r++)
        for (int i = 0; i < n.inputs; i++) {
            ptrdiff_t place = (ptrdiff_t)(to + r) * n.inputs + i;
            float got = w->format == DTYPE_BF16 ? dtype_from_bf16(((const uint16_t *)w->data)[place])
                                                : ((const float *)w->data)[place];

            if (got != number_at(&n, share.first + r, i))
                fail_msg("role %d, layer %d, expert %d: output %d, input %d is %g, not %g", (int)role, layer,
                         expert, share.first + r, i, (double)got, (double)number_at(&n, share.first + r, i));
        }
    free(n.codes);
    free(n.plain);
    free(n.scale);
    return to + share.count;
}

static struct range times(struct range heads, int width)
{
    return (struct range){.first = heads.first * width, .count = heads.count * width};
}

static void expect_block(const struct held *h, const struct weights_block *b, enum family_role gate,
                         int layer, struct range share)
{
    int row = expect_rows(h, &b->gate_up, 0, gate, layer, 0, share);

    assert_int_equal(expect_rows(h, &b->gate_up, row, gate + 1, layer, 0, share), b->gate_up.rows);
    expect_rows(h, &b->down, 0, gate + 2, layer, 0, h->weights.columns);
}

static void expect_layer(const struct held *h, int layer)
{
    const struct config *c = &h->config;
    const struct weights *w = &h->weights;
    const struct weights_layer *l = &w->layer[layer];
    const struct placement *p = &h->placement;
    int first = p->rank_first[h->grid.rank], end = p->rank_first[h->grid.rank + 1], row;

    row = expect_rows(h, &l->qkv, 0, ROLE_QUERY, layer, 0, times(w->heads, c->head_width));
    row = expect_rows(h, &l->qkv, row, ROLE_KEY, layer, 0, times(w->kv_heads, c->head_width));
    expect_rows(h, &l->qkv, row, ROLE_VALUE, layer, 0, times(w->kv_heads, c->head_width));
    expect_rows(h, &l->out, 0, ROLE_OUT, layer, 0, w->columns);
    if (!c->layer[layer].experts) {
        expect_block(h, &l->dense, ROLE_DENSE_GATE, layer, w->dense_columns);
        return;
    }
    for (int slot = first; slot < end; slot++) {
        int expert = p->expert[c->layer[layer].expert_layer * p->slots + slot];
        struct range inner = {.count = c->expert_width}, whole = {.count = c->width};

        row = expect_rows(h, &l->gate_up[slot - first], 0, ROLE_EXPERT_GATE, layer, expert, inner);
        expect_rows(h, &l->gate_up[slot - first], row, ROLE_EXPERT_UP, layer, expert, inner);
        expect_rows(h, &l->down[slot - first], 0, ROLE_EXPERT_DOWN, layer, expert, whole);
    }
    if (c->shared_width > 0)
        expect_block(h, &l->shared, ROLE_SHARED_GATE, layer, w->shared_columns);
}

/* The widths of the block directory, 192, 160 and 200, are cut inside blocks by every number of ranks. */
static void test_every_rank_holds_codes_times_their_own_scales(void **state)
{
    static const char *const directories[] = {EXPERTS, DYNAMIC, BLOCK};

    (void)state;
    for (int d = 0; d < 3; d++)
        for (int tensor = 1; tensor <= 5; tensor++)
            for (int rank = 0; rank < tensor; rank++) {
                struct held h;

                held_open(&h, directories[d], directories[d], tensor, tensor, rank);
                held_must(held_load(&h));
                for (int layer = 0; layer < h.config.layers; layer++)
                    expect_layer(&h, layer);
                held_close(&h);
            }
}

/* -- memory -- */

static enum status (*real_alloc)(struct kernels *k, size_t bytes, const char *what, void **out);
static size_t taken;

static enum status counted_alloc(struct kernels *k, size_t bytes, const char *what, void **out)
{
    taken += bytes;
    return real_alloc(k, bytes, what, out);
}

static void test_what_is_planned_is_taken_and_codes_stay_codes(void **state)
{
    static const char *const directories[] = {EXPERTS, DYNAMIC, BLOCK};

    (void)state;
    for (int d = 0; d < 3; d++)
        for (int rank = 0; rank < 3; rank++) {
            size_t plan = 0, given;
            struct held h;

            held_open(&h, directories[d], directories[d], 3, 3, rank);
            h.kernels->close(h.kernels);
            held_must(cpu_open(CPU_PORTABLE, 1, NULL, &h.kernels));
            real_alloc = h.kernels->alloc;
            h.kernels->alloc = counted_alloc;
            taken = 0;
            held_must(weights_plan(&plan, &given, &h.config, &h.grid, &h.placement, &h.set, h.kernels));
            assert_int_equal(taken, 0);
            held_must(held_load(&h));
            assert_int_equal(taken, plan);
            assert_int_equal(h.weights.bytes, plan);
            for (int layer = 0; layer < h.config.layers; layer++)
                for (int i = 0; h.config.layer[layer].experts &&
                                i < h.placement.rank_first[rank + 1] - h.placement.rank_first[rank];
                     i++)
                    assert_int_equal(h.weights.layer[layer].gate_up[i].format, DTYPE_F8_E4M3);
            assert_int_equal(h.weights.layer[0].qkv.format, d == 0 ? DTYPE_BF16 : DTYPE_F8_E4M3);
            held_close(&h);
        }
}

/* -- legal and other files -- */

static const char WEIGHT[] = "language_model.model.layers.1.feed_forward.experts.2.up_proj.weight";
static const char SCALE[] = "language_model.model.layers.1.feed_forward.experts.2.up_proj.weight_scale";

/* A copy of EXPERTS in which `name` is replaced by this tensor (dimensions < 0: left out). */
static void write_altered(const char *name, const char *as, enum dtype dtype, int dimensions,
                          const int64_t *shape, const void *data)
{
    struct checkpoint copy;
    struct held h;

    checkpoint_open(&copy);
    held_open(&h, EXPERTS, EXPERTS, 1, 1, 0);
    for (int i = 0; i < h.set.count; i++)
        if (!name || strcmp(h.set.by_name[i]->name, name) != 0)
            checkpoint_copy(&copy, h.set.by_name[i]);
    if (dimensions >= 0)
        checkpoint_add(&copy, as, dtype, dimensions, shape, data);
    held_close(&h);
    checkpoint_write(&copy, scratch);
}

static void test_scales_of_every_shape_and_format_are_read(void **state)
{
    static const struct {
        int dimensions;
        int64_t shape[2];
    } shapes[] = {{2, {32, 1}}, {1, {32}}, {1, {1}}, {2, {1, 1}}, {0, {0}}};
    static const enum dtype dtypes[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};

    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int d = 0; d < 3; d++) {
            bool one = i >= 2;
            unsigned char data[32 * 4];
            struct numbers n;
            struct held h;

            for (int o = 0; o < 32; o++) {
                float number = (float)(o + 1) / 64.0f;
                uint16_t brain = dtype_to_bf16(number), half = (uint16_t)(0x2400 + (o % 4) * 0x400);

                memcpy(data + o * dtype_bits(dtypes[d]) / 8,
                       dtypes[d] == DTYPE_F32    ? (const void *)&number
                       : dtypes[d] == DTYPE_BF16 ? (const void *)&brain
                                                 : (const void *)&half,
                       (size_t)dtype_bits(dtypes[d]) / 8);
            }
            write_altered(SCALE, SCALE, dtypes[d], shapes[i].dimensions, shapes[i].shape, data);
            held_open(&h, EXPERTS, scratch, 1, 1, 0);
            held_must(held_load(&h));
            n = numbers_of(&h, ROLE_EXPERT_UP, 1, 2);
            for (int o = 0; o < 32; o++) {
                float want = dtypes[d] == DTYPE_F16 ? ldexpf(1.0f, (one ? 0 : o % 4) - 6)
                                                    : (float)(one ? 1 : o + 1) / 64.0f;

                for (int k = 0; k < n.inputs; k++)
                    assert_true(((float *)h.weights.layer[1].gate_up[2].data)[(32 + o) * n.inputs + k] ==
                                dtype_from_e4m3(n.codes[o * n.inputs + k]) * want);
            }
            free(n.codes);
            free(n.scale);
            held_close(&h);
        }
}

static void expect_refused(const char *configuration, const char *words)
{
    struct held h;

    held_open(&h, configuration, scratch, 1, 1, 0);
    assert_int_equal(held_load(&h), STATUS_BAD_INPUT);
    if (!strstr(status_text(), words) || !strstr(status_text(), "model.safetensors: "))
        fail_msg("\"%s\" does not say \"%s\"", status_text(), words);
    held_close(&h);
}

static void test_scales_that_do_not_fit_are_refused_by_name(void **state)
{
    static const int64_t out[] = {32, 1}, turned[] = {1, 32}, short_[] = {31, 1}, matrix[] = {32, 64};
    static float scales[32];
    static uint8_t codes[32 * 64];

    (void)state;
    write_altered(SCALE, NULL, DTYPE_F32, -1, NULL, NULL);
    expect_refused(EXPERTS, "experts.2.up_proj.weight is F8_E4M3 and needs its scales");
    write_altered(SCALE, SCALE, DTYPE_F32, 2, turned, NULL);
    expect_refused(EXPERTS, "up_proj.weight_scale have the shape [1, 32]");
    write_altered(SCALE, SCALE, DTYPE_F32, 2, short_, NULL);
    expect_refused(EXPERTS, "they must be [32, 1]");
    write_altered(SCALE, SCALE, DTYPE_F32, 2, matrix, NULL);
    expect_refused(EXPERTS, "[32, 64]");
    write_altered(SCALE, SCALE, DTYPE_F8_E8M0, 2, out, NULL);
    expect_refused(EXPERTS, "are F8_E8M0; they must be F32, BF16 or F16");
    write_altered(NULL, "language_model.model.layers.1.feed_forward.experts.2.up_proj.weight_scale_inv",
                  DTYPE_F32, 2, out, NULL);
    expect_refused(EXPERTS, "has two sets of scales");
    write_altered(NULL, "language_model.model.layers.1.feed_forward.router.weight_scale", DTYPE_F32, 2, out,
                  NULL);
    expect_refused(EXPERTS, "router.weight_scale has no place");
    scales[7] = INFINITY;
    write_altered(SCALE, SCALE, DTYPE_F32, 2, out, scales);
    expect_refused(EXPERTS, "number 7 of the scales");
    scales[7] = NAN;
    write_altered(SCALE, SCALE, DTYPE_F32, 2, out, scales);
    expect_refused(EXPERTS, "number 7 of the scales");
    codes[5 * 64 + 3] = 0xff;
    write_altered(WEIGHT, WEIGHT, DTYPE_F8_E4M3, 2, matrix, codes);
    expect_refused(EXPERTS, "experts.2.up_proj.weight holds the code of \"not a number\"");
}

static void test_formats_without_a_meaning_are_refused_by_name(void **state)
{
    static const char norm[] = "language_model.model.norm.weight";
    static const int64_t matrix[] = {32, 64}, vector[] = {64};

    (void)state;
    write_altered(WEIGHT, WEIGHT, DTYPE_F8_E5M2, 2, matrix, NULL);
    expect_refused(EXPERTS, "up_proj.weight is F8_E5M2; this version multiplies BF16, F16, F32, and F8_E4M3");
    write_altered(norm, norm, DTYPE_F8_E4M3, 1, vector, NULL);
    expect_refused(EXPERTS, "norm.weight is F8_E4M3, which this version takes for matrices");
    write_altered(NULL, NULL, DTYPE_F32, -1, NULL, NULL);
    expect_refused(HELD_A, "is F8_E4M3, and config.json has no \"quantization_config\"");
}

/* -- configurations -- */

#define WEIGHTS "\"num_bits\": 8, \"type\": \"float\""
#define COMPRESSED(group)                                                                                    \
    "{\"quant_method\": \"compressed-tensors\", \"format\": \"float-quantized\", \"config_groups\": "        \
    "{\"g\": {" group "}}}"

/* EXPERTS' configuration with another quantization_config. */
static enum status read_with(struct config *c, struct arena *arena, const char *text, bool nested)
{
    json_t *root = json_load_file(EXPERTS "/config.json", 0, NULL), *patch = json_loads(text, 0, NULL);
    char path[256];

    if (!root || !patch)
        fail_msg("the test's own words are no JSON: %s", text);
    json_object_del(root, "quantization_config");
    json_object_set_new(nested ? json_object_get(root, "text_config") : root, "quantization_config", patch);
    snprintf(path, sizeof path, "%s/config.json", scratch);
    assert_int_equal(json_dump_file(root, path, 0), 0);
    json_decref(root);
    return config_read(c, arena, scratch);
}

static void test_schemes_are_understood_or_refused_by_name(void **state)
{
    static const struct {
        const char *text, *words; /* NULL: accepted */
        enum config_scales scales;
        int rows, columns;
    } cases[] = {
        {"{\"quant_method\": \"fp8\"}", NULL, SCALES_OUTPUTS, 0, 0},
        {"{\"quant_method\": \"fp8\", \"fmt\": \"e4m3\", \"weight_block_size\": [64, 256], "
         "\"modules_to_not_convert\": [\"lm_head\"]}",
         NULL, SCALES_BLOCKS, 64, 256},
        {COMPRESSED("\"weights\": {" WEIGHTS ", \"strategy\": \"channel\"}"), NULL, SCALES_OUTPUTS, 0, 0},
        {COMPRESSED("\"weights\": {" WEIGHTS ", \"strategy\": \"tensor\", \"observer\": \"minmax\"}, "
                    "\"input_activations\": null"),
         NULL, SCALES_OUTPUTS, 0, 0},
        {COMPRESSED("\"weights\": {" WEIGHTS ", \"strategy\": \"block\", \"block_structure\": [128, 128]}"),
         NULL, SCALES_BLOCKS, 128, 128},
        {"{\"quant_method\": \"gptq\", \"bits\": 4}", "quant_method\" is \"gptq\"", 0, 0, 0},
        {"{\"bits\": 4}", "quant_method", 0, 0, 0},
        {"{\"quant_method\": \"fp8\", \"fmt\": \"e5m2\"}", "fmt\" is \"e5m2\"", 0, 0, 0},
        {"{\"quant_method\": \"fp8\", \"activation_scheme\": \"static\"}",
         "activation_scheme\" is \"static\"", 0, 0, 0},
        {"{\"quant_method\": \"fp8\", \"weight_block_size\": [128, 64]}", "a multiple of 128", 0, 0, 0},
        {"{\"quant_method\": \"fp8\", \"weight_block_size\": [128]}", "two numbers", 0, 0, 0},
        {"{\"quant_method\": \"fp8\", \"weight_block_size\": [0, 128]}", "weight_block_size", 0, 0, 0},
        {"{\"quant_method\": \"fp8\", \"surprise\": 1}", "quantization_config.surprise", 0, 0, 0},
        {"{\"quant_method\": \"compressed-tensors\", \"format\": \"pack-quantized\"}",
         "format\" is \"pack-quantized\"", 0, 0, 0},
        {"{\"quant_method\": \"compressed-tensors\", \"format\": \"float-quantized\"}", "config_groups", 0, 0,
         0},
        {COMPRESSED(""), "config_groups.g.weights", 0, 0, 0},
        {COMPRESSED("\"weights\": {\"num_bits\": 4, \"type\": \"float\", \"strategy\": \"channel\"}"),
         "weights.num_bits", 0, 0, 0},
        {COMPRESSED("\"weights\": {\"num_bits\": 8, \"type\": \"int\", \"strategy\": \"channel\"}"),
         "weights.type\" is \"int\"", 0, 0, 0},
        {COMPRESSED("\"weights\": {" WEIGHTS ", \"strategy\": \"group\"}"), "strategy\" is \"group\"", 0, 0,
         0},
        {COMPRESSED("\"weights\": {" WEIGHTS ", \"strategy\": \"channel\", \"symmetric\": false}"),
         "symmetric", 0, 0, 0},
        {COMPRESSED("\"weights\": {" WEIGHTS ", \"strategy\": \"channel\", \"dynamic\": true}"),
         "weights.dynamic", 0, 0, 0},
        {COMPRESSED("\"weights\": {" WEIGHTS
                    ", \"strategy\": \"channel\"}, \"input_activations\": {\"num_bits\": 8, \"type\": "
                    "\"float\", \"dynamic\": false}"),
         "input_activations.dynamic", 0, 0, 0},
        {COMPRESSED("\"weights\": {" WEIGHTS ", \"strategy\": \"channel\"}}, \"h\": {\"weights\": {" WEIGHTS
                    ", \"strategy\": \"block\", \"block_structure\": [128, 128]}"),
         "in another way", 0, 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < 2 * sizeof cases / sizeof *cases; i++) {
        struct config c = {0};
        struct arena arena;

        held_must(arena_open(&arena, "test", 1 << 20));
        if (cases[i / 2].words) {
            assert_int_equal(read_with(&c, &arena, cases[i / 2].text, i % 2), STATUS_BAD_INPUT);
            if (!strstr(status_text(), cases[i / 2].words) || !strstr(status_text(), "config.json"))
                fail_msg("%s: \"%s\" does not say \"%s\"", cases[i / 2].text, status_text(),
                         cases[i / 2].words);
        } else {
            held_must(read_with(&c, &arena, cases[i / 2].text, i % 2));
            assert_true(c.scales == cases[i / 2].scales && c.scale_rows == cases[i / 2].rows &&
                        c.scale_columns == cases[i / 2].columns);
        }
        arena_close(&arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_rank_holds_codes_times_their_own_scales),
        cmocka_unit_test(test_what_is_planned_is_taken_and_codes_stay_codes),
        cmocka_unit_test(test_scales_of_every_shape_and_format_are_read),
        cmocka_unit_test(test_scales_that_do_not_fit_are_refused_by_name),
        cmocka_unit_test(test_formats_without_a_meaning_are_refused_by_name),
        cmocka_unit_test(test_schemes_are_understood_or_refused_by_name),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
