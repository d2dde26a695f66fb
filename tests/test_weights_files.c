/* test_weights_files.c - weights come out of every legal file alike, and are refused by name out of others
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/weights.h"

#include "engine/weights_read.h"
#include "tests/checkpoint.h"
#include "tests/held.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char scratch[] = "/tmp/switchyard-weights-XXXXXX";

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

/* -- pieces -- */

static void test_small_pieces_make_the_same_matrix(void **state)
{
    static const size_t sizes[] = {130, 1000, 4096, 1 << 20};
    struct held h;
    const struct tensor *fused, *plain;

    (void)state;
    held_open(&h, HELD_A, HELD_A, 1, 1, 0);
    fused = tensor_set_find(&h.set, "language_model.model.layers.1.feed_forward.experts.gate_up_proj");
    plain = tensor_set_find(&h.set, "language_model.model.layers.0.feed_forward.up_proj.weight");
    assert_true(fused && plain);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct weights_source s = {.parts = 3, .inputs = 64};
        void *memory[4];
        struct weights_reader reader = {.kernels = h.kernels, .memory = memory};
        struct weight w;

        s.part[0] = (struct weights_part){.tensor = plain, .first = 5, .count = 70};
        s.part[1] =
            (struct weights_part){.tensor = fused, .plane = 3, .input_first = true, .first = 1, .count = 63};
        s.part[2] = (struct weights_part){.tensor = plain, .first = 0, .count = 0};
        held_must(weights_read_matrix(&reader, &w, &s, "test"));
        assert_int_equal(reader.file_bytes, (70 + 63) * 64 * 2);
        held_must(weights_read_begin(&reader, sizes[i]));
        held_must(weights_read_matrix(&reader, &w, &s, "test"));
        assert_int_equal(reader.file_bytes, reader.total);
        held_expect_rows(&h, &w, 0, ROLE_DENSE_UP, 0, 0, (struct range){5, 70});
        held_expect_rows(&h, &w, 70, ROLE_EXPERTS_GATE_UP, 1, 3, (struct range){1, 63});
        weights_read_end(&reader);
        for (int m = 0; m < reader.memory_count; m++)
            h.kernels->release(h.kernels, memory[m]);
    }
    held_close(&h);
}

/* -- other ways to store the same -- */

/* The numbers [rows, columns] turned. */
static uint16_t *turned(const uint16_t *from, int rows, int columns)
{
    uint16_t *to = malloc((size_t)rows * (size_t)columns * 2);

    for (int r = 0; r < rows; r++)
        for (int i = 0; i < columns; i++)
            to[i * rows + r] = from[r * columns + i];
    return to;
}

/* experts.gate_up_proj and down_proj as one tensor for each expert. */
static void add_apart(struct checkpoint *copy, const struct tensor *t)
{
    bool down = strstr(t->name, "down_proj") != NULL;
    int inputs = (int)t->shape[1], outputs = (int)t->shape[2];
    int64_t shape[2] = {down ? outputs : outputs / 2, inputs};
    uint16_t *all = checkpoint_bytes(t);
    size_t stem = (size_t)(strstr(t->name, "experts.") - t->name) + strlen("experts.");

    for (int e = 0; e < (int)t->shape[0]; e++) {
        uint16_t *plane = turned(all + (size_t)e * (size_t)inputs * (size_t)outputs, inputs, outputs);
        char name[256];

        for (int half = 0; half < (down ? 1 : 2); half++) {
            snprintf(name, sizeof name, "%.*s%d.%s_proj.weight", (int)stem, t->name, e,
                     down        ? "down"
                     : half == 0 ? "gate"
                                 : "up");
            checkpoint_add(copy, name, DTYPE_BF16, 2, shape, plane + half * shape[0] * inputs);
        }
        free(plane);
    }
    free(all);
}

static void test_experts_stored_one_by_one_are_the_same_weights(void **state)
{
    struct checkpoint copy;
    struct held fused, apart;

    (void)state;
    held_open(&fused, HELD_A, HELD_A, 3, 1, 1);
    held_must(held_load(&fused));
    checkpoint_open(&copy);
    for (int i = 0; i < fused.set.count; i++)
        if (strstr(fused.set.by_name[i]->name, ".experts."))
            add_apart(&copy, fused.set.by_name[i]);
        else
            checkpoint_copy(&copy, fused.set.by_name[i]);
    checkpoint_write(&copy, scratch);
    held_open(&apart, HELD_A, scratch, 3, 1, 1);
    held_must(held_load(&apart));
    assert_int_equal(apart.weights.bytes, fused.weights.bytes);
    for (int i = 1; i < 8; i += 2) {
        const struct weights_layer *a = &fused.weights.layer[i], *b = &apart.weights.layer[i];

        assert_memory_equal(a->gate_up[0].data, b->gate_up[0].data, a->gate_up[0].bytes);
        assert_memory_equal(a->down[0].data, b->down[0].data, a->down[0].bytes);
    }
    held_close(&fused);
    held_close(&apart);
}

static void test_single_precision_files_give_the_same_numbers(void **state)
{
    struct checkpoint copy;
    struct held half, full;
    const struct weight *a, *b;

    (void)state;
    held_open(&half, HELD_B, HELD_B, 2, 2, 1);
    held_must(held_load(&half));
    checkpoint_open(&copy);
    for (int i = 0; i < half.set.count; i++) {
        const struct tensor *t = half.set.by_name[i];
        float *wide = malloc((size_t)t->bytes * 2);
        void *narrow = checkpoint_bytes(t);

        held_must(dtype_widen(wide, narrow, t->dtype, (size_t)t->bytes / 2));
        checkpoint_add(&copy, t->name, DTYPE_F32, t->dimensions, t->shape, wide);
        free(narrow);
        free(wide);
    }
    checkpoint_write(&copy, scratch);
    held_open(&full, HELD_B, scratch, 2, 2, 1);
    held_must(held_load(&full));
    a = &half.weights.layer[0].gate_up[0];
    b = &full.weights.layer[0].gate_up[0];
    assert_int_equal(b->format, DTYPE_F32);
    for (int i = 0; i < a->rows * a->columns; i++)
        assert_true(dtype_from_bf16(((uint16_t *)a->data)[i]) == ((float *)b->data)[i]);
    assert_true(half.weights.layer[3].out_bias[0] == full.weights.layer[3].out_bias[0]);
    held_close(&half);
    held_close(&full);
}

/* -- what is refused -- */

/* A copy of llama4_a without the tensor `gone` (NULL: none) and with a zero tensor `extra` in its place. */
static void write_altered(const char *gone, const char *extra, enum dtype dtype, int dimensions,
                          const int64_t *shape)
{
    struct checkpoint copy;
    struct held h;

    held_open(&h, HELD_A, HELD_A, 1, 1, 0);
    checkpoint_open(&copy);
    for (int i = 0; i < h.set.count; i++)
        if (!gone || strcmp(h.set.by_name[i]->name, gone) != 0)
            checkpoint_copy(&copy, h.set.by_name[i]);
    if (extra)
        checkpoint_add(&copy, extra, dtype, dimensions, shape, NULL);
    checkpoint_write(&copy, scratch);
    held_close(&h);
}

static void expect_refused(const char *words)
{
    struct held h;
    size_t plan = 7, given = 0;

    held_open(&h, HELD_A, scratch, 2, 1, 1);
    assert_int_equal(held_load(&h), STATUS_BAD_INPUT);
    if (!strstr(status_text(), words) || !strstr(status_text(), "model.safetensors: tensor "))
        fail_msg("\"%s\" does not say \"%s\"", status_text(), words);
    assert_int_equal(held_allocated, 0);
    assert_int_equal(weights_plan(&plan, &given, &h.config, &h.grid, &h.placement, &h.set, h.kernels),
                     STATUS_BAD_INPUT);
    assert_int_equal(plan, 7);
    held_close(&h);
}

static void test_missing_and_wrong_tensors_are_named(void **state)
{
    static const char query[] = "language_model.model.layers.2.self_attn.q_proj.weight";
    static const char router[] = "language_model.model.layers.1.feed_forward.router.weight";
    static const char fused[] = "language_model.model.layers.1.feed_forward.experts.gate_up_proj";
    static const char down[] = "language_model.model.layers.1.feed_forward.experts.down_proj";
    static const char embedding[] = "language_model.model.embed_tokens.weight";

    (void)state;
    write_altered(query, NULL, DTYPE_BF16, 0, NULL);
    expect_refused("layers.2.self_attn.q_proj.weight is missing");
    write_altered(query, query, DTYPE_BF16, 2, (int64_t[]){64, 128});
    expect_refused("has the shape [64, 128], by config.json it must be [128, 64]");
    write_altered(router, router, DTYPE_BF16, 2, (int64_t[]){5, 64});
    expect_refused("[5, 64], by config.json it must be [4, 64]");
    write_altered(down, down, DTYPE_BF16, 3, (int64_t[]){4, 64, 32});
    expect_refused("[4, 64, 32], by config.json it must be [4, 32, 64]");
    write_altered(fused, fused, DTYPE_I16, 3, (int64_t[]){4, 64, 64});
    expect_refused("gate_up_proj is I16");
    write_altered(fused, NULL, DTYPE_BF16, 0, NULL);
    expect_refused("layers.1.feed_forward.experts.0.gate_proj.weight is missing");
    write_altered(embedding, embedding, DTYPE_BF16, 2, (int64_t[]){250, 64});
    expect_refused("embed_tokens.weight has the shape [250, 64]");
    write_altered(embedding, NULL, DTYPE_BF16, 0, NULL);
    expect_refused("embed_tokens.weight is missing, under every prefix");
}

static void test_tensors_without_a_place_are_refused_or_known_to_be_left_out(void **state)
{
    static const char *const refused[] = {
        "language_model.model.layers.0.self_attn.q_norm.weight",
        "language_model.model.layers.0.self_attn.q_proj.bias",
        "language_model.model.layers.0.feed_forward.router.weight",
        "language_model.model.layers.1.feed_forward.experts.0.gate_proj.weight_scale",
        "model.embed_tokens.weight",
        "surprise"};
    static const char *const left_out[] = {"vision_model.patch.weight",
                                           "multi_modal_projector.linear_1.weight",
                                           "language_model.model.layers.8.self_attn.q_proj.weight",
                                           "language_model.model.layers.0.self_attn.rotary_emb.inv_freq"};
    struct held h;

    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        write_altered(NULL, refused[i], DTYPE_BF16, 1, (int64_t[]){4});
        expect_refused("has no place in a Llama4ForConditionalGeneration model");
    }
    for (size_t i = 0; i < sizeof left_out / sizeof left_out[0]; i++) {
        write_altered(NULL, left_out[i], DTYPE_F8_E4M3, 1, (int64_t[]){4});
        held_open(&h, HELD_A, scratch, 1, 1, 0);
        held_must(held_load(&h));
        held_close(&h);
    }
    write_altered("language_model.lm_head.weight", NULL, DTYPE_BF16, 0, NULL);
    held_open(&h, HELD_A, scratch, 1, 1, 0);
    held_must(held_load(&h));
    assert_ptr_equal(h.weights.head.data, h.weights.embedding.data);
    held_close(&h);
}

static enum status (*real_alloc)(struct kernels *k, size_t bytes, const char *what, void **out);

static enum status no_memory(struct kernels *k, size_t bytes, const char *what, void **out)
{
    (void)k;
    (void)out;
    return FAIL(STATUS_NO_MEMORY, "no %zu bytes for %s", bytes, what);
}

static void test_a_load_that_fails_half_way_gives_everything_back(void **state)
{
    struct held h;

    (void)state;
    held_open(&h, HELD_A, HELD_A, 1, 1, 0);
    real_alloc = h.kernels->alloc;
    h.kernels->alloc = no_memory;
    assert_int_equal(held_load(&h), STATUS_NO_MEMORY);
    assert_null(h.weights.layer);
    h.kernels->alloc = real_alloc;
    held_must(held_load(&h));
    held_close(&h);

    write_altered(NULL, NULL, DTYPE_BF16, 0, NULL);
    held_open(&h, HELD_A, scratch, 1, 1, 0);
    {
        char path[256];

        snprintf(path, sizeof path, "%s/model.safetensors", scratch);
        assert_int_equal(truncate(path, 400000), 0);
    }
    assert_int_equal(held_load(&h), STATUS_BAD_INPUT);
    assert_non_null(strstr(status_text(), "truncated"));
    held_close(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_pieces_make_the_same_matrix),
        cmocka_unit_test(test_experts_stored_one_by_one_are_the_same_weights),
        cmocka_unit_test(test_single_precision_files_give_the_same_numbers),
        cmocka_unit_test(test_missing_and_wrong_tensors_are_named),
        cmocka_unit_test(test_tensors_without_a_place_are_refused_or_known_to_be_left_out),
        cmocka_unit_test(test_a_load_that_fails_half_way_gives_everything_back),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
