/* chat_qwen3.h - the prompts of Qwen3 in its three forms
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Messages in <|im_start|>role ... <|im_end|>. What an answer thought is kept only behind the last question
 * of the user; results of tools are a user's turn. Messages of other roles are left out, as the template
 * does. */
#ifndef CHAT_QWEN3_H
#define CHAT_QWEN3_H

#include "engine/base/status.h"
#include "engine/chat_prompt.h"

/* The model may think or not: without thinking the turn opens with thoughts that are empty. */
enum status chat_qwen3_hybrid(struct chat_prompt *p, const struct chat_job *job);

/* The model always thinks: the turn opens with <think>. */
enum status chat_qwen3_thinking(struct chat_prompt *p, const struct chat_job *job);

/* The model never thinks: answers stay as they are. */
enum status chat_qwen3_instruct(struct chat_prompt *p, const struct chat_job *job);

#endif
