/* chat_llama.h - the prompts of Llama 3 and Llama 4
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef CHAT_LLAMA_H
#define CHAT_LLAMA_H

#include "engine/base/status.h"
#include "engine/chat_prompt.h"

/* As released: a system message in first place is trimmed, other text is not; results of tools are JSON. */
enum status chat_llama_4(struct chat_prompt *p, const struct chat_job *job);

/* A shorter template that trims every message. */
enum status chat_llama_4_trimmed(struct chat_prompt *p, const struct chat_job *job);

/* Every message is trimmed; no lines about dates. */
enum status chat_llama_3(struct chat_prompt *p, const struct chat_job *job);

#endif
