/* wrong.c - a module whose backend adds wrongly: what `bench selftest` must find
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels/module.h"
#include "kernels/reference/reference.h"

#include <string.h>

enum status cuda_list(struct module_devices *out);
enum status cuda_open(const struct module_request *request, struct kernels **out);

static enum status (*right)(struct kernels *k, struct matrix x, struct matrix y);

static enum status add(struct kernels *k, struct matrix x, struct matrix y)
{
    TRY(right(k, x, y));
    if (x.rows > 0 && x.columns > 0)
        x.data[x.columns - 1] *= 1.0f + 0x1p-20f;
    return STATUS_OK;
}

enum status cuda_list(struct module_devices *out)
{
    memset(out, 0, sizeof *out);
    strcpy(out->device[0].bus, "0000:01:00.0");
    out->device[0].capability = MODULE_LEAST_CAPABILITY;
    out->count = 1;
    return STATUS_OK;
}

enum status cuda_open(const struct module_request *request, struct kernels **out)
{
    (void)request;
    TRY(reference_open(out));
    right = (*out)->add;
    (*out)->add = add;
    return STATUS_OK;
}
