/* devices_match.h - which device each rank of a node takes
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * A pure function of what the ranks see, so every rank comes to the same answer by itself. A device is one
 * place on the bus, whatever number it has in a rank's own list: with CUDA_VISIBLE_DEVICES or a binding by
 * Slurm each rank may see other ones, and all of them call their first one 0. */
#ifndef DEVICES_MATCH_H
#define DEVICES_MATCH_H

#include "engine/base/arena.h"
#include "engine/base/status.h"

#include <stddef.h>
#include <stdint.h>

enum { DEVICES_MATCH_MOST = 64, DEVICES_MATCH_BUS_BYTES = 16 };

/* What one rank sees, by its own numbers. */
struct devices_match_seen {
    int count;
    struct devices_match_one {
        char bus[DEVICES_MATCH_BUS_BYTES];
        int capability;
        size_t memory;  /* bytes */
        int distance;   /* from the rank's processors; below 0: nobody knows, as good as any */
        uint64_t peers; /* bit i: it reaches the memory of its number i */
    } device[DEVICES_MATCH_MOST];
};

/* number[r] is the device that rank r takes, by its own numbers: no two take the same, none is older than
 * `least`, the sum of distances is the least, and among equal sums the first ranks take the first devices.
 * STATUS_UNAVAILABLE says why that cannot be. */
enum status devices_match(const struct devices_match_seen *rank, int ranks, int least, struct arena *arena,
                          int *number);

#endif
