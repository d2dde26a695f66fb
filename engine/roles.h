/* roles.h - which tensor of the files plays which part in the model, and is it as it should be
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * roles_open looks at headers only and does so for the whole model, so every rank comes to the same verdict
 * whatever it is going to hold. Afterwards roles_find always answers. */
#ifndef ROLES_H
#define ROLES_H

#include "engine/base/status.h"
#include "engine/config.h"
#include "engine/family.h"
#include "engine/safetensors.h"

#include <stdbool.h>

struct roles {
    const struct config *config;
    const struct tensor_set *set;
    const struct family *family;
    const struct family_prefix *prefix;
    bool tied; /* the head is the embedding: the configuration says so, or the files hold no head */
};

/* Every tensor that the configuration asks for is there, with its shape; every other tensor belongs to a part
 * that the engine leaves out by design (vision, layers behind the last). What is missing, mis-shaped or
 * unknown is named. */
enum status roles_open(struct roles *r, const struct config *c, const struct tensor_set *set);

/* The tensor of a role; layer and expert count only where the role has them. STATUS_BAD_INPUT when it is not
 * there. */
enum status roles_find(const struct roles *r, enum family_role role, int layer, int expert,
                       const struct tensor **out);

/* The scales of an F8_E4M3 matrix [outputs, inputs]: output n and input k go with number
 * (n / rows) * ceil(inputs / columns) + k / columns of `tensor`. */
struct roles_scale {
    const struct tensor *tensor; /* NULL: a matrix of another format, which has none */
    int rows, columns;           /* outputs and inputs that share a scale */
};

/* The scales of a tensor that roles_find gave. */
enum status roles_scale(const struct roles *r, const struct tensor *t, struct roles_scale *out);

/* Does this layer hold all its experts in one tensor? */
bool roles_fused(const struct roles *r, int layer);

#endif
