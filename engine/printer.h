/* printer.h - answers in input order, token by token
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * The oldest request streams as its tokens come; those behind it run on, and their text follows when it is
 * their turn. Every prompt is answered by its text and a newline, a refused or empty one by the newline
 * alone, so answer n belongs to prompt n. */
#ifndef PRINTER_H
#define PRINTER_H

#include "engine/base/arena.h"
#include "engine/detokenizer.h"
#include "engine/scheduler.h"

#include <stdint.h>

struct printer {
    int output; /* descriptor */
    const struct tokenizer *tokenizer;
    struct detokenizer text; /* of the request whose turn it is */
    int64_t turn;            /* number of that request; -1: its stream has not begun */
    int printed;             /* its tokens that are out */
    char *room;              /* text of one token */
    size_t room_bytes;
    int *blank; /* [ring] empty answers that come before request number % ring */
    int ring;
    void (*each)(void *context, int32_t token); /* told of every generated token in input order */
    void *context;
};

enum status printer_open(struct printer *p, struct arena *arena, int output, const struct tokenizer *t,
                         int ring);

/* The prompt before request `number` (the next to be added) is answered by a newline alone. */
void printer_blank(struct printer *p, int64_t number);

/* Writes what can be written now and drops requests that are finished and out. */
enum status printer_show(struct printer *p, struct scheduler *s);

#endif
