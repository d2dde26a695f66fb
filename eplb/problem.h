/* problem.h - what a plan is asked for, read from files: loads, a shape, perhaps a placement to start from
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Loads are whole numbers of rows. What is wrong is STATUS_BAD_INPUT and names the field; the caller knows
 * the file and the line. Values live in the arena. */
#ifndef PROBLEM_H
#define PROBLEM_H

#include "engine/json.h"
#include "eplb/placement.h"

#include <stdint.h>

/* Most that is read; layers * experts and layers * slots are bounded as well. */
enum { PROBLEM_LAYERS = 4096, PROBLEM_EXPERTS = 65536, PROBLEM_SLOTS = 1 << 20, PROBLEM_CELLS = 1 << 26 };

#define PROBLEM_MOST ((int64_t)1 << 40) /* rows of an expert in a layer */

/* What holds where a problem does not say it; 0: nothing is known, -1 for redundant. */
struct problem_defaults {
    int slots, redundant, ranks, nodes, groups;
};

struct problem {
    bool numbered; /* it had an "id" */
    long long id;
    struct placement_shape shape; /* slots need not be a multiple of ranks: the first have one more */
    int64_t *load;                /* [layers, experts] */
    int32_t *previous;            /* [layers, slots] expert of a slot, -1: empty; NULL: none was given */
};

/* {"experts", "replicas", "groups", "nodes", "gpus", "weight": [layers][experts], "id", "previous":
 * [layers][replicas]}; other keys are ignored. For "weight" may stand "logical_expert_load", or
 * "logical_count", which may be [steps][layers][experts] and is summed over the steps then. Only the loads
 * must be there, and whatever the defaults do not say. */
enum status problem_read_json(struct problem *out, struct arena *arena, const struct json *json,
                              const struct problem_defaults *defaults);

/* A layer a line, a number for each expert with commas between; lines that are empty or start with # are
 * skipped. STATUS_BAD_INPUT names the line. */
enum status problem_read_csv(struct problem *out, struct arena *arena, const char *text, size_t bytes,
                             const struct problem_defaults *defaults);

/* "physical_to_logical_map" or "phy2log": [layers][slots], as *map of experts, -1: empty. */
struct problem_map {
    int layers, slots, experts; /* experts: the largest number and one */
    int32_t *expert;            /* [layers, slots] */
};
enum status problem_read_map(struct problem_map *out, struct arena *arena, const struct json *json);

/* Every expert has a slot and all numbers are in range. */
enum status problem_check_map(const int32_t *map, const struct placement_shape *shape, struct arena *arena);

#endif
