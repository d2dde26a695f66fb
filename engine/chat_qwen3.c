/* chat_qwen3.c - the prompts of Qwen3 in its three forms
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/chat_qwen3.h"

static const char opening[] = "<|im_start|>assistant\n";

/* A message in its frame, its role among the ones that the template knows. */
static void put_turn(struct chat_prompt *p, const char *role, struct chat_text text)
{
    chat_prompt_put(p, "<|im_start|>");
    chat_prompt_put(p, role);
    chat_prompt_put(p, "\n");
    chat_prompt_content(p, text);
    chat_prompt_put(p, "<|im_end|>\n");
}

/* Where the user asked last; what comes wrapped as a tool's result is no question. */
static int last_question(const struct chat_job *job)
{
    for (int i = job->count - 1; i >= 0; i--) {
        struct chat_text text = chat_prompt_text(&job->messages[i]);

        if (chat_prompt_is_role(&job->messages[i], "user") &&
            !(chat_prompt_begins(text, "<tool_response>") && chat_prompt_ends(text, "</tool_response>")))
            return i;
    }
    return job->count - 1;
}

/* An answer, parted into what it thought and what it said. */
static void put_answer(struct chat_prompt *p, const struct chat_job *job, int index, int question)
{
    struct chat_text said = chat_prompt_text(&job->messages[index]);
    struct chat_text thought = {.text = "", .bytes = 0};

    if (chat_prompt_holds(said, "</think>")) {
        thought = chat_prompt_lines_before(chat_prompt_before(said, "</think>"));
        thought = chat_prompt_lines_after(chat_prompt_behind(thought, "<think>"));
        said = chat_prompt_lines_after(chat_prompt_behind(said, "</think>"));
    }
    if (index <= question || (index + 1 < job->count && thought.bytes == 0)) {
        put_turn(p, "assistant", said);
        return;
    }
    chat_prompt_put(p, opening);
    chat_prompt_put(p, "<think>\n");
    chat_prompt_content(p, chat_prompt_lines_before(thought));
    chat_prompt_put(p, "\n</think>\n\n");
    chat_prompt_content(p, chat_prompt_lines_after(said));
    chat_prompt_put(p, "<|im_end|>\n");
}

/* Results that follow each other are one turn of the user. */
static void put_result(struct chat_prompt *p, const struct chat_job *job, int index)
{
    bool first = index == 0 || !chat_prompt_is_role(&job->messages[index - 1], "tool");
    bool last = index + 1 == job->count || !chat_prompt_is_role(&job->messages[index + 1], "tool");

    chat_prompt_put(p, first ? "<|im_start|>user\n<tool_response>\n" : "\n<tool_response>\n");
    chat_prompt_content(p, chat_prompt_text(&job->messages[index]));
    chat_prompt_put(p, last ? "\n</tool_response><|im_end|>\n" : "\n</tool_response>");
}

static void put_messages(struct chat_prompt *p, const struct chat_job *job, bool thinks)
{
    int question = last_question(job);

    for (int i = 0; i < job->count; i++) {
        const struct chat_message *message = &job->messages[i];

        if (chat_prompt_is_role(message, "assistant") && thinks)
            put_answer(p, job, i, question);
        else if (chat_prompt_is_role(message, "tool"))
            put_result(p, job, i);
        else if (chat_prompt_is_role(message, "system") || chat_prompt_is_role(message, "user") ||
                 chat_prompt_is_role(message, "assistant"))
            put_turn(p, message->role, chat_prompt_text(message));
    }
    chat_prompt_put(p, job->generation_prompt ? opening : "");
}

enum status chat_qwen3_hybrid(struct chat_prompt *p, const struct chat_job *job)
{
    put_messages(p, job, true);
    chat_prompt_put(p, job->generation_prompt && job->no_thinking ? "<think>\n\n</think>\n\n" : "");
    return STATUS_OK;
}

enum status chat_qwen3_thinking(struct chat_prompt *p, const struct chat_job *job)
{
    put_messages(p, job, true);
    chat_prompt_put(p, job->generation_prompt ? "<think>\n" : "");
    return STATUS_OK;
}

enum status chat_qwen3_instruct(struct chat_prompt *p, const struct chat_job *job)
{
    put_messages(p, job, false);
    return STATUS_OK;
}
