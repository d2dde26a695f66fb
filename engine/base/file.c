/* file.c - reading files, with every failure named
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum status file_open(struct file *file, const char *path)
{
    struct stat facts;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);

    if (descriptor < 0)
        return FAIL(STATUS_NO_INPUT, "%s: %s", path, strerror(errno));
    if (fstat(descriptor, &facts) != 0 || !S_ISREG(facts.st_mode)) {
        close(descriptor);
        return FAIL(STATUS_NO_INPUT, "%s: not a regular file", path);
    }
    file->path = path;
    file->descriptor = descriptor;
    file->size = facts.st_size;
    return STATUS_OK;
}

enum status file_stream(const char *what, const char *path, int *descriptor)
{
    struct stat facts;
    int opened = open(path, O_RDONLY | O_CLOEXEC);

    if (opened < 0)
        return FAIL(STATUS_NO_INPUT, "%s %s: %s", what, path, strerror(errno));
    if (fstat(opened, &facts) != 0 || S_ISDIR(facts.st_mode)) {
        close(opened);
        return FAIL(STATUS_NO_INPUT, "%s %s: a folder, not a file", what, path);
    }
    *descriptor = opened;
    return STATUS_OK;
}

enum status file_read(const struct file *file, int64_t offset, void *out, size_t bytes)
{
    unsigned char *to = out;

    while (bytes > 0) {
        ssize_t got = pread(file->descriptor, to, bytes, offset);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return FAIL(STATUS_IO, "%s: reading %zu bytes at %lld: %s", file->path, bytes, (long long)offset,
                        strerror(errno));
        if (got == 0)
            return FAIL(STATUS_BAD_INPUT,
                        "%s: ends at byte %lld, %zu bytes are missing: the file is truncated", file->path,
                        (long long)offset, bytes);
        to += got;
        offset += got;
        bytes -= (size_t)got;
    }
    return STATUS_OK;
}

void file_close(struct file *file)
{
    if (file->path)
        close(file->descriptor);
    memset(file, 0, sizeof *file);
}

enum status file_whole(struct arena *arena, const char *path, int64_t limit, char **text, size_t *bytes)
{
    struct file file = {0};
    enum status status;
    char *space;

    TRY(file_open(&file, path));
    if (file.size > limit)
        status = FAIL(STATUS_BAD_INPUT, "%s: %lld bytes, more than the %lld that such a file may have", path,
                      (long long)file.size, (long long)limit);
    else
        status = arena_take(arena, (size_t)file.size + 1, path, &space);
    if (status == STATUS_OK)
        status = file_read(&file, 0, space, (size_t)file.size);
    if (status == STATUS_OK) {
        space[file.size] = '\0';
        *text = space;
        *bytes = (size_t)file.size;
    }
    file_close(&file);
    return status;
}

bool file_exists(const char *path)
{
    return access(path, R_OK) == 0;
}
