/* frequency.h - how fast each pair of dimensions turns with the position (rotary embedding)
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Both spellings of Hugging Face files are read: rope_theta with rope_scaling {rope_type or type, ...}, and
 * rope_parameters {rope_type, rope_theta, ...}. A kind of scaling that is not supported is refused by name.
 */
#ifndef FREQUENCY_H
#define FREQUENCY_H

#include "engine/base/arena.h"
#include "engine/base/status.h"
#include "engine/config_fields.h"
#include "engine/json.h"

/* The keys of a config object that frequency_read looks at, NULL-terminated. */
extern const char *const frequency_keys[];

/* Fills rotated, frequency and rope_attention_factor; head_width is set already. `theta` and the
 * `part` of a head that turns are the family's defaults; a part of 1 is the only one of its family. */
enum status frequency_read(struct config *c, struct arena *arena, const struct json_at *at, float theta,
                           float part);

#endif
