/* file.h - reading files, with every failure named
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef FILE_H
#define FILE_H

#include "engine/base/arena.h"
#include "engine/base/status.h"

#include <stdint.h>

struct file {
    const char *path; /* not copied: must live as long as the file is open */
    int descriptor;
    int64_t size; /* bytes, when it was opened */
};

/* STATUS_NO_INPUT names the path and the system's reason; a folder is refused. */
enum status file_open(struct file *file, const char *path);

/* A descriptor to read on and on from, of a file, a pipe or a device; the caller closes it. STATUS_NO_INPUT
 * names `what`, such as the option, the path and the reason; a folder is refused. */
enum status file_stream(const char *what, const char *path, int *descriptor);

/* Exactly `bytes` from `offset`, safe from several threads. A file that ends before is STATUS_BAD_INPUT. */
enum status file_read(const struct file *file, int64_t offset, void *out, size_t bytes);

/* Takes a zeroed file. */
void file_close(struct file *file);

/* The whole of a file into an arena, with a NUL behind it that `*bytes` does not count. More than `limit`
 * bytes: BAD_INPUT. */
enum status file_whole(struct arena *arena, const char *path, int64_t limit, char **text, size_t *bytes);

/* Is there something at this path that can be opened? */
bool file_exists(const char *path);

#endif
