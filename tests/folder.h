/* folder.h - a folder for one test, with files in it
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef FOLDER_H
#define FOLDER_H

#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct folder {
    char path[64];
};

static inline struct folder folder_make(void)
{
    struct folder f = {"/tmp/switchyard-test-XXXXXX"};

    if (!mkdtemp(f.path)) {
        perror(f.path);
        abort();
    }
    return f;
}

static inline void folder_write(const struct folder *f, const char *name, const char *text, size_t bytes)
{
    char path[PATH_MAX];
    FILE *file;

    snprintf(path, sizeof path, "%s/%s", f->path, name);
    file = fopen(path, "w");
    if (!file || fwrite(text, 1, bytes, file) != bytes || fclose(file) != 0) {
        perror(path);
        abort();
    }
}

static inline void folder_write_json(const struct folder *f, const char *name, const json_t *value)
{
    char *text = json_dumps(value, JSON_ENCODE_ANY);

    folder_write(f, name, text, strlen(text));
    free(text);
}

static inline void folder_remove_file(const struct folder *f, const char *name)
{
    char path[PATH_MAX];

    snprintf(path, sizeof path, "%s/%s", f->path, name);
    unlink(path);
}

static inline void folder_remove(const struct folder *f)
{
    static const char *const names[] = {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
                                        "config.json"};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        folder_remove_file(f, names[i]);
    rmdir(f->path);
}

#endif
