/* devices.h - the devices that this rank sees, and what is said about the choice among them
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 *     devices_look        this rank's list, with distances from its processors
 *     (the lists of the node's ranks are exchanged: process_node_gather)
 *     devices_match       decides
 *     devices_describe    the line for the log */
#ifndef DEVICES_H
#define DEVICES_H

#include "launch/devices_match.h"
#include "launch/topology.h"

#include <stdbool.h>

enum { DEVICES_TEXT_BYTES = 512 };

/* `file` is --cuda-module, `own` where the rank computes. STATUS_UNAVAILABLE says why there is no device that
 * can be used. */
enum status devices_look(const char *file, const struct topology_set *own, struct devices_match_seen *seen);

/* "local rank 0 takes GPU 2 at 0000:3b:00.0 beside mlx5_0, 1 takes ...", as far as there is room. */
void devices_describe(const struct devices_match_seen *rank, int ranks, const int *number,
                      char text[static DEVICES_TEXT_BYTES]);

/* Two local ranks whose devices see each other but do not reach each other's memory; false: none are known.
 */
bool devices_apart(const struct devices_match_seen *rank, int ranks, const int *number, int *one, int *other);

#endif
