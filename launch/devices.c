/* devices.c - the devices that this rank sees, and what is said about the choice among them
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "launch/devices.h"

#include "kernels/module.h"
#include "launch/topology_device.h"

#include <stdio.h>
#include <string.h>

_Static_assert((int)DEVICES_MATCH_MOST == (int)MODULE_DEVICES, "every device of the module has a place");

/* One that is new enough at least. */
static enum status check_age(const struct module_devices *list)
{
    const struct module_device *newest = &list->device[0];

    for (int i = 1; i < list->count; i++)
        if (list->device[i].capability > newest->capability)
            newest = &list->device[i];
    if (newest->capability < MODULE_LEAST_CAPABILITY)
        return FAIL(STATUS_UNAVAILABLE, "GPU %d (%s) has compute capability %d.%d, at least %d.%d is needed",
                    (int)(newest - list->device), newest->name, newest->capability / 10,
                    newest->capability % 10, MODULE_LEAST_CAPABILITY / 10, MODULE_LEAST_CAPABILITY % 10);
    return STATUS_OK;
}

enum status devices_look(const char *file, const struct topology_set *own, struct devices_match_seen *seen)
{
    static struct module_devices list;
    struct topology_device machine;

    seen->count = 0;
    TRY(module_list_cuda(file, &list));
    TRY(check_age(&list));
    TRY(topology_device_open(&machine));
    for (int i = 0; i < list.count; i++) {
        const struct module_device *d = &list.device[i];
        struct devices_match_one *one = &seen->device[i];

        *one = (struct devices_match_one){.capability = d->capability,
                                          .memory = d->memory,
                                          .distance = topology_device_distance(&machine, own, d->bus),
                                          .peers = d->peers};
        snprintf(one->bus, sizeof one->bus, "%s", d->bus);
    }
    seen->count = list.count;
    topology_device_close(&machine);
    return STATUS_OK;
}

void devices_describe(const struct devices_match_seen *rank, int ranks, const int *number,
                      char text[static DEVICES_TEXT_BYTES])
{
    struct topology_device machine = {0};
    size_t used = 0;

    if (topology_device_open(&machine) != STATUS_OK)
        machine.machine = NULL; /* then no adapter is named */
    for (int r = 0; r < ranks && used < DEVICES_TEXT_BYTES; r++) {
        const char *bus = rank[r].device[number[r]].bus;
        char network[TOPOLOGY_DEVICE_NAME_BYTES];

        topology_device_network(&machine, bus, network);
        used += (size_t)snprintf(text + used, DEVICES_TEXT_BYTES - used, "%s%d takes GPU %d at %s%s%s",
                                 r ? ", " : "local rank ", r, number[r], bus, network[0] ? " beside " : "",
                                 network);
    }
    if (used >= DEVICES_TEXT_BYTES)
        memcpy(text + DEVICES_TEXT_BYTES - 4, "...", 4);
    topology_device_close(&machine);
}

/* Does the rank know that its device does not reach the memory at `bus`? */
static bool cannot_reach(const struct devices_match_seen *seen, int own, const char *bus)
{
    for (int i = 0; i < seen->count; i++)
        if (i != own && strcmp(seen->device[i].bus, bus) == 0)
            return !(seen->device[own].peers >> i & 1);
    return false;
}

bool devices_apart(const struct devices_match_seen *rank, int ranks, const int *number, int *one, int *other)
{
    for (int r = 0; r < ranks; r++)
        for (int s = 0; s < ranks; s++)
            if (s != r && cannot_reach(&rank[r], number[r], rank[s].device[number[s]].bus)) {
                *one = r < s ? r : s;
                *other = r < s ? s : r;
                return true;
            }
    return false;
}
