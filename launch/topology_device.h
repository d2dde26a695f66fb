/* topology_device.h - how far devices are from processors, and which network adapter is next to one
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * hwloc's view of this machine with its PCI devices, which topology.h leaves out because looking for them
 * takes time. hwloc itself need not know of CUDA: a device is found by its place on the bus. */
#ifndef TOPOLOGY_DEVICE_H
#define TOPOLOGY_DEVICE_H

#include "launch/topology.h"

struct topology_device {
    void *machine; /* hwloc's */
};

enum { TOPOLOGY_DEVICE_UNSEEN = -1, TOPOLOGY_DEVICE_NAME_BYTES = 32 };

enum status topology_device_open(struct topology_device *t);
void topology_device_close(struct topology_device *t); /* takes a zeroed one */

/* Steps in the tree of the machine from the smallest part that holds all of `set` to the part that the device
 * `bus` ("0000:1b:00.0") hangs on. TOPOLOGY_DEVICE_UNSEEN where hwloc sees no such device, as in many
 * containers. */
int topology_device_distance(const struct topology_device *t, const struct topology_set *set,
                             const char *bus);

/* The network adapter with the fewest steps on the bus to the device: InfiniBand's before others, then the
 * first;
 * "" where none hangs on the same part of the machine. */
void topology_device_network(const struct topology_device *t, const char *bus,
                             char name[static TOPOLOGY_DEVICE_NAME_BYTES]);

#endif
