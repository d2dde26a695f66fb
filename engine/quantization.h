/* quantization.h - what a configuration says about quantised weights, accepted or refused by name
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Accepted is FP8 (E4M3) with a scale for each output, for a whole matrix, or for each block of a matrix, as
 * "compressed-tensors" and "fp8" write it. Activations are never rounded, so what is said about them counts
 * only where it would need numbers from the files. Which tensors are quantised is not read here: each
 * tensor's own format says that. */
#ifndef QUANTIZATION_H
#define QUANTIZATION_H

#include "engine/base/status.h"
#include "engine/config_fields.h"
#include "engine/json.h"

/* Fills the scale fields of `c` from "quantization_config" of `at`; leaves them when there is none. */
enum status quantization_read(struct config *c, const struct json_at *at);

#endif
