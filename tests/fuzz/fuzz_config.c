/* fuzz_config.c - any text as config.json, and behind a NUL as generation_config.json
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * What is accepted must make sense: the engine computes with it without looking again. */
#include "engine/config.h"

#include "engine/base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FILES = 2 };

/* The directory holds links to files in memory: a disk would set the pace. */
static char directory[] = "/tmp/switchyard-fuzz-config-XXXXXX";
static const char *const names[FILES] = {"config.json", "generation_config.json"};
static int memory[FILES];

static const char *path_of(int file)
{
    static char path[256];

    snprintf(path, sizeof path, "%s/%s", directory, names[file]);
    return path;
}

static void write_file(int file, const uint8_t *data, size_t size)
{
    if (ftruncate(memory[file], 0) != 0 || pwrite(memory[file], data, size, 0) != (ssize_t)size)
        abort();
}

static void remove_directory(void)
{
    for (int i = 0; i < FILES; i++)
        unlink(path_of(i));
    rmdir(directory);
}

static void make_directory(void)
{
    if (!mkdtemp(directory))
        abort();
    atexit(remove_directory);
    for (int i = 0; i < FILES; i++) {
        char link[64];

        memory[i] = memfd_create(names[i], MFD_CLOEXEC);
        snprintf(link, sizeof link, "/proc/self/fd/%d", memory[i]);
        if (memory[i] < 0 || symlink(link, path_of(i)) != 0)
            abort();
    }
}

static void must(bool condition)
{
    if (!condition)
        abort();
}

static void check(const struct config *c)
{
    int experts = 0;

    must(c->vocabulary > 0 && c->width > 0 && c->layers > 0 && c->heads > 0 && c->kv_heads > 0);
    must(c->heads % c->kv_heads == 0 && c->head_width > 0 && c->rotated <= c->head_width);
    must(c->choices <= c->experts && c->stop_count <= CONFIG_STOP_LIMIT && c->bos < c->vocabulary);
    for (int i = 0; i < c->rotated / 2; i++)
        must(c->frequency[i] >= 0 && c->frequency[i] <= 1);
    for (int i = 0; i < c->layers; i++) {
        must(!c->layer[i].experts || (c->experts > 0 && c->choices > 0));
        must(c->layer[i].expert_layer == (c->layer[i].experts ? experts : -1));
        experts += c->layer[i].experts;
        must(c->layer[i].mask == MASK_FULL || c->layer[i].mask_size > 0);
    }
    must(experts == c->expert_layers);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool ready;
    const uint8_t *end = size > 0 ? memchr(data, 0, size) : NULL;
    struct arena arena = {0};
    struct config c;

    if (!ready)
        make_directory();
    ready = true;
    log_open(0, LOG_ERROR);
    write_file(0, data, end ? (size_t)(end - data) : size);
    if (end)
        write_file(1, end + 1, size - (size_t)(end - data) - 1);
    else
        write_file(1, (const uint8_t *)"{}", 2);
    if (arena_open(&arena, "fuzz", 16 << 20) != STATUS_OK)
        abort();
    if (config_read(&c, &arena, directory) == STATUS_OK)
        check(&c);
    else
        must(status_text()[0] != '\0');
    arena_close(&arena);
    return 0;
}
