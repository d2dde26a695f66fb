/* config_locate.c - from what the user wrote after --model to a directory on this machine
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/config.h"

#include "engine/base/file.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { PATH_BYTES = 4096, COMMIT_BYTES = 256 };

static enum status keep(struct arena *arena, const char *text, const char **kept)
{
    size_t bytes = strlen(text) + 1;
    char *copy;

    TRY(arena_take(arena, bytes, "path of the model directory", &copy));
    memcpy(copy, text, bytes);
    *kept = copy;
    return STATUS_OK;
}

static bool ends_in_gguf(const char *name)
{
    size_t length = strlen(name);

    return length >= 5 && strcasecmp(name + length - 5, ".gguf") == 0;
}

static enum status refuse_gguf(const char *model, const char *name)
{
    return FAIL(STATUS_BAD_INPUT,
                "%s: %s is a GGUF file, whose formats this engine does not read; name the Hugging Face "
                "directory that it "
                "was made from (config.json and *.safetensors), or its ORG/NAME",
                model, name);
}

static enum status refuse_file(const char *model)
{
    struct file file = {0};
    char magic[4] = {0};

    TRY(file_open(&file, model));
    if (file.size >= (int64_t)sizeof magic && file_read(&file, 0, magic, sizeof magic) != STATUS_OK)
        magic[0] = '\0';
    file_close(&file);
    if (ends_in_gguf(model) || memcmp(magic, "GGUF", sizeof magic) == 0)
        return refuse_gguf(model, "this");
    return FAIL(STATUS_BAD_INPUT,
                "%s: a file; name the directory that holds config.json and the *.safetensors files", model);
}

/* A directory without config.json may hold GGUF files; then the reason is worth saying. */
static enum status check_directory(const char *model)
{
    char path[PATH_BYTES];
    enum status status = STATUS_OK;
    struct dirent *entry;
    DIR *directory;

    if (snprintf(path, sizeof path, "%s/config.json", model) < (int)sizeof path && file_exists(path))
        return STATUS_OK;
    directory = opendir(model);
    while (directory && status == STATUS_OK && (entry = readdir(directory)))
        if (ends_in_gguf(entry->d_name))
            status = refuse_gguf(model, entry->d_name);
    if (directory)
        closedir(directory);
    if (status == STATUS_OK)
        status = FAIL(STATUS_NO_INPUT, "%s: no config.json in this directory, so it holds no model", model);
    return status;
}

/* A name that is one step of a path and no more. */
static bool plain(const char *name, size_t length)
{
    if (length == 0 || name[0] == '.' || name[0] == '-')
        return false;
    for (size_t i = 0; i < length; i++)
        if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-", name[i]))
            return false;
    return true;
}

/* The snapshot that refs/main of this model points to, into path; false: not in the cache. */
static bool find_snapshot(const char *model, const char *cache, char path[PATH_BYTES])
{
    const char *slash = strchr(model, '/');
    int organisation = (int)(slash - model);
    char commit[COMMIT_BYTES];
    FILE *refs;
    int used = snprintf(path, PATH_BYTES, "%s/models--%.*s--%s", cache, organisation, model, slash + 1);

    if (used < 0 || used >= PATH_BYTES - COMMIT_BYTES - 32)
        return false;
    snprintf(path + used, (size_t)(PATH_BYTES - used), "/refs/main");
    refs = fopen(path, "re");
    if (!refs)
        return false;
    if (!fgets(commit, sizeof commit, refs))
        commit[0] = '\0';
    fclose(refs);
    commit[strcspn(commit, " \t\r\n")] = '\0';
    if (!plain(commit, strlen(commit)))
        return false;
    snprintf(path + used, (size_t)(PATH_BYTES - used), "/snapshots/%s/config.json", commit);
    if (!file_exists(path))
        return false;
    path[strlen(path) - strlen("/config.json")] = '\0';
    return true;
}

enum status config_locate(struct arena *arena, const char *model, const char *cache, const char **directory)
{
    const char *slash = strchr(model, '/');
    char path[PATH_BYTES];
    struct stat facts;

    if (model[0] == '\0')
        return FAIL(STATUS_USAGE, "the model is an empty name; give a directory or ORG/NAME");
    if (stat(model, &facts) == 0) {
        if (!S_ISDIR(facts.st_mode))
            return refuse_file(model);
        TRY(check_directory(model));
        return keep(arena, model, directory);
    }
    if (!slash || !plain(model, (size_t)(slash - model)) || !plain(slash + 1, strlen(slash + 1)))
        return FAIL(STATUS_NO_INPUT, "%s: there is no such directory", model);
    if (ends_in_gguf(model))
        return FAIL(STATUS_NO_INPUT,
                    "%s: there is no such file, and GGUF files are not read: name a directory with "
                    "config.json and *.safetensors, or ORG/NAME",
                    model);
    if (!cache || !find_snapshot(model, cache, path))
        return FAIL(STATUS_NO_INPUT,
                    "%s is neither a directory here nor whole in the Hugging Face cache (%s); nothing is "
                    "downloaded by this "
                    "program, fetch it with: hf download %s",
                    model, cache ? cache : "none", model);
    return keep(arena, path, directory);
}
