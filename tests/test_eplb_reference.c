/* test_eplb_reference.c - the reference planner equals DeepSeek's program in every slot
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "eplb/reference.h"

#include "eplb_gold.h"

#include <math.h>

/* Largest / mean load of a rank under an even split. */
static double imbalance(const struct reference *r, const int64_t *load, int layer)
{
    const struct placement_shape *shape = &r->shape;
    int per_rank = shape->slots / shape->ranks;
    double most = 0.0, total = 0.0;

    for (int rank = 0; rank < shape->ranks; rank++) {
        double sum = 0.0;

        for (int s = rank * per_rank; s < (rank + 1) * per_rank; s++) {
            int e = r->expert[layer * shape->slots + s];

            sum += (double)load[layer * shape->experts + e] / r->replicas[layer * shape->experts + e];
        }
        most = sum > most ? sum : most;
        total += sum;
    }
    return total > 0.0 ? most * shape->ranks / total : 1.0;
}

static void check_case(const struct eplb_gold *c)
{
    const struct placement_shape *shape = &c->shape;
    struct reference r;

    assert_int_equal(reference_take(&r, &eplb_gold_arena, shape), STATUS_OK);
    assert_int_equal(reference_plan(&r, c->weight), STATUS_OK);
    for (int layer = 0; layer < shape->layers; layer++) {
        const int32_t *first = r.first + layer * (shape->experts + 1);

        for (int s = 0; s < shape->slots; s++)
            assert_int_equal(r.expert[layer * shape->slots + s],
                             json_integer_value(eplb_gold_at(c->gold, "phy2log", layer, s)));
        for (int e = 0; e < shape->experts; e++) {
            json_t *slots = eplb_gold_at(c->gold, "log2phy", layer, e);

            assert_int_equal(r.replicas[layer * shape->experts + e],
                             json_integer_value(eplb_gold_at(c->gold, "logcnt", layer, e)));
            assert_int_equal(first[e + 1] - first[e], json_array_size(slots));
            for (int i = first[e]; i < first[e + 1]; i++)
                assert_int_equal(r.slot[layer * shape->slots + i],
                                 json_integer_value(json_array_get(slots, (size_t)(i - first[e]))));
        }
        assert_true(fabs(imbalance(&r, c->load, layer) -
                         json_number_value(
                             json_array_get(json_object_get(c->gold, "imbalance"), (size_t)layer))) < 1e-6);
    }
}

static void every_known_answer_is_met(void **state)
{
    (void)state;
    eplb_gold_each(check_case);
}

static void doubled_and_reordered(const struct eplb_gold *c)
{
    const struct placement_shape *shape = &c->shape;
    size_t loads = (size_t)shape->layers * (size_t)shape->experts;
    struct reference plain, other;

    assert_int_equal(reference_take(&plain, &eplb_gold_arena, shape), STATUS_OK);
    assert_int_equal(reference_take(&other, &eplb_gold_arena, shape), STATUS_OK);
    assert_int_equal(reference_plan(&plain, c->weight), STATUS_OK);
    for (size_t i = 0; i < loads; i++)
        c->weight[i] *= 0.25f;
    assert_int_equal(reference_plan(&other, c->weight), STATUS_OK);
    assert_memory_equal(plain.expert, other.expert,
                        (size_t)shape->layers * (size_t)shape->slots * sizeof *plain.expert);
    for (size_t i = 0; i < loads; i++) {
        size_t layer = i / (size_t)shape->experts, from = (size_t)shape->layers - 1 - layer;

        c->weight[i] = (float)c->load[from * (size_t)shape->experts + i % (size_t)shape->experts];
    }
    assert_int_equal(reference_plan(&other, c->weight), STATUS_OK);
    for (int layer = 0; layer < shape->layers; layer++)
        assert_memory_equal(plain.expert + layer * shape->slots,
                            other.expert + (shape->layers - 1 - layer) * shape->slots,
                            (size_t)shape->slots * sizeof *plain.expert);
}

static void powers_of_two_and_the_order_of_layers_change_nothing(void **state)
{
    (void)state;
    eplb_gold_file("tests/golden/eplb/gold.jsonl", "tests/golden/eplb/bounds.jsonl", doubled_and_reordered);
}

static void refused(struct placement_shape shape, const char *words)
{
    struct reference r;

    assert_int_equal(reference_take(&r, &eplb_gold_arena, &shape), STATUS_USAGE);
    if (!strstr(status_text(), words))
        fail_msg("\"%s\" does not say \"%s\"", status_text(), words);
}

static void shapes_that_cannot_be_are_refused_in_words(void **state)
{
    const float bad[] = {1.0f, -1.0f};
    struct reference r;

    (void)state;
    assert_int_equal(arena_open(&eplb_gold_arena, "shapes", 1 << 20), STATUS_OK);
    refused((struct placement_shape){1, 64, 60, 1, 1, 4}, "60 slots cannot hold 64 experts: use 64 at least");
    refused((struct placement_shape){1, 64, 70, 1, 1, 4},
            "70 slots are not shared evenly by 4 ranks: use 68 or 72");
    refused((struct placement_shape){1, 64, 72, 3, 1, 4}, "64 experts do not form 3 equal groups");
    refused((struct placement_shape){1, 64, 64, 8, 4, 2}, "2 ranks do not stand on 4 nodes alike: use 4");
    refused((struct placement_shape){1, 64, 64, 8, 0, 2}, "none may be below 1");
    assert_int_equal(reference_take(&r, &eplb_gold_arena, &(struct placement_shape){1, 2, 2, 1, 1, 2}),
                     STATUS_OK);
    assert_int_equal(reference_plan(&r, bad), STATUS_BAD_INPUT);
    assert_non_null(strstr(status_text(), "load of expert 1 in layer 0 is -1"));
    arena_close(&eplb_gold_arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_known_answer_is_met),
        cmocka_unit_test(powers_of_two_and_the_order_of_layers_change_nothing),
        cmocka_unit_test(shapes_that_cannot_be_are_refused_in_words),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
