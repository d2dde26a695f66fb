/* migrate_probe.h - how fast experts would move from rank to rank
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Measured before the first step, by the way that experts will go: nothing else is under way. */
#ifndef MIGRATE_PROBE_H
#define MIGRATE_PROBE_H

#include "engine/migrate.h"

/* Collective: bytes a nanosecond that all ranks together move when each sends a chunk to the next. 0: one
 * rank. */
enum status migrate_probe(struct migrate *m, double *bytes_per_ns);

#endif
