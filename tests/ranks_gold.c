/* ranks_gold.c - the model's logits and greedy tokens are those of Hugging Face transformers, on any number
 * of ranks
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * The tiny checkpoints and their gold values are described in tests/golden/README.md. */
#include "ranks.h"

#include "rig.h"

#include <math.h>

enum { PROMPT = 45, GREEDY = 24, VOCABULARY = 256 };

struct gold {
    int32_t prompt[PROMPT];
    int32_t greedy[GREEDY];
    float logits[PROMPT][VOCABULARY];
};

static void read_numbers(const struct safetensors *file, const char *name, void *out)
{
    for (int i = 0; i < file->count; i++)
        if (strcmp(file->tensors[i].name, name) == 0) {
            assert_int_equal(
                file_read(&file->file, file->tensors[i].offset, out, (size_t)file->tensors[i].bytes),
                STATUS_OK);
            return;
        }
    fail_msg("no tensor %s in the gold file", name);
}

static void read_gold(const char *directory, struct gold *gold)
{
    struct arena arena;
    struct safetensors file;
    int64_t prompt[PROMPT], greedy[GREEDY];
    char path[256];

    snprintf(path, sizeof path, "%s/gold.safetensors", directory);
    assert_int_equal(arena_open(&arena, "gold", 1 << 20), STATUS_OK);
    assert_int_equal(safetensors_open(&file, &arena, path), STATUS_OK);
    read_numbers(&file, "prompt", prompt);
    read_numbers(&file, "greedy", greedy);
    read_numbers(&file, "logits", gold->logits);
    for (int i = 0; i < PROMPT; i++)
        gold->prompt[i] = (int32_t)prompt[i];
    for (int i = 0; i < GREEDY; i++)
        gold->greedy[i] = (int32_t)greedy[i];
    safetensors_close(&file);
    arena_close(&arena);
}

static int argmax(const float *values)
{
    int best = 0;

    for (int i = 1; i < VOCABULARY; i++)
        if (values[i] > values[best])
            best = i;
    return best;
}

/* The greedy continuation, token by token through the cache, must be the gold's. */
static void check_greedy(struct rig *rig, const struct gold *gold)
{
    const struct head_result *results;
    bool equal = true;

    for (int i = 0; i < GREEDY - 1; i++) {
        assert_all_ok(rig_run(rig, &gold->greedy[i], 1, PROMPT + i, false, &results));
        if (rig->engine.grid.rank == 0)
            equal = equal && argmax(results[0].values) == gold->greedy[i + 1];
    }
    assert_all(equal);
}

/* reference: within 1e-4 of every logit. cpu: the mean difference stays under `mean`, that of transformers'
 * own bfloat16 run. */
static void check_model(const char *name, const struct rig_options *how, double mean)
{
    static struct gold gold;
    const struct head_result *results;
    struct rig_options options = *how;
    struct rig rig;
    double sum = 0, worst = 0;
    bool argmax_equal = true;
    char directory[128];

    snprintf(directory, sizeof directory, "tests/golden/%s", name);
    options.model = directory;
    read_gold(directory, &gold);
    assert_all_ok(rig_open(&rig, &options));
    assert_all_ok(rig_run(&rig, gold.prompt, PROMPT, 0, true, &results));
    if (rig.engine.grid.rank == 0) {
        for (int row = 0; row < PROMPT; row++) {
            for (int i = 0; i < VOCABULARY; i++) {
                double off = fabs((double)results[row].values[i] - (double)gold.logits[row][i]);

                sum += off;
                worst = off > worst || isnan(off) ? off : worst;
            }
            argmax_equal = argmax_equal && argmax(results[row].values) == argmax(gold.logits[row]);
        }
        sum /= PROMPT * VOCABULARY;
        print_message("%s: mean difference %.2e, worst %.2e\n", name, sum, worst);
    }
    if (how->reference) {
        assert_all(worst <= 1e-4);
        assert_all(argmax_equal);
        check_greedy(&rig, &gold);
    } else {
        assert_all(sum <= mean);
    }
    rig_close(&rig);
}

/* Transformers' bfloat16 runs, as the gold.json of each directory states them; the others have those of the
 * directory with the same shapes. */
static const struct {
    const char *name;
    double mean;
} models[] = {{"llama4_a", 0.021110692836860935},           {"llama4_a_sharded", 0.021110692836860935},
              {"llama4_b", 0.011826188312953591},           {"qwen3moe_a", 0.012785200336692368},
              {"qwen3moe_b", 0.020450588985846077},         {"mixtral", 0.016222674045861318},
              {"mixtral_f16", 0.016222674045861318},        {"olmoe", 0.013482198222262317},
              {"olmoe_f32", 0.013482198222262317},          {"glm4moe", 0.039280286011161375},
              {"llama4_fp8_experts", 0.021110692836860935}, {"llama4_fp8_dynamic", 0.021110692836860935},
              {"qwen3moe_fp8block", 0.012785200336692368},  {"olmoe_clip", 0.026995720341801643},
              {"mixtral_window", 0.014095027931034565},     {"glm4moe_groups", 0.08705193549394608},
              {"qwen3vl_moe", 0.011381092481315136}};

static void check_all(struct rig_options options)
{
    for (size_t i = 0; i < sizeof models / sizeof *models; i++)
        check_model(models[i].name, &options, models[i].mean);
}

static void reference_has_the_gold_logits(void **state)
{
    (void)state;
    check_all((struct rig_options){.comm = RIG_SHARED, .reference = true, .tensor = 1});
}

static void cpu_is_as_close_as_bfloat16(void **state)
{
    (void)state;
    check_all((struct rig_options){.comm = RIG_SHARED, .threads = 1, .tensor = 1});
}

static void one_group_of_all_ranks_has_the_gold_logits(void **state)
{
    (void)state;
    check_all((struct rig_options){.comm = RIG_MPI, .reference = true, .tensor = ranks_size});
}

/* The law on logits: what all ranks compute together is, bit for bit, what one computes alone. */
static void check_law(const char *name, struct rig_options options)
{
    static float together[PROMPT][VOCABULARY];
    struct rig_options alone = {.comm = RIG_ALONE, .reference = options.reference, .threads = 1, .tensor = 1};
    const struct head_result *results;
    static struct gold gold;
    struct rig rig;
    bool equal = true;

    char directory[128];

    snprintf(directory, sizeof directory, "tests/golden/%s", name);
    options.model = alone.model = directory;
    read_gold(options.model, &gold);
    assert_all_ok(rig_open(&rig, &options));
    assert_all_ok(rig_run(&rig, gold.prompt, PROMPT, 0, true, &results));
    if (ranks_rank == 0)
        for (int row = 0; row < PROMPT; row++)
            memcpy(together[row], results[row].values, sizeof together[row]);
    rig_close(&rig);

    assert_all_ok(rig_open(&rig, &alone));
    for (int at = 0, piece = 7; at < PROMPT; at += piece) { /* in pieces, too */
        int rows = PROMPT - at < piece ? PROMPT - at : piece;

        assert_all_ok(rig_run(&rig, gold.prompt + at, rows, at, true, &results));
        for (int row = 0; row < rows && ranks_rank == 0; row++)
            equal = equal && memcmp(together[at + row], results[row].values, sizeof together[0]) == 0;
    }
    rig_close(&rig);
    assert_all(equal);
}

static void check_law_of(const char *name)
{
    for (int backend = 0; backend < 2; backend++) {
        struct rig_options options = {.comm = RIG_SHARED, .reference = backend == 0, .tensor = 1};

        options.threads = 2;
        check_law(name, options);
        options.threads = 1;
        options.comm = RIG_MPI;
        options.tensor = ranks_size;
        check_law(name, options);
        if (ranks_size % 2 != 0)
            continue;
        options.comm = RIG_SHARED;
        options.tensor = 2;
        options.expert_ranks = ranks_size / 2;
        check_law(name, options);
    }
}

static void logits_do_not_depend_on_ranks(void **state)
{
    static const char *const names[] = {"llama4_b", "qwen3moe_a", "qwen3moe_b",         "mixtral",
                                        "olmoe",    "glm4moe",    "llama4_fp8_dynamic", "qwen3moe_fp8block"};

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        check_law_of(names[i]);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference_has_the_gold_logits),
        cmocka_unit_test(cpu_is_as_close_as_bfloat16),
        cmocka_unit_test(one_group_of_all_ranks_has_the_gold_logits),
        cmocka_unit_test(logits_do_not_depend_on_ranks),
    };

    return ranks_run(argc, argv, tests, sizeof tests / sizeof *tests);
}
