/* fuzz_loads.c - any bytes as loads and placements: JSON, CSV and maps are read or refused in words
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * The first byte chooses the reader. What is read is used: the sizes are as the rules have it, and a plan by
 * the reference's rules can be made or is explained. Seeds: tests/fuzz/seeds/loads. */
#include "eplb/planned.h"
#include "eplb/problem.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void check(bool holds)
{
    if (!holds)
        abort();
}

static void use(const struct problem *p, struct arena *arena)
{
    const struct placement_shape *s = &p->shape;
    struct planned_options options = {.policy = PLANNED_REFERENCE};
    struct planned planned;
    int64_t sum = 0;

    check(s->layers >= 1 && s->experts >= 1 && s->slots >= s->experts && s->ranks >= 1 && s->nodes >= 1);
    for (int64_t i = 0; i < (int64_t)s->layers * s->experts; i++) {
        check(p->load[i] >= 0);
        sum |= p->load[i];
    }
    for (int64_t i = 0; p->previous && i < (int64_t)s->layers * s->slots; i++)
        check(p->previous[i] >= -1 && p->previous[i] < s->experts);
    if (s->slots > 256 || s->ranks > 256 || sum > 1 << 24)
        return;
    if (planned_make(&planned, arena, p, &options) == STATUS_OK)
        check(problem_check_map(planned.expert, s, arena) == STATUS_OK);
    else
        check(status_text()[0] != '\0');
}

static enum status read_text(char how, const char *text, size_t bytes, struct arena *arena)
{
    struct problem_defaults defaults = {.ranks = 4, .redundant = 4};
    struct problem problem;
    struct problem_map map;
    struct json json = {0};
    enum status status;

    if (how == 'c') {
        TRY(problem_read_csv(&problem, arena, text, bytes, &defaults));
        use(&problem, arena);
        return STATUS_OK;
    }
    status = json_open(&json, "input", text, bytes, 0);
    if (status == STATUS_OK && how == 'm') {
        status = problem_read_map(&map, arena, &json);
    } else if (status == STATUS_OK) {
        status = problem_read_json(&problem, arena, &json, &defaults);
        if (status == STATUS_OK)
            use(&problem, arena);
    }
    json_close(&json);
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct arena arena = {0};
    enum status status;

    if (bytes == 0 || arena_open(&arena, "fuzz", (size_t)4 << 30) != STATUS_OK)
        return 0;
    status = read_text((char)data[0], (const char *)data + 1, bytes - 1, &arena);
    check(status == STATUS_OK || status_text()[0] != '\0');
    arena_close(&arena);
    return 0;
}
