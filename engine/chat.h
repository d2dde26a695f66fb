/* chat.h - messages to the prompt a model was trained on; one renderer per family
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Chosen by model_type and confirmed by the directory's own template; never a silent fallback. */
#ifndef CHAT_H
#define CHAT_H

#include "engine/base/status.h"
#include "engine/chat_prompt.h"
#include "engine/tokenizer.h"

#include <stdbool.h>
#include <stddef.h>

struct chat; /* a renderer, static data */

/* STATUS_BAD_INPUT says why a directory has no renderer. */
enum status chat_find(const struct chat **out, const char *model_type, const struct tokenizer *t);

/* Renders a job with one message at least into out->text, whose capacity is set by the caller, as is that of
 * out->content. The text is valid UTF-8 and holds BOS if the template writes one: encode it without
 * TOKENIZER_ADD_SPECIAL. Refusals of the template are STATUS_BAD_INPUT. */
enum status chat_render(const struct chat *c, const struct chat_job *job, struct chat_prompt *out);

/* A capacity that suffices for these messages. */
size_t chat_room(const struct chat_message *messages, int count);

#endif
