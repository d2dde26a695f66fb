/* config.h - what a model directory says about its model, checked, in the engine's own words
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * config.json is read into struct config by the family's description (engine/family.h). Nothing that changes
 * the arithmetic is ignored: an architecture, a key or a value that is not supported is refused by name. */
#ifndef CONFIG_H
#define CONFIG_H

#include "engine/base/arena.h"
#include "engine/base/status.h"
#include "engine/config_fields.h"

/* Reads DIR/config.json and, if present, DIR/generation_config.json. Strings and arrays live in `arena`. */
enum status config_read(struct config *c, struct arena *arena, const char *directory);

/* --model to a directory: an existing directory as it is; a file ending in .gguf or starting with its magic
 * is refused with the way out; ORG/NAME is looked up in the local Hugging Face cache whose root is `cache`
 * (refs/main, then snapshots), and the line to run is in the message when it is not there. Nothing is
 * downloaded. */
enum status config_locate(struct arena *arena, const char *model, const char *cache, const char **directory);

#endif
