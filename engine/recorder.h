/* recorder.h - which steps the backend may record and replay, and what tells one from another
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * A step in which every sequence has one row, or some of drafts beside it, which then count as sequences too,
 * is like the one before it but for tokens, positions, pages and experts, all of which lie in memory. So its
 * layers can be recorded once and replayed (kernels' record). The key says all that the host's part of a
 * layer follows from: how many rows each data group has, and between which positions they stand, in steps so
 * wide that it seldom changes. It comes from the batch alone, so all ranks have the same. */
#ifndef RECORDER_H
#define RECORDER_H

#include "engine/batch.h"
#include "engine/config.h"
#include "engine/step.h"
#include "eplb/placement.h"

struct recorder {
    bool on;       /* wanted, and there is a backend that records what is exchanged */
    bool bounded;  /* some layer sees the last positions only */
    int positions; /* of the longest sequence */
    int32_t key[RECORDING_KEY_MOST];
    int64_t steps[RECORDING_AGAIN + 1]; /* that only decoded, by how their layers went */
};

/* eager: none is recorded. */
void recorder_open(struct recorder *r, const struct config *c, struct step *s, int positions, bool eager);

/* After the step has begun: how its layers go, after RECORDING_NEW with kernels' recorded. `waits`: the host
 * must know what the router chose. `p` NULL: there are no experts. */
enum status recorder_begin(struct recorder *r, struct step *s, const struct batch *b,
                           const struct placement *p, bool waits, enum recording_way *way);

#endif
