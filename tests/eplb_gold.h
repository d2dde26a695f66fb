/* eplb_gold.h - the known answers for the balancer, case by case
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EPLB_GOLD_H
#define EPLB_GOLD_H

#include "engine/base/arena.h"
#include "eplb/placement.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One case and what is said about it in the bounds file. */
struct eplb_gold {
    struct placement_shape shape;
    json_t *gold, *bounds;
    int64_t *load; /* [layers, experts] */
    float *weight; /* the same */
};

static struct arena eplb_gold_arena; /* anew for each case */

static inline int eplb_gold_int(const json_t *object, const char *key)
{
    return (int)json_integer_value(json_object_get(object, key));
}

/* table[layer][i] */
static inline json_t *eplb_gold_at(const json_t *object, const char *key, int layer, int i)
{
    return json_array_get(json_array_get(json_object_get(object, key), (size_t)layer), (size_t)i);
}

static inline void eplb_gold_read(struct eplb_gold *c)
{
    size_t loads;

    c->shape = (struct placement_shape){.layers = eplb_gold_int(c->gold, "layers"),
                                        .experts = eplb_gold_int(c->gold, "experts"),
                                        .slots = eplb_gold_int(c->gold, "replicas"),
                                        .groups = eplb_gold_int(c->gold, "groups"),
                                        .nodes = eplb_gold_int(c->gold, "nodes"),
                                        .ranks = eplb_gold_int(c->gold, "gpus")};
    loads = (size_t)c->shape.layers * (size_t)c->shape.experts;
    assert_int_equal(arena_take_array(&eplb_gold_arena, loads, sizeof *c->load, "loads", &c->load),
                     STATUS_OK);
    assert_int_equal(arena_take_array(&eplb_gold_arena, loads, sizeof *c->weight, "weights", &c->weight),
                     STATUS_OK);
    for (size_t i = 0; i < loads; i++) {
        json_t *weight =
            eplb_gold_at(c->gold, "weight", (int)i / c->shape.experts, (int)i % c->shape.experts);

        assert_true(json_is_integer(weight));
        c->load[i] = json_integer_value(weight);
        c->weight[i] = (float)c->load[i];
    }
}

/* Runs `check` over all lines of a pair of files; how many there were. */
static inline int eplb_gold_file(const char *gold, const char *bounds,
                                 void (*check)(const struct eplb_gold *c))
{
    FILE *files[2] = {fopen(gold, "r"), fopen(bounds, "r")};
    char *line[2] = {NULL, NULL};
    size_t room[2] = {0, 0};
    int cases = 0;

    for (int i = 0; i < 2; i++) {
        if (!files[i])
            fail_msg("%s cannot be opened", i ? bounds : gold);
    }
    while (getline(&line[0], &room[0], files[0]) > 0 && getline(&line[1], &room[1], files[1]) > 0) {
        struct eplb_gold c = {.gold = json_loads(line[0], 0, NULL), .bounds = json_loads(line[1], 0, NULL)};

        assert_non_null(c.gold);
        assert_non_null(c.bounds);
        assert_int_equal(eplb_gold_int(c.gold, "id"), eplb_gold_int(c.bounds, "id"));
        assert_int_equal(arena_open(&eplb_gold_arena, "case", 64 << 20), STATUS_OK);
        eplb_gold_read(&c);
        check(&c);
        arena_close(&eplb_gold_arena);
        json_decref(c.gold);
        json_decref(c.bounds);
        cases++;
    }
    for (int i = 0; i < 2; i++) {
        free(line[i]);
        fclose(files[i]);
    }
    return cases;
}

/* The cases of the project, and those on recorded loads where they can be found. */
static inline void eplb_gold_each(void (*check)(const struct eplb_gold *c))
{
    const char *real = "../shared/eplb/gold_real.jsonl", *bounds = "../shared/eplb/bounds_real.jsonl";
    FILE *there = fopen(real, "r");

    assert_int_equal(eplb_gold_file("tests/golden/eplb/gold.jsonl", "tests/golden/eplb/bounds.jsonl", check),
                     50);
    if (!there) {
        print_message("skipped: %s (not there)\n", real);
        return;
    }
    fclose(there);
    assert_int_equal(eplb_gold_file(real, bounds, check), 8);
}

#endif
