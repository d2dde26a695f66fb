/* problem.c - what a plan is asked for, read from files: loads, a shape, perhaps a placement to start from
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "eplb/problem.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* A list of lists of whole numbers. */
struct table {
    const char *key;
    int rows, columns;
    int64_t least, most;
};

/* How many rows and columns; all rows have as many. */
static enum status measure_table(struct table *t, json_t *value, int most_columns)
{
    size_t rows = json_array_size(value);

    if (!json_is_array(value) || rows < 1 || rows > PROBLEM_LAYERS)
        return FAIL(STATUS_BAD_INPUT, "\"%s\" must be a list of 1 to %d layers", t->key, PROBLEM_LAYERS);
    for (size_t i = 0; i < rows; i++) {
        json_t *row = json_array_get(value, i);
        size_t columns = json_array_size(row);

        if (!json_is_array(row) || columns < 1 || columns > (size_t)most_columns)
            return FAIL(STATUS_BAD_INPUT, "%s[%zu] must be a list of 1 to %d whole numbers", t->key, i,
                        most_columns);
        if (i > 0 && columns != (size_t)t->columns)
            return FAIL(STATUS_BAD_INPUT, "%s[%zu] has %zu numbers, %s[0] has %d", t->key, i, columns, t->key,
                        t->columns);
        t->columns = (int)columns;
    }
    t->rows = (int)rows;
    if ((int64_t)t->rows * t->columns > PROBLEM_CELLS)
        return FAIL(STATUS_BAD_INPUT, "\"%s\" has more than %d numbers", t->key, PROBLEM_CELLS);
    return STATUS_OK;
}

static enum status table_number(const struct table *t, json_t *value, int row, int column, int64_t *out)
{
    json_t *number = json_array_get(json_array_get(value, (size_t)row), (size_t)column);

    if (!json_is_integer(number) || json_integer_value(number) < t->least ||
        json_integer_value(number) > t->most)
        return FAIL(STATUS_BAD_INPUT, "%s[%d][%d] must be a whole number from %lld to %lld", t->key, row,
                    column, (long long)t->least, (long long)t->most);
    *out = json_integer_value(number);
    return STATUS_OK;
}

/* Adds a table of loads; the first one gives the sizes and the memory. */
static enum status add_loads(struct problem *p, struct arena *arena, const char *key, json_t *value)
{
    struct table t = {.key = key, .most = PROBLEM_MOST};
    int64_t number;

    TRY(measure_table(&t, value, PROBLEM_EXPERTS));
    if (!p->load) {
        p->shape.layers = t.rows;
        p->shape.experts = t.columns;
        TRY(arena_take_array(arena, (size_t)t.rows * (size_t)t.columns, sizeof *p->load, "loads", &p->load));
    } else if (t.rows != p->shape.layers || t.columns != p->shape.experts) {
        return FAIL(STATUS_BAD_INPUT, "a step of \"%s\" has %d layers of %d experts, the first has %d of %d",
                    key, t.rows, t.columns, p->shape.layers, p->shape.experts);
    }
    for (int i = 0; i < t.rows; i++)
        for (int e = 0; e < t.columns; e++) {
            int64_t *sum = &p->load[(ptrdiff_t)i * t.columns + e];

            TRY(table_number(&t, value, i, e, &number));
            if (number > PROBLEM_MOST - *sum)
                return FAIL(STATUS_BAD_INPUT,
                            "\"%s\": expert %d of layer %d has more than %lld rows over all steps", key, e, i,
                            (long long)PROBLEM_MOST);
            *sum += number;
        }
    return STATUS_OK;
}

static enum status read_loads(struct problem *p, struct arena *arena, json_t *root)
{
    static const char *const keys[] = {"weight", "logical_count", "logical_expert_load"};
    const char *key = NULL;
    json_t *value;

    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (!key && json_object_get(root, keys[i]))
            key = keys[i];
    if (!key)
        return FAIL(STATUS_BAD_INPUT,
                    "there is no \"weight\" (or \"logical_count\", \"logical_expert_load\")");
    value = json_object_get(root, key);
    if (!json_is_array(json_array_get(json_array_get(value, 0), 0)))
        return add_loads(p, arena, key, value);
    for (size_t i = 0; i < json_array_size(value); i++)
        TRY(add_loads(p, arena, key, json_array_get(value, i)));
    return STATUS_OK;
}

/* What is still open comes from the defaults. */
static enum status complete_shape(struct placement_shape *s, const struct problem_defaults *d)
{
    s->groups = s->groups > 0 ? s->groups : (d->groups > 0 ? d->groups : 1);
    s->nodes = s->nodes > 0 ? s->nodes : (d->nodes > 0 ? d->nodes : 1);
    s->ranks = s->ranks > 0 ? s->ranks : d->ranks;
    if (s->slots == 0)
        s->slots = d->slots > 0 ? d->slots : s->experts + (d->redundant > 0 ? d->redundant : 0);
    if (s->ranks < 1)
        return FAIL(STATUS_BAD_INPUT, "the number of ranks is open: give \"gpus\" or --ranks");
    if (s->nodes > s->ranks)
        return FAIL(STATUS_BAD_INPUT, "%d ranks do not stand on %d nodes: use %d nodes at most", s->ranks,
                    s->nodes, s->ranks);
    if (s->slots > PROBLEM_SLOTS || (int64_t)s->slots * s->layers > PROBLEM_CELLS)
        return FAIL(STATUS_BAD_INPUT,
                    "%d slots in each of %d layers: at most %d can be planned, and %d in all", s->slots,
                    s->layers, PROBLEM_SLOTS, PROBLEM_CELLS);
    if (s->slots < s->experts)
        return FAIL(STATUS_BAD_INPUT, "%d slots cannot hold %d experts: use %d at least", s->slots,
                    s->experts, s->experts);
    return STATUS_OK;
}

enum status problem_check_map(const int32_t *map, const struct placement_shape *s, struct arena *arena)
{
    int32_t *seen;

    TRY(arena_take_array(arena, (size_t)s->experts, sizeof *seen, "experts seen", &seen));
    for (int i = 0; i < s->layers; i++) {
        for (int slot = 0; slot < s->slots; slot++) {
            int32_t e = map[(ptrdiff_t)i * s->slots + slot];

            if (e < -1 || e >= s->experts)
                return FAIL(STATUS_BAD_INPUT, "slot %d of layer %d holds expert %d, there are %d", slot, i, e,
                            s->experts);
            if (e >= 0)
                seen[e] = i + 1;
        }
        for (int e = 0; e < s->experts; e++)
            if (seen[e] != i + 1)
                return FAIL(STATUS_BAD_INPUT, "expert %d of layer %d has no slot", e, i);
    }
    return STATUS_OK;
}

static enum status read_map(struct problem_map *out, struct arena *arena, const char *key, json_t *value)
{
    struct table t = {.key = key, .least = -1, .most = PROBLEM_EXPERTS - 1};
    struct problem_map map;
    int64_t number;

    TRY(measure_table(&t, value, PROBLEM_SLOTS));
    map = (struct problem_map){.layers = t.rows, .slots = t.columns};
    TRY(arena_take_array(arena, (size_t)t.rows * (size_t)t.columns, sizeof *map.expert, "a placement",
                         &map.expert));
    for (int i = 0; i < t.rows; i++)
        for (int s = 0; s < t.columns; s++) {
            TRY(table_number(&t, value, i, s, &number));
            map.expert[(ptrdiff_t)i * t.columns + s] = (int32_t)number;
            if (number >= map.experts)
                map.experts = (int)number + 1;
        }
    *out = map;
    return STATUS_OK;
}

enum status problem_read_map(struct problem_map *out, struct arena *arena, const struct json *json)
{
    static const char *const keys[] = {"phy2log", "physical_to_logical_map"};

    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (json_object_get(json->root, keys[i]))
            return read_map(out, arena, keys[i], json_object_get(json->root, keys[i]));
    return FAIL(STATUS_BAD_INPUT, "there is no \"phy2log\" (or \"physical_to_logical_map\")");
}

static enum status read_previous(struct problem *p, struct arena *arena, json_t *value)
{
    struct problem_map map;

    if (!value || json_is_null(value))
        return STATUS_OK;
    TRY(read_map(&map, arena, "previous", value));
    if (map.layers != p->shape.layers || map.slots != p->shape.slots)
        return FAIL(STATUS_BAD_INPUT, "\"previous\" has %d layers of %d slots, the plan has %d of %d",
                    map.layers, map.slots, p->shape.layers, p->shape.slots);
    if (problem_check_map(map.expert, &p->shape, arena) != STATUS_OK)
        return status_prefix(STATUS_BAD_INPUT, "\"previous\": ");
    p->previous = map.expert;
    return STATUS_OK;
}

static enum status same_size(const char *key, int said, int is)
{
    if (said != 0 && said != is)
        return FAIL(STATUS_BAD_INPUT, "\"%s\" is %d, but the loads are of %d", key, said, is);
    return STATUS_OK;
}

enum status problem_read_json(struct problem *out, struct arena *arena, const struct json *json,
                              const struct problem_defaults *defaults)
{
    struct problem p = {0};
    struct json_at root;
    json_t *id;
    int experts = 0, layers = 0;

    TRY(json_get_root(json, &root));
    id = json_object_get(json->root, "id");
    if (id && !json_is_integer(id))
        return FAIL(STATUS_BAD_INPUT, "\"id\" must be a whole number");
    p.numbered = id != NULL;
    p.id = json_integer_value(id);
    TRY(json_get_int(&root, "experts", 1, PROBLEM_EXPERTS, &experts));
    TRY(json_get_int(&root, "layers", 1, PROBLEM_LAYERS, &layers));
    TRY(json_get_int(&root, "replicas", 1, PROBLEM_SLOTS, &p.shape.slots));
    TRY(json_get_int(&root, "groups", 1, PROBLEM_EXPERTS, &p.shape.groups));
    TRY(json_get_int(&root, "nodes", 1, PROBLEM_SLOTS, &p.shape.nodes));
    TRY(json_get_int(&root, "gpus", 1, PROBLEM_SLOTS, &p.shape.ranks));
    TRY(read_loads(&p, arena, json->root));
    TRY(same_size("experts", experts, p.shape.experts));
    TRY(same_size("layers", layers, p.shape.layers));
    TRY(complete_shape(&p.shape, defaults));
    TRY(read_previous(&p, arena, json_object_get(json->root, "previous")));
    *out = p;
    return STATUS_OK;
}

/* -- CSV --- */

/* Numbers of one line, at most `room`; *count of them. */
static enum status read_line(const char *at, const char *end, int line, int64_t *values, int room, int *count)
{
    *count = 0;
    for (;;) {
        char digits[24];
        size_t length = 0;
        char *rest;
        long long number;

        while (at < end && (*at == ' ' || *at == '\t'))
            at++;
        while (at + length < end && length < sizeof digits - 1 && at[length] != ',')
            length++;
        memcpy(digits, at, length);
        digits[length] = '\0';
        errno = 0;
        number = strtoll(digits, &rest, 10);
        if (rest == digits || errno || rest[strspn(rest, " \t")] || number < 0 || number > PROBLEM_MOST)
            return FAIL(STATUS_BAD_INPUT, "line %d, number %d: '%.20s' is not a whole number from 0 to %lld",
                        line, *count + 1, digits, (long long)PROBLEM_MOST);
        if (*count == room)
            return FAIL(STATUS_BAD_INPUT, "line %d has more than %d numbers", line, room);
        values[(*count)++] = number;
        at += length;
        if (at == end)
            return STATUS_OK;
        at++;
    }
}

enum status problem_read_csv(struct problem *out, struct arena *arena, const char *text, size_t bytes,
                             const struct problem_defaults *defaults)
{
    struct problem p = {0};
    const char *stop = text + bytes;
    int64_t *values;
    int line = 0, count;

    TRY(arena_take_array(arena, PROBLEM_EXPERTS, sizeof *values, "a line of loads", &values));
    for (const char *at = text, *next; at < stop; at = next) {
        const char *end = memchr(at, '\n', (size_t)(stop - at));
        int64_t *row;

        end = end ? end : stop;
        next = end + 1;
        line++;
        if (end > at && end[-1] == '\r')
            end--;
        if (at == end || *at == '#')
            continue;
        TRY(read_line(at, end, line, values, PROBLEM_EXPERTS, &count));
        if (p.shape.layers == PROBLEM_LAYERS)
            return FAIL(STATUS_BAD_INPUT, "line %d: there are more than %d layers", line, PROBLEM_LAYERS);
        if (p.shape.layers > 0 && count != p.shape.experts)
            return FAIL(STATUS_BAD_INPUT, "line %d has %d numbers, the first layer has %d", line, count,
                        p.shape.experts);
        p.shape.experts = count;
        p.shape.layers++;
        if ((int64_t)p.shape.layers * count > PROBLEM_CELLS)
            return FAIL(STATUS_BAD_INPUT, "line %d: there are more than %d numbers", line, PROBLEM_CELLS);
        /* Whole cache lines are handed out, so that rows would have gaps: the first row asks for all. */
        if (p.shape.layers == 1)
            TRY(arena_take_array(arena, PROBLEM_LAYERS * (size_t)count, sizeof *p.load, "loads", &p.load));
        row = p.load + (ptrdiff_t)(p.shape.layers - 1) * count;
        memcpy(row, values, sizeof *row * (size_t)count);
    }
    if (p.shape.layers == 0)
        return FAIL(STATUS_BAD_INPUT, "there is no line with loads");
    TRY(complete_shape(&p.shape, defaults));
    *out = p;
    return STATUS_OK;
}
