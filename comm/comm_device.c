/* comm_device.c - exchanges of rows that lie in a backend's own memory, by the best way that there is
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "comm/comm_device.h"

#include "comm/comm_alone.h"
#include "comm/comm_staged.h"

#include <string.h>

enum status comm_device_open(enum comm_device_way way, struct kernels *k, struct comm *inner, size_t most,
                             struct comm **out)
{
    int64_t able = k->open_exchange != NULL;

    TRY(inner->reduce(inner, COMM_MIN, &able, 1));
    if (way == COMM_DEVICE_NCCL && !able)
        return FAIL(
            STATUS_USAGE,
            "--device-exchange nccl: the %s backend of this build (on one rank at least) has no NCCL; "
            "use auto or host",
            k->name);
    if (inner->size == 1)
        return comm_alone_open(out);
    if (able && way != COMM_DEVICE_HOST)
        return k->open_exchange(k, inner, NULL, 0, most, out);
    return comm_staged_open(inner, k, most, out);
}

enum status comm_device_open_part(struct kernels *k, struct comm *inner, struct comm *whole, int part,
                                  size_t most, struct comm **out)
{
    if (inner->size == 1) /* and so has every other part */
        return comm_alone_open(out);
    if (strcmp(whole->kind, "nccl") == 0)
        return k->open_exchange(k, inner, whole, part, most, out);
    return comm_staged_open(inner, k, most, out);
}

enum status comm_device_open_nodes(struct kernels *k, struct comm *rows, const int32_t *node)
{
    return strcmp(rows->kind, "nccl") == 0 ? k->open_nodes(rows, node) : STATUS_OK;
}

enum status comm_device_open_stores(struct kernels *k, struct comm *rows, struct comm *inner, size_t most,
                                    struct comm **out)
{
    int64_t able = k->open_stores != NULL;

    TRY(inner->reduce(inner, COMM_MIN, &able, 1));
    if (strcmp(rows->kind, "nccl") != 0)
        return FAIL(STATUS_USAGE, "--dispatch lsa: rows go through host memory; it needs NCCL between GPUs");
    if (!able)
        return FAIL(STATUS_USAGE,
                    "--dispatch lsa: the NCCL that this program (on one rank at least) was built for has no "
                    "windows, 2.28 is the first that has; use another --dispatch");
    return k->open_stores(k, rows, most, out);
}

enum status comm_device_open_mover(struct kernels *k, struct comm *rows, struct comm *inner, int sums,
                                   struct mover **out)
{
    int64_t able = k->open_mover != NULL && strcmp(rows->kind, "nccl") == 0;

    *out = NULL;
    TRY(inner->reduce(inner, COMM_MIN, &able, 1));
    return able ? k->open_mover(k, rows, sums, out) : STATUS_OK;
}

size_t comm_device_bytes(const struct kernels *k, int size, size_t most)
{
    return size > 1 ? comm_staged_bytes(k, most) : 0;
}

size_t comm_device_host_bytes(int size, size_t most)
{
    return size > 1 ? comm_staged_host_bytes(most) : 0;
}
