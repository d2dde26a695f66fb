/* layout.h - where everybody's bytes lie when all counts are known
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * What ranks send lies in the order of the destinations, what they get in the order of the sources, without
 * gaps. */
#ifndef LAYOUT_H
#define LAYOUT_H

#include "engine/base/arena.h"
#include "engine/base/status.h"

#include <stddef.h>

struct layout {
    int rank;
    int size;
    size_t most;      /* bytes that may arrive at a rank in one call */
    size_t *send_at;  /* [size] of what this rank sends: where the part for rank d begins */
    size_t *place_at; /* [size] of what rank d gets: where the part of this rank begins */
    size_t *from_at;  /* [size] of what this rank gets: where the part of rank s begins */
    size_t *total;    /* [size] what rank d gets in all */
};

enum status layout_open(struct layout *l, struct arena *arena, int rank, int size, size_t most);

/* bytes [size, size] from row to column; all ranks fail alike with STATUS_BUG when one of them would get too
 * much. */
enum status layout_exchange(struct layout *l, const size_t *bytes);

/* bytes [size]: fills place_at and from_at alike with where each rank's part of the whole begins, total[0]
 * with the sum. STATUS_BUG when that is more than `room`. */
enum status layout_gather(struct layout *l, const size_t *bytes, size_t room);

/* Of `count` numbers, each `step` behind the one before: a row of bytes [size, size], or with its size a
 * column. */
size_t layout_sum(const size_t *bytes, int count, int step);

#endif
