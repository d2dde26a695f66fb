/* chat_glm4.h - the prompts of GLM-4.5 and GLM-4.6
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * [gMASK]<sop>, then <|role|> and text. Every answer has thoughts, which are empty unless it stands behind
 * the user's last message. */
#ifndef CHAT_GLM4_H
#define CHAT_GLM4_H

#include "engine/base/status.h"
#include "engine/chat_prompt.h"

enum status chat_glm4(struct chat_prompt *p, const struct chat_job *job);

#endif
