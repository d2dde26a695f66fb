/* chat_llama.c - the prompts of Llama 3 and Llama 4
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/chat_llama.h"

static const char assistant_4[] = "<|header_start|>assistant<|header_end|>\n\n";

enum status chat_llama_4(struct chat_prompt *p, const struct chat_job *job)
{
    chat_prompt_put(p, "<|begin_of_text|>");
    for (int i = 0; i < job->count; i++) {
        const struct chat_message *message = &job->messages[i];
        bool tool = chat_prompt_is_role(message, "tool") || chat_prompt_is_role(message, "ipython");

        chat_prompt_put(p, "<|header_start|>");
        if (tool)
            chat_prompt_put(p, "ipython");
        else
            chat_prompt_role(p, message);
        chat_prompt_put(p, "<|header_end|>\n\n");
        if (i == 0 && chat_prompt_is_role(message, "system"))
            chat_prompt_content(p, chat_prompt_trim(chat_prompt_text(message)));
        else if (tool)
            chat_prompt_json(p, message);
        else
            chat_prompt_content(p, chat_prompt_text(message));
        chat_prompt_put(p, "<|eot|>");
    }
    chat_prompt_put(p, job->generation_prompt ? assistant_4 : "");
    return STATUS_OK;
}

/* The marks around a role and behind a message. */
struct frame {
    const char *begin, *end, *turn;
};

static enum status render_trimmed(struct chat_prompt *p, const struct chat_job *job,
                                  const struct frame *frame)
{
    chat_prompt_put(p, "<|begin_of_text|>");
    for (int i = 0; i < job->count; i++) {
        chat_prompt_put(p, frame->begin);
        chat_prompt_role(p, &job->messages[i]);
        chat_prompt_put(p, frame->end);
        chat_prompt_content(p, chat_prompt_trim(chat_prompt_text(&job->messages[i])));
        chat_prompt_put(p, frame->turn);
    }
    if (job->generation_prompt) {
        chat_prompt_put(p, frame->begin);
        chat_prompt_put(p, "assistant");
        chat_prompt_put(p, frame->end);
    }
    return STATUS_OK;
}

enum status chat_llama_4_trimmed(struct chat_prompt *p, const struct chat_job *job)
{
    static const struct frame frame = {"<|header_start|>", "<|header_end|>\n\n", "<|eot|>"};

    return render_trimmed(p, job, &frame);
}

enum status chat_llama_3(struct chat_prompt *p, const struct chat_job *job)
{
    static const struct frame frame = {"<|start_header_id|>", "<|end_header_id|>\n\n", "<|eot_id|>"};

    return render_trimmed(p, job, &frame);
}
