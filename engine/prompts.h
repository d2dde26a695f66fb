/* prompts.h - prompts from a descriptor, one a line or all as one, without ever blocking a step
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * A line ends with LF or CRLF, the last one also with the end of the input. A line longer than the limit is
 * skipped and reported. Nothing is read ahead of need but one buffer, so a pipe pushes back on its writer. */
#ifndef PROMPTS_H
#define PROMPTS_H

#include "engine/base/arena.h"
#include "engine/base/status.h"

#include <stdint.h>

enum prompts_form { PROMPTS_LINES, PROMPTS_TEXT };

enum prompts_event {
    PROMPTS_NOTHING,  /* no whole prompt is there yet */
    PROMPTS_ONE,      /* text and bytes hold one */
    PROMPTS_TOO_LONG, /* a prompt was longer than the limit and is skipped */
    PROMPTS_END,
};

struct prompts {
    int descriptor;
    enum prompts_form form;
    char *buffer; /* [limit + 1] */
    size_t limit; /* bytes of the longest prompt */
    size_t used, start;
    size_t searched; /* no line end before here */
    bool ended;      /* the descriptor has nothing more */
    bool skipping;   /* inside a line that is too long */
    int64_t line;    /* number of the last prompt, from 1 */
};

enum { PROMPTS_LIMIT = 64 << 20 }; /* bytes of the longest prompt */

enum status prompts_open(struct prompts *p, struct arena *arena, int descriptor, enum prompts_form form);

/* The next prompt if one can be had without waiting longer than `milliseconds`; *text is valid until the next
 * call and ends with a NUL that *bytes does not count. */
enum status prompts_next(struct prompts *p, int milliseconds, enum prompts_event *event, const char **text,
                         size_t *bytes);

#endif
