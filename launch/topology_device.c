/* topology_device.c - how far devices are from processors, and which network adapter is next to one
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "launch/topology_device.h"

#include <errno.h>
#include <hwloc.h>
#include <stdio.h>
#include <string.h>

/* Parts of hwloc that would start libraries of devices, seconds each, to say what is not asked here. */
static const char *const UNWANTED[] = {"opencl", "gl", "cuda", "nvml", "rsmi", "levelzero"};

enum status topology_device_open(struct topology_device *t)
{
    hwloc_topology_t machine;

    t->machine = NULL;
    if (hwloc_topology_init(&machine) != 0)
        return FAIL(STATUS_NO_MEMORY, "hwloc cannot start: %s", strerror(errno));
    for (size_t i = 0; i < sizeof UNWANTED / sizeof UNWANTED[0]; i++)
        hwloc_topology_set_components(machine, HWLOC_TOPOLOGY_COMPONENTS_FLAG_BLACKLIST, UNWANTED[i]);
    hwloc_topology_set_io_types_filter(machine, HWLOC_TYPE_FILTER_KEEP_IMPORTANT);
    if (hwloc_topology_load(machine) != 0) {
        hwloc_topology_destroy(machine);
        return FAIL(STATUS_UNAVAILABLE, "hwloc cannot read this machine's devices: %s", strerror(errno));
    }
    t->machine = machine;
    return STATUS_OK;
}

void topology_device_close(struct topology_device *t)
{
    if (t->machine)
        hwloc_topology_destroy(t->machine);
    t->machine = NULL;
}

/* Steps up the tree, over objects of every kind, until `from` is `to` or holds it. */
static int steps_between(hwloc_obj_t a, hwloc_obj_t b)
{
    int up = 0;

    for (hwloc_obj_t from = a; from; from = from->parent, up++) {
        int down = 0;

        for (hwloc_obj_t to = b; to; to = to->parent, down++)
            if (to == from)
                return up + down;
    }
    return up;
}

static hwloc_obj_t device_at(const struct topology_device *t, const char *bus)
{
    return t->machine ? hwloc_get_pcidev_by_busidstring(t->machine, bus) : NULL;
}

int topology_device_distance(const struct topology_device *t, const struct topology_set *set, const char *bus)
{
    hwloc_obj_t device = device_at(t, bus);
    hwloc_bitmap_t processors = hwloc_bitmap_alloc();
    int steps = TOPOLOGY_DEVICE_UNSEEN;
    hwloc_obj_t holder = NULL;

    if (device && hwloc_bitmap_sscanf(processors, set->text) == 0)
        holder = hwloc_get_obj_covering_cpuset(t->machine, processors);
    if (holder)
        steps = steps_between(holder, hwloc_get_non_io_ancestor_obj(t->machine, device));
    hwloc_bitmap_free(processors);
    return steps;
}

void topology_device_network(const struct topology_device *t, const char *bus,
                             char name[static TOPOLOGY_DEVICE_NAME_BYTES])
{
    hwloc_obj_t device = device_at(t, bus);
    hwloc_obj_t part = device ? hwloc_get_non_io_ancestor_obj(t->machine, device) : NULL;
    int best = 0;

    name[0] = '\0';
    for (hwloc_obj_t o = NULL; part && (o = hwloc_get_next_osdev(t->machine, o));) {
        bool fabric = o->attr->osdev.type == HWLOC_OBJ_OSDEV_OPENFABRICS;
        int cost = 2 * steps_between(device, o) + !fabric;

        if (!fabric && o->attr->osdev.type != HWLOC_OBJ_OSDEV_NETWORK)
            continue;
        if (hwloc_get_non_io_ancestor_obj(t->machine, o) != part || (name[0] && cost >= best))
            continue;
        best = cost;
        snprintf(name, TOPOLOGY_DEVICE_NAME_BYTES, "%s", o->name);
    }
}
