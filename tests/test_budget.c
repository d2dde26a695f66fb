/* test_budget.c - what a plan says of a model is true, and the settings it names fit
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * That a plan is what a run takes is the subject of ranks_budget.c. */
#include "engine/budget_nearest.h"
#include "engine/census.h"
#include "kernels/cpu/cpu.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

static struct engine engine;
static struct arena arena;

static void read_model(const char *model)
{
    struct engine_options options = {.model = model,
                                     .cache_root = "",
                                     .ranks = 1,
                                     .memory_utilization = 0.9,
                                     .node_ranks = 1,
                                     .max_sequences = 16,
                                     .max_rows = 2048};

    if (engine_read(&engine, &options) != STATUS_OK)
        fail_msg("%s", status_text());
    assert_int_equal(arena_open(&arena, "plans", (size_t)64 << 20), STATUS_OK);
}

static void close_model(void)
{
    engine_close(&engine);
    arena_close(&arena);
}

static void parameters_are_the_numbers_in_the_files(void **state)
{
    /* without tensors that belong to no part of the text model */
    static const char *const models[] = {
        "tests/golden/llama4_a", "tests/golden/llama4_b", "tests/golden/mixtral",   "tests/golden/qwen3moe_a",
        "tests/golden/olmoe",    "tests/golden/glm4moe",  "tests/golden/olmoe_f32", "models/demo"};

    (void)state;
    for (size_t m = 0; m < sizeof models / sizeof models[0]; m++) {
        struct census census;
        int64_t numbers = 0, bytes = 0;

        read_model(models[m]);
        census_take(&census, &engine.config, &engine.tensors);
        for (int i = 0; i < engine.tensors.count; i++)
            numbers += engine.tensors.by_name[i]->bytes * 8 / dtype_bits(engine.tensors.by_name[i]->dtype);
        for (int d = 0; d < DTYPE_COUNT; d++)
            bytes += census.of_dtype[d];
        if (census.parameters != numbers)
            fail_msg("%s: %lld parameters, its files hold %lld", models[m], (long long)census.parameters,
                     (long long)numbers);
        assert_int_equal(bytes, census.bytes);
        assert_true(census.active < census.parameters && census.active > 0);
        close_model();
    }
}

static void plan(struct budget *b, const struct engine_options *options, size_t memory, struct kernels *k)
{
    const struct budget_place place = {
        .memory = memory, .nodes = 1, .shared = true, .name = "cpu", .real = k};

    if (budget_plan(b, &arena, &engine, options, &place) != STATUS_OK)
        fail_msg("%s", status_text());
}

static bool fits(const struct engine_options *options, size_t memory, struct kernels *k)
{
    struct budget b;

    plan(&b, options, memory, k);
    return budget_fits(&b);
}

/* Each setting alone makes the plan fit, and one step less of it does not. */
static void check_nearest(const struct engine_options *asked, size_t memory, struct kernels *k)
{
    struct budget_nearest n;
    struct budget b;
    struct engine_options o;

    plan(&b, asked, memory, k);
    assert_false(budget_fits(&b));
    assert_int_equal(budget_nearest(&n, &engine, &b), STATUS_OK);
    print_message(
        "%d ranks in %zu: nearest ranks %d, tensor %d, rows %d, positions %d, cache %zu, memory %zu\n",
        asked->ranks, memory, n.ranks, n.tensor, n.rows, n.positions, n.cache_memory, n.memory);
    assert_true(n.ranks || n.tensor || n.rows || n.positions || n.cache_memory || n.memory);
    o = *asked;
    if (n.ranks) {
        assert_true(n.ranks > asked->ranks && n.nodes >= 1);
        o.ranks = n.ranks;
        assert_true(fits(&o, memory, k));
        o.ranks -= asked->tensor > 0 ? asked->tensor : 1;
        assert_false(fits(&o, memory, k));
    }
    o = *asked;
    if (n.rows) {
        o.max_rows = n.rows;
        assert_true(fits(&o, memory, k));
        o.max_rows++;
        assert_false(fits(&o, memory, k));
    }
    o = *asked;
    if (n.tensor) {
        o.tensor = n.tensor;
        assert_true(fits(&o, memory, k));
    }
    o = *asked;
    if (n.positions) {
        o.max_positions = n.positions;
        assert_true(fits(&o, memory, k));
        o.max_positions += PAGE_ROWS;
        assert_false(fits(&o, memory, k));
    }
    o = *asked;
    if (n.cache_memory) {
        o.kv_cache_memory = n.cache_memory;
        assert_true(fits(&o, memory, k));
    }
    if (n.memory) {
        assert_true(fits(asked, n.memory, k));
        assert_false(fits(asked, n.memory - (64 << 10), k));
    }
}

static void every_nearest_setting_fits_and_is_the_nearest(void **state)
{
    struct kernels *k;
    struct engine_options o;

    (void)state;
    read_model("models/demo");
    assert_int_equal(cpu_open(CPU_PORTABLE, 1, NULL, &k), STATUS_OK);
    o = engine.options;
    o.ranks = 1;
    check_nearest(&o, (size_t)40 << 20, k); /* weights alone fill it */
    check_nearest(&o, (size_t)70 << 20, k); /* the batch is too large */
    o.max_positions = 4096;
    check_nearest(&o, (size_t)104 << 20, k); /* the sequence is too long */
    o.kv_cache_memory = (size_t)1 << 20;
    check_nearest(&o, (size_t)500 << 20, k); /* so it is for the cache that was asked for */
    o.kv_cache_memory = (size_t)150 << 20;
    check_nearest(&o, (size_t)200 << 20, k); /* the cache is too large */
    o = engine.options;
    o.ranks = 4;
    o.tensor = 2;
    o.max_rows = 64;
    check_nearest(&o, (size_t)27 << 20, k); /* more ranks */
    o.tensor = 1;
    o.max_rows = 512;
    check_nearest(&o, (size_t)36 << 20, k); /* larger groups */
    k->close(k);
    close_model();
}

static void layouts_that_do_not_divide_are_refused(void **state)
{
    struct kernels *k;
    struct budget b = {0};
    struct budget_place place = {.memory = 1 << 30, .nodes = 1};
    struct engine_options o;

    (void)state;
    read_model("models/demo");
    assert_int_equal(cpu_open(CPU_PORTABLE, 1, NULL, &k), STATUS_OK);
    place.real = k;
    o = engine.options;
    o.ranks = 3;
    o.tensor = 2;
    assert_int_equal(budget_plan(&b, &arena, &engine, &o, &place), STATUS_USAGE);
    assert_non_null(strstr(status_text(), "--tensor-parallel-size 2 does not divide 3 ranks"));
    assert_null(b.rank);
    o.tensor = 1;
    o.max_positions = 5000;
    assert_int_equal(budget_plan(&b, &arena, &engine, &o, &place), STATUS_USAGE);
    k->close(k);
    close_model();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parameters_are_the_numbers_in_the_files),
        cmocka_unit_test(every_nearest_setting_fits_and_is_the_nearest),
        cmocka_unit_test(layouts_that_do_not_divide_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
