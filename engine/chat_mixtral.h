/* chat_mixtral.h - the prompts of Mixtral: [INST] user [/INST] assistant
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * User and assistant must take turns, the user first. Nothing opens the assistant's turn. */
#ifndef CHAT_MIXTRAL_H
#define CHAT_MIXTRAL_H

#include "engine/base/status.h"
#include "engine/chat_prompt.h"

/* The first released form: no system message. */
enum status chat_mixtral_first(struct chat_prompt *p, const struct chat_job *job);

/* The later form: blanks around the marks, a system message in front of the first user's text. */
enum status chat_mixtral_later(struct chat_prompt *p, const struct chat_job *job);

#endif
