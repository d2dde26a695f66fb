/* chat_glm4.c - the prompts of GLM-4.5 and GLM-4.6
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/chat_glm4.h"

static int last_user(const struct chat_job *job)
{
    int last = job->count - 1;

    while (last >= 0 && !chat_prompt_is_role(&job->messages[last], "user"))
        last--;
    return last;
}

static void put_answer(struct chat_prompt *p, struct chat_text said, bool recent)
{
    struct chat_text thought = {.text = "", .bytes = 0};

    if (chat_prompt_holds(said, "</think>")) {
        thought = chat_prompt_lines_before(chat_prompt_before(said, "</think>"));
        thought = chat_prompt_lines_after(chat_prompt_behind(thought, "<think>"));
        said = chat_prompt_lines_after(chat_prompt_behind(said, "</think>"));
    }
    said = chat_prompt_trim(said);
    chat_prompt_put(p, "<|assistant|>\n<think>");
    if (recent)
        chat_prompt_content(p, chat_prompt_trim(thought));
    chat_prompt_put(p, said.bytes > 0 ? "</think>\n" : "</think>");
    chat_prompt_content(p, said);
}

static void put_user(struct chat_prompt *p, const struct chat_job *job, struct chat_text text)
{
    chat_prompt_put(p, "<|user|>\n");
    chat_prompt_content(p, text);
    chat_prompt_put(p, job->no_thinking && !chat_prompt_ends(text, "/nothink") ? "/nothink" : "");
}

enum status chat_glm4(struct chat_prompt *p, const struct chat_job *job)
{
    int user = last_user(job);

    chat_prompt_put(p, "[gMASK]<sop>");
    for (int i = 0; i < job->count; i++) {
        const struct chat_message *message = &job->messages[i];
        struct chat_text text = chat_prompt_text(message);

        if (chat_prompt_is_role(message, "user")) {
            put_user(p, job, text);
        } else if (chat_prompt_is_role(message, "assistant")) {
            put_answer(p, text, i > user);
        } else if (chat_prompt_is_role(message, "tool")) {
            if (i == 0 || !chat_prompt_is_role(&job->messages[i - 1], "tool"))
                chat_prompt_put(p, "<|observation|>");
            chat_prompt_put(p, "\n<tool_response>\n");
            chat_prompt_content(p, text);
            chat_prompt_put(p, "\n</tool_response>");
        } else if (chat_prompt_is_role(message, "system")) {
            chat_prompt_put(p, "<|system|>\n");
            chat_prompt_content(p, text);
        }
    }
    chat_prompt_put(p, job->generation_prompt ? "<|assistant|>" : "");
    chat_prompt_put(p, job->generation_prompt && job->no_thinking ? "\n<think></think>" : "");
    return STATUS_OK;
}
