/* report.c - what a command has found out, on standard output and in a file
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "launch/report.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

enum status report_open(int answers, FILE **out)
{
    int copy = dup(answers);
    FILE *stream = copy < 0 ? NULL : fdopen(copy, "w");

    if (!stream)
        return FAIL(STATUS_IO, "standard output cannot be opened: %s", strerror(errno));
    *out = stream;
    return STATUS_OK;
}

enum status report_close(FILE *out)
{
    int failed = ferror(out);

    if (fclose(out) != 0 || failed)
        return FAIL(STATUS_IO, "writing the report: %s", strerror(errno));
    return STATUS_OK;
}

enum status report_end(FILE *out, enum status status)
{
    if (status == STATUS_OK)
        return report_close(out);
    fclose(out);
    return status;
}

enum status report_json(FILE *out, const json_t *object)
{
    if (!object)
        return FAIL(STATUS_NO_MEMORY, "no memory for the report");
    if (json_dumpf(object, out, JSON_INDENT(2) | JSON_REAL_PRECISION(17)) != 0 || fputc('\n', out) == EOF)
        return FAIL(STATUS_IO, "writing the report: %s", strerror(errno));
    return STATUS_OK;
}

enum status report_check(const char *option, const char *path)
{
    int file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);

    if (file < 0)
        return FAIL(STATUS_IO, "--%s %s: %s", option, path, strerror(errno));
    close(file);
    return STATUS_OK;
}

enum status report_file(const char *option, const char *path, const json_t *object)
{
    FILE *out = fopen(path, "we");
    enum status status;

    if (!out)
        return FAIL(STATUS_IO, "--%s %s: %s", option, path, strerror(errno));
    status = report_json(out, object);
    if (fclose(out) != 0 && status == STATUS_OK)
        status = FAIL(STATUS_IO, "--%s %s: %s", option, path, strerror(errno));
    return status;
}

json_t *report_text(const char *text)
{
    json_t *name = json_string(text);

    return name ? name : json_string("(a name that is not UTF-8)");
}
