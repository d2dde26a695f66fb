/* fuzz_safetensors.c - any bytes as a weight file: refused, or every tensor can be read
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { READ_MOST = 1 << 16 };

static void read_all(const struct safetensors *s)
{
    static unsigned char out[READ_MOST];

    for (int i = 0; i < s->count; i++) {
        const struct tensor *t = &s->tensors[i];
        struct tensor_part part = {.rows = t->dimensions > 1 ? t->shape[t->dimensions - 2] : 1,
                                   .columns = t->dimensions > 0 ? t->shape[t->dimensions - 1] : 1};

        if (t->dimensions <= 3 && dtype_bits(t->dtype) >= 8 && t->bytes > 0 && t->bytes <= READ_MOST &&
            tensor_read(t, &part, out) != STATUS_OK)
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int memory = memfd_create("fuzz", MFD_CLOEXEC);
    struct arena arena = {0};
    struct safetensors s;
    char path[64];

    if (memory < 0 || write(memory, data, size) != (ssize_t)size ||
        arena_open(&arena, "fuzz", 64 << 20) != STATUS_OK)
        abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", memory);
    if (safetensors_open(&s, &arena, path) == STATUS_OK) {
        read_all(&s);
        safetensors_close(&s);
    } else if (status_text()[0] == '\0') {
        abort();
    }
    arena_close(&arena);
    close(memory);
    return 0;
}
