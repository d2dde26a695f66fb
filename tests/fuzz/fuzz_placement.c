/* fuzz_placement.c - any bytes as a file of placements: refused, passed over, or every expert has a slot
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/placement_file.h"

#include "engine/base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { LAYERS = 3, EXPERT_LAYERS = 2, EXPERTS = 4, SLOTS = 6, RANKS = 3 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct config_layer layers[LAYERS] = {
        {.expert_layer = -1}, {.experts = true}, {.experts = true, .expert_layer = 1}};
    static const struct config config = {
        .layers = LAYERS, .expert_layers = EXPERT_LAYERS, .experts = EXPERTS, .layer = layers};
    int memory = memfd_create("fuzz", MFD_CLOEXEC);
    struct arena arena = {0};
    struct placement p;
    uint64_t before;
    char path[64];
    bool fits;

    log_open(1, LOG_ERROR);
    if (memory < 0 || write(memory, data, size) != (ssize_t)size ||
        arena_open(&arena, "fuzz", 4 << 20) != STATUS_OK ||
        placement_redundant(&p, &arena, EXPERT_LAYERS, EXPERTS, SLOTS - EXPERTS, RANKS) != STATUS_OK)
        abort();
    before = placement_hash(&p);
    snprintf(path, sizeof path, "/proc/self/fd/%d", memory);
    if (placement_file_read(path, &config, 0x1234, &arena, &p, &fits) != STATUS_OK) {
        if (status_text()[0] == '\0' || placement_hash(&p) != before)
            abort();
    } else if (!fits && placement_hash(&p) != before) {
        abort();
    }
    if (placement_index(&p) != STATUS_OK) /* whatever was read, all is legal */
        abort();
    arena_close(&arena);
    close(memory);
    return 0;
}
