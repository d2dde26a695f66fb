/* status.c - what a call says when it fails
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

enum { TEXT_BYTES = 1024, PLACE_BYTES = 96 };

static _Thread_local char text[TEXT_BYTES];
static _Thread_local char place[PLACE_BYTES];

enum status status_fail(enum status status, const char *file, int line, const char *format, ...)
{
    const char *slash = strrchr(file, '/');
    va_list arguments;

    snprintf(place, sizeof place, "%s:%d", slash ? slash + 1 : file, line);
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return status;
}

enum status status_prefix(enum status status, const char *format, ...)
{
    char old[TEXT_BYTES];
    va_list arguments;
    int used;

    memcpy(old, text, sizeof old);
    va_start(arguments, format);
    used = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (used >= 0 && (size_t)used < sizeof text)
        snprintf(text + used, sizeof text - (size_t)used, "%s", old);
    return status;
}

const char *status_text(void)
{
    return text;
}

const char *status_place(void)
{
    return place;
}

int status_exit_code(enum status status)
{
    switch (status) {
    case STATUS_OK:
        return 0;
    case STATUS_USAGE:
        return EX_USAGE;
    case STATUS_BAD_INPUT:
        return EX_DATAERR;
    case STATUS_NO_INPUT:
        return EX_NOINPUT;
    case STATUS_UNAVAILABLE:
        return EX_UNAVAILABLE;
    case STATUS_BUG:
        return EX_SOFTWARE;
    case STATUS_IO:
        return EX_IOERR;
    case STATUS_NO_MEMORY:
        return EX_TEMPFAIL;
    }
    return EX_SOFTWARE;
}
