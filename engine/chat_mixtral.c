/* chat_mixtral.c - the prompts of Mixtral: [INST] user [/INST] assistant
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/chat_mixtral.h"

struct form {
    const char *begin, *answer; /* what stands before a user's and an assistant's text */
    const char *turns, *roles;  /* the template's own words when it refuses */
};

static enum status render(struct chat_prompt *p, const struct chat_job *job, const struct form *form,
                          const struct chat_message *system)
{
    const struct chat_message *messages = job->messages + (system != NULL);
    int count = job->count - (system != NULL);

    chat_prompt_put(p, "<s>");
    for (int i = 0; i < count; i++) {
        bool user = chat_prompt_is_role(&messages[i], "user");

        if (user != (i % 2 == 0))
            return FAIL(STATUS_BAD_INPUT, "%s", form->turns);
        if (!user && !chat_prompt_is_role(&messages[i], "assistant"))
            return FAIL(STATUS_BAD_INPUT, "%s", form->roles);
        chat_prompt_put(p, user ? form->begin : form->answer);
        if (i == 0 && system) {
            chat_prompt_content(p, chat_prompt_text(system));
            chat_prompt_put(p, "\n\n");
        }
        chat_prompt_content(p, chat_prompt_text(&messages[i]));
        chat_prompt_put(p, user ? " [/INST]" : "</s>");
    }
    return STATUS_OK;
}

enum status chat_mixtral_first(struct chat_prompt *p, const struct chat_job *job)
{
    static const struct form form = {"[INST] ", "",
                                     "Conversation roles must alternate user/assistant/user/assistant/...",
                                     "Only user and assistant roles are supported!"};

    return render(p, job, &form, NULL);
}

enum status chat_mixtral_later(struct chat_prompt *p, const struct chat_job *job)
{
    static const struct form form = {" [INST] ", " ",
                                     "After the optional system message, conversation roles must alternate "
                                     "user/assistant/user/assistant/...",
                                     "Only user and assistant roles are supported, with the exception of an "
                                     "initial optional system message!"};
    bool system = job->count > 0 && chat_prompt_is_role(&job->messages[0], "system");

    return render(p, job, &form, system ? &job->messages[0] : NULL);
}
