/* placement_file.h - where experts lie, kept in a file from run to run
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Read are
 *
 *     {"physical_to_logical_map": [[expert of each slot] of each layer]}      SGLang's; a row for each layer
 * with experts, or for every layer
 *     {"moe_layer_count", "layer_list": [{"layer_id", "device_list": [{"device_id", "device_expert":
 * [...]}]}]} vLLM-Ascend's what placement_file_write writes: SGLang's key with "model", "experts", "ranks"
 * and more beside it */
#ifndef PLACEMENT_FILE_H
#define PLACEMENT_FILE_H

#include "engine/config.h"
#include "eplb/placement.h"

#include <stdbool.h>
#include <stdint.h>

/* Puts what the file says into p->expert and indexes it when the file is for this model and fits p's sizes
 * and slots of ranks: *fits. Otherwise p stays, and *fits is false; a line says why, or that there is no such
 * file yet. STATUS_BAD_INPUT for a file that is none of the above. model: of the configuration and tensors.
 */
enum status placement_file_read(const char *path, const struct config *c, uint64_t model, struct arena *arena,
                                struct placement *p, bool *fits);

/* Can it be written at the end? STATUS_IO. Leaves nothing behind. */
enum status placement_file_check(const char *path);

/* Through a file beside it, so that a reader sees the old or the new one. */
enum status placement_file_write(const char *path, const struct config *c, uint64_t model,
                                 const struct placement *p);

#endif
