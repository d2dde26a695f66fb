/* request_line.h - a line of JSON becomes a request, or says why it cannot
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * What fields there are, and what each may hold, is said in docs/requests.md. Names and meanings are those of
 * vLLM's sampling parameters. */
#ifndef REQUEST_LINE_H
#define REQUEST_LINE_H

#include "engine/chat.h"
#include "engine/json.h"
#include "engine/request.h"

enum request_line_form { REQUEST_LINE_TEXT, REQUEST_LINE_IDS, REQUEST_LINE_MESSAGES, REQUEST_LINE_CANCEL };

enum { REQUEST_LINE_COPIES = 1024, REQUEST_LINE_MESSAGE_LIMIT = 1 << 16 };

/* Large, and plain memory: keep one and use it again. Its pointers lead into itself, so it is not copied. */
struct request_line {
    char id[REQUEST_ID_BYTES]; /* as JSON; "null" where it could not be found out */
    enum request_line_form form;
    const char *text; /* of a text prompt, not NUL-terminated */
    size_t bytes;
    const json_t *list; /* token ids or messages */
    bool no_thinking;   /* messages: the template is told so */
    int copies;         /* completions of the prompt: n */
    struct request_options options;

    struct json json; /* owns texts and lists */
    const char *stops[DETOKENIZER_STOP_LIMIT];
    int32_t stop_ids[REQUEST_STOP_IDS];
    struct logits_bias biases[REQUEST_BIASES];
};

/* Reads one line; what it leaves out is as in `defaults`, whose pointers must outlive the line. Token ids are
 * 0 ... vocabulary - 1. STATUS_BAD_INPUT says what is wrong, and l->id whom to tell. Close it in any case. */
enum status request_line_open(struct request_line *l, const struct request_options *defaults, int vocabulary,
                              const char *text, size_t bytes);

/* Takes a zeroed line, too. */
void request_line_close(struct request_line *l);

/* The token ids of a line that brings them. */
enum status request_line_ids(const struct request_line *l, int vocabulary, struct tokens *out);

/* The messages of a line that brings them; they live as long as the line. out [REQUEST_LINE_MESSAGE_LIMIT].
 */
enum status request_line_messages(const struct request_line *l, struct chat_message *out, int *count);

#endif
