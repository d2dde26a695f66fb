/* log.c - one line per event on stderr: time, rank, level, text
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LINE_BYTES = 2048 };

static int speaker = -1;
static enum log_level shown = LOG_INFO;

void log_open(int rank, enum log_level least)
{
    speaker = rank;
    shown = rank == 0 || least > LOG_INFO ? least : LOG_WARN;
}

int log_rank(void)
{
    return speaker;
}

int log_shows(enum log_level level)
{
    return level <= shown;
}

/* stderr that is gone cannot be complained about. */
static void write_all(const char *bytes, size_t count)
{
    while (count > 0) {
        ssize_t written = write(STDERR_FILENO, bytes, count);

        if (written <= 0)
            return;
        bytes += written;
        count -= (size_t)written;
    }
}

void log_line(enum log_level level, const char *format, ...)
{
    static const char *const names[] = {"error", "warn", "info", "debug"};
    char line[LINE_BYTES];
    struct timespec now;
    struct tm local;
    va_list arguments;
    size_t used;

    if (level > shown)
        return;
    clock_gettime(CLOCK_REALTIME, &now);
    localtime_r(&now.tv_sec, &local);
    used = strftime(line, sizeof line, "%H:%M:%S", &local);
    if (speaker >= 0)
        used += (size_t)snprintf(line + used, sizeof line - used,
                                 ".%03d rank %d %s: ", (int)(now.tv_nsec / 1000000), speaker, names[level]);
    else
        used += (size_t)snprintf(line + used, sizeof line - used, ".%03d %s: ", (int)(now.tv_nsec / 1000000),
                                 names[level]);
    va_start(arguments, format);
    vsnprintf(line + used, sizeof line - used - 1, format, arguments);
    va_end(arguments);
    used = strlen(line);
    line[used++] = '\n';
    write_all(line, used);
}

void log_progress(int done, const char *format, ...)
{
    char line[LINE_BYTES];
    va_list arguments;
    size_t used;

    if (shown < LOG_INFO || !isatty(STDERR_FILENO))
        return;
    line[0] = '\r';
    va_start(arguments, format);
    vsnprintf(line + 1, sizeof line - 8, format, arguments);
    va_end(arguments);
    used = strlen(line);
    memcpy(line + used, "\033[K", 3); /* clear what a longer line left behind */
    used += 3;
    if (done)
        line[used++] = '\n';
    write_all(line, used);
}
